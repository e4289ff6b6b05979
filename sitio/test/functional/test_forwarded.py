"""
Tests of C{--forwarded}: what services read of the claims of proxies and clients.

Each service below is a small function, after the source that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest
from sitio.http.claims import APPEND, FORWARDED, MODES, PRESERVE, REPLACE
from sitio.proxy.generation import Generation
from sitio.proxy.trust import ForwardedSettings, Trust
from sitio.telemetry.history import recordOf
from sitio.test.helpers.rows import Row, eachRow
from sitio.testing import Harness
from sitio.testing.network import Peer

#: Of the connection to the service: sitio's.
SOCKET = "127.0.0.1"

Fields = Mapping[str, str]


class Read(NamedTuple):
    """What a service takes for scheme, host and address of the client."""

    scheme: str
    host: str
    address: str


def isPrivate(address: str) -> bool:
    """Loopback and private networks, which services are told to trust."""
    return ip_address(address).is_private and not address.startswith(("192.0.2.", "198.51.100."))


def values(fields: Fields, name: str) -> list[str]:
    """The members of a field."""
    return [each.strip() for each in fields.get(name, "").split(",") if each.strip()]


def django(fields: Fields) -> Read:
    """
    C{django/http/request.py}: with C{SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO",
    "https")} before 4.1 the whole value must be C{https}, from 4.1 on the first; with
    C{USE_X_FORWARDED_HOST} the whole value is the host, and must be one.  It has no reading of
    addresses: the last value is what its users' middlewares take.
    """
    scheme = "https" if fields.get("x-forwarded-proto") == "https" else "http"
    host = fields.get("x-forwarded-host", fields["host"])
    if "," in host:
        host = "400 Bad Request"
    return Read(scheme, host, (values(fields, "x-forwarded-for") or [SOCKET])[-1])


def rails(fields: Fields) -> Read:
    """
    C{rack/request.rb} (2.2): X-Forwarded-Ssl, -Scheme, then the first of -Proto; the last of
    -Host.  C{action_dispatch/middleware/remote_ip.rb}: the last of X-Forwarded-For that is no
    trusted proxy, else the first; a Client-Ip that is not in it is an attack.
    """
    scheme = (
        fields.get("x-forwarded-scheme") or (values(fields, "x-forwarded-proto") or ["http"])[0]
    )
    if fields.get("x-forwarded-ssl") == "on":
        scheme = "https"
    host = (values(fields, "x-forwarded-host") or [fields["host"]])[-1]
    addresses = [*values(fields, "x-forwarded-for"), SOCKET]
    if "client-ip" in fields and fields["client-ip"] not in addresses:
        return Read(scheme, host, "IpSpoofAttackError")
    others = [each for each in addresses if not isPrivate(each)]
    return Read(scheme, host, others[-1] if others else addresses[0])


def spring(fields: Fields) -> Read:
    """
    C{org/springframework/web/util/ForwardedHeaderUtils.java}, which C{ForwardedHeaderFilter}
    uses: Forwarded, else the first value of each X-Forwarded field, else X-Forwarded-Ssl.
    """
    said = fields.get("forwarded", "").split(",")[0]
    pairs = dict(each.strip().split("=", 1) for each in said.split(";") if "=" in each)
    if pairs:
        return Read(
            pairs.get("proto", "http"), pairs.get("host", fields["host"]), pairs.get("for", SOCKET)
        )
    secure = "https" if fields.get("x-forwarded-ssl") == "on" else "http"
    return Read(
        (values(fields, "x-forwarded-proto") or [secure])[0],
        (values(fields, "x-forwarded-host") or [fields["host"]])[0],
        (values(fields, "x-forwarded-for") or [SOCKET])[0],
    )


def express(fields: Fields) -> Read:
    """
    C{lib/request.js} with C{trust proxy} for loopback and private networks, as C{proxy-addr}
    has it: the first of -Proto and -Host; the last of X-Forwarded-For that is not trusted.
    """
    addresses = [*values(fields, "x-forwarded-for"), SOCKET]
    others = [each for each in addresses if not isPrivate(each)]
    return Read(
        (values(fields, "x-forwarded-proto") or ["http"])[0],
        (values(fields, "x-forwarded-host") or [fields["host"]])[0],
        others[-1] if others else addresses[0],
    )


SERVICES: tuple[Callable[[Fields], Read], ...] = (django, rails, spring, express)

CLIENT, ROUTER, PUBLIC = "198.51.100.7", "10.0.0.1", "192.0.2.9"

#: What a router sends that has ended TLS.
BY_ROUTER = (
    b"X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\n"
)

#: All that a client can claim: another address, TLS, another host.
LIES = (
    b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n"
    b"Forwarded: for=6.6.6.6;proto=https;host=evil.example\r\nX-Forwarded-Ssl: on\r\n"
    b"X-Forwarded-Scheme: https\r\nX-Forwarded-Port: 443\r\nFront-End-Https: on\r\n"
    b"Client-Ip: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_Proto: https\r\n"
)

#: As a router passes these that believes clients, and puts its own client behind.
THROUGH_ROUTER = BY_ROUTER.replace(b": 198", b": 6.6.6.6, 198")

RIGHT = Read("https", "a.example", CLIENT)
PLAIN = Read("http", "a.example", PUBLIC)
LIE = Read("https", "evil.example", "6.6.6.6")

#: The peer, its claims, the mode; what each service reads.
READINGS: list[Row] = [
    ("append: a router's scheme and host are the only values, the address is its client's",
     ROUTER, BY_ROUTER, APPEND,
     {django: RIGHT._replace(address=ROUTER), rails: RIGHT, spring: RIGHT, express: RIGHT}),
    ("preserve: all is as the router said",
     ROUTER, BY_ROUTER, PRESERVE, dict.fromkeys(SERVICES, RIGHT)),
    ("replace: a router that has ended TLS is not heard, so it is not for Pods behind one",
     ROUTER, BY_ROUTER, REPLACE, {
         django: Read("http", "a.example", ROUTER), rails: Read("http", "a.example", ROUTER),
         spring: Read("http", "a.example", ROUTER), express: Read("http", "a.example", ROUTER)}),
    *((f"{mode}: without claims sitio's own are right",
       PUBLIC, b"", mode, dict.fromkeys(SERVICES, PLAIN)) for mode in MODES),
    ("append: a public client's claims are dropped, but for addresses in front of its own",
     PUBLIC, LIES, APPEND,
     {django: PLAIN, rails: PLAIN, express: PLAIN, spring: PLAIN._replace(address="6.6.6.6")}),
    ("preserve: a client is believed",
     PUBLIC, LIES, PRESERVE, dict.fromkeys(SERVICES, LIE)),
    ("replace: no claim passes, for services that believe the first value",
     PUBLIC, LIES, REPLACE, dict.fromkeys(SERVICES, PLAIN)),
    ("append: of the addresses through a router the last that is not trusted is right",
     ROUTER, THROUGH_ROUTER, APPEND,
     {django: RIGHT._replace(address=ROUTER), rails: RIGHT, express: RIGHT,
      spring: RIGHT._replace(address="6.6.6.6")}),
    ("preserve: so it is",
     ROUTER, THROUGH_ROUTER, PRESERVE,
     {django: RIGHT, rails: RIGHT, express: RIGHT, spring: RIGHT._replace(address="6.6.6.6")}),
]  # fmt: skip


@onRequest
def look(exchange: Any) -> None:
    """A policy that makes sitio add its fields to the client's headers."""


