"""
Tests of L{sitio.config.kinds} and of L{sitio.config.routekinds}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.config import kinds, routekinds
from sitio.config.kinds import Kind
from sitio.config.values import MAX_COUNT, MAX_SECONDS

#: Kinds, what they take, and what they make of it.
RIGHT: list[tuple[Kind, Any, Any]] = [
    (kinds.seconds(), 5, 5.0),
    (kinds.seconds(), 0.25, 0.25),
    (kinds.seconds(), "5", 5.0),
    (kinds.seconds(), "250ms", 0.25),
    (kinds.seconds(), "1h", 3600.0),
    (kinds.seconds(zero=True), 0, 0.0),
    (kinds.seconds(), MAX_SECONDS, float(MAX_SECONDS)),
    (kinds.size(), 100, 100),
    (kinds.size(), "64KiB", 65536),
    (kinds.size(zero=True), "0", 0),
    (kinds.count(), 0, 0),
    (kinds.count(1, 5), "5", 5),
    (kinds.choice("a", "b"), "a", "a"),
    (kinds.FLAG, True, True),
    (kinds.FLAG, "false", False),
    (kinds.FLAG, "true", True),
    (kinds.SHARE, 0.2, 0.2),
    (kinds.SHARE, "20%", 0.2),
    (kinds.SHARE, 1, 1.0),
    (kinds.WEIGHT, 2, 2.0),
    (kinds.WEIGHT, "0.5", 0.5),
    (kinds.WORKERS, 3, 3),
    (kinds.WORKERS, "3", 3),
    (kinds.ACCESS_LOG, "off", None),
    (kinds.ACCESS_LOG, "json", ("json", None)),
    (kinds.ACCESS_LOG, "json:a.log", ("json", "a.log")),
    (kinds.LISTEN, 8080, "tcp:8080"),
    (kinds.CONNECT, "localhost:8087", "tcp:localhost:8087"),
    (kinds.ADMIN, "", ""),
    (kinds.ADMIN, 9901, "tcp:9901:interface=127.0.0.1"),
    (kinds.HOST_AND_PORT, "a.svc:80", ("a.svc", 80)),
    (kinds.HOSTNAME, "_http._tcp.a.svc", "_http._tcp.a.svc"),
    (kinds.HOSTS, "A.example, b.example", ("a.example", "b.example")),
    (kinds.HOSTS, ["a.example", "b.example"], ("a.example", "b.example")),
    (kinds.TRUSTED, "10.0.0.0/8, unix", ("10.0.0.0/8", "unix")),
    (kinds.TRUSTED, ["::1", "unix"], ("::1/128", "unix")),
    (kinds.SERVER, "10.0.0.10", "10.0.0.10"),
    (kinds.SERVER, "10.0.0.10:53", "10.0.0.10:53"),
    (kinds.SERVER, "[::1]:53", "[::1]:53"),
    (kinds.SERVER, "::1", "::1"),
    (kinds.PATH, "/healthz?full", "/healthz?full"),
    (kinds.FILE, "tls.crt", "tls.crt"),
    (kinds.FILE, "file:tls.crt", "tls.crt"),
    (kinds.several(kinds.SERVER, "servers"), "10.0.0.1", ("10.0.0.1",)),
    (kinds.several(kinds.SERVER, "servers"), [], ()),
    (routekinds.TEMPLATE, "/users/{id}", "/users/{id}"),
    (routekinds.REWRITE, "/v2/{id}", "/v2/{id}"),
    (routekinds.PREFIX, "/api", "/api"),
    (routekinds.METHOD, "GET", "GET"),
    (routekinds.FIELDS, {"X-A": "1", "X-B": False}, (("X-A", "1"), ("X-B", False))),
    (routekinds.QUERY, {"a b": True}, (("a b", True),)),
    (routekinds.STICKY, "cookie:group", ("cookie", "group")),
    (routekinds.HASH_ON, "field:X-User", "field:X-User"),
    (routekinds.HASH_ON, "path", "path"),
    (routekinds.WEIGHTS, {"a": 90, "b": 0}, (("a", 90.0), ("b", 0.0))),
    (routekinds.HOST_PATTERNS, "*.Example.com", ("*.example.com",)),
    (routekinds.HOST_PATTERNS, ["a.example", "[::1]"], ("a.example", "[::1]")),
    (routekinds.HOST, "client", "client"),
    (routekinds.HOST, "api.example:8443", "api.example:8443"),
    (routekinds.HOST, "[::1]:80", "[::1]:80"),
]

#: Kinds, and what they refuse without a sentence of their own.
_REFUSED: list[tuple[Kind, tuple[Any, ...]]] = [
    (kinds.seconds(), (-1, "x", "5 s", True, [], {}, float("nan"), float("inf"), None)),
    (kinds.size(), (1.5, "1.5B", "x", False)),
    (kinds.count(1, 5), (0, 6, "6", 1.5, True, "\u0662")),
    (kinds.choice("a", "b"), (1, True, [])),
    (kinds.FLAG, (1, 0, "yes", [])),
    (kinds.SHARE, (1.5, -0.1, "120%", True)),
    (kinds.WEIGHT, (-1, "x", float("nan"), True, [])),
    (kinds.TEXT, ("", 5, "a\nb", "a\x00")),
    (kinds.LISTEN, (1.5, [], True)),
    (kinds.HOST_AND_PORT, ("a", ":80")),
    (kinds.HOSTNAME, ("a b", "", "a..b")),
    (kinds.TRUSTED, ([10], 10)),
    (kinds.SERVER, (10, "a", "10.0.0.1:0", "::1]:53", "")),
    (kinds.PATH, ("healthz", "/a b", "/a#b")),
    (kinds.HOSTS, ([1],)),
    (kinds.ACCESS_LOG, (5,)),
    (kinds.several(kinds.TEXT, "texts", least=1), ([],)),
    (routekinds.REWRITE, ("v2", "/a?b", 1)),
    (routekinds.METHOD, ("G T", "")),
    (routekinds.FIELDS, (["X-A"], "X-A")),
    (routekinds.STICKY, ("cookie", "cookie:", "path", "x:y", "cookie:a b")),
    (routekinds.HASH_ON, ("query", "path:x", "field:")),
    (routekinds.WEIGHTS, ({}, ["a"], "a")),
    (routekinds.HOST, ("a b", "a:x", "http://a", "")),
]

#: Kinds, what they refuse, and what they say; C{""} if L{Kind.expected} says it all.
WRONG: list[tuple[Kind, Any, str]] = [
    (kinds.seconds(), 0, "0; it must be more than 0"),
    (kinds.seconds(), "0s", "'0s'; it must be more than 0"),
    (kinds.seconds(), MAX_SECONDS + 1, f"{MAX_SECONDS + 1}; it must be at most {MAX_SECONDS}"),
    (kinds.size(), "2000TiB", f"'2000TiB'; it must be at most {MAX_COUNT}"),
    (kinds.size(), "64K", "'64K'; write 64KiB or 64kB"),
    (kinds.choice("a", "bcd"), "bdc", "'bdc'; it must be a or bcd; did you mean bcd?"),
    (kinds.TRUSTED, "10.0.0.1/8", "'10.0.0.1/8'; the network of this address is 10.0.0.0/8: writ"),
    (kinds.several(kinds.SERVER, "servers"), ["10.0.0.1", "x"], "'x'; it must be an IP address"),
    (kinds.ACCESS_LOG, "xml", "'xml'; it must be json, common or off"),
    (kinds.WORKERS, 0, "'0'; it must be 1 to 256, or auto"),
    (kinds.HOSTS, "a:80", "'a:80'; it must be names of hosts without ports"),
    (routekinds.TEMPLATE, "/{a}/{a}", "'/{a}/{a}' has the name 'a' twice"),
    (routekinds.METHOD, "get", "'get'; case counts: write GET"),
    (kinds.choice("1.2", "1.3"), 1.3, '1.3; write "1.3"'),
    (routekinds.FIELDS, {"X A": "1"}, "'X A'; it must be the name of a field such as X-Beta"),
    (routekinds.FIELDS, {"X-A": 1}, "X-A is 1; it must be a text, true or false"),
    (routekinds.WEIGHTS, {"a": 0, "b": 0}, "all weights are 0; give one upstream more"),
    (routekinds.WEIGHTS, {"a": -1}, "a is -1; it must be a number, 0 or more"),
    (routekinds.WEIGHTS, {"a": True}, "a is True; it must be a number, 0 or more"),
    (routekinds.WEIGHTS, {"a": 1e300}, "a is 1e+300; it must be at most"),
    *((kind, value, "") for kind, values in _REFUSED for value in values),
]


class KindTests(SynchronousTestCase):
    """Plain data becomes values, or an error."""

    def test_right(self) -> None:
        """What is right becomes a value of the same type, whether it is a number or a text."""
        for kind, given, expected in RIGHT:
            value = kind.parse(given)
            self.assertEqual(value, expected, (kind.expected, given))
            self.assertIs(type(value), type(expected), given)

    def test_wrong(self) -> None:
        """What is wrong raises C{ValueError}, with a sentence that begins with it, or without."""
        for kind, given, expected in WRONG:
            error = self.assertRaises(ValueError, kind.parse, given)
            shown = (kind.expected, given, str(error))
            self.assertTrue(str(error).startswith(expected), shown)
            self.assertTrue(expected or not str(error), shown)

    def test_expected(self) -> None:
        """Each kind completes the sentence "it must be"."""
        for kind, *_ in RIGHT + WRONG:
            self.assertRegex(kind.expected, r"\A[a-z0-9].*[^.]\Z")

    def test_resolve(self) -> None:
        """Paths are relative to a folder; other values have none."""
        for kind, value, expected in (
            (kinds.FILE, "tls.crt", "/etc/sitio/tls.crt"),
            (kinds.FILE, "/tls.crt", "/tls.crt"),
            (kinds.several(kinds.FILE, "files"), ("a", "/b"), ("/etc/sitio/a", "/b")),
            (kinds.ACCESS_LOG, ("json", "a.log"), ("json", "/etc/sitio/a.log")),
            (kinds.ACCESS_LOG, ("json", None), ("json", None)),
            (kinds.ACCESS_LOG, None, None),
            (kinds.TEXT, "a", "a"),
        ):
            self.assertEqual(kind.resolve(value, "/etc/sitio"), expected)
