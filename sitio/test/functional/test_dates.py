"""
Tests of the Date of responses (RFC 9110, section 6.6.1): each has one.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, onRequest, onResponse
from sitio.test.helpers.rows import Row, eachRow
from sitio.testing import Harness, readResponses

NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
OTHER = "Sat, 05 Nov 1994 08:49:37 GMT"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DATED = b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Length: 2\r\n\r\nok" % OTHER.encode()


@onRequest
def answer(exchange: Any) -> Response | None:
    """A policy that answers with and without a Date."""
    if exchange.request.path == "/dated":
        return Response(200, headers={"date": OTHER})
    return Response(200) if exchange.request.path == "/answered" else None


@onResponse(502)
def change(exchange: Any, response: Response) -> None:
    """A policy that changes the fields of a failure."""
    response.headers["X"] = "y"


@onResponse(404)
def undate(exchange: Any, response: Response) -> None:
    """A policy that removes the Date of the upstream."""
    del response.headers["Date"]


ROWS: list[Row] = [
    ("The upstream's response without a Date gets one", GET, OK, NOW),
    ("The upstream's Date stays", GET, DATED, OTHER),
    ("The upstream's Date stays as the last field", GET,
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: %b\r\n\r\nok" % OTHER.encode(), OTHER),
    ("The upstream's Date stays, in any spelling", GET, DATED.replace(b"Date", b"dATE"), OTHER),
    ("The upstream's Date stays without a space", GET, DATED.replace(b"Date: ", b"Date:"), OTHER),
    ("Another field that ends in Date is none", GET, DATED.replace(b"Date", b"X-Date"), NOW),
    ("A response of chunks gets one", GET,
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOW),
    ("A 304 gets one", GET, b"HTTP/1.1 304 Not Modified\r\n\r\n", NOW),
    ("A 204 gets one", GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", NOW),
    ("A 500 of the upstream gets one", GET,
     b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", NOW),
    ("A response whose Date a policy has removed gets one", GET,
     DATED.replace(b"200 OK", b"404 Not Found"), NOW),
    ("A policy's response gets one", GET.replace(b"/ ", b"/answered ", 1), None, NOW),
    ("A policy's own Date stays", GET.replace(b"/ ", b"/dated ", 1), None, OTHER),
    ("A 403 of deny gets one", GET.replace(b"/ ", b"/denied ", 1), None, NOW),
    ("A 400 gets one", b"GET\r\n\r\n", None, NOW),
    ("A 431 gets one", b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * 40000), None, NOW),
    ("A 502 gets one, also when a policy has changed it", GET, b"nonsense\r\n\r\n", NOW),
    ("The answer to OPTIONS gets one", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
     None, NOW),
]  # fmt: skip


@eachRow(ROWS)
class DateTests(SynchronousTestCase):
    """The Date of each kind of response."""

    def check(self, request: bytes, response: bytes | None, expected: str) -> None:
        """The client's response has this Date, and no other."""
        sidecar = Harness(
            ["deny:*:/denied", answer, change, undate],
            date=lambda: b"Date: %b\r\n" % NOW.encode(),
        )
        client = sidecar.connect()
        client.sends(request)
        if response is not None:
            sidecar.upstream().sends(response)
        (got,) = readResponses(client.got(), closed=client.closed)
        self.assertEqual(got.headers.getAll("Date"), [expected])


class InterimTests(SynchronousTestCase):
    """Interim responses."""

    def test_unchanged(self) -> None:
        """An interim response, and a 101, pass without a Date."""
        date = b"Date: %b\r\n" % NOW.encode()
        sidecar = Harness(date=lambda: date)
        client = sidecar.connect()
        client.sends(GET)
        sidecar.upstream().sends(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertEqual(
            client.got(),
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK.replace(b"\r\n\r\n", b"\r\n%b\r\n" % date),
        )
