"""
Tests of requests that come back: a loop through others is cut at its first round.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import LoopDetected
from sitio.http.claims import APPEND, MODES
from sitio.http.marks import lineWith, newMark
from sitio.policy.functions import onRequest
from sitio.testing.harness import Harness

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
CHUNKS = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def added(request: bytes, *lines: bytes) -> bytes:
    """A request with more fields."""
    return request.replace(b"\r\n\r\n", b"\r\n" + b"".join(lines) + b"\r\n")


def without(request: bytes, *names: bytes) -> bytes:
    """What a proxy sends that drops these fields."""
    for each in names:
        request = re.sub(rb"(?im)^%b:[^\r]*\r\n" % each, b"", request)
    return request


class LoopTests(SynchronousTestCase):
    """One sitio whose requests come back to it."""

    def loop(self, harness: Harness, request: bytes, proxy: Callable[[bytes], bytes]) -> bytes:
        """
        Send a request, let a proxy send it to sitio again, and return what that gets.
        """
        harness.connect().sends(request)
        sent = harness.upstream().got()
        again = harness.connect("10.0.0.9")
        again.sends(proxy(sent))
        self.assertEqual(len(harness.upstreams), 1)
        return again.got()

    def test_cut(self) -> None:
        """
        Whatever the proxies in between add or drop, the second time it is answered with 508:
        with each C{--forwarded}, with and without request policies.
        """

        @onRequest
        def look(exchange: object) -> None:
            pass

        proxies: list[Callable[[bytes], bytes]] = [
            lambda sent: sent,
            lambda sent: without(sent, b"X-Forwarded-For", b"X-Forwarded-Proto"),
            lambda sent: without(
                sent, b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"
            ),
            lambda sent: sent.replace(b"CDN-Loop", b"cdn-loop"),
            lambda sent: added(sent, b"CDN-Loop: other; id=1\r\n"),
            lambda sent: sent.replace(b"CDN-Loop: ", b"CDN-Loop: other.example, "),
            lambda sent: sent.replace(b"HTTP/1.1", b"HTTP/1.0"),
            lambda sent: added(sent, b"X-Forwarded-Port: 80\r\n"),
        ]
        for mode in MODES:
            for policies in ((), (look,)):
                for number, proxy in enumerate(proxies):
                    for request in (GET, POST + b"body", CHUNKS + b"0\r\n\r\n"):
                        with self.subTest(mode=mode, policies=policies, number=number):
                            harness = Harness(policies, forwarded=mode, mark=newMark())
                            got = self.loop(harness, request, proxy)
                            self.assertTrue(got.startswith(b"HTTP/1.1 508 Loop Detected\r\n"), got)
                            [ended] = harness.exchanges
                            self.assertIsInstance(ended.failure, LoopDetected)
                            self.assertEqual(ended.status, 508)
                            harness.assertQuiet()

    def test_connection(self) -> None:
        """The connection of a request that has ended can carry more."""
        mark = newMark()
        harness = Harness(mark=mark)
        client = harness.connect()
        client.sends(added(GET, lineWith(mark)) + GET)
        got = client.got()
        self.assertIn(b"508 Loop Detected", got)
        self.assertNotIn(b"Connection: close", got)
        harness.upstream().sends(OK)
        self.assertTrue(client.got().endswith(b"\r\n\r\nok"))

    def test_unfinished(self) -> None:
        """A request whose body is still to come ends its connection, and not the next request."""
        mark = newMark()
        harness = Harness(mark=mark)
        client = harness.connect()
        client.sends(added(POST, lineWith(mark)))
        got = client.got()
        self.assertIn(b"508 Loop Detected", got)
        self.assertIn(b"Connection: close", got)
        client.sends(b"body" + GET)
        self.assertEqual(harness.upstreams, [])
        client.closes()
        harness.assertQuiet()

    def test_log(self) -> None:
        """A storm of them is one line in the log, without the query; it names the proxy."""
        events: list[Any] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        mark = newMark()
        harness = Harness(mark=mark)
        for _ in range(20):
            request = GET.replace(b"/a", b"/a?secret")
            harness.connect("10.0.0.9").sends(added(request, lineWith(mark)))
        self.assertEqual(len(harness.exchanges), 20)
        [line] = [formatEvent(each) for each in events]
        self.assertIn("GET /a came back to sitio by 10.0.0.9: the upstream leads to sitio", line)
        harness.advance(60)
        harness.connect("10.0.0.9").sends(added(GET, lineWith(mark)))
        self.assertIn("(19 more since the last report)", formatEvent(events[-1]))


class ChainTests(SynchronousTestCase):
    """Several sitios in a row."""

    def test_chain(self) -> None:
        """A request passes three of them; each adds its mark, and no field is lost."""
        sent = added(GET, b"CDN-Loop: cdn.example\r\n")
        marks = []
        for _ in range(3):
            harness = Harness(mark=newMark(), forwarded=APPEND)
            marks.append(harness.context.mark)
            harness.connect("10.0.0.1").sends(sent)
            sent = harness.upstream().got()
        found = re.findall(rb"CDN-Loop: (.*)\r\n", sent)
        self.assertEqual(found, [b"cdn.example", *(each.encode() for each in marks)])

    def test_other(self) -> None:
        """The mark of another sitio is not this one's, and a claim of none is harmless."""
        for value in (b"", b"sitio", b"sitio-", b"other", b",,,", b"\xff"):
            harness = Harness(mark=newMark())
            harness.connect().sends(added(GET, b"CDN-Loop: %b\r\n" % value))
            self.assertIn(b"GET /a HTTP/1.1", harness.upstream().got())
