"""
Tests of forwarding claims in other spellings: CGI and WSGI have one variable for
X-Forwarded-For and X_Forwarded_For, so a client's could stand for sitio's.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest
from sitio.test.helpers.rows import Row, eachRow
from sitio.testing import Harness

OWN = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"

#: A field name, and whether CGI and WSGI take it for one that sitio speaks for.
NAMES: list[Row] = [
    (f"{name!a} is {'dropped' if isDropped else 'kept'}: {number}", name.encode(), isDropped)
    for isDropped, names in (
        (
            True,
            "X_Forwarded_For x_forwarded_for X_FORWARDED_FOR X-Forwarded_For X_Forwarded-For"
            " X_Forwarded_Proto X_Forwarded_Host x-forwarded_host X.Forwarded.For X~Forwarded~Host"
            " X-forwarded_PROTO Content_Length content_length Content.Length Transfer_Encoding"
            " TRANSFER_ENCODING Keep_Alive Proxy_Connection X_Real_IP X_Forwarded_Port client_ip",
        ),
        (
            False,
            "X_Forwarded_Fo X_Forwarded_For_ X__Forwarded_For XForwardedFor XRealIP"
            " Content_Type User_Agent _Host Host_ Te_ Upgrade_ _Forwarded Forwarded_"
            " ContentLength Content_Length_",
        ),
    )
    for number, name in enumerate(names.split())
]


@onRequest
def look(exchange: Any) -> None:
    """A policy that makes sitio add its fields to the client's headers."""
    exchange.notes["names"] = [name for name, _ in exchange.request.headers.allItems()]


@eachRow(NAMES)
class FoldedTests(SynchronousTestCase):
    """What the upstream gets of such a field, and what policies see."""

    def check(self, name: bytes, isDropped: bool) -> None:
        """It is dropped, or passes unchanged; with the option it always passes."""
        line = name + b": 6.6.6.6\r\n"
        for keeps in (False, True):
            for policies in ((), (look,)):
                sidecar = Harness(policies, keepsFolded=keeps)
                client = sidecar.connect()
                client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + line + b"A: b\r\n\r\n")
                expected = b"" if isDropped and not keeps else line
                self.assertEqual(
                    sidecar.upstream().got(),
                    b"GET / HTTP/1.1\r\nHost: h\r\n" + expected + b"A: b\r\n" + OWN + b"\r\n",
                )


class TrailerTests(SynchronousTestCase):
    """Trailers, which some services merge into the head."""

    def test_dropped(self) -> None:
        """They are dropped there too, and kept with the option."""
        for keeps in (False, True):
            sidecar = Harness(keepsFolded=keeps)
            client = sidecar.connect()
            client.sends(
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"1\r\na\r\n0\r\nX_Forwarded_For: 6.6.6.6\r\nA: b\r\n\r\n"
            )
            got = sidecar.upstream().got()
            self.assertEqual(b"6.6.6.6" in got, keeps)
            self.assertIn(b"A: b\r\n", got)


class SharedTests(SynchronousTestCase):
    """Both kinds of sidecar in one process."""

    def test_caches(self) -> None:
        """What one has parsed and cached has no effect on the other."""
        raw = b"GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n"
        for _ in range(4):
            for keeps in (False, True):
                sidecar = Harness(keepsFolded=keeps)
                sidecar.connect().sends(raw)
                self.assertEqual(b"6.6.6.6" in sidecar.upstream().got(), keeps)
