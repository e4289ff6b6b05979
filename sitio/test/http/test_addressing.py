"""Tests of L{sitio.http.addressing}."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.addressing import AddressedWriter, Addressing, hostOf, writerFor
from sitio.http.claims import CLAIM_FIELDS
from sitio.http.codec import RequestReader
from sitio.http.limits import Limits
from sitio.http.message import Request
from sitio.http.writer import RequestWriter
from sitio.test.helpers.rows import Row, eachRow

HOST = b"api.example:8443"

#: A request as a client sends it.
PLAIN = b"GET /a HTTP/1.1\r\nAccept: */*\r\nhost: localhost:9000\r\nX-A: b\r\n\r\n"

END = b"\r\n\r\n"

#: The lines that sitio adds to it.
EXTRA = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nCDN-Loop: sitio-1\r\n"
    b"X-Forwarded-Host: localhost:9000\r\n"
)


def parsed(raw: bytes, keepsFolded: bool = False) -> tuple[Request, bytes, bool]:
    """A request, its body, and whether that is all of it."""
    reader = RequestReader(Limits(keepsFolded=keepsFolded))
    reader.receive(raw)
    request = reader.nextHead()
    assert request is not None
    body = reader.nextBody()
    request.arrived = body
    return request, body, reader.state == "nothing: the message is complete"


def written(
    addressing: Addressing,
    raw: bytes = PLAIN,
    extra: bytes = EXTRA,
    change: Callable[[Request], object] = lambda request: None,
    keepsFolded: bool = False,
) -> bytes:
    """What an upstream gets of a request, after a policy has changed it."""
    request, body, ended = parsed(raw, keepsFolded)
    change(request)
    data = AddressedWriter(addressing).begin(request, body, ended, extra)
    return data if isinstance(data, bytes) else b"".join(data)


def setHost(value: str) -> Callable[[Request], object]:
    """A policy that sets Host."""
    return lambda request: request.headers.update({"Host": value})


#: The Host of a client's request, what a policy does to it, and the Host that goes out.
HOSTS: list[Row] = [
    ("The client's is replaced at its place", PLAIN, None, b"Accept: */*\r\nHost: %b\r\n" % HOST),
    ("A policy's own stays", PLAIN, setHost("other.example"), b"Host: other.example\r\n"),
    ("One that a policy has set to the same is taken for the client's", PLAIN,
     setHost("localhost:9000"), b"Host: %b\r\n" % HOST),
    ("Other changes of a policy do not matter", PLAIN,
     lambda request: request.headers.update({"Accept": "a/b"}), b"Host: %b\r\n" % HOST),
    ("An empty one is replaced", PLAIN.replace(b"localhost:9000", b""), None,
     b"Host: %b\r\n" % HOST),
]  # fmt: skip


@eachRow(HOSTS)
class HostTests(SynchronousTestCase):
    """The Host of requests for a service that knows its own name only."""

    def check(
        self, raw: bytes, change: Callable[[Request], object] | None, expected: bytes
    ) -> None:
        """There is one Host, and it is this one."""
        data = written(Addressing(HOST), raw, change=change or (lambda request: None))
        self.assertIn(expected, data)
        self.assertEqual(data.lower().count(b"\nhost:"), 1)

    def test_http10(self) -> None:
        """A request without Host gets it too, in place of the default one."""
        raw = b"GET /a HTTP/1.0\r\nX-A: b\r\n\r\n"
        for extra, change in (
            (b"Host: default:1\r\n", lambda request: None),
            (b"", setHost("default:1")),
        ):
            data = written(Addressing(HOST), raw, extra, change)
            self.assertEqual(data, b"GET /a HTTP/1.1\r\nX-A: b\r\nHost: %b\r\n\r\n" % HOST)

    def test_unchanged(self) -> None:
        """Without a Host of its own an upstream gets the bytes that any other gets."""
        request, body, ended = parsed(PLAIN)
        plain = RequestWriter().begin(request, body, ended, EXTRA)
        self.assertEqual(written(Addressing()), plain)

    def test_request(self) -> None:
        """The request itself is not changed: a second attempt may go elsewhere."""
        request, body, ended = parsed(PLAIN)
        before = request.headers.lines
        AddressedWriter(Addressing(HOST, tells=False)).begin(request, body, ended, EXTRA)
        self.assertIs(request.headers.lines, before)
        self.assertEqual(request.headers["Host"], "localhost:9000")

    def test_writerFor(self) -> None:
        """Most upstreams have the writer that does nothing of this."""
        self.assertIs(writerFor("", True), RequestWriter)
        for host, tells, expected in (
            ("a.example", True, Addressing(b"a.example")),
            ("", False, Addressing(None, False)),
        ):
            writer = writerFor(host, tells)()
            assert isinstance(writer, AddressedWriter)
            self.assertEqual(writer.addressing, expected)

    def test_hostOf(self) -> None:
        """The port of the scheme is left out; IPv6 stands in brackets."""
        for name, port, scheme, expected in (
            ("api.example", 443, "https", "api.example"),
            ("api.example", 80, "http", "api.example"),
            ("api.example", 80, "https", "api.example:80"),
            ("api.example", 8443, "https", "api.example:8443"),
            ("2001:db8::1", 443, "https", "[2001:db8::1]"),
            ("2001:db8::1", 80, "https", "[2001:db8::1]:80"),
        ):
            self.assertEqual(hostOf(name, port, scheme), expected)


class TellTests(SynchronousTestCase):
    """What a foreign service gets to know of the client."""

    def test_nothing(self) -> None:
        """No claim goes out, whoever has made it; the mark against loops does."""
        claims = b"".join([b"%b: 6.6.6.6\r\n" % each for each in sorted(CLAIM_FIELDS)])
        raw = PLAIN.replace(b"X-A", claims + b"X-A")
        data = written(
            Addressing(HOST, tells=False),
            raw,
            change=lambda request: request.headers.update({"X-Real-IP": "6.6.6.6"}),
        )
        self.assertEqual(
            data,
            b"GET /a HTTP/1.1\r\nAccept: */*\r\nHost: %b\r\nX-A: b\r\nCDN-Loop: sitio-1\r\n\r\n"
            % HOST,
        )

    def test_spellings(self) -> None:
        """Nor do spellings that CGI takes for a claim, where C{--keep-underscores} lets them."""
        raw = PLAIN.replace(b"X-A", b"X_Forwarded_For: 6.6.6.6\r\nX_A: c\r\nX-A")
        for tells in (True, False):
            data = written(Addressing(None, tells), raw, keepsFolded=True)
            self.assertEqual(b"X_Forwarded_For" in data, tells)
            self.assertIn(b"X_A: c\r\n", data)
            self.assertIn(b"host: localhost:9000\r\n", data)

    def test_told(self) -> None:
        """With a Host of its own, an upstream may still be told which one the client sent."""
        data = written(Addressing(HOST))
        self.assertIn(b"X-Forwarded-Host: localhost:9000\r\n", data)
        self.assertIn(b"X-Forwarded-For: 127.0.0.1\r\n", data)


class FramingTests(SynchronousTestCase):
    """Nothing else of a request changes: neither its framing nor its body."""

    def same(self, raw: bytes, change: Callable[[Request], object] = lambda request: None) -> bytes:
        """What goes out, as any other writer writes it but for the Host."""
        request, body, ended = parsed(raw)
        change(request)
        plain = RequestWriter().begin(request, body, ended, EXTRA)
        plain = plain if isinstance(plain, bytes) else b"".join(plain)
        data = written(Addressing(HOST), raw, change=change)
        expected = plain.replace(b"host: localhost:9000", b"Host: %b" % HOST)
        # Lines of the connection stand elsewhere, which means nothing.
        (head, _, rest), (ours, _, tail) = expected.partition(END), data.partition(END)
        self.assertEqual((sorted(ours.split(b"\r\n")), tail), (sorted(head.split(b"\r\n")), rest))
        return data

    def test_length(self) -> None:
        """A length stays where it was; a policy's body has its own."""
        raw = PLAIN.replace(b"GET", b"POST").replace(b"X-A", b"Content-Length: 3\r\nX-A") + b"abc"
        self.assertIn(b"Content-Length: 3\r\nX-A", self.same(raw))
        raw = raw.replace(b"abc", b"a")
        self.assertIn(b"Content-Length: 3\r\nX-A", self.same(raw))

    def test_chunks(self) -> None:
        """Chunks stay chunks."""
        raw = PLAIN.replace(b"GET", b"POST").replace(b"X-A", b"Transfer-Encoding: chunked\r\nX-A")
        data = self.same(raw + b"3\r\nabc\r\n")
        self.assertTrue(data.endswith(b"\r\n\r\n3\r\nabc\r\n"))
        self.assertIn(b"Transfer-Encoding: chunked\r\n", data)

    def test_upgrade(self) -> None:
        """So does the wish for another protocol."""
        raw = PLAIN.replace(b"X-A", b"Connection: Upgrade\r\nUpgrade: websocket\r\nX-A")
        self.assertIn(b"Connection: upgrade\r\nUpgrade: websocket\r\n", self.same(raw))

    def test_target(self) -> None:
        """A target that a policy has set goes out."""
        data = self.same(PLAIN, lambda request: setattr(request, "target", "/b?c"))
        self.assertTrue(data.startswith(b"GET /b?c HTTP/1.1\r\n"))

    def test_long(self) -> None:
        """A long body is not copied."""
        body = b"a" * 20_000
        raw = PLAIN.replace(b"X-A", b"Content-Length: 20000\r\nX-A") + body
        request, arrived, ended = parsed(raw)
        data = AddressedWriter(Addressing(HOST)).begin(request, arrived, ended, EXTRA)
        assert not isinstance(data, bytes)
        self.assertIs(data[1], arrived)
