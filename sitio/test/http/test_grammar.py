"""
Tests of L{sitio.http.grammar}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.grammar import (
    IDEMPOTENT_METHODS,
    SAFE_METHODS,
    isHostname,
    isPath,
    isToken,
    isValue,
    listMembers,
    splitHost,
)

#: Values of the field Host, and their host and port; L{None} for no host.
HOSTS: list[tuple[str, tuple[str, str] | None]] = [
    ("", ("", "")),
    ("a", ("a", "")),
    ("Example.com", ("Example.com", "")),
    ("example.com:8080", ("example.com", "8080")),
    ("example.com:", ("example.com", "")),
    (":80", ("", "80")),
    ("192.0.2.1:80", ("192.0.2.1", "80")),
    ("[::1]", ("[::1]", "")),
    ("[2001:db8::1]:443", ("[2001:db8::1]", "443")),
    ("my_app-1.~x", ("my_app-1.~x", "")),
    ("a%41b", ("a%41b", "")),
    ("a" * 255, ("a" * 255, "")),
    ("a" * 256, None),
    ("a:123456", None),
    ("a:80:80", None),
    ("a:x", None),
    ("::1", None),
    ("[::1", None),
    ("[fe80::1%eth0]", None),
    ("[" + "1" * 46 + "]", None),
    ("user@a", None),
    ("a/b", None),
    ("a#b", None),
    ("a\\b", None),
    ("a b", None),
    ("a\n", None),
    ("\xe9", None),
]


class MethodTests(SynchronousTestCase):
    """What methods promise."""

    def test_sets(self) -> None:
        """The lists are those of RFC 9110, and each safe method is idempotent."""
        self.assertEqual(SAFE_METHODS, {"GET", "HEAD", "OPTIONS", "TRACE"})
        self.assertEqual(IDEMPOTENT_METHODS - SAFE_METHODS, {"PUT", "DELETE"})
        self.assertTrue(SAFE_METHODS < IDEMPOTENT_METHODS)


class GrammarTests(SynchronousTestCase):
    """What the small grammars accept."""

    def test_tokens(self) -> None:
        """A token has one of its characters at least, and no others."""
        for text in ("GET", "x-y", "!#$%&'*+-.^_`|~09azAZ"):
            self.assertTrue(isToken(text), text)
        for text in ("", "a b", "a:", "a\n", "(", "a,b", '"', "\x7f", "\xe9", "a\0"):
            self.assertFalse(isToken(text), text)

    def test_values(self) -> None:
        """A value has tabs, visible ASCII, spaces and what lies beyond ASCII in latin-1."""
        for text in ("", "a b", "\t", "\xe9\xff", '"q"; x=1'):
            self.assertTrue(isValue(text), text)
        for text in ("a\r", "a\n", "\0", "\x7f", "\x1b[0m", "\u20ac"):
            self.assertFalse(isValue(text), text)

    def test_paths(self) -> None:
        """A path starts with a slash and is visible ASCII without a fragment."""
        for text in ("/", "/a/b?c=%20", "//", '/"'):
            self.assertTrue(isPath(text), text)
        for text in ("", "a", "*", "/a b", "/a#b", "/\xe9", "/\n", "http://a/"):
            self.assertFalse(isPath(text), text)

    def test_hosts(self) -> None:
        """Host and port are found where they stand, and a text without a host is refused."""
        for text, expected in HOSTS:
            self.assertEqual(splitHost(text), expected, text)

    def test_hostnames(self) -> None:
        """A hostname has labels of 63 letters, digits and inner hyphens at most."""
        for text in ("a", "A-1", "web.example.com", "a.", "192.0.2.1", "a" * 63):
            self.assertTrue(isHostname(text), text)
        for text in ("", ".", "-a", "a-", "a..b", "my_app", "a" * 64, "a%41", "[::1]", "a\n"):
            self.assertFalse(isHostname(text), text)

    def test_lists(self) -> None:
        """The members of a list come in lower case, without the white space around them."""
        for value, members in (
            (b"close", [b"close"]),
            (b"Keep-Alive, X-A\t,\tb", [b"keep-alive", b"x-a", b"b"]),
            (b"", [b""]),
            (b"a,,b", [b"a", b"", b"b"]),
        ):
            self.assertEqual(listMembers(value), members)
