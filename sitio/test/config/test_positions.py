"""
Tests of L{sitio.config.positions}.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.places import Path
from sitio.config.positions import MAX_DEPTH, MAX_KEYS, TooLarge, keyLines

DOCUMENT = '''\
# A comment with [brackets] and a = "sign".
title = "TOML # no comment"
port = 8080  # a comment

[owner]
name = 'a [b] = c'
born = 1979-05-27 07:32:00Z
"quoted \\u00e9" = 1
text = """
[not.a.table]
x = 1 \\""" "" """
raw = \'\'\'
y = ''
\'\'\'
a . b."c.d" = { e = 1, f.g = [1, 2] }

[[routes]]
path = "/a"
methods = [
  "GET",  # the first
  # none
  "POST",
]

[routes.limits]
size = 1.5
[[routes.policies]]
name = "x"
[[routes.policies]]
[[routes]]
tables = [{ a = 1 }, { b = [[], [{}]] },
  { c = 2 }]
'''

#: Where each key of it stands.
LINES: dict[Path, int] = {
    ("title",): 2,
    ("port",): 3,
    ("owner",): 5,
    ("owner", "name"): 6,
    ("owner", "born"): 7,
    ("owner", "quoted \u00e9"): 8,
    ("owner", "text"): 9,
    ("owner", "raw"): 12,
    ("owner", "a"): 15,
    ("owner", "a", "b"): 15,
    ("owner", "a", "b", "c.d"): 15,
    ("owner", "a", "b", "c.d", "e"): 15,
    ("owner", "a", "b", "c.d", "f"): 15,
    ("owner", "a", "b", "c.d", "f", "g"): 15,
    ("owner", "a", "b", "c.d", "f", "g", 0): 15,
    ("owner", "a", "b", "c.d", "f", "g", 1): 15,
    ("routes",): 17,
    ("routes", 0): 17,
    ("routes", 0, "path"): 18,
    ("routes", 0, "methods"): 19,
    ("routes", 0, "methods", 0): 20,
    ("routes", 0, "methods", 1): 22,
    ("routes", 0, "limits"): 25,
    ("routes", 0, "limits", "size"): 26,
    ("routes", 0, "policies"): 27,
    ("routes", 0, "policies", 0): 27,
    ("routes", 0, "policies", 0, "name"): 28,
    ("routes", 0, "policies", 1): 29,
    ("routes", 1): 30,
    ("routes", 1, "tables"): 31,
    ("routes", 1, "tables", 0): 31,
    ("routes", 1, "tables", 0, "a"): 31,
    ("routes", 1, "tables", 1): 31,
    ("routes", 1, "tables", 1, "b"): 31,
    ("routes", 1, "tables", 1, "b", 0): 31,
    ("routes", 1, "tables", 1, "b", 1): 31,
    ("routes", 1, "tables", 1, "b", 1, 0): 31,
    ("routes", 1, "tables", 2): 32,
    ("routes", 1, "tables", 2, "c"): 32,
}


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all keys and elements of what C{tomllib} has read."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for each, held in inside:
        yield (*path, each)
        yield from paths(held, (*path, each))


# Documents of pieces in any order: most are nonsense, so the pieces are whole statements, too.
_keys = st.sampled_from(
    ("a", "b", "c-1", "1", "'q'", '"q\\t"', '""', "a.b", "a . 'x.y'", "b.a.c", '"a=b"', "'['")
)
_scalars = st.sampled_from(
    (
        *("1", "-1.5e3", "0x1F", "true", "inf", "1979-05-27", "1979-05-27 07:32:00.5-07:00"),
        *("07:32:00", '"a # b"', '"\\"]"', "'}'", "''", '""', '"""\nx = [\n"""', '"""a"""""'),
        *("'''\n[x]\n'''", "'''''b'''", '"""\\\n   c"""', '"""\\""""', "'''a''''"),
    )
)
_space = st.sampled_from(("", " ", "\t"))
_lines = st.sampled_from(("", " ", "\n", "\n # [no]\n", "\r\n"))


def _array(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def joined(parts: list[str], blank: str, comma: str) -> str:
        return f"[{blank}{f'{blank},{blank}'.join(parts)}{comma if parts else ''}{blank}]"

    return st.builds(joined, st.lists(values, max_size=3), _lines, st.sampled_from(("", ",")))


def _inline(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.builds("{} = {}".format, _keys, values)
    return st.builds(
        lambda parts, blank: f"{{{blank}{f'{blank},{blank}'.join(parts)}{blank}}}",
        st.lists(pairs, max_size=2),
        _space,
    )


_values = st.recursive(_scalars, lambda inner: _array(inner) | _inline(inner), max_leaves=5)
_statements = st.one_of(
    st.builds("{0}{1}{0}={0}{2}{3}".format, _space, _keys, _values, st.sampled_from(("", " # x="))),
    st.builds("{0}{1}{0}={0}{2}".format, _space, _keys, _values),
    st.builds("[{0}{1}{0}]".format, _space, _keys),
    st.builds("[[{0}{1}{0}]]".format, _space, _keys),
    st.sampled_from(("", "# [a]", "  ")),
)
_documents = st.builds(
    lambda lines, end: end.join((*lines, "")),
    st.lists(_statements, max_size=8),
    st.sampled_from(("\n", "\r\n")),
)


class KeyLinesTests(SynchronousTestCase):
    """The lines of keys."""

    def test_document(self) -> None:
        """Each key and each element has the line on which it begins."""
        self.assertEqual(set(paths(tomllib.loads(DOCUMENT))), set(LINES))
        self.assertEqual(keyLines(DOCUMENT), LINES)

    def test_header(self) -> None:
        """A table whose header comes after that of a part of it has the line of its header."""
        lines = keyLines("[a.b]\n[a]\n")
        self.assertEqual(lines, {("a", "b"): 1, ("a",): 2})

    @settings(max_examples=400, deadline=None)
    @given(_documents)
    def test_sameKeys(self, text: str) -> None:
        """In each document that C{tomllib} reads, the same keys are found, on existing lines."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            assume(False)
        found = keyLines(text)
        self.assertEqual(set(found), set(paths(data)), text)
        last = text.count("\n") + 1
        self.assertTrue(all(1 <= line <= last for line in found.values()))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(_keys, min_size=1, max_size=30), _values, _lines)
    def test_line(self, keys: list[str], value: str, blank: str) -> None:
        """A key has the line of its first character, whatever stands before it."""
        comments = "".join(f"x{at} = {value}\n{blank}\n" for at in range(len(keys)))
        found = keyLines(f"{comments}here = {value}\n")
        self.assertEqual(found["here",], comments.count("\n") + 1)

    @settings(max_examples=300, deadline=None)
    @given(st.text("ab.=[]{}'\",#\n \\1-", max_size=60))
    def test_anyText(self, text: str) -> None:
        """Any text is read to an end, and what C{tomllib} reads has the same keys."""
        found = keyLines(text)
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
        self.assertEqual(set(found), set(paths(data)))

    def test_broken(self) -> None:
        """Of what is not TOML, the keys before the mistake are found."""
        for text in ("a = 1\n= 2\nb = 3", "a = 1\n[b", "a = 1\n]", 'a = 1\n"""', "a = 1\nb"):
            self.assertEqual(keyLines(text)["a",], 1, text)

    def test_many(self) -> None:
        """More keys than a configuration has are refused, with the line."""
        text = "".join(f"a{each} = 1\n" for each in range(MAX_KEYS))
        self.assertEqual(len(keyLines(text)), MAX_KEYS)
        error = self.assertRaises(TooLarge, keyLines, f"{text}b = 1\n")
        self.assertEqual(str(error), f"there are more than {MAX_KEYS} keys")
        self.assertEqual(error.line, MAX_KEYS + 1)

    def test_deep(self) -> None:
        """Keys within more than some others are refused, however they are written."""
        self.assertEqual(len(keyLines(".".join("a" * MAX_DEPTH) + " = 1")), MAX_DEPTH)
        for text in (
            ".".join("a" * 100_000) + " = 1",
            "[" + ".".join("a" * 100_000) + "]",
            "a = " + "[" * 100_000,
            "a = " + "{b = " * 100_000,
        ):
            error = self.assertRaises(TooLarge, keyLines, text)
            self.assertIn(f"more than {MAX_DEPTH}", str(error))