def asked(sidecar: Harness, peer: str, claims: bytes, secure: bool = False) -> dict[str, str]:
    """What the service gets of a request: fields by their names in lower case."""
    client = sidecar.connect(peer, secure)
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + claims + b"\r\n")
    got = sidecar.upstream().got().decode("latin-1")
    fields: dict[str, str] = {}
    for line in got.split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        before = fields.get(name.lower())
        fields[name.lower()] = value if before is None else f"{before}, {value}"
    return fields


@eachRow(READINGS)
class ReadingTests(SynchronousTestCase):
    """What services read behind sitio, in each mode."""

    def check(
        self,
        peer: str,
        claims: bytes,
        mode: str,
        expected: dict[Callable[[Fields], Read], Read],
    ) -> None:
        """With and without a request policy, and in the default mode without naming it."""
        for policies in ((), (look,)):
            fields = asked(Harness(policies, forwarded=mode), peer, claims)
            read = {each.__name__: each(fields) for each in SERVICES}
            self.assertEqual(read, {each.__name__: said for each, said in expected.items()})
        if mode == APPEND:
            self.assertEqual(asked(Harness((look,)), peer, claims), fields)


class ModelTests(SynchronousTestCase):
    """The services above fail as the real ones do."""

    def test_two(self) -> None:
        """Two values in one: Django sees no TLS and no host, so it redirects for ever."""
        both = {"host": "h", "x-forwarded-proto": "https, http", "x-forwarded-host": "a, b"}
        self.assertEqual(django(both), ("http", "400 Bad Request", SOCKET))
        self.assertEqual([each(both).scheme for each in (rails, spring, express)], ["https"] * 3)
        self.assertEqual([each(both).host for each in (rails, spring, express)], ["b", "a", "a"])

    def test_none(self) -> None:
        """Without claims they believe the connection."""
        for each in SERVICES:
            self.assertEqual(each({"host": "h"}), ("http", "h", SOCKET))


