"""Tests of L{sitio.proxy.forwarding}."""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.claims import APPEND, PRESERVE, REPLACE
from sitio.http.message import Headers, Request, Response
from sitio.proxy.forwarding import (
    MAX_FORWARDS,
    ClaimRule,
    Forwarding,
    addVia,
    answerOfLastHop,
    isTrusted,
)
from sitio.test.helpers.rows import Row, eachRow

FOR = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"


@define
class Context:
    """The attributes of a context that forwarding reads."""

    host: bytes = b"service:8087"
    via: bytes | None = None
    forwarded: str = APPEND
    mark: str = ""
    markLine: bytes = b""


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
        self.assertEqual(request.headers.allItems(), [])

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
        """A client's X-Forwarded-For stays, in front of its address."""
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


#: The address of a peer, and whether its claims pass.
PEERS: list[Row] = [
    (f"{address} is {'trusted' if isTrusted else 'not trusted'}", address, isTrusted)
    for isTrusted, addresses in (
        (
            True,
            "127.0.0.1 127.9.9.9 ::1 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1"
            " 100.127.255.255 169.254.7.7 fd00::1 fc00::1 fe80::1 fe80::1%eth0 ::ffff:10.0.0.1"
            " ::ffff:127.0.0.1 unknown",
        ),
        (
            False,
            "192.0.2.1 8.8.8.8 172.32.0.1 172.15.255.255 192.169.0.1 100.63.255.255 100.128.0.1"
            " 11.0.0.1 0.0.0.0 ::ffff:8.8.8.8 2001:db8::1 2600:1f18::1 fe00::1 fec0::1 ::2",
        ),
    )
    for address in addresses.split()
]


@eachRow(PEERS)
class PeerTests(SynchronousTestCase):
    """Whose claims pass in the mode C{append}."""

    def check(self, address: str, expected: bool) -> None:
        """The scheme that such a peer claims."""
        self.assertIs(isTrusted(address), expected)
        request = Request("GET", "/", Headers([("X-Forwarded-Proto", "https")]))
        context: Any = Context()
        Forwarding(context, address, False).linesFor(request, b"a", amend=True)
        self.assertEqual(request.headers["X-Forwarded-Proto"], "https" if expected else "http")


OWN = [(b"X-Forwarded-For", b"192.0.2.1"), (b"X-Forwarded-Proto", b"http")]

#: The mode, whether the peer is trusted, its fields, and what becomes of them.
RULES: list[Row] = [
    ("append joins all lines of X-Forwarded-For at the place of the first", APPEND, True,
     "x-forwarded-for: a |A: b|X-FORWARDED-FOR: c",
     "X-Forwarded-For: a, c, 192.0.2.1|A: b|X-Forwarded-Proto: http"),
    ("preserve joins them too", PRESERVE, False,
     "x-forwarded-for: a|A: b|X-FORWARDED-FOR: c",
     "X-Forwarded-For: a, c|A: b|X-Forwarded-Proto: http"),
    ("preserve keeps the spelling of a single line", PRESERVE, True,
     "x-forwarded-for: a,b", "x-forwarded-for: a,b|X-Forwarded-Proto: http"),
    ("A scheme is kept as it is, also in two lines", APPEND, True,
     "X-Forwarded-Proto: https|x-forwarded-proto: http, x",
     "X-Forwarded-Proto: https|x-forwarded-proto: http, x|X-Forwarded-For: 192.0.2.1"),
    ("An empty claim is none", APPEND, True, "X-Forwarded-Proto: |X-Forwarded-For:  |A: ",
     "A: |X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http"),
    ("Other claims of a trusted peer pass", APPEND, True, "Forwarded: for=a|X-Real-IP: b",
     "Forwarded: for=a|X-Real-IP: b|X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http"),
    ("Those of others do not", APPEND, False,
     "Forwarded: for=a|A: b|X-Real-IP: b|X-Forwarded-User: root|X-Forwarded-For: c",
     "A: b|X-Forwarded-For: c, 192.0.2.1|X-Forwarded-Proto: http"),
    ("replace drops those of trusted peers, too", REPLACE, True,
     "Forwarded: for=a|A: b|X-Real-IP: b|X-Forwarded-User: root|X-Forwarded-For: c",
     "A: b|X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http"),
]  # fmt: skip


@eachRow(RULES)
class RuleTests(SynchronousTestCase):
    """L{ClaimRule}: which fields pass, and in which order."""

    def check(self, mode: str, trusted: bool, given: str, expected: str) -> None:
        """The rule of such a peer for these fields."""

        def fields(text: str) -> list[tuple[bytes, bytes]]:
            pairs = [each.encode().partition(b": ") for each in text.split("|")]
            return [(name, value) for name, _, value in pairs]

        rule = ClaimRule.of(mode, "10.0.0.1" if trusted else "192.0.2.1")
        headers = Headers.fromWire(fields(given))
        rule.apply(headers, OWN)
        self.assertEqual(headers.rawFields, fields(expected))


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
