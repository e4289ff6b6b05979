"""
Tests of C{bench/}: it runs, ends its processes, and computes and writes its results.

The measured speed does not matter here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio
from sitio.policy.loader import loadPolicies
from sitio.test.helpers.loopback import LoopbackTestCase

ROOT = Path(sitio.__file__).parent.parent

if not (ROOT / "bench").exists():
    skip = "this is no checkout, and only a checkout has the benchmark"
elif not sys.platform.startswith("linux"):
    skip = "the benchmark reads what only Linux tells"
else:
    from bench import (
        __main__ as command,
        chart,
        machine,
        micro,
        paced,
        proxies,
        report,
        runner,
        targets,
        traffic,
    )
    from bench.processes import Unusable, running
    from bench.scenarios import KINDS, SCENARIOS
    from bench.testbed import Cores

COMMAND = [sys.executable, "-m", "bench"]


def made(**cpu: list[float]) -> runner.Run:
    """Make a run of the first scenario, with these microseconds for each proxy and round."""
    run = runner.Run()
    run.about = {
        "date": "2026-11-23 12:00",
        "commit": "0123456",
        "rounds": 3,
        "seconds": 1,
        "processor": "A & B <fast>",
        "cores": 2,
        "memory": "2 GiB",
        "kernel": "Linux 6",
        "virtual": "no",
    }
    run.versions = dict.fromkeys(cpu, "1.0")
    run.rounds["varied"] = {
        name: [{"cpu": each, "rate": 1e6 / each, "others": 0.0} for each in values]
        for name, values in cpu.items()
    }
    return run


class ToolsTestCase(LoopbackTestCase):
    """A test that needs the tools of the benchmark."""

    def setUp(self) -> None:
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
        missing = [each for each in runner.TOOLS if shutil.which(each, path=path) is None]
        if missing:
            raise SkipTest(f"{' and '.join(missing)} can't be found")
        if len(os.sched_getaffinity(0)) < 2:
            raise SkipTest("two cores are needed")

    def bench(self, *arguments: str) -> Any:
        """Start the benchmark."""
        return self.spawn(*COMMAND, *arguments, cwd=str(ROOT))


class RunTests(ToolsTestCase):
    """The benchmark runs."""

    async def test_run(self) -> None:
        """A short run measures sitio and writes its three files into the given folder."""
        folder = Path(self.mktemp())
        process = self.bench(
            *("--rounds", "1", "--seconds", "1", "--only", "varied", "--proxy", "sitio"),
            "--busy",
            *("--output", str(folder.absolute())),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads((folder / "results.json").read_text())
        metrics = found["scenarios"]["varied"]["sitio"]["median"]
        self.assertGreater(metrics["cpu"], 0)
        self.assertGreater(metrics["rate"], 0)
        self.assertEqual(metrics["bad"], 0)
        self.assertIn("| varied traffic |", (folder / "RESULTS.md").read_text())
        self.assertIn("sitio", (folder / "chart.svg").read_text())

    async def test_watched(self) -> None:
        """
        sitio is measured while its metrics are requested, and not after they fail; and
        without metrics.
        """
        folder = Path(self.mktemp())
        process = self.bench(
            *("--rounds", "1", "--seconds", "1", "--only", "features", "--busy"),
            *("--proxy", "sitio-metrics", "--proxy", "sitio-uncounted"),
            *("--output", str(folder.absolute())),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads((folder / "results.json").read_text())
        self.assertEqual(found["left out"], [])
        for each in ("sitio-metrics", "sitio-uncounted"):
            self.assertGreater(found["scenarios"]["features"][each]["median"]["rate"], 0)

    async def test_setups(self) -> None:
        """sitio does the work of each set-up, which is checked, and all responses are right."""
        folder = Path(self.mktemp())
        names = "acts", "json", "waits", "replaced"
        process = self.bench(
            *("--rounds", "1", "--seconds", "1", "--busy", "--proxy", "sitio"),
            *(word for each in names for word in ("--only", each)),
            *("--output", str(folder.absolute())),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads((folder / "results.json").read_text())
        self.assertEqual(found["left out"], [])
        for each in names:
            self.assertEqual(found["scenarios"][each]["sitio"]["median"]["bad"], 0, each)

    async def test_interrupted(self) -> None:
        """Ctrl-C ends all processes with an error message."""
        process = self.bench("--busy", "--only", "same", "--only", "tls", "--proxy", "sitio")
        await process.out.expect(b"preparing: TLS")
        started = await self.until(lambda: machine.tree(process.pid)[1:])
        process.signal(signal.SIGINT)
        self.assertEqual(await process.finish(), 1, process.output())
        self.assertIn("bench: interrupted; nothing was written", process.output())
        self.assertNotIn("Traceback", process.output())
        await self.until(lambda: not any(Path(f"/proc/{each}/exe").exists() for each in started))


class RefusalTests(LoopbackTestCase):
    """An error is one sentence."""

    async def refused(self, *arguments: str) -> str:
        """The last line of a benchmark that refuses to start."""
        process = self.spawn(*COMMAND, *arguments, cwd=str(ROOT))
        self.assertNotEqual(await process.finish(), 0)
        self.assertNotIn("Traceback", process.output())
        return process.output().splitlines()[-1]

    def test_missing(self) -> None:
        """All missing programs are named at once, with their packages."""
        self.patch(proxies, "SBIN", "/nowhere")
        self.patch(os, "environ", {"PATH": "/nowhere"})
        error = self.assertRaises(Unusable, runner.measure, SCENARIOS, (), 1, 1, print)
        self.assertEqual(
            str(error),
            "wrk is missing: apt install wrk; nginx is missing: apt install nginx-light;"
            " taskset is missing: apt install util-linux",
        )

    async def test_arguments(self) -> None:
        """A number out of range and an unknown scenario are refused."""
        self.assertIn("'0' is not a number from 1 to 1000", await self.refused("--rounds", "0"))
        self.assertIn("'x' is not a number from 1 to 600", await self.refused("--seconds", "x"))
        self.assertIn("invalid choice: 'fly'", await self.refused("--only", "fly"))


class MachineTests(LoopbackTestCase):
    """L{bench.machine} and L{bench.processes}."""

    def test_ports(self) -> None:
        """Each port is given out once, and no port is in use."""
        ports = machine.Ports()
        found = [ports.take() for _ in range(50)]
        self.assertEqual(len(set(found)), 50)
        self.assertTrue(all(10_000 <= each < 32_768 for each in found))

    async def test_family(self) -> None:
        """CPU time and memory include the children of a process, which end with it."""
        script = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c',"
            " 'while True: pass'])\n"
            "child.wait()"
        )
        log = Path(self.mktemp())
        with running([sys.executable, "-c", script], machine.cores(), log) as process:
            await self.until(lambda: len(machine.tree(process.pid)) == 2)
            parent, child = machine.tree(process.pid)
            self.assertEqual(parent, process.pid)
            await self.until(lambda: machine.cpuSeconds(process.pid).get(child, 0) > 0.05)
            alone = machine.residentBytes(child)
            self.assertGreater(machine.residentBytes(parent), alone)
        await self.until(lambda: not Path(f"/proc/{child}/exe").exists())
        self.assertEqual(process.returncode, -signal.SIGKILL)

    async def test_bytecode(self) -> None:
        """What is measured keeps its bytecode, though the benchmark is told not to."""
        script = "import sys, time; print(sys.dont_write_bytecode, flush=True); time.sleep(9)"
        log = Path(self.mktemp())
        self.patch(os, "environ", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        with running([sys.executable, "-c", script], machine.cores(), log):
            await self.until(lambda: log.read_text())
        self.assertEqual(log.read_text(), "False\n")

    def test_cores(self) -> None:
        """Proxy and load get a core each; of four cores, two workers get two."""
        self.assertEqual(Cores.divide([4, 5]), Cores((4,), (4, 5), (5,), False))
        self.assertEqual(Cores.divide([0, 1, 2, 3]), Cores((0,), (0, 1), (2, 3), True))
        self.assertRaises(Unusable, Cores.divide, [0])


class Answers(Protocol):
    """Answers each piece with the same response."""

    response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self.response)


class PacedTests(LoopbackTestCase):
    """L{bench.paced}."""

    def test_schedule(self) -> None:
        """Requests come at the given rate, in order, at the same times in each run."""
        moments = paced.schedule(1000, 10)
        self.assertEqual(moments, sorted(moments))
        self.assertTrue(9_500 < len(moments) < 10_500, len(moments))
        self.assertLess(moments[-1], 10)
        self.assertEqual(moments, paced.schedule(1000, 10))

    def test_quantile(self) -> None:
        """A quantile is a measured latency: the greatest of its share."""
        latencies = [float(each) for each in range(1, 101)]
        self.assertEqual(paced.quantile(latencies, 0.5), 51)
        self.assertEqual(paced.quantile(latencies, 0.99), 100)
        self.assertEqual(paced.quantile([7.0], 0.99), 7)

    async def test_load(self) -> None:
        """Each request is answered and counted, and none is sent before its time."""
        port = await self.listen(Factory.forProtocol(Answers))
        process = self.spawn(
            *(sys.executable, "-m", "bench.paced", str(port), "200", "0.5", "4"), cwd=str(ROOT)
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads(process.output())
        self.assertEqual(found["requests"], len(paced.schedule(200, 0.5)))
        self.assertEqual(found["bad"], 0)
        self.assertGreater(found["seconds"], paced.schedule(200, 0.5)[-1])
        self.assertGreater(found["p99"], found["p50"])
        self.assertGreaterEqual(found["p999"], found["p99"])
        self.assertEqual(found["bytes"], found["requests"] * len(Answers.response))


class ProxyTests(SynchronousTestCase):
    """L{bench.proxies} and their scenarios."""

    def test_templates(self) -> None:
        """All blanks of each configuration are filled in, and those for more are known."""
        place = proxies.Place(Path("/tmp"), 12345, 23456, Path("/page.html"))
        blanks = dict.fromkeys(("ssl", "tls", "modules", "setup", "clusters", "global"), "")
        templates = [
            each
            for each in proxies.PEERS.rglob("*.*")
            if each.suffix in (".conf", ".cfg", ".yaml", ".lua", ".js")
        ]
        self.assertGreater(len(templates), 15)
        for each in templates:
            text = place.fill(str(each.relative_to(proxies.PEERS)), **blanks)
            self.assertNotIn("{{", text, each)

    def test_setups(self) -> None:
        """Each proxy of a scenario has a file for what the scenario wants of it."""
        folders = {"sitio-policies": "sitio"}
        for scenario in SCENARIOS:
            setup = getattr(scenario, "setup", "plain")
            if setup == "plain":
                continue
            for proxy in scenario.proxies:
                if (setup, proxy) == ("page", proxies.SITIO):
                    continue
                folder = proxies.PEERS / folders.get(proxy.name, proxy.name)
                self.assertTrue(list(folder.glob(f"{setup}.*")), f"{scenario.name}, {proxy.name}")

    def test_policies(self) -> None:
        """The policies of all variants of sitio load."""
        for scenario in SCENARIOS:
            for proxy in scenario.proxies:
                for policy in getattr(proxy, "policies", ()):
                    self.assertEqual(len(loadPolicies(policy)), 1, policy)

    def test_names(self) -> None:
        """Scenarios have different names, and so have the proxies of each."""
        names = [each.name for each in SCENARIOS]
        self.assertEqual(sorted(names), sorted(set(names)))
        for scenario in SCENARIOS:
            measured = [each.name for each in scenario.proxies]
            self.assertEqual(sorted(measured), sorted(set(measured)), scenario.name)

    def test_unknownOption(self) -> None:
        """A variant whose option this sitio lacks is left out, with a sentence."""
        self.patch(proxies, "_askTwistd", lambda option: "sitio 1.2.3\n      --via  ...\n")
        variant = proxies.Sitio("a", "b", options=("--fly", "2"))
        error = self.assertRaises(Unusable, variant.version)
        self.assertEqual(str(error), "a: this sitio has no option --fly")
        self.assertIn("1.2.3", proxies.Sitio("a", "b", options=("--via",)).version())

    def test_turned(self) -> None:
        """Each proxy comes first in one round, and all take part in each round."""
        all = proxies.PROXIES
        orders = [runner.turned(all, number) for number in range(len(all))]
        self.assertEqual({each[0].name for each in orders}, {each.name for each in all})
        for each in orders:
            self.assertEqual(len({proxy.name for proxy in each}), len(all))


class OutcomeTests(SynchronousTestCase):
    """Measurements become ratios, outcomes and a report."""

    def target(self, bound: float, **changes: Any) -> targets.Target:
        """A target that compares sitio with Envoy."""
        return targets.Target("a target", "varied", "cpu", bound, "envoy", **changes)

    def test_ratio(self) -> None:
        """A ratio is computed for each round; the median of the ratios counts."""
        run = made(sitio=[10, 40, 30], envoy=[20, 40, 100])
        outcome = self.target(0.75).outcome(run)
        self.assertEqual(outcome, targets.Outcome(0.5, 0.3, 1.0, True, 0.0))

    def test_missed(self) -> None:
        """A missed target says by how much."""
        outcome = self.target(0.5).outcome(made(sitio=[12], envoy=[20]))
        assert outcome is not None
        self.assertFalse(outcome.met)
        self.assertAlmostEqual(outcome.missedBy, 0.2)

    def test_ours(self) -> None:
        """A target may be for another sitio, within the same rounds."""
        run = made(sitio=[10], envoy=[20], **{"sitio-policies": [16.0]})
        outcome = self.target(0.7, ours="sitio-policies").outcome(run)
        assert outcome is not None
        self.assertEqual((outcome.value, outcome.met), (0.8, False))

    def test_notMeasured(self) -> None:
        """If one of two measurements is missing, there is no outcome, and the report says so."""
        run = made(sitio=[20])
        self.assertIsNone(self.target(1.0).outcome(run))
        self.assertIn("not measured", "\n".join(report.targets(run)))

    def test_workers(self) -> None:
        """
        Two workers are compared by CPU time and by the busier worker, or by requests if
        possible.
        """
        run = made()
        run.rounds["workers"] = {
            "sitio": [{"cpu": 20.0, "rate": 1000.0}],
            "sitio-workers": [{"cpu": 20.0, "rate": 1700.0, "largest": 0.625}],
        }
        target = targets.TARGETS[-1]
        self.assertEqual(target.values(run), [1.6])
        run.about["load apart"] = True
        self.assertEqual(target.values(run), [1.7])
        outcome = target.outcome(run)
        assert outcome is not None
        self.assertFalse(outcome.met)

    def test_again(self) -> None:
        """A report can be written again from stored results."""
        run = made(sitio=[10, 40, 30], envoy=[20, 40, 100])
        kept = json.loads(json.dumps(run.asJSON()))
        self.assertEqual(report.write(runner.Run.fromJSON(kept)), report.write(run))

    def test_report(self) -> None:
        """The report has the machine, the targets and the medians, in valid tables."""
        run = made(sitio=[10, 40, 30], envoy=[20, 40, 100])
        text = report.write(run)
        self.assertIn("A & B <fast>", text)
        self.assertIn("| varied traffic | 30 | 40 |", text)
        self.assertIn("**0.50**", text)
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            self.assertEqual(len(columns), 1, block)

    def test_bad(self) -> None:
        """Wrong responses and a busy machine are reported."""
        run = made(sitio=[10.0])
        run.rounds["varied"]["sitio"][0].update(bad=3, others=0.5)
        text = report.write(run)
        self.assertIn("varied: sitio (3)", text)
        self.assertIn("The machine was not quiet", text)

    def test_readme(self) -> None:
        """The README's table is of the same run, between marks that stay; the rest stays too."""
        first, last = report.MARKS
        run = made(sitio=[10, 40, 30], envoy=[20, 40, 100])
        text = report.readme(run, f"before\n{first}old figures\n{last}after\n")
        self.assertTrue(
            text.startswith(f"before\n{first}| CPU time for each request, µs | sitio |")
        )
        self.assertTrue(text.endswith(f"{last}after\n"))
        self.assertIn("| varied traffic | 30 | - | 40 |", text)
        self.assertNotIn("old figures", text)
        self.assertEqual(report.readme(run, text), text)
        self.assertRaises(ValueError, report.readme, run, "no marks\n")

    def test_ourReadme(self) -> None:
        """The README of this repository has the marks."""
        text = (ROOT / "README.md").read_text()
        self.assertIn("µs", report.readme(made(sitio=[10]), text))

    def test_kinds(self) -> None:
        """What a kind of policy costs is its difference to sitio without one, in each round."""
        run = made()
        run.rounds["kinds"] = {
            "sitio": [{"cpu": 20.0}, {"cpu": 40.0}],
            "sitio-request": [{"cpu": 22.0}, {"cpu": 44.0}],
        }
        table = "\n".join(report.costs(run, "kinds", KINDS))
        self.assertIn("| `@onRequest` |", table)
        self.assertIn("| +3.0 µs (+10 %) | +10 % to +10 % |", table)


