"""Tests of L{sitio.proxy.trust}."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.claims import APPEND, BOTH, FORWARDED, PRESERVE, X_FORWARDED
from sitio.http.grammar import VALUE_BYTES
from sitio.http.headers import Headers
from sitio.proxy.trust import (
    MAX_PROXIES,
    NEIGHBOURS,
    ForwardedSettings,
    Trust,
    forwardedSettings,
)
from sitio.test.helpers.rows import Row, eachRow

#: The address of a peer, and whether its claims pass.
PEERS: list[Row] = [
    (f"{address} is {'a neighbour' if isTrusted else 'no neighbour'}", address, isTrusted)
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
    """Whose claims pass in the mode C{append}, if nobody is named."""

    def check(self, address: str, expected: bool) -> None:
        """Whether it is believed, and that it tells no client unless it is named."""
        self.assertIs(NEIGHBOURS.has(address), expected)
        settings = ForwardedSettings()
        self.assertIs(settings.believes(address), expected)
        lines = Headers([("X-Forwarded-For", "198.51.100.7")]).lines
        self.assertEqual(settings.clientOf(address, lines), address)


class TrustTests(SynchronousTestCase):
    """Networks that the operator names."""

    def test_only(self) -> None:
        """Only these are trusted, neither neighbours nor UNIX sockets."""
        settings = ForwardedSettings(trusted=Trust.of(["203.0.113.0/24", "2001:db8::/32"]))
        for address, expected in (
            ("203.0.113.9", True),
            ("::ffff:203.0.113.9", True),
            ("2001:db8::7", True),
            ("203.0.114.9", False),
            ("10.0.0.1", False),
            ("127.0.0.1", False),
            ("unknown", False),
        ):
            self.assertIs(settings.believes(address), expected, address)

    def test_unix(self) -> None:
        """C{unix} stands for UNIX sockets, and nothing else."""
        trust = Trust.of(["unix"])
        self.assertTrue(trust.has("unknown"))
        self.assertFalse(trust.has("127.0.0.1"))

    def test_nobody(self) -> None:
        """No networks are nobody, and not the default."""
        self.assertFalse(ForwardedSettings(trusted=Trust.of([])).believes("127.0.0.1"))

    def test_wrong(self) -> None:
        """What is no network is refused."""
        for each in ("10.0.0.1/8", "a.example", "", "10.0.0.0/33"):
            self.assertRaises(ValueError, Trust.of, [each])

    def test_equal(self) -> None:
        """The order of networks does not count: settings are compared."""
        first, second = ["10.0.0.0/8", "unix", "::1"], ["::1", "10.0.0.0/8", "unix", "::1"]
        self.assertEqual(Trust.of(first), Trust.of(second))

    def test_mode(self) -> None:
        """A mode alone stands for settings."""
        self.assertEqual(forwardedSettings(PRESERVE), ForwardedSettings(PRESERVE))
        settings = ForwardedSettings(APPEND, BOTH)
        self.assertIs(forwardedSettings(settings), settings)


#: Named as trusted: a balancer, two proxies behind it, and UNIX sockets.
TRUST = Trust.of(["10.0.0.0/8", "2001:db8:a::/48", "unix"])
BALANCER, CLIENT, LIAR = "10.0.0.1", "198.51.100.7", "6.6.6.6"

#: The peer, the lines of X-Forwarded-For that it sends, and the client.
LISTS: list[Row] = [
    ("A peer that is not trusted is the client", CLIENT, [LIAR], CLIENT),
    ("So is one without claims", CLIENT, [], CLIENT),
    ("A trusted peer without claims is the client itself", BALANCER, [], BALANCER),
    ("A trusted peer tells the client", BALANCER, [CLIENT], CLIENT),
    ("What the client has claimed stands left of it", BALANCER, [f"{LIAR}, {CLIENT}"], CLIENT),
    ("Trusted proxies in a row are passed", BALANCER,
     [f"{LIAR}, {CLIENT}, 10.9.9.9, 10.0.0.2"], CLIENT),
    ("A client that names a trusted proxy gains nothing", BALANCER,
     [f"{LIAR}, 10.0.0.2, {CLIENT}"], CLIENT),
    ("If all are trusted, the first is the client", BALANCER, ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("Several lines are one list", BALANCER, [LIAR, f"{LIAR},{CLIENT}", "10.0.0.2"], CLIENT),
    ("The last line counts, as a proxy may add one", BALANCER, [LIAR, CLIENT], CLIENT),
    ("Empty lines and entries mean nothing", BALANCER, ["", f" ,{CLIENT}, , ,", " "], CLIENT),
    ("Nothing but commas is no claim", BALANCER, [",,,", ", ,"], BALANCER),
    ("A port is left out", BALANCER, [f"{CLIENT}:4711"], CLIENT),
    ("IPv6 as it is", BALANCER, ["2001:DB8::7"], "2001:db8::7"),
    ("IPv6 in brackets", BALANCER, ["[2001:db8::7]"], "2001:db8::7"),
    ("IPv6 in brackets with a port", BALANCER, ["[2001:db8::7]:4711"], "2001:db8::7"),
    ("A trusted proxy with an IPv6 address", "2001:db8:a::1",
     [f"{CLIENT}, 2001:db8:a::2"], CLIENT),
    ("An IPv4 address as an IPv6 one", BALANCER, ["::ffff:198.51.100.7"], CLIENT),
    ("A trusted proxy by such an address", "::ffff:10.0.0.1", [CLIENT, "::ffff:10.0.0.2"], CLIENT),
    ("Behind a UNIX socket", "unknown", [CLIENT], CLIENT),
    ("Behind a UNIX socket without claims", "unknown", [], "unknown"),
    ("unknown ends the search at the proxy that says so", BALANCER,
     [f"{LIAR}, unknown, 10.0.0.2"], "10.0.0.2"),
    ("So does a name", BALANCER, [f"{LIAR}, a.example"], BALANCER),
    ("So does garbage", BALANCER, [f"{LIAR}, \xff\x00<script>"], BALANCER),
    ("So does a number without dots", BALANCER, ["3221225985"], BALANCER),
    ("So do leading zeros", BALANCER, ["198.051.100.007"], BALANCER),
    ("So do ports that are none", BALANCER, [f"{CLIENT}:", f"{CLIENT}:x"], BALANCER),
    ("So does IPv4 in brackets", BALANCER, [f"[{CLIENT}]"], BALANCER),
    ("So does a zone", BALANCER, ["fe80::1%eth0"], BALANCER),
    ("So does a network", BALANCER, ["198.51.100.0/24"], BALANCER),
    ("So does an element of Forwarded", BALANCER, [f"for={CLIENT}"], BALANCER),
    ("So does an address that never ends", BALANCER, ["1" * 20_000], BALANCER),
    ("Of a thousand entries the last counts", BALANCER, [f"{LIAR}, " * 999 + CLIENT], CLIENT),
    ("A thousand trusted proxies are not passed", BALANCER,
     [", ".join([CLIENT, *(f"10.0.{at // 250}.{at % 250}" for at in range(1000))])],
     "10.0.3.218"),
]  # fmt: skip


#: What may stand in the value of a field.
VALUES = st.text(st.sampled_from([chr(each) for each in VALUE_BYTES]))


def clientOf(style: str, peer: str, fields: list[tuple[str, str]]) -> str:
    """The client of a request with these fields."""
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    settings = ForwardedSettings(style=style, trusted=TRUST)
    return settings.clientOf(peer, Headers.fromWire(pairs).lines)


@eachRow(LISTS)
class ListTests(SynchronousTestCase):
    """The client by X-Forwarded-For."""

    def check(self, peer: str, lines: list[str], expected: str) -> None:
        """In the styles that read it, whatever else is claimed."""
        fields = [("x-forwarded-FOR", each) for each in lines]
        lies = [("Forwarded", f"for={LIAR}"), ("X-Real-IP", LIAR), ("X_Forwarded_For", LIAR)]
        for style in (X_FORWARDED, BOTH):
            self.assertEqual(clientOf(style, peer, fields), expected)
            self.assertEqual(clientOf(style, peer, [*lies, *fields, *lies]), expected)

    def test_bounded(self) -> None:
        """The row with a thousand trusted proxies ends where it says."""
        at = 1000 - MAX_PROXIES
        self.assertEqual(f"10.0.{at // 250}.{at % 250}", "10.0.3.218")

    @given(VALUES)
    def test_spoofed(self, lie: str) -> None:
        """Nothing that a client sends changes what the trusted proxy has put behind it."""
        self.assertEqual(
            clientOf(X_FORWARDED, BALANCER, [("X-Forwarded-For", f"{lie}, {CLIENT}")]), CLIENT
        )
        lies = [("X-Forwarded-For", lie), ("X-Forwarded-For", CLIENT)]
        self.assertEqual(clientOf(X_FORWARDED, BALANCER, lies), CLIENT)


#: The same for Forwarded.
ELEMENTS: list[Row] = [
    ("A stranger is not heard", CLIENT, [f"for={LIAR}"], CLIENT),
    ("A trusted proxy is heard", BALANCER, [f"for={CLIENT}"], CLIENT),
    ("Among other pairs", BALANCER, [f'by=10.0.0.1;FOR={CLIENT} ; proto=https;host="a,b;c"'],
     CLIENT),
    ("IPv6 in quotes", BALANCER, ['for="[2001:db8::7]"'], "2001:db8::7"),
    ("IPv6 with a port", BALANCER, ['For="[2001:DB8::7]:4711"'], "2001:db8::7"),
    ("IPv6 without quotes, as some write it", BALANCER, ["for=[2001:db8::7]"], "2001:db8::7"),
    ("IPv4 with a port that is hidden", BALANCER, [f'for="{CLIENT}:_secret"'], CLIENT),
    ("Escaped characters", BALANCER, ['for="198.51\\.100.\\7"'], CLIENT),
    ("Elements of the client stand left", BALANCER, [f"for={LIAR};proto=https, for={CLIENT}"],
     CLIENT),
    ("Trusted proxies are passed", BALANCER,
     [f'for={LIAR}, for={CLIENT}, for="[2001:db8:a::2]:1";by=_x, for=10.0.0.2'], CLIENT),
    ("Several lines are one list", BALANCER, [f"for={LIAR}", f"for={CLIENT}", "for=10.0.0.2"],
     CLIENT),
    ("A quote that a client leaves open takes nothing", BALANCER,
     [f'for="{LIAR}', f'for={CLIENT};host="a"'], CLIENT),
    ("A quote before the last element, too", BALANCER, [f'for={LIAR};x="a, b, for={CLIENT}'],
     CLIENT),
    ("A quoted comma is none", BALANCER, [f'for={CLIENT};host="a,for={LIAR}"'], CLIENT),
    ("unknown ends the search", BALANCER, [f"for={LIAR}, for=unknown"], BALANCER),
    ("So does a hidden name", BALANCER, [f"for={LIAR}, for=_gazonk"], BALANCER),
    ("So does an element that names no client", BALANCER, [f"for={LIAR}, proto=https"], BALANCER),
    ("So does one that names two", BALANCER, [f"for={LIAR}, for={CLIENT};for={LIAR}"], BALANCER),
    ("So does one that is none", BALANCER, [f"for={LIAR}, {CLIENT}"], BALANCER),
    ("Empty elements mean nothing", BALANCER, [f", ,for={CLIENT}, ,", " "], CLIENT),
    ("No element is no claim", BALANCER, [" , "], BALANCER),
    ("Of a thousand elements the last counts", BALANCER,
     [f"for={LIAR}, " * 999 + f"for={CLIENT}"], CLIENT),
    ("An element without an end is none", BALANCER,
     [f'for={CLIENT};x="' + "," * 20_000], BALANCER),
]  # fmt: skip


@eachRow(ELEMENTS)
class ElementTests(SynchronousTestCase):
    """The client by Forwarded (RFC 7239)."""

    def check(self, peer: str, lines: list[str], expected: str) -> None:
        """In the style that reads it, whatever else is claimed."""
        fields = [("forwarded", each) for each in lines]
        lies = [("X-Forwarded-For", LIAR), ("X-Forwarded", f"for={LIAR}")]
        self.assertEqual(clientOf(FORWARDED, peer, fields), expected)
        self.assertEqual(clientOf(FORWARDED, peer, [*lies, *fields, *lies]), expected)

    @given(VALUES, st.text("a:;,=.", max_size=255))
    def test_spoofed(self, lie: str, host: str) -> None:
        """Nothing that a client sends changes what the trusted proxy has put behind it."""
        honest: Any = f'for={CLIENT};proto=http;host="{host}"'
        for fields in ([f"{lie}, {honest}"], [lie, honest]):
            found = clientOf(FORWARDED, BALANCER, [("Forwarded", each) for each in fields])
            self.assertIn(found, (CLIENT, BALANCER))
            if host.count(",") <= 8:
                self.assertEqual(found, CLIENT)
