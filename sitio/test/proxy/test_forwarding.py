"""Tests of L{sitio.proxy.forwarding}."""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.message import Headers, Request, Response
from sitio.proxy.forwarding import MAX_FORWARDS, Forwarding, addVia, answerOfLastHop

FOR = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"


@define
class Context:
    """The attributes of a context that forwarding reads."""

    host: bytes = b"service:8087"
    via: bytes | None = None


def forwarding(via: bytes | None = None, secure: bool = False) -> Forwarding:
    """A L{Forwarding} for a client at 192.0.2.1."""
    context: Any = Context(via=via)
    return Forwarding(context, "192.0.2.1", secure)


class FieldTests(SynchronousTestCase):
    """X-Forwarded fields, Host and Via of requests."""

    def test_lines(self) -> None:
        """The fields are returned as lines; the client's own fields stay unchanged."""
        request = Request("GET", "/")
        for host, more in (
            (b"a.example", b"X-Forwarded-Host: a.example\r\n"),
            (b"", b""),
            (None, b"Host: service:8087\r\n"),
        ):
            lines = forwarding().linesFor(request, host, amend=False)
            self.assertEqual(lines, FOR + more)
        self.assertEqual(list(request.headers), [])

    def test_changingHost(self) -> None:
        """Each request of a connection gets the X-Forwarded-Host of its own Host."""
        fields = forwarding()
        for host in (b"a", b"a", b"b", b"a"):
            lines = fields.linesFor(Request("GET", "/"), host, amend=False)
            self.assertEqual(lines, FOR + b"X-Forwarded-Host: %b\r\n" % host)

    def test_secure(self) -> None:
        """X-Forwarded-Proto is https for a TLS client."""
        lines = forwarding(secure=True).linesFor(Request("GET", "/"), b"", amend=False)
        self.assertIn(b"X-Forwarded-Proto: https\r\n", lines)

    def test_amend(self) -> None:
        """The client's own X-Forwarded values stay, in front of sitio's."""
        request = Request("GET", "/", Headers([("X-Forwarded-For", "198.51.100.7")]))
        self.assertEqual(forwarding().linesFor(request, b"a.example", amend=True), b"")
        self.assertEqual(
            dict(request.headers),
            {
                "X-Forwarded-For": "198.51.100.7, 192.0.2.1",
                "X-Forwarded-Proto": "http",
                "X-Forwarded-Host": "a.example",
            },
        )

    def test_amendWithoutHost(self) -> None:
        """An HTTP/1.0 request without a Host gets the configured one."""
        request = Request("GET", "/", version="1.0")
        forwarding().linesFor(request, None, amend=True)
        self.assertEqual(request.headers["Host"], "service:8087")
        self.assertNotIn("X-Forwarded-Host", request.headers)

    def test_via(self) -> None:
        """Via has the client's version of HTTP, and is the last line."""
        for version in ("1.0", "1.1"):
            request = Request("GET", "/", version=version)
            for amend in (True, False):
                lines = forwarding(via=b"sitio").linesFor(request, b"", amend)
                self.assertTrue(lines.endswith(b"Via: %b sitio\r\n" % version.encode()))

    def test_viaOfResponse(self) -> None:
        """The Via of a response is added to the existing ones."""
        response = Response(200, headers={"Via": "1.1 other"})
        addVia(response, b"sitio")
        self.assertEqual(response.headers.getAll("Via"), ["1.1 other", "1.1 sitio"])


class MaxForwardsTests(SynchronousTestCase):
    """Max-Forwards (RFC 9110, section 7.6.2)."""

    def hop(self, method: str, value: str) -> tuple[Response | None, str]:
        """sitio's own answer, if there is one, and the new value of the field."""
        request = Request(method, "/a?b", Headers([("Max-Forwards", value), ("Cookie", "c")]))
        return answerOfLastHop(request), request.headers["Max-Forwards"]

    def test_counts(self) -> None:
        """
        The field is reduced by one, with or without leading zeros; a value that is no
        number is unchanged.
        """
        for value, left in (
            ("5", "4"),
            ("1", "0"),
            ("007", "6"),
            ("9" * 5000, str(MAX_FORWARDS)),
            ("-1", "-1"),
            ("x", "x"),
            ("", ""),
        ):
            self.assertEqual(self.hop("TRACE", value), (None, left), value[:10])

    def test_lastHopOfOptions(self) -> None:
        """sitio answers OPTIONS with the methods that it passes."""
        for value in ("0", "000"):
            answer, _ = self.hop("OPTIONS", value)
            assert answer is not None
            self.assertEqual(answer.status, 204)
            self.assertIn("GET", answer.headers["Allow"])

    def test_lastHopOfTrace(self) -> None:
        """sitio answers TRACE with the received request, without its secret fields."""
        answer, _ = self.hop("TRACE", "0")
        assert answer is not None
        self.assertEqual(answer.body, b"TRACE /a?b HTTP/1.1\r\nMax-Forwards: 0\r\n\r\n")
        self.assertEqual(answer.headers["Content-Type"], "message/http")
