"""C{python -m bench}: measures, and writes RESULTS.md, results.json and chart.svg."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import time

from bench.processes import Unusable
from bench.runner import measure
from bench.scenarios import SCENARIOS


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    # Many connections at a time, for the load and for the proxies, which inherit it.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    chosen = [each for each in SCENARIOS if not arguments.only or each.name in arguments.only]
    start = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {line}", flush=True)

    try:
        run = measure(chosen, arguments.proxy, arguments.rounds, arguments.seconds, tell)
    except Unusable as error:
        raise SystemExit(f"bench: {error}") from None
    print(json.dumps(run.asJSON()["scenarios"], indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="sitio beside others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", action="append", default=[], choices=[e.name for e in SCENARIOS])
    parser.add_argument("--proxy", action="append", default=[])
    return parser.parse_args()


if __name__ == "__main__":
    main()
