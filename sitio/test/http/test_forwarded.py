"""Tests of L{sitio.http.forwarded}."""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.forwarded import (
    MAX_ELEMENT_BYTES,
    MAX_QUOTED_COMMAS,
    addressesInForwarded,
    addressesInList,
    addressOf,
    elementFor,
    parseElement,
    withHost,
)
from sitio.http.grammar import hostLine
from sitio.test.helpers.rows import Row, eachRow

#: What a proxy writes for an address, and that address.
NODES: list[Row] = [
    ("IPv4", "192.0.2.60", "192.0.2.60"),
    ("IPv4 with a port", "192.0.2.60:8080", "192.0.2.60"),
    ("IPv4 with a hidden port", "192.0.2.60:_x-1", "192.0.2.60"),
    ("IPv6 in brackets", "[2001:db8:cafe::17]", "2001:db8:cafe::17"),
    ("IPv6 in brackets with a port", "[2001:DB8:cafe::17]:4711", "2001:db8:cafe::17"),
    ("IPv6 as it is", "2001:db8:cafe::17", "2001:db8:cafe::17"),
    ("IPv6 in its longest form", "[2001:0db8:0000:0000:0000:ff00:192.168.100.200]:65535",
     "2001:db8::ff00:c0a8:64c8"),
    ("IPv4 as IPv6", "[::ffff:192.0.2.60]", "192.0.2.60"),
    ("unknown", "unknown", None),
    ("unknown with a port", "unknown:80", None),
    ("a hidden name", "_hidden", None),
    ("nothing", "", None),
    ("a name", "a.example", None),
    ("too many numbers", "1.2.3.4.5", None),
    ("a number beyond 255", "1.2.3.256", None),
    ("one number", "16909060", None),
    ("octal numbers", "0300.0.02.074", None),
    ("IPv4 in brackets", "[192.0.2.60]", None),
    ("a bracket that is not closed", "[2001:db8::1", None),
    ("a zone", "[fe80::1%eth0]", None),
    ("no port behind a colon", "192.0.2.60:", None),
    ("digits of another script", "192.0.2.\u0661", None),
    ("a blank", "192.0.2.60 ", None),
    ("a line end", "192.0.2.60\n", None),
]  # fmt: skip


@eachRow(NODES)
class NodeTests(SynchronousTestCase):
    """L{addressOf} (RFC 7239, section 6)."""

    def check(self, node: str, expected: str | None) -> None:
        """The address in a node."""
        self.assertEqual(addressOf(node), expected)