class ModeTests(SynchronousTestCase):
    """Details of the modes."""

    def test_tls(self) -> None:
        """sitio's own TLS is told where nobody has claimed a scheme."""
        for mode in MODES:
            fields = asked(Harness(forwarded=mode), ROUTER, b"", secure=True)
            self.assertEqual(fields["x-forwarded-proto"], "https", mode)

    def test_underscores(self) -> None:
        """C{--keep-underscores} keeps claims in such spellings in each mode."""
        for mode in MODES:
            for keeps in (False, True):
                sidecar = Harness(forwarded=mode, keepsFolded=keeps)
                fields = asked(sidecar, PUBLIC, b"X_Forwarded_Proto: https\r\nX_Real_IP: a\r\n")
                self.assertEqual("x_forwarded_proto" in fields, keeps, mode)
                self.assertEqual("x_real_ip" in fields, keeps, mode)

    def test_trailers(self) -> None:
        """No claim comes as a trailer."""
        for mode in MODES:
            sidecar = Harness(forwarded=mode)
            client = sidecar.connect(ROUTER)
            client.sends(
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\nA: b\r\n\r\n"
            )
            got = sidecar.upstream().got()
            self.assertNotIn(b"6.6.6.6", got)
            self.assertNotIn(b"https", got)

    def test_peersOfOneProcess(self) -> None:
        """Peers with the same head get what is due to each, on any connection."""
        sidecar = Harness()
        for _ in range(2):
            for peer, scheme in ((ROUTER, b"https"), (PUBLIC, b"http")):
                client = sidecar.connect(peer)
                client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + BY_ROUTER + b"\r\n")
                upstream = sidecar.upstream()
                self.assertIn(b"X-Forwarded-Proto: %b\r\n" % scheme, upstream.got())
                upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class TrueClientTests(SynchronousTestCase):
    """C{--trusted}: who the client is, for policies, logs and pages."""

    SETTINGS = ForwardedSettings(trusted=Trust.of(["10.0.0.0/8"]))

    def ask(self, sidecar: Harness, client: Peer, claims: bytes) -> None:
        """One exchange, with a response."""
        client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + claims + b"\r\n")
        sidecar.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(client.got().startswith(b"HTTP/1.1 200 "))

    def test_each(self) -> None:
        """Requests of several clients that a router sends on one connection are told apart."""
        seen: list[tuple[str, str]] = []

        @onRequest
        def note(exchange: Any) -> None:
            # A policy's own change of the field is no claim.
            exchange.request.headers["X-Forwarded-For"] = "6.6.6.6"
            seen.append((exchange.clientAddress, exchange.peerAddress))

        sidecar = Harness((note,), forwarded=self.SETTINGS)
        client = sidecar.connect(ROUTER)
        expected = []
        for address in ("198.51.100.7", "2001:db8::7", "198.51.100.8"):
            self.ask(sidecar, client, b"X-Forwarded-For: %b\r\n" % address.encode())
            expected.append((address, ROUTER))
        self.ask(sidecar, client, b"")
        expected.append((ROUTER, ROUTER))
        self.assertEqual(seen, expected)
        records = [recordOf(each, "1", 0.0, 0.0)["client"] for each in sidecar.exchanges]
        self.assertEqual(records, [address for address, _ in expected])

    def test_stranger(self) -> None:
        """Whoever is not named tells nothing, and the upstream gets none of its claims."""
        for peer in (PUBLIC, "192.168.0.7", "127.0.0.1"):
            sidecar = Harness((look,), forwarded=self.SETTINGS)
            client = sidecar.connect(peer)
            client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + LIES + b"\r\n")
            self.assertNotIn(b"6.6.6.6", sidecar.upstream().got())
            self.assertEqual([each.clientAddress for each in sidecar.context.exchanges], [peer])

    def test_default(self) -> None:
        """Without the option nobody tells, neighbours included."""
        sidecar = Harness()
        self.ask(sidecar, sidecar.connect(ROUTER), b"X-Forwarded-For: 198.51.100.7\r\n")
        self.assertEqual([each.clientAddress for each in sidecar.exchanges], [ROUTER])

    def test_lazy(self) -> None:
        """It is found when it is first asked for, and only then: no request pays for it."""
        calls: list[str] = []
        clientOf = ForwardedSettings.clientOf

        def counting(self: ForwardedSettings, peer: str, lines: bytes) -> str:
            calls.append(peer)
            return clientOf(self, peer, lines)

        self.patch(ForwardedSettings, "clientOf", counting)
        sidecar = Harness((), forwarded=self.SETTINGS)
        self.ask(sidecar, sidecar.connect(ROUTER), b"X-Forwarded-For: 198.51.100.7\r\n")
        self.assertEqual(calls, [])
        for _ in range(2):
            self.assertEqual(sidecar.exchanges[0].clientAddress, "198.51.100.7")
        self.assertEqual(calls, [ROUTER])

    def test_unreadable(self) -> None:
        """Of a request that can't be read the client is the connection's."""
        sidecar = Harness((), forwarded=self.SETTINGS)
        client = sidecar.connect(ROUTER)
        client.sends(b"GET / HTTP/1.1\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
        self.assertTrue(client.got().startswith(b"HTTP/1.1 400 "))
        self.assertEqual([each.clientAddress for each in sidecar.exchanges], [ROUTER])

    def test_forwardedStyle(self) -> None:
        """With the style of RFC 7239 the same is read and written in Forwarded."""
        settings = ForwardedSettings(style=FORWARDED, trusted=Trust.of(["10.0.0.0/8"]))
        claims = b'Forwarded: for=6.6.6.6, for="[2001:db8::7]:1"\r\nX-Forwarded-For: 6.6.6.6\r\n'
        sidecar = Harness((), forwarded=settings)
        client = sidecar.connect(ROUTER)
        client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + claims + b"\r\n")
        self.assertIn(
            b'Forwarded: for=6.6.6.6, for="[2001:db8::7]:1", for=10.0.0.1;proto=http;host="h"\r\n',
            sidecar.upstream().got(),
        )
        [exchange] = sidecar.context.exchanges
        self.assertEqual(exchange.clientAddress, "2001:db8::7")

    def test_reloaded(self) -> None:
        """
        Other settings count from the next request on, also on a connection that is kept; an
        exchange under way keeps its own.
        """
        sidecar = Harness((look,))
        client = sidecar.connect(ROUTER)
        asked = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n"
        client.sends(asked)
        self.assertIn(b"X-Forwarded-For: 198.51.100.7, 10.0.0.1\r\n", sidecar.upstream().got())
        context = sidecar.context
        assert context.generation.only is not None
        for number, settings in enumerate(
            (self.SETTINGS, ForwardedSettings(style=FORWARDED), None), 2
        ):
            one = Generation.ofOne(context.generation.only, number)
            context.adopt(evolve(one, forwarded=settings))
            sidecar.factory.useSettings()
            [exchange] = context.exchanges
            expected = "198.51.100.7" if number == 3 else ROUTER
            self.assertEqual(exchange.clientAddress, expected, number)
            sidecar.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            client.sends(asked)
            got = sidecar.upstream().got()
            self.assertEqual(b"\r\nForwarded: for=10.0.0.1" in got, number > 2)