class QuietTests(LoopbackTestCase):
    """Results of a busy machine are refused."""

    def test_bound(self) -> None:
        """Up to a tenth of the cores may be used by others; the error says what to do."""
        runner.checkQuiet(0.1)
        error = self.assertRaises(Unusable, runner.checkQuiet, 0.26)
        self.assertEqual(
            str(error),
            "other processes use 26 % of the cores, and more than 10 % falsify the results:"
            " end them, or say --busy",
        )

    def bench(self, before: float, during: float, *options: str) -> tuple[str, bool]:
        """Run the command; what it says in the end, and whether it has written results."""
        folder = Path(self.mktemp())
        run = made(sitio=[10.0])
        run.rounds["varied"]["sitio"][0]["others"] = during
        self.patch(command, "othersNow", lambda: before)
        self.patch(command, "measure", lambda *_: run)
        self.patch(sys, "stdout", StringIO())
        arguments = ["bench", "--only", "varied", "--output", str(folder), *options]
        self.patch(sys, "argv", arguments)
        try:
            command.main()
        except SystemExit as end:
            return str(end.code), folder.exists()
        return "written", (folder / "results.json").exists()

    def test_refused(self) -> None:
        """A machine that is busy before the run, or was in it, writes nothing unless told so."""
        for before, during in ((0.3, 0.0), (0.0, 0.3)):
            said, written = self.bench(before, during)
            self.assertIn("other processes use 30 % of the cores", said)
            self.assertFalse(written)
            self.assertEqual(self.bench(before, during, "--busy"), ("written", True))
        self.assertEqual(self.bench(0.0, 0.05), ("written", True))

    def test_whole(self) -> None:
        """A whole run writes results, report and chart, and the README's table, together."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "README.md").write_text("".join(report.MARKS))
        run = made(sitio=[10.0])
        self.patch(command, "HERE", folder)
        self.patch(command, "ROOT", folder)
        self.patch(command, "othersNow", lambda: 0.0)
        self.patch(command, "measure", lambda *_: run)
        self.patch(micro, "run", dict)
        self.patch(sys, "stdout", StringIO())
        self.patch(sys, "argv", ["bench"])
        command.main()
        texts = {each.name: each.read_text() for each in folder.iterdir()}
        self.assertEqual(
            json.loads(texts.pop("results.json")), json.loads(json.dumps(run.asJSON()))
        )
        self.assertEqual(
            texts,
            {
                "RESULTS.md": report.write(run),
                "chart.svg": chart.draw(run),
                "README.md": report.readme(run, "".join(report.MARKS)),
            },
        )

    async def test_others(self) -> None:
        """What this process and its children use is not the work of others."""
        spinning = "import time\nwhile time.process_time() < 0.4: pass"
        everywhere = machine.cores()
        others, all = machine.othersSeconds(everywhere), machine.coreSeconds(everywhere)
        process = self.spawn(sys.executable, "-c", spinning)
        self.assertEqual(await process.finish(), 0)
        others = machine.othersSeconds(everywhere) - others
        self.assertLess(others, machine.coreSeconds(everywhere) - all - 0.2)


class TrafficTests(SynchronousTestCase):
    """L{bench.traffic}."""

    form = "GET {path}?q={id} HTTP/1.1"

    def test_differ(self) -> None:
        """No request comes twice, also when the choices of pages begin again."""
        found = list(islice(traffic.requests(self.form), traffic.CHOICES + 100))
        self.assertEqual(len(set(found)), len(found))

    def test_zipf(self) -> None:
        """Page n is asked for n times less often than the first."""
        found = Counter(traffic.choices())
        most = [found[f"/pages/{each}"] for each in (0, 1, 9)]
        self.assertTrue(1.7 < most[0] / most[1] < 2.3, most)
        self.assertTrue(7 < most[0] / most[2] < 13, most)
        self.assertGreater(len(found), 800)

    def test_sizes(self) -> None:
        """Pages have 200 bytes to 30 KB, the popular ones as well."""
        for count in (10, traffic.PAGE_COUNT):
            sizes = [traffic.size(each) for each in range(count)]
            self.assertTrue(200 <= min(sizes) < 1000 and 10_000 < max(sizes) <= 30_000, sizes)

    def test_template(self) -> None:
        """A request has a browser's fields, three places that differ, and the wanted body."""
        head, _, body = traffic.template("h", "/post", True, True, "POST", 5).partition("\r\n\r\n")
        self.assertTrue(head.startswith("POST {path}?q={id} HTTP/1.1\r\nHost: h\r\n"))
        self.assertEqual((head.count("{id}"), body), (3, "xxxxx"))
        self.assertIn("\r\nConnection: close\r\n", head)
        self.assertIn("\r\nContent-Length: 5", head)
        self.assertEqual(
            traffic.template("h", "/1k", False, False, "GET", 0),
            "GET /1k HTTP/1.1\r\nHost: h\r\n\r\n",
        )