#: Elements, and what they say.
ELEMENTS: list[Row] = [
    ("Section 4: an obfuscated name", 'for="_gazonk"', {"for": "_gazonk"}),
    ("Section 4: IPv6 with a port", 'For="[2001:db8:cafe::17]:4711"',
     {"for": "[2001:db8:cafe::17]:4711"}),
    ("Section 4: several pairs", "for=192.0.2.60;proto=http;by=203.0.113.43",
     {"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}),
    ("Section 7.1: an extension", "for=_mdn;secret=egah2CGj55fSJFs",
     {"for": "_mdn", "secret": "egah2CGj55fSJFs"}),
    ("Names have no case, values have", "FOR=A;Proto=HTTP", {"for": "A", "proto": "HTTP"}),
    ("Blanks around semicolons", " for=a ;\tproto=b ", {"for": "a", "proto": "b"}),
    ("Empty pairs", ";for=a;;", {"for": "a"}),
    ("Nothing", "  ", {}),
    ("Quotes with all that needs them", r'for="a,;= \" \\ \b"', {"for": r'a,;= " \ b'}),
    ("An empty string", 'for=""', {"for": ""}),
    ("Bytes beyond ASCII in quotes", 'for="\xe4"', {"for": "\xe4"}),
    ("Brackets and colons without quotes", "for=[::1]:80", {"for": "[::1]:80"}),
    ("A name twice", "for=a;FOR=a", None),
    ("A value without a name", "a", None),
    ("No value", "for=", None),
    ("Blanks around the equals sign", "for = a", None),
    ("A quote that is not closed", 'for="a', None),
    ("A quote within a token", 'for=a"b"', None),
    ("Text behind a quoted string", 'for="a"b', None),
    ("A backslash without quotes", r"for=a\b", None),
    ("A backslash at the end", 'for="a\\"', None),
    ("A control character in quotes", 'for="a\x00"', None),
    ("A comma without quotes", "for=a,for=b", None),
    ("More than the limit", f"for={'a' * MAX_ELEMENT_BYTES}", None),
]  # fmt: skip


@eachRow(ELEMENTS)
class ElementTests(SynchronousTestCase):
    """L{parseElement} (RFC 7239, section 4)."""

    def check(self, text: str, expected: dict[str, str] | None) -> None:
        """The pairs of an element."""
        self.assertEqual(parseElement(text), expected)


class ListTests(SynchronousTestCase):
    """The addresses of a whole field, from the right."""

    def test_forwarded(self) -> None:
        """Section 7.1, with an element in front that names nobody."""
        value = b'proto=http, for=192.0.2.43, for="[2001:db8:cafe::17]",for=unknown'
        self.assertEqual(
            list(addressesInForwarded(value)), [None, "2001:db8:cafe::17", "192.0.2.43", None]
        )

    def test_malformed(self) -> None:
        """Nothing is read left of an element that is none."""
        value = b"for=192.0.2.1, for, for=192.0.2.2"
        self.assertEqual(list(addressesInForwarded(value)), ["192.0.2.2", None])

    def test_list(self) -> None:
        """X-Forwarded-For with ports, names and empty entries."""
        value = b" , 192.0.2.1:80,,a.example , [2001:db8::1], "
        self.assertEqual(list(addressesInList(value)), ["2001:db8::1", None, "192.0.2.1"])
        self.assertEqual(list(addressesInList(b" ,")), [])

    def test_quotedCommas(self) -> None:
        """An element may have commas in quotes up to a limit."""
        for count in (0, 1, MAX_QUOTED_COMMAS, MAX_QUOTED_COMMAS + 1):
            value = b'for=192.0.2.1, for=192.0.2.2;x="%b"' % (b"," * count)
            found = list(addressesInForwarded(value))
            isRead = count <= MAX_QUOTED_COMMAS
            self.assertEqual(found, ["192.0.2.2", "192.0.2.1"] if isRead else [None], count)

    def test_long(self) -> None:
        """An element beyond the limit is not read; one before it at the limit is."""
        for size in (MAX_ELEMENT_BYTES, MAX_ELEMENT_BYTES + 1):
            element = b"for=192.0.2.2;x=".ljust(size, b"a")
            found = list(addressesInForwarded(b"for=192.0.2.1," + element))
            isRead = size == MAX_ELEMENT_BYTES
            self.assertEqual(found, ["192.0.2.2", "192.0.2.1"] if isRead else [None], size)


class WritingTests(SynchronousTestCase):
    """What sitio writes can be read again."""

    @given(st.ip_addresses(), st.sampled_from(["http", "https"]))
    def test_address(self, address: object, scheme: str) -> None:
        """Each address, of both families."""
        text = str(address)
        element = elementFor(text, scheme)
        found = parseElement(element.decode())
        assert found is not None
        self.assertEqual(found["proto"], scheme)
        self.assertEqual(addressOf(found["for"]), addressOf(text))
        self.assertEqual(list(addressesInForwarded(element)), [addressOf(text)])

    def test_unknown(self) -> None:
        """A client of a UNIX socket has no address."""
        self.assertEqual(elementFor("unknown", "http"), b"for=unknown;proto=http")

    @given(st.text("a0.-_~!$&'()*+,;=%", max_size=255), st.sampled_from(["", ":", ":80"]))
    def test_host(self, name: str, port: str) -> None:
        """Each Host that is accepted."""
        host = f"{name}{port}".encode()
        assert hostLine(b"\nHost: " + host + b"\r") is not None
        element = withHost(b"for=192.0.2.1", host)
        told = {"host": host.decode()} if host else {}
        self.assertEqual(parseElement(element.decode()), {"for": "192.0.2.1", **told})
