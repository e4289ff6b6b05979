"""
Tests of calls to services of others, with C{twistd sitio}: the token is sent to the service, and
shows up nowhere else.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.ssl import PrivateCertificate

from sitio.test.helpers.certificates import certify
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Process,
    ServerConnection,
    Upstream,
    reactor,
)

#: The tokens: one from a file, one in a description, those that a policy adds, and one that
#: can't be sent.
SECRETS = [f"hunter{number}-and-a-half" for number in range(6)]

#: A policy that puts tokens into the path, the query and a field, and fails in several ways.
POLICY = f"""\
from sitio import onRequest, onResponse

FIELD, PATH, QUERY, BAD = {SECRETS[2:]!r}

@onRequest(failOpen=True)
def call(exchange):
    request = exchange.request
    request.headers["X-Third"] = FIELD
    request.target = "/" + PATH + request.path + "?key=" + QUERY

@onRequest(failOpen=True)
def fail(exchange):
    token = BAD + chr(10)
    match exchange.request.receivedLine.path:
        case "/value":
            exchange.request.headers["X-Token"] = token
        case "/target":
            exchange.request.target = "/bot" + token
        case "/crash":
            raise KeyError(exchange.request)

@onResponse(200)
def failLater(exchange, response):
    if exchange.request.receivedLine.path == "/later":
        exchange.request.headers["X-Token"] = BAD + chr(0)
