"""C{python -m bench.soak}: runs the soak, and prints a table."""

from __future__ import annotations

import argparse
import logging
import random
import resource
import signal
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from bench.processes import Unusable
from bench.soak.order import Order
from bench.soak.run import Result, Soak

#: All checks, in the order of the table.
CHECKS = (
    "wrong bytes",
    "without a reason",
    "hangs",
    "in flight at the end",
    "leaked descriptors",
    "memory",
    "errors in the log",
    "end",
)

REACTORS = ("uv", "epoll")


def main() -> None:
    """Run the command line."""
    told = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    # It logs each write to a connection that is lost; here most are.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    good = True
    for reactor in told.reactor or ["uv"]:
        order = Order(
            seed=told.seed,
            requests=told.requests,
            reactor=reactor,
            clients=told.clients,
            deadline=told.deadline,
            restart=told.restart,
            tolerance=told.tolerance * 2**20,
            tls=told.tls,
            halfClose=told.half_close,
            more=tuple(told.sitio),
            fault=told.fault,
        )
        print(f"soak: seed {order.seed}, {reactor}, {order.requests:,} requests", flush=True)
        try:
            result = _run(order, told.keep)
        except Unusable as error:
            raise SystemExit(f"soak: {error}") from None
        except KeyboardInterrupt:
            raise SystemExit("soak: interrupted") from None
        print(table(result), flush=True)
        good = good and result.good
    raise SystemExit(0 if good else 1)


def _run(order: Order, keep: Path | None) -> Result:
    start = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {line}", flush=True)

    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return Soak(order, keep.absolute(), tell).run()
    with tempfile.TemporaryDirectory(prefix="sitio-soak-") as folder:
        return Soak(order, Path(folder), tell).run()


def table(result: Result) -> str:
    """The report."""
    tally, memory = result.tally, result.memory
    seconds = f"{result.seconds:,.0f} s, {result.restarts} restarts of the service"
    rows = [("requests", f"{result.began:,} in {seconds}")]
    rows += [(f"  {name}", f"{count:,}") for name, count in sorted(tally.outcomes.items())]
    known = {
        "leaked descriptors": f"{len(result.left)} (before: {len(result.before)})",
        "memory": f"{memory.before / 2**20:.1f} MiB after a quarter,"
        f" {memory.after / 2**20:.1f} MiB at the end",
        "end": f"{result.drain:.1f} s after SIGTERM",
    }
    for check in (*CHECKS, *sorted(tally.faults.keys() - set(CHECKS))):
        verdict = "FAULT" if tally.faults[check] else "ok"
        rows.append((check, f"{verdict:6}{known.get(check, tally.faults[check])}"))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {value}" for name, value in rows]
    for kind, sentences in tally.sentences.items():
        lines += ["", f"{kind}:", *(f"  {each}" for each in sentences)]
    return "\n".join(lines)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000000")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Sends requests through twistd sitio with every policy, while clients and"
        " the service misbehave, and counts wrong bytes, hangs and leaks.",
    )
    add = parser.add_argument
    add("--requests", type=_number, default=200_000, metavar="N", help="default 200000")
    add("--seed", default=str(random.randrange(1_000_000)), help="default: a random one")
    add("--reactor", action="append", choices=REACTORS, help="repeatable; default uv")
    add("--clients", type=_number, default=100, metavar="N", help="connections; default 100")
    add(
        "--deadline",
        type=_number,
        default=20,
        metavar="S",
        help="seconds for a response, and for the end; default 20",
    )
    add(
        "--restart",
        type=_number,
        default=4000,
        metavar="N",
        help="requests between restarts of the service; default 4000",
    )
    add(
        "--tolerance",
        type=_number,
        default=16,
        metavar="MIB",
        help="growth of memory after the first quarter; default 16",
    )
    add("--tls", action="store_true", help="clients use TLS, and no half-closes")
    add(
        "--half-close",
        type=_number,
        default=0,
        metavar="S",
        help="start sitio with --half-close, so that half-closed clients get responses",
    )
    add(
        "--sitio",
        action="append",
        default=[],
        metavar="ARGUMENT",
        help="one more argument for twistd sitio, such as --sitio=--pool-size=20; repeatable",
    )
    add("--keep", type=Path, metavar="FOLDER", help="the folder for logs; default: none is kept")
    add("--fault", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
