"""
Load at a given rate, independent of the responses: an open loop, like real users.

Requests are due at random moments, as those of many independent users are
(exponential gaps, the same in each run).  Each is sent on the connection that has
been free longest.  If none is free, the request waits, and its latency counts from
the moment when it was due: so a proxy that stalls gets all the requests of that
time.  A request that is late because this program is late counts from when it was
sent.

C{python -m bench.paced PORT RATE SECONDS CONNECTIONS} sends varied traffic and prints JSON.
"""

from __future__ import annotations

import gc
import json
import random
import re
import select
import socket
import sys
import time
from collections import deque
from itertools import islice

from bench.traffic import PAGES, requests, template

#: Seconds to wait for the last responses.
PATIENCE = 2.0


def schedule(rate: float, seconds: float) -> list[float]:
    """The times, in seconds after the start, at which requests are due."""
    chance = random.Random(1)
    due, moments = 0.0, []
    while (due := due + chance.expovariate(rate)) < seconds:
        moments.append(due)
    return moments


def quantile(latencies: list[float], share: float) -> float:
    """The latency that this share of the sorted latencies does not exceed."""
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))]


_length = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def responseLength(data: bytes) -> int:
    """
    The bytes of the response that begins with this data.

    @raise ConnectionError: it has no whole head, or no Content-Length.
    """
    end = data.find(b"\r\n\r\n") + 4
    found = _length.search(data, 0, end)
    if found is None:
        raise ConnectionError("the first bytes of a response had no Content-Length")
    return end + int(found[1])


def run(port: int, rate: float, seconds: float, connections: int) -> dict[str, float]:
    """
    @return: C{requests} that were answered and their C{bytes}, how many were C{bad},
        the C{seconds} it took, C{p50}, C{p99} and C{p999} in microseconds.
    """
    form = template(f"127.0.0.1:{port}", PAGES, varied=True, close=False, method="GET", body=0)
    asking = requests(form)
    sockets = {}
    for _ in range(connections):
        each = socket.create_connection(("127.0.0.1", port), PATIENCE)
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One by one, so that each connection works before the measurement starts.
        each.sendall(next(asking))
        _wholeResponse(each)
        each.setblocking(False)
        sockets[each.fileno()] = each
    free = deque(sockets)
    asked: dict[int, float] = {}
    missing = dict.fromkeys(sockets, 0)
    received = 0
    latencies: list[float] = []
    gc.disable()
    moments = schedule(rate, seconds)
    ready = deque(islice(asking, len(moments)))
    clock = time.perf_counter
    start = freed = clock()
    due = deque(start + each for each in moments)
    while (due or asked) and (now := clock()) < start + seconds + PATIENCE:
        while due and free and due[0] <= now:
            number = free.popleft()
            since = due.popleft()
            asked[number] = since if since < freed else clock()
            sockets[number].send(ready.popleft())
        # Not epoll, whose timeouts are whole milliseconds.
        wait = due[0] - clock() if due and free else PATIENCE / 10
        for number in select.select(list(asked), (), (), max(0.0, wait))[0]:
            data = sockets[number].recv(65536)
            if not data:
                raise ConnectionError("the proxy closed a connection")
            received += len(data)
            missing[number] = (missing[number] or responseLength(data)) - len(data)
            if not missing[number]:
                if not free:
                    freed = clock()
                latencies.append(clock() - asked.pop(number))
                free.append(number)
    latencies.sort()
    return {
        "requests": len(latencies),
        "bytes": received,
        "bad": len(moments) - len(latencies),
        "seconds": clock() - start,
        "p50": quantile(latencies, 0.5) * 1e6,
        "p99": quantile(latencies, 0.99) * 1e6,
        "p999": quantile(latencies, 0.999) * 1e6,
    }


def _wholeResponse(connection: socket.socket) -> None:
    data = connection.recv(65536)
    missing = responseLength(data) - len(data)
    while missing:
        piece = connection.recv(missing)
        if not piece:
            raise ConnectionError("the proxy closed a connection")
        missing -= len(piece)


if __name__ == "__main__":
    port, rate, seconds, connections = sys.argv[1:]
    print(json.dumps(run(int(port), float(rate), float(seconds), int(connections))))
