"""
Small grammars that several modules need: methods, tokens, field values, hosts, paths.

Each C{is...} function takes a C{str} and returns a match or L{None}.  Bytes from the
network are decoded as latin-1 first, which loses none.
"""

from __future__ import annotations

import re

#: Methods that only ask for a response (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))

#: Methods whose requests may be sent twice (RFC 9110, section 9.2.2).
IDEMPOTENT_METHODS = SAFE_METHODS | {"PUT", "DELETE"}

#: Patterns for larger expressions: a token (RFC 9110, section 5.6.2), and the bytes of
#: a field value or a reason phrase (section 5.5; RFC 9112, section 4).
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
VALUE = r"[\t\x20-\x7e\x80-\xff]*"

#: The bytes of C{VALUE}: C{value.translate(None, VALUE_BYTES)} is what else there is.
VALUE_BYTES = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))

#: A method or a field name is one.
isToken = re.compile(TOKEN).fullmatch

#: A field value or a reason phrase: no line ends, no other control characters.
isValue = re.compile(VALUE).fullmatch

#: A path, with its query if it has one: visible ASCII without C{#}.
isPath = re.compile(r"/[!\x22$-~]*").fullmatch

# RFC 3986, section 3.2.2, limits names to 255 bytes.  No user information.
_HOST = r"(\[[0-9A-Fa-f:.]{1,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=%]{0,255})(?::([0-9]{0,5}))?"
_hostAndPort = re.compile(_HOST).fullmatch

#: Finds the first Host line that follows the grammar; group 1 is its value.
hostLine = re.compile(rf"\n(?i:host):[ \t]*({_HOST})[ \t]*\r".encode()).search

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

#: A name that DNS can hold (RFC 1123, section 2.1), or an IPv4 address.
isHostname = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE).fullmatch


def splitHost(text: str) -> tuple[str, str] | None:
    """
    Host and port of C{host} or C{host:port}, the value of the field Host (RFC 9110,
    section 7.2; RFC 3986, section 3.2).

    @return: both as written: an IPv6 address in its brackets, C{""} for a host or a
        port that is missing.  L{None} if the text does not follow the grammar.
    """
    found = _hostAndPort(text)
    return None if found is None else (found[1], found[2] or "")


def fieldNames(text: str) -> frozenset[bytes]:
    """The names of fields in a text, as a table of them is written: in lower case, with blanks."""
    return frozenset(text.encode().split())


def listMembers(value: bytes) -> list[bytes]:
    """
    The members of a comma-separated list without parameters, in lower case (RFC 9110,
    section 5.6.1).  An empty member is C{b""}.
    """
    return [each.strip(b" \t") for each in value.lower().split(b",")]
