"""
The field lines of a message as bytes.

B{Wire form} is how they are held: all lines as they are sent, each with its line end, and one
line end before the first.  So each line begins behind a line end, and is found by its B{key}: a
line feed, its name in lower case, and a colon, in the lines in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sitio.http.grammar import TOKEN

#: No field, in wire form.
NO_LINES = b"\r\n"

#: Name and value of each line.
Pairs = list[tuple[bytes, bytes]]

#: The keys of lines in wire form, in lower case, that begin with a name.
keysIn = re.compile(rf"\r(\n{TOKEN}:)".encode()).findall


def keyOf(name: bytes) -> bytes:
    """The key of a name in lower case."""
    return b"\n%b:" % name


def spansOf(key: bytes, lowered: bytes) -> list[tuple[int, int]]:
    """
    Where the lines with this key are, from the first byte of each to the byte behind it.

    @param lowered: lines in wire form, in lower case.
    """
    spans = []
    at = lowered.find(key)
    while at >= 0:
        end = lowered.find(b"\n", at + 1)
        spans.append((at + 1, end + 1))
        at = lowered.find(key, end)
    return spans


def without(lines: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """Lines in wire form without some of them."""
    for start, end in sorted(spans, reverse=True):
        lines = lines[:start] + lines[end:]
    return lines


def pairsOf(lines: bytes) -> Pairs:
    """Name and value of each line in wire form.  Blanks before a value are no part of it."""
    split = [line.partition(b":") for line in lines[2:].split(b"\r\n")[:-1]]
    return [(name, value.lstrip(b" \t")) for name, _, value in split]


def wireForm(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Wire form of names and values that were checked."""
    return b"\r\n" + b"".join([b"%b: %b\r\n" % each for each in pairs])