"""

#: What the service answers, by the path that the client has asked for.
ANSWERS = {
    b"/broken": b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
    b"/absent": b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",
    b"/garbage": b"garbage\r\n\r\n",
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

_mark = re.compile(rb"sitio-[0-9a-f]+")
_path = re.compile(rb"^[A-Z]+ /[^/ ]+(/[a-z]+)").match

#: The admin pages that tell something of requests or of the configuration.
PAGES = ("/exchanges", "/config", "/policies", "/stats.json", "/metrics", "/", "/events")


def answerByPath(script: ServerConnection) -> None:
    """Answer all requests on a connection."""

    def answer(match: object) -> None:
        found = _path(script.got.data)
        script.got.data = b""
        script.send(ANSWERS.get(found[1] if found else b"", OK))
        answerByPath(script)

    script.got.expect(b"\r\n\r\n").addCallbacks(answer, lambda _: None)


class SecretTests(LoopbackTestCase):
    """What policies add to requests."""

    async def start(self, upstream: Upstream, policy: Path, token: Path) -> Process:
        """A sitio with all that writes something down, in front of this service."""
        port = await self.listen(upstream)
        return self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", "--port", f"tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{port}", "--access-log=json", "--access-log-query"),
            *("--admin", f"tcp:0:interface={LOCALHOST}", "--stats-interval=0.2"),
            *("--policy", "error-page:404,5xx", "--policy", "last-good", "--policy", "retry"),
            *("--policy", f"token:{token}"),
            *("--policy", f"headers:request set X-Second {SECRETS[1]}"),
            *("--policy", f"file:{policy}"),
        )

    async def ask(self, port: int, line: str, *fields: str) -> bytes:
        """What a client gets."""
        lines = [f"{line} HTTP/1.1", "Host: here", "Connection: close", *fields, "", ""]
        client = await self.connect(port, "\r\n".join(lines).encode())
        await client.got.waitForEnd()
        return client.got.data

    async def test_nowhere(self) -> None:
        """
        Fields, paths and queries that policies set go to the service, and into no response, no log
        line and no admin page, whatever fails.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "calls.py").write_text(POLICY)
        (folder / "api-token").write_text(f"{SECRETS[0]}\n")
        upstream = Upstream(answerByPath)
        process = await self.start(upstream, folder / "calls.py", folder / "api-token")
        port = int((await process.out.expect(LISTENING_LINE))[1])
        admin = int((await process.out.expect(rb"admin pages .*127\.0\.0\.1:([0-9]+)"))[1])
        seen = []
        for path in ("good", "broken", "absent", "garbage", "value", "target", "crash", "later"):
            seen.append(await self.ask(port, f"GET /{path}?a=b"))
            self.assertTrue(seen[-1].startswith(b"HTTP/1.1 "), path)
        seen.append(await self.ask(port, "TRACE /trace", "Max-Forwards: 0"))
        self.assertIn(b"TRACE /trace HTTP/1.1", seen[-1])
        seen.append(await self.ask(port, "OPTIONS *", "Max-Forwards: 0"))
        for each in PAGES:
            client = await self.connect(
                admin,
                f"GET {each} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
            )
            if each == "/events":
                await client.got.expect(rb"event|data: ")
            else:
                await client.got.waitForEnd()
            self.assertTrue(client.got.data.startswith(b"HTTP/1.1 200 "), client.got.data[:500])
            seen.append(client.got.data)
        exchanges = await self.ask(admin, "GET /exchanges")
        self.assertIn(b'"/garbage"', exchanges)
        seen.append(exchanges)
        await process.out.expect(rb"stats: ")
        await process.out.expect(rb'"path": ?"/later')
        for line in ("KeyError", "its character 19 is", "a target must be"):
            await process.out.expect(line.encode())
        seen.append(process.out.data)
        for secret in SECRETS:
            for shown in seen:
                self.assertNotIn(secret.encode(), shown)

    async def test_sent(self) -> None:
        """The service gets them: the test above has something to find."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "calls.py").write_text(POLICY)
        (folder / "api-token").write_text(f"{SECRETS[0]}\n")
        upstream = Upstream()
        process = await self.start(upstream, folder / "calls.py", folder / "api-token")
        port = int((await process.out.expect(LISTENING_LINE))[1])
        client = await self.connect(port, b"GET /good HTTP/1.1\r\nHost: here\r\n\r\n")
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        for secret in SECRETS[:5]:
            self.assertIn(secret.encode(), asked.got.data)
        self.assertIn(b"Authorization: Bearer " + SECRETS[0].encode(), asked.got.data)
        asked.send(OK)
        await client.got.expect(b"hi$")


DOCUMENT = Path(__file__).parent.parent.parent.parent / "docs" / "outgoing.md"


class DocumentTests(LoopbackTestCase):
    """The example of docs/outgoing.md, as it stands there."""

    if not DOCUMENT.is_file():
        skip = "sitio is installed without its documents"

    def example(self) -> tuple[list[str], bytes]:
        """The commands, and the request that the service gets."""
        text = DOCUMENT.read_text("utf-8")
        commands = re.findall(r"^    \$ (.+)$", text, re.MULTILINE)
        [request] = re.findall(r"^    GET [^\n]+\n(?:    [^\n]+\n)+", text, re.MULTILINE)
        lines = [line[4:] for line in request.splitlines()]
        return commands, "\r\n".join([*lines, "", ""]).encode()

    async def test_example(self) -> None:
        """
        The commands work as they are written, but for ports and the name of the service, which
        stand for those that this machine has.  The service gets just what is written there, by
        TLS with its name, verified by the authority that this process trusts; it fails once, and
        is asked again; the calls are counted.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        key, certificate = certify(folder)
        names: list[str] = []
        upstream = Upstream()
        service = await self.secured(upstream, key.read_bytes() + certificate.read_bytes(), names)
        commands, expected = self.example()
        write, start, ask = commands
        self.assertEqual(write, "printf 's3cret' > api-token")
        (folder / "api-token").write_text("s3cret")
        words = shlex.split(start)
        self.assertEqual(words[:3], ["twistd", "-n", "sitio"])
        replaced = {
            "127.0.0.1:9000": f"{LOCALHOST}:0",
            "https://api.example:443": f"https://localhost:{service}",
        }
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", f"--admin=tcp:0:interface={LOCALHOST}"),
            *(replaced.get(each, each) for each in words[3:]),
            cwd=str(folder),
            SSL_CERT_FILE=str(certificate),
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        admin = int((await process.out.expect(rb"admin pages .*127\.0\.0\.1:([0-9]+)"))[1])
        self.assertTrue(ask.startswith("curl http://localhost:9000/"))
        fields = b"Host: localhost:9000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
        client = await self.connect(port, b"GET /v1/orders HTTP/1.1\r\n" + fields + b"\r\n")
        asked = await upstream.connection()
        for answer in (b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", OK):
            await asked.got.expect(b"\r\n\r\n")
            got, asked.got.data = asked.got.data, b""
            shown = got.replace(b"localhost:%d" % service, b"api.example")
            self.assertEqual(_mark.sub(b"sitio-", shown), _mark.sub(b"sitio-", expected))
            asked.send(answer)
        await client.got.expect(b"HTTP/1.1 200 OK\r\n(?s:.*)hi$")
        self.assertEqual(names, ["localhost"])
        pages = await self.connect(
            admin, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        await pages.got.waitForEnd()
        metrics = pages.got.data.decode()
        for side, status in (("server", 200), ("client", 503), ("client", 200)):
            counted = rf'http_{side}_request_duration_seconds_count{{[^}}]*"{status}"[^}}]*}} 1\.0'
            self.assertRegex(metrics, counted)

    async def ended(self, upstream: Upstream) -> None:
        """Wait for the ends of all connections."""
        for each in upstream.connections:
            await each.got.waitForEnd()

    async def secured(self, upstream: Upstream, pem: bytes, names: list[str]) -> int:
        """
        Listen by TLS.

        @param pem: key and certificate.
        @param names: gets the name that each client sends in its handshake.

        @return: the port.
        """
        options = PrivateCertificate.loadPEM(pem).options()
        context = options.getContext()
        context.set_tlsext_servername_callback(
            lambda connection: names.append((connection.get_servername() or b"").decode())
        )
        endpoint = SSL4ServerEndpoint(reactor, 0, options, interface=LOCALHOST)
        listening = await endpoint.listen(upstream)
        self.addCleanup(listening.stopListening)
        # The process ends first.
        self.addCleanup(self.ended, upstream)
        port: int = listening.getHost().port
        return port
