"""Tests of L{sitio.proxy.forwarding}."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.claims import (
    APPEND,
    BOTH,
    FORWARDED,
    PRESERVE,
    REPLACE,
    STYLES,
    X_FORWARDED,
)
from sitio.http.headers import RequestHeaders
from sitio.http.message import Headers, Request, RequestLine, Response
from sitio.proxy.forwarding import (
    MAX_FORWARDS,
    ClaimRule,
    Forwarding,
    addVia,
    answerOfLastHop,
)
from sitio.proxy.trust import ForwardedSettings, Trust
from sitio.test.helpers.rows import Row, eachRow

FOR = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"


@define
class Context:
    """The attributes of a context that forwarding reads."""

    host: bytes = b"service:8087"
    via: bytes | None = None
    forwarded: ForwardedSettings = field(factory=ForwardedSettings)
    mark: str = ""
    markLine: bytes = b""


def forwarding(
    secure: bool = False,
    style: str = X_FORWARDED,
    address: str = "192.0.2.1",
    mark: bytes = b"",
) -> Forwarding:
    """A L{Forwarding} for a client at 192.0.2.1."""
    settings = ForwardedSettings(style=style)
    context: Any = Context(forwarded=settings, markLine=mark)
    return Forwarding(context, address, secure)


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
                lines = forwarding().linesFor(request, b"", amend, b"sitio")
                self.assertTrue(lines.endswith(b"Via: %b sitio\r\n" % version.encode()))

    def test_mark(self) -> None:
        """The mark is among the lines in each style, once, whether they are amended or not."""
        for style in STYLES:
            for host in (b"a.example", b"", None):
                for amend in (True, False):
                    fields = forwarding(style=style, mark=b"CDN-Loop: sitio-1\r\n")
                    request = Request("GET", "/")
                    lines = fields.linesFor(request, host, amend)
                    self.assertEqual(lines.count(b"CDN-Loop"), 1)
                    self.assertNotIn("CDN-Loop", request.headers)

    def test_viaOfResponse(self) -> None:
        """The Via of a response is added to the existing ones."""
        response = Response(200, headers={"Via": "1.1 other"})
        addVia(response, b"sitio")
        self.assertEqual(response.headers.getAll("Via"), ["1.1 other", "1.1 sitio"])


ELEMENT = b"Forwarded: for=192.0.2.1;proto=http"

#: The style, the Host of a request, and the lines that are added.
LINES: list[Row] = [
    ("x-forwarded writes three fields", X_FORWARDED, b"a:80",
     FOR + b"X-Forwarded-Host: a:80\r\n"),
    ("forwarded writes one, with the host in quotes", FORWARDED, b"a:80",
     ELEMENT + b';host="a:80"\r\n'),
    ("both writes all", BOTH, b"a:80",
     FOR + b"X-Forwarded-Host: a:80\r\n" + ELEMENT + b';host="a:80"\r\n'),
    ("forwarded without a host leaves it out", FORWARDED, b"", ELEMENT + b"\r\n"),
    ("both without a host", BOTH, b"", FOR + ELEMENT + b"\r\n"),
    ("forwarded and an HTTP/1.0 request without Host", FORWARDED, None,
     ELEMENT + b"\r\nHost: service:8087\r\n"),
]  # fmt: skip


@eachRow(LINES)
class StyleTests(SynchronousTestCase):
    """C{--forwarded-style}: what sitio writes."""

    def check(self, style: str, host: bytes | None, expected: bytes) -> None:
        """The lines, and the same fields for request policies."""
        request = Request("GET", "/")
        self.assertEqual(forwarding(style=style).linesFor(request, host, amend=False), expected)
        self.assertEqual(forwarding(style=style).linesFor(request, host, amend=True), b"")
        self.assertEqual(request.headers.lines, b"\r\n" + expected)

    def test_claims(self) -> None:
        """Lines that are appended to claims are those that are written without claims."""
        for style in STYLES:
            for host in (b"a.example", b"", None):
                request = Request("GET", "/", Headers([("X-Real-IP", "6.6.6.6")]))
                fields = forwarding(style=style)
                fields.linesFor(request, host, amend=True)
                self.assertEqual(
                    request.headers.lines,
                    b"\r\n" + forwarding(style=style).linesFor(request, host, amend=False),
                )

    def test_addresses(self) -> None:
        """IPv6 stands in quotes and brackets, without its zone; a UNIX socket is unknown."""
        for address, node in (
            ("2001:db8::1", b'"[2001:db8::1]"'),
            ("fe80::1%eth0", b'"[fe80::1]"'),
            ("unknown", b"unknown"),
        ):
            fields = forwarding(style=FORWARDED, address=address, secure=True)
            lines = fields.linesFor(Request("GET", "/"), b"", amend=False)
            self.assertEqual(lines, b"Forwarded: for=%b;proto=https\r\n" % node)

    def test_percent(self) -> None:
        """The zone of an IPv6 address is no format."""
        fields = forwarding(style=BOTH, address="fe80::1%bond0")
        lines = fields.linesFor(Request("GET", "/"), b"a", amend=False)
        self.assertIn(b"X-Forwarded-For: fe80::1%bond0\r\n", lines)


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

        rule = ClaimRule.of(ForwardedSettings(mode), "10.0.0.1" if trusted else "192.0.2.1")
        headers = Headers.fromWire(fields(given))
        rule.apply(headers, OWN)
        self.assertEqual(headers.rawFields, fields(expected))


NAMED = Trust.of(["10.0.0.0/8"])

#: The settings, the peer, its claims, and what the upstream gets in their place.
SETTINGS: list[Row] = [
    ("A proxy that is named may claim all", ForwardedSettings(trusted=NAMED), "10.0.0.1",
     "X-Forwarded-For: a|Forwarded: for=a|X-Real-IP: b",
     "X-Forwarded-For: a, 10.0.0.1|Forwarded: for=a|X-Real-IP: b|X-Forwarded-Proto: http"),
    ("Others may claim nothing, neighbours included", ForwardedSettings(trusted=NAMED),
     "192.168.0.1", "X-Forwarded-For: a|Forwarded: for=a|X-Real-IP: b",
     "X-Forwarded-For: 192.168.0.1|X-Forwarded-Proto: http"),
    ("So it is with Forwarded", ForwardedSettings(style=FORWARDED, trusted=NAMED),
     "192.168.0.1", "X-Forwarded-For: a|Forwarded: for=a",
     "Forwarded: for=192.168.0.1;proto=http"),
    ("A Forwarded of a trusted peer gets another element",
     ForwardedSettings(style=FORWARDED, trusted=NAMED),
     "10.0.0.1", 'forwarded: for=a|FORWARDED: for="b;,c"|X-Forwarded-Proto: https',
     'Forwarded: for=a, for="b;,c", for=10.0.0.1;proto=http|X-Forwarded-Proto: https'),
    ("By default, too, a stranger's Forwarded does not pass", ForwardedSettings(style=FORWARDED),
     "192.0.2.1", "X-Forwarded-For: a|Forwarded: for=a", "Forwarded: for=192.0.2.1;proto=http"),
    ("both appends to both", ForwardedSettings(style=BOTH), "10.0.0.1",
     "X-Forwarded-For: a|Forwarded: for=a",
     "X-Forwarded-For: a, 10.0.0.1|Forwarded: for=a, for=10.0.0.1;proto=http"
     "|X-Forwarded-Proto: http"),
    ("preserve appends nothing", ForwardedSettings(PRESERVE, BOTH), "192.0.2.1",
     "X-Forwarded-For: a|Forwarded: for=a",
     "X-Forwarded-For: a|Forwarded: for=a|X-Forwarded-Proto: http"),
    ("replace replaces all", ForwardedSettings(REPLACE, BOTH, NAMED), "10.0.0.1",
     "X-Forwarded-For: a|Forwarded: for=a",
     "X-Forwarded-For: 10.0.0.1|X-Forwarded-Proto: http|Forwarded: for=10.0.0.1;proto=http"),
]  # fmt: skip


@eachRow(SETTINGS)
class SettingsTests(SynchronousTestCase):
    """What becomes of claims with other styles, and with C{--trusted}."""

    def check(self, settings: ForwardedSettings, peer: str, given: str, expected: str) -> None:
        """The fields that the upstream gets."""
        pairs = [each.partition(": ") for each in given.split("|")]
        headers = Headers([(name, value) for name, _, value in pairs])
        request = Request("GET", "/", headers)
        context: Any = Context(forwarded=settings)
        Forwarding(context, peer, False).linesFor(request, b"", amend=True)
        found = [f"{name}: {value}" for name, value in request.headers.allItems()]
        self.assertEqual(found, expected.split("|"))


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

    def test_traceOfSecrets(self) -> None:
        """A TRACE shows nothing that a policy has put into the request."""
        headers = RequestHeaders([("Max-Forwards", "0"), ("A", "b")])
        request = Request.fromHead(RequestLine("TRACE", "/a"), headers, True, b"", None, None)
        request.headers["X-Api-Key"] = "secret"
        request.headers["A"] = "secret"
        request.target = "/a?key=secret"
        answer = answerOfLastHop(request)
        assert answer is not None
        self.assertEqual(answer.body, b"TRACE /a HTTP/1.1\r\nMax-Forwards: 0\r\nA: b\r\n\r\n")