class ChartTests(SynchronousTestCase):
    """L{bench.chart}."""

    def widths(self, run: runner.Run) -> dict[str, float]:
        """The lengths of the bars, by the title of the proxy."""
        root = ElementTree.fromstring(chart.draw(run))
        space = "{http://www.w3.org/2000/svg}"
        bars = [e for e in root.iter(f"{space}rect") if "bar" in e.attrib["class"]]
        names = [e for e in root.iter(f"{space}text") if "end" in e.get("class", "")]
        return {str(a.text): float(b.attrib["width"]) for a, b in zip(names, bars)}

    def test_bars(self) -> None:
        """Bars are as long as their values, the shortest first."""
        found = self.widths(made(envoy=[40.0], sitio=[20.0]))
        self.assertEqual(list(found), ["sitio", "Envoy"])
        self.assertAlmostEqual(found["sitio"] * 2, found["Envoy"], delta=0.2)

    def test_outlier(self) -> None:
        """A bar much longer than the others is cut, and shows its value."""
        run = made(sitio=[20.0], envoy=[40.0], **{"twisted.web.proxy": [300.0]})
        found = self.widths(run)
        self.assertLess(found["twisted.web.proxy"], found["Envoy"] * 2)
        self.assertIn("300 µs", chart.draw(run))
        self.assertEqual(chart.draw(run).count('class="cut"'), 1)

    def test_inWords(self) -> None:
        """The picture has a text that describes it."""
        self.assertIn(
            "Varied traffic, each request: sitio 20 µs, Envoy 40 µs.",
            chart.draw(made(sitio=[20], envoy=[40])),
        )


class MicroTests(SynchronousTestCase):
    """L{bench.micro}."""

    def test_steps(self) -> None:
        """Each step runs and takes some time, given in units of the first step."""
        found = micro.run(stretch=0.0002, repeats=1)
        self.assertEqual(list(found), [name for name, _ in micro.steps()])
        self.assertEqual(found[micro.REFERENCE]["units"], 1)
        for name, each in found.items():
            self.assertGreater(each["least"], 0, name)
            self.assertLessEqual(each["least"], each["median"], name)

    def test_browser(self) -> None:
        """The browser's head is that of the load, less what differs from request to request."""
        load = traffic.template("h", "/", True, False, "GET", 0).split("\r\n")
        for line in micro.BROWSER.decode().split("\r\n")[2:-2]:
            if not line.startswith("Cookie"):
                self.assertIn(line, load)
