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
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio
from sitio.test.helpers.loopback import LoopbackTestCase

ROOT = Path(sitio.__file__).parent.parent

if not (ROOT / "bench").exists():
    skip = "this is no checkout, and only a checkout has the benchmark"
elif not sys.platform.startswith("linux"):
    skip = "the benchmark reads what only Linux tells"
else:
    from bench import chart, machine, micro, paced, proxies, report, runner, targets
    from bench.processes import Unusable, running
    from bench.scenarios import SCENARIOS
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
    run.rounds["get-1k"] = {
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
            *("--rounds", "1", "--seconds", "1", "--only", "get-1k", "--proxy", "sitio"),
            *("--output", str(folder.absolute())),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads((folder / "results.json").read_text())
        metrics = found["scenarios"]["get-1k"]["sitio"]["median"]
        self.assertGreater(metrics["cpu"], 0)
        self.assertGreater(metrics["rate"], 0)
        self.assertEqual(metrics["bad"], 0)
        self.assertIn("| 1 KB GET, bare head |", (folder / "RESULTS.md").read_text())
        self.assertIn("sitio", (folder / "chart.svg").read_text())

    async def test_watched(self) -> None:
        """sitio is measured while its metrics are requested, and not after they fail."""
        folder = Path(self.mktemp())
        process = self.bench(
            *("--rounds", "1", "--seconds", "1", "--only", "features", "--proxy", "sitio-metrics"),
            *("--output", str(folder.absolute())),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads((folder / "results.json").read_text())
        self.assertEqual(found["left out"], [])
        self.assertGreater(found["scenarios"]["features"]["sitio-metrics"]["median"]["rate"], 0)

    async def test_interrupted(self) -> None:
        """Ctrl-C ends all processes with an error message."""
        process = self.bench("--only", "get-1k", "--only", "tls", "--proxy", "sitio")
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

    def test_cores(self) -> None:
        """Proxy and load get a core each; of four cores, two workers get two."""
        self.assertEqual(Cores.divide([4, 5]), Cores((4,), (4, 5), (5,), False))
        self.assertEqual(Cores.divide([0, 1, 2, 3]), Cores((0,), (0, 1), (2, 3), True))
        self.assertRaises(Unusable, Cores.divide, [0])


class Answers(Protocol):
    """Answers each piece with the same response."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


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
            *(sys.executable, "-m", "bench.paced", str(port), "/", "200", "0.5", "4"), cwd=str(ROOT)
        )
        self.assertEqual(await process.finish(), 0, process.output())
        found = json.loads(process.output())
        self.assertEqual(found["requests"], len(paced.schedule(200, 0.5)))
        self.assertEqual(found["bad"], 0)
        self.assertGreater(found["seconds"], paced.schedule(200, 0.5)[-1])
        self.assertGreater(found["p99"], found["p50"])


class ProxyTests(SynchronousTestCase):
    """L{bench.proxies} and their scenarios."""

    def test_templates(self) -> None:
        """All blanks of each configuration are filled in."""
        place = proxies.Place(Path("/tmp"), 12345, 23456, Path("/page.html"))
        for each in ("upstream.conf", "nginx.conf", "haproxy.cfg", "envoy.yaml", "envoy-tls.yaml"):
            text = place.fill(each, ssl="", tls="")
            self.assertNotIn("{{", text)

    def test_names(self) -> None:
        """Scenarios have different names, and so have the proxies of each."""
        names = [each.name for each in SCENARIOS]
        self.assertEqual(sorted(names), sorted(set(names)))
        for scenario in SCENARIOS:
            measured = [each.name for each in scenario.measured()]
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
        return targets.Target("a target", "get-1k", "cpu", bound, "envoy", **changes)

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

    def test_below(self) -> None:
        """If the target is an upper limit, a greater ratio misses it."""
        run = made(sitio=[20], envoy=[20])
        for below, met in ((True, False), (False, True)):
            outcome = self.target(1.0, below=below).outcome(run)
            assert outcome is not None
            self.assertEqual(outcome.met, met)

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
        self.assertIn("| 1 KB GET, bare head | 30 | 40 |", text)
        self.assertIn("**0.50**", text)
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            self.assertEqual(len(columns), 1, block)

    def test_bad(self) -> None:
        """Wrong responses and a busy machine are reported."""
        run = made(sitio=[10.0])
        run.rounds["get-1k"]["sitio"][0].update(bad=3, others=0.5)
        text = report.write(run)
        self.assertIn("get-1k: sitio (3)", text)
        self.assertIn("The machine was not quiet", text)


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
            "bare head, for each: sitio 20 µs, Envoy 40 µs.",
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
        """The browser's head is the same as wrk's, and has 700 bytes."""
        lua = (ROOT / "bench/load.lua").read_text()
        self.assertEqual(len(micro.BROWSER), 700)
        quoted = re.sub(r'" \.\.\s+"', "", lua)
        for line in micro.BROWSER.decode().split("\r\n")[2:-2]:
            self.assertIn(line, quoted)
