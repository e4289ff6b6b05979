"""
Load at a given rate, independent of the responses: an open loop, like real users.

Requests are due at random moments, as those of many independent users are
(exponential gaps, the same in each run).  Each is sent on the connection that has
been free longest.  If none is free, the request waits, and its latency counts from
the moment when it was due: so a proxy that stalls gets all the requests of that
time.  A request that is late because this program is late counts from when it was
sent.

C{python -m bench.paced PORT PATH RATE SECONDS CONNECTIONS} prints JSON.
"""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import sys
import time
from collections import deque

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


def responseLength(head: bytes) -> int:
    """The bytes of a response with this head, which must have a Content-Length."""
    end = head.index(b"\r\n\r\n") + 4
    lowered = head[:end].lower()
    start = lowered.index(b"content-length:") + 15
    return end + int(lowered[start : lowered.index(b"\r\n", start)])


def run(port: int, path: str, rate: float, seconds: float, connections: int) -> dict[str, float]:
    """
    @return: C{requests} that were answered and their C{bytes}, how many were C{bad},
        the C{seconds} it took, C{p50} and C{p99} in microseconds.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    sockets = {}
    for _ in range(connections):
        each = socket.create_connection(("127.0.0.1", port), PATIENCE)
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One by one, so that each connection works before the measurement starts.
        each.sendall(request)
        length = len(_wholeResponse(each))
        each.setblocking(False)
        sockets[each.fileno()] = each
    free = deque(sockets)
    asked: dict[int, float] = {}
    got = dict.fromkeys(sockets, 0)
    latencies: list[float] = []
    gc.disable()
    clock = time.perf_counter
    start = freed = clock()
    due = deque(start + each for each in schedule(rate, seconds))
    total = len(due)
    while (due or asked) and (now := clock()) < start + seconds + PATIENCE:
        while due and free and due[0] <= now:
            number = free.popleft()
            since = due.popleft()
            asked[number] = since if since < freed else clock()
            sockets[number].send(request)
        # Not epoll, whose timeouts are whole milliseconds.
        wait = due[0] - clock() if due and free else PATIENCE / 10
        for number in select.select(list(asked), (), (), max(0.0, wait))[0]:
            data = sockets[number].recv(65536)
            if not data:
                raise ConnectionError("the proxy closed a connection")
            got[number] += len(data)
            if got[number] >= length:
                got[number] = 0
                if not free:
                    freed = clock()
                latencies.append(clock() - asked.pop(number))
                free.append(number)
    latencies.sort()
    return {
        "requests": len(latencies),
        "bytes": len(latencies) * length,
        "bad": total - len(latencies),
        "seconds": clock() - start,
        "p50": quantile(latencies, 0.5) * 1e6,
        "p99": quantile(latencies, 0.99) * 1e6,
    }


def _wholeResponse(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data or len(data) < responseLength(data):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the proxy closed a connection")
        data += piece
    return data


if __name__ == "__main__":
    port, path, rate, seconds, connections = sys.argv[1:]
    print(json.dumps(run(int(port), path, float(rate), float(seconds), int(connections))))
