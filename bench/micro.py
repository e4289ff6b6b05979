"""
Measures single steps of sitio in one process, without a network:
C{python -m bench.micro}.

Each step runs repeatedly; the shortest time is its cost, as disturbances only add
time.  httptools alone on the same head is the reference: times as multiples of it
can be compared across machines, and show which step has become slower.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import httptools

from bench.proxies import POLICIES
from sitio.http import codec
from sitio.http.limits import Limits
from sitio.policy.loader import loadPolicies
from sitio.telemetry.stats import Stats
from sitio.testing.harness import Harness

#: Seconds for one repetition, and the number of repetitions.
STRETCH = 0.05
REPEATS = 15

BARE = b"GET /1k HTTP/1.1\r\nHost: 127.0.0.1:23456\r\n\r\n"
BROWSER = (
    b"GET /1k HTTP/1.1\r\n"
    b"Host: 127.0.0.1:23456\r\n"
    b"Connection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="142", "Not-A.Brand";v="99"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b'sec-ch-ua-platform: "Linux"\r\n'
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    b" Chrome/142.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    b"image/apng,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Referer: http://service.example/the/whole/page/before/this\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Server: nginx/1.22.1\r\n"
    b"Date: Mon, 23 Nov 2026 14:56:49 GMT\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"Content-Length: 1024\r\n"
    b"Last-Modified: Mon, 23 Nov 2026 14:56:49 GMT\r\n"
    b"Connection: keep-alive\r\n"
    b'ETag: "67419c41-400"\r\n'
    b"Accept-Ranges: bytes\r\n"
    b"\r\n"
) + bytes(1024)

#: The reference for the other steps.
REFERENCE = "httptools alone, a browser's head"

Step = Callable[[], object]


class _Nobody:
    """Takes fields and does nothing with them."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Nothing."""


def readRequest(head: bytes) -> Step:
    """Read a head into a request."""
    reader = codec.RequestReader(Limits())

    def step() -> object:
        reader.receive(head)
        return reader.nextHead()

    return step


def readResponse() -> Step:
    """Read a response of 1 KB."""
    reader = codec.ResponseReader(Limits())

    def step() -> object:
        reader.expect("GET")
        reader.receive(RESPONSE)
        reader.nextHead()
        return reader.nextBody()

    return step


def writeRequest(head: bytes) -> Step:
    """Write a request."""
    request: Any = readRequest(head)()
    return lambda: codec.requestHead(request, None)


def writeResponse() -> Step:
    """Write the head of a response."""
    reader = codec.ResponseReader(Limits())
    reader.expect("GET")
    reader.receive(RESPONSE)
    response: Any = reader.nextHead()
    return lambda: codec.responseHead(response, 1024)


def exchange(head: bytes, policies: tuple[str, ...] = POLICIES, counted: bool = True) -> Step:
    """Run a whole exchange, with a client and an upstream in memory."""
    loaded: list[Any] = [each for text in policies for each in loadPolicies(text)]
    harness = Harness(loaded)
    if counted:
        loaded.append(("stats", Stats(harness.clock)))
        harness = Harness(loaded, clock=harness.clock)
    client = harness.connect()

    def step() -> object:
        client.sends(head)
        upstream = harness.upstream()
        upstream.pieces.clear()
        upstream.sends(RESPONSE)
        harness.exchanges.clear()
        return client.got()

    if not bytes(step()).endswith(RESPONSE[-1024:]):  # type: ignore[call-overload]
        raise AssertionError("the exchange did not come to its end")
    return step


def steps() -> Iterator[tuple[str, Step]]:
    """All steps, by title."""
    yield REFERENCE, lambda: httptools.HttpRequestParser(_Nobody()).feed_data(BROWSER)
    yield "read a bare head", readRequest(BARE)
    yield "read a browser's head", readRequest(BROWSER)
    yield "write a browser's head", writeRequest(BROWSER)
    yield "read a response of 1 KB", readResponse()
    yield "write the head of a response", writeResponse()
    plain = exchange(BARE, policies=(), counted=False)
    yield "an exchange in memory, bare head, no policy and no metrics", plain
    yield "an exchange in memory, bare head", exchange(BARE)
    yield "an exchange in memory, a browser's head", exchange(BROWSER)


def once(step: Step, count: int) -> float:
    """Seconds of CPU time for this many steps; other processes do not count."""
    clock = time.process_time
    start = clock()
    for _ in range(count):
        step()
    return clock() - start


def countFor(step: Step, stretch: float) -> int:
    """The number of steps that take about this many seconds."""
    count = 1
    while (took := once(step, count)) < stretch / 4:
        count *= 2
    return max(1, int(count * stretch / took))


def run(stretch: float = STRETCH, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """
    Measure all steps: for each the C{least} and the C{median} of its repetitions in
    microseconds, and the least in C{units} of the reference.
    """
    counts = {name: (step, countFor(step, stretch)) for name, step in steps()}
    found: dict[str, list[float]] = {name: [] for name in counts}
    gc.collect()
    gc.disable()
    try:
        # Round by round, so that a slow moment of the machine affects all steps alike.
        for _ in range(repeats):
            for name, (step, count) in counts.items():
                found[name].append(once(step, count) / count * 1e6)
    finally:
        gc.enable()
    unit = min(found[REFERENCE])
    return {
        name: {"least": min(each), "median": median(each), "units": min(each) / unit}
        for name, each in found.items()
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro", description="Times single steps of sitio."
    )
    parser.add_argument("--json", action="store_true", help="print JSON and no table")
    plain = parser.parse_args().json
    found = run()
    if plain:
        print(json.dumps(found))
        return
    print(f"{'us':>8}  {'x httptools':>11}")
    for name, each in found.items():
        print(f"{each['least']:8.2f}  {each['units']:11.2f}  {name}")


if __name__ == "__main__":
    main()
