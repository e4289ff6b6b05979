"""
Addresses of clients in the fields of proxies: Forwarded (RFC 7239) and X-Forwarded-For.

Each proxy appends what it knows at the right end, so both are read from there: what is left of
an entry is as true as whoever sent it to the proxy that wrote the entry.

A section without the name of an RFC is one of RFC 7239.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from sitio.http.grammar import TOKEN

#: Longest element of Forwarded that is read, in bytes: the host of a request has 255 at most
#: (RFC 3986, section 3.2.2), and addresses are shorter.
MAX_ELEMENT_BYTES = 1024

#: Commas within the quoted strings of one element of Forwarded.  Real proxies write no
#: such comma; each costs another look at the element.
MAX_QUOTED_COMMAS = 16

#: Longest address with its port, in bytes; the longest IPv6 address has 45.
MAX_NODE_BYTES = 64

_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
# Section 4.  Many proxies leave out the quotes around colons and brackets: nothing else is
# meant by that.
_PAIR = rf"({TOKEN})=([!#$%&'*+\-.^_`|~0-9A-Za-z:\[\]]++|{_QUOTED})"
_pairs = re.compile(_PAIR).findall
_isElement = re.compile(rf"[\t ]*+(?:{_PAIR})?+(?:[\t ]*+;[\t ]*+(?:{_PAIR})?+)*+[\t ]*+").fullmatch
_escaped = re.compile(r"\\(.)")

# Empty members of lists mean nothing (RFC 9110, section 5.6.1).
_BETWEEN = ", \t"

# Section 6: an IPv6 address is in brackets.  Others write it without, but not with a port.
_IPV6 = "[0-9A-Fa-f]*:[0-9A-Fa-f:.]{1,44}"
_node = re.compile(
    rf"(?:([0-9.]{{7,15}})|\[({_IPV6})\])(?::(?:[0-9]{{1,5}}|_[\w.\-]+))?|({_IPV6})"
).fullmatch


def elementFor(address: str, scheme: str) -> bytes:
    """
    What Forwarded says of a client, without the host that it has asked for (section 5).

    @param address: its IP address; anything else, as for a UNIX socket, is C{unknown} (section
        6.2).
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        node = "unknown"
    else:
        node = f'"[{found}]"' if found.version == 6 else str(found)
    return f"for={node};proto={scheme}".encode("ascii")


def withHost(element: bytes, host: bytes) -> bytes:
    """
    The same with the host.

    @param host: the value of a Host that was checked: it has neither quotes nor backslashes.
    """
    return b'%b;host="%b"' % (element, host) if host else element


def addressOf(node: str) -> str | None:
    """
    The IP address of a client as a proxy writes it: with or without a port, IPv6 with or without
    brackets; an IPv4 address that is written as an IPv6 one becomes an IPv4 address again.

    @return: L{None} for C{unknown}, for an obfuscated identifier (sections 6.2 and 6.3), and for
        anything else.
    """
    found = _node(node) if len(node) <= MAX_NODE_BYTES else None
    if found is None:
        return None
    try:
        address = ip_address(found[1] or found[2] or found[3])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def addressesInList(value: bytes) -> Iterator[str | None]:
    """
    The addresses in X-Forwarded-For, from the right; L{None} for an entry without one.

    @param value: all lines of the field, joined.
    """
    text = value.decode("latin-1").rstrip(_BETWEEN)
    while text:
        text, _, entry = text.rpartition(",")
        yield addressOf(entry.strip(" \t"))
        text = text.rstrip(_BETWEEN)


def addressesInForwarded(value: bytes) -> Iterator[str | None]:
    """
    The addresses in Forwarded, from the right; L{None} for an element without one.

    The first element that can't be read is the last: what it does to those before it is
    unknown.

    @param value: all lines of the field, joined.
    """
    text = value.decode("latin-1").rstrip(_BETWEEN)
    while text:
        start, pairs = _lastElement(text)
        yield None if pairs is None else addressOf(pairs.get("for", ""))
        if pairs is None:
            return
        text = text[: max(start, 0)].rstrip(_BETWEEN)


def _lastElement(text: str) -> tuple[int, dict[str, str] | None]:
    """
    The last element: where the comma before it is, -1 for none, and its pairs, or L{None}.

    An element is the shortest part behind a comma that is one.  Behind a comma within a quoted
    string there is none: the quote at the string's end has no partner there.  So a quote that a
    client leaves open takes nothing of what a proxy writes behind it.
    """
    start = len(text)
    least = max(0, start - MAX_ELEMENT_BYTES - 1)
    for _ in range(MAX_QUOTED_COMMAS + 1):
        start = text.rfind(",", least, start)
        pairs = None if start < 0 < least else parseElement(text[start + 1 :])
        if pairs is not None or start < 0:
            return start, pairs
    return start, None


def parseElement(text: str) -> dict[str, str] | None:
    """
    The values of one element of Forwarded by their names, in lower case; empty for an empty
    element, L{None} for anything else.
    """
    if len(text) > MAX_ELEMENT_BYTES or not _isElement(text):
        return None
    found: dict[str, str] = {}
    for name, value in _pairs(text):
        if name.lower() in found:
            # Section 4: each name may occur once.
            return None
        found[name.lower()] = _escaped.sub(r"\1", value[1:-1]) if value[0] == '"' else value
    return found
