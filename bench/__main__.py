"""C{python -m bench}: measures, and writes RESULTS.md, results.json, chart.svg and the README."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import time
from pathlib import Path
from typing import NoReturn

from bench import chart, micro, report
from bench.processes import Unusable
from bench.proxies import HERE, ROOT
from bench.runner import QUIET, Run, checkQuiet, measure, othersNow
from bench.scenarios import SCENARIOS

#: The largest values of the options.
MAX_ROUNDS = 1000
MAX_SECONDS = 600


def main() -> None:
    """Run the command line."""
    told = _arguments()
    if told.again:
        _write(Run.fromJSON(json.loads((HERE / "results.json").read_text("utf-8"))), HERE)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    # For many connections, of the load and of the proxies, which inherit the limit.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    chosen = [each for each in SCENARIOS if not told.only or each.name in told.only]
    start = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {line}", flush=True)

    try:
        if not told.busy:
            checkQuiet(othersNow())
        run = measure(chosen, told.proxy, told.rounds, told.seconds, tell)
    except Unusable as error:
        raise SystemExit(f"bench: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("bench: interrupted; nothing was written") from None
    whole = not told.only and not told.proxy
    if whole:
        tell("single steps")
        run.steps = micro.run()
    if not told.busy:
        try:
            checkQuiet(run.others())
        except Unusable as error:
            print(report.write(run))
            raise SystemExit(f"bench: nothing was written: {error}") from None
    if whole or told.output:
        _write(run, told.output or HERE)
    else:
        print(report.write(run))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _write(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # First the measurements, which can't be made again.
    (folder / "results.json").write_text(json.dumps(run.asJSON(), indent=1) + "\n", "utf-8")
    (folder / "RESULTS.md").write_text(report.write(run), "utf-8")
    (folder / "chart.svg").write_text(chart.draw(run), "utf-8")
    written = "RESULTS.md, results.json and chart.svg"
    if folder == HERE:
        path = ROOT / "README.md"
        path.write_text(report.readme(run, path.read_text("utf-8")), "utf-8")
        written += ", and the figures in README.md,"
    print(f"written: {written} in {folder}")


def _upTo(most: int) -> type[int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return int(text)

    return read  # type: ignore[return-value]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compares sitio with other proxies.  A whole run writes RESULTS.md,"
        " results.json and chart.svg into bench/, and figures into README.md;"
        " a partial run prints its report.",
    )
    names = list(dict.fromkeys(proxy.name for each in SCENARIOS for proxy in each.proxies))
    parser.add_argument(
        "--rounds", type=_upTo(MAX_ROUNDS), default=5, metavar="N", help="default 5"
    )
    parser.add_argument(
        "--seconds",
        type=_upTo(MAX_SECONDS),
        default=2,
        metavar="S",
        help="seconds for each measurement; default 2",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[each.name for each in SCENARIOS],
        metavar="SCENARIO",
        help="one of " + ", ".join(each.name for each in SCENARIOS) + "; repeatable",
    )
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        choices=names,
        metavar="PROXY",
        help="one of " + ", ".join(names) + "; repeatable",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="the folder for the three files"
    )
    parser.add_argument(
        "--busy",
        action="store_true",
        help="measure and write although other processes use more than"
        f" {QUIET * 100:.0f} %% of the cores",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="measure nothing; write RESULTS.md, chart.svg and README.md from results.json",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
