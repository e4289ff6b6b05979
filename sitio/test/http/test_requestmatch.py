"""
Tests of L{sitio.http.requestmatch}.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import AmbiguousPath
from sitio.http.message import Headers, Request
from sitio.http.requestmatch import (
    MAX_MATCHES,
    MatchTable,
    PathRewrite,
    RequestMatch,
    checkHost,
    checkPrefix,
    hiddenBy,
    hostOf,
)


def asked(target: str = "/", method: str = "GET", **fields: str) -> Request:
    """A request with a Host and these fields."""
    lines = {
        "Host": "example.com",
        **{name.replace("_", "-"): each for name, each in fields.items()},
    }
    return Request(method, target, Headers(lines))


class MatchTests(SynchronousTestCase):
    """What a match asks for."""

    def matches(self, match: RequestMatch, request: Request) -> bool:
        return MatchTable([match]).find(request) == 0

    def test_paths(self) -> None:
        """A template matches whole paths, and a prefix whole segments; both without the query."""
        for match, yes, no in (
            (RequestMatch(path="/a"), ["/a", "/a?b=/c"], ["/a/", "/A", "/ab", "/", "/b/a"]),
            (RequestMatch(path="/a/{id}"), ["/a/1", "/a/x.y"], ["/a/", "/a", "/a/1/2"]),
            (RequestMatch(path="/f/{rest...}"), ["/f/", "/f/a/b"], ["/f", "/g/f/"]),
            (RequestMatch(path="/a.c"), ["/a.c"], ["/abc"]),
            (RequestMatch(prefix="/api"), ["/api", "/api/", "/api/x?y"], ["/apis", "/x/api"]),
            (RequestMatch(prefix=""), ["/", "/any", "*"], []),
            (RequestMatch(), ["/", "/any", "*"], []),
        ):
            for target in yes:
                self.assertTrue(self.matches(match, asked(target)), (match, target))
            for target in no:
                self.assertFalse(self.matches(match, asked(target)), (match, target))

    def test_hosts(self) -> None:
        """Hosts are compared without case, port and last dot; a star is for names below."""
        for hosts, yes, no in (
            (
                ["api.example.com"],
                ["api.example.com", "API.example.com:8080", "api.example.com."],
                ["example.com", "x.api.example.com", ""],
            ),
            (
                ["*.example.com"],
                ["a.example.com", "a.b.example.com:1"],
                ["example.com", "xexample.com"],
            ),
            (["::1", "a.b"], ["[::1]:80", "[::1]", "a.b"], ["[::2]"]),
        ):
            match = RequestMatch(hosts=hosts)
            for host in yes:
                self.assertTrue(self.matches(match, asked(Host=host)), (hosts, host))
            for host in no:
                self.assertFalse(self.matches(match, asked(Host=host)), (hosts, host))

    def test_hostOf(self) -> None:
        """The host of a request has no port; without a Host it is empty."""
        for value, host in (("A.b:1", "a.b"), ("[::1]:8", "::1"), ("", ""), ("a.", "a")):
            self.assertEqual(hostOf(asked(Host=value)), host)
        self.assertEqual(hostOf(Request("GET", "/")), "")

    def test_methods(self) -> None:
        """GET includes HEAD; the case of methods counts."""
        match = RequestMatch(methods=["GET", "PUT"])
        for method in ("GET", "HEAD", "PUT"):
            self.assertTrue(self.matches(match, asked(method=method)))
        for method in ("POST", "get"):
            self.assertFalse(self.matches(match, asked(method=method)))

    def test_fields(self) -> None:
        """A field is equal, present or absent."""
        match = RequestMatch(fields=[("X-Beta", "1"), ("X-A", True), ("X-B", False)])
        self.assertTrue(self.matches(match, asked(X_Beta="1", X_A="")))
        self.assertFalse(self.matches(match, asked(X_Beta="2", X_A="")))
        self.assertFalse(self.matches(match, asked(X_Beta="1")))
        self.assertFalse(self.matches(match, asked(X_Beta="1", X_A="", X_B="")))
        repeated = asked(X_A="")
        repeated.headers.add("X-Beta", "2")
        repeated.headers.add("x-beta", "1")
        self.assertTrue(self.matches(match, repeated))

    def test_query(self) -> None:
        """A parameter of the query is equal, present or absent, decoded."""
        match = RequestMatch(query=[("v", "2 x"), ("debug", False)])
        self.assertTrue(self.matches(match, asked("/?v=2+x")))
        self.assertTrue(self.matches(match, asked("/?v=1&v=2%20x")))
        self.assertFalse(self.matches(match, asked("/?v=2")))
        self.assertFalse(self.matches(match, asked("/?v=2+x&debug")))

    def test_mistakes(self) -> None:
        """What can't be matched is refused by a sentence that begins with the text."""
        for made, begin in (
            (lambda: RequestMatch(path="a"), "'a'"),
            (lambda: RequestMatch(path="/{a}x"), "'/{a}x'"),
            (lambda: RequestMatch(path="/a", prefix="/b"), "'/a'"),
            (lambda: RequestMatch(methods=["GE T"]), "'GE T'"),
            (lambda: RequestMatch(fields=[("a b", True)]), "'a b'"),
            (lambda: RequestMatch(hosts=["a:80"]), "'a:80'"),
            (lambda: RequestMatch(hosts=["*"]), "'*'"),
            (lambda: checkHost("http://a"), "'http://a'"),
            (lambda: checkPrefix("api"), "'api'"),
            (lambda: checkPrefix("/a?b"), "'/a?b'"),
            (lambda: checkPrefix("/{id}"), "'/{id}'"),
        ):
            error = self.assertRaises(ValueError, made)
            self.assertTrue(str(error).startswith(begin), error)


class TableTests(SynchronousTestCase):
    """Which of several matches a request takes."""

    table = MatchTable(
        [
            RequestMatch(path="/users/{id}", methods=["GET"]),
            RequestMatch(path="/users/me"),
            RequestMatch(hosts=["api.example.com"]),
            RequestMatch(prefix="/users"),
            RequestMatch(prefix="/admin"),
            RequestMatch(prefix="/static", query=[("v", True)]),
            RequestMatch(),
        ]
    )

    def test_firstWins(self) -> None:
        """The first match in order is taken, whatever comes later."""
        for request, place in (
            (asked("/users/me"), 0),
            (asked("/users/me", "POST"), 1),
            (asked("/users/x", "POST"), 3),
            (asked("/users", Host="api.example.com"), 2),
            (asked("/static/a?v=1"), 5),
            (asked("/static/a"), 6),
            (asked("/usersx"), 6),
        ):
            self.assertEqual(self.table.find(request), place, request)

    def test_none(self) -> None:
        """-1 stands for no match."""
        self.assertEqual(MatchTable([]).find(asked()), -1)
        self.assertEqual(MatchTable([RequestMatch(path="/a")]).find(asked("/b")), -1)
        self.assertEqual(
            MatchTable([RequestMatch(path="/a", methods=["PUT"])]).find(asked("/a")), -1
        )

    def test_ambiguous(self) -> None:
        """A path that services may take for one of another route is refused."""
        for target in (
            "/%61dmin",
            "//admin/x",
            "/x/../admin",
            "/x/..;/admin",
            "/./admin",
            "/x%2f..%2fadmin",
            "/static/../users/x",
            "/\\admin",
            "/a%00",
            "/users/x%2f..%2f..%2fadmin",
        ):
            with self.assertRaises(AmbiguousPath, msg=target):
                self.table.find(asked(target))

    def test_odd(self) -> None:
        """A path with encoded text passes if each reading takes the same route."""
        for target, place in (
            ("/users/a%20b", 0),
            ("/admin/%61", 4),
            ("/admin//x", 4),
            ("/caf%C3%A9", 6),
            ("/a;b=c", 6),
            ("/a?b=/../admin", 6),
        ):
            self.assertEqual(self.table.find(asked(target)), place, target)

    def test_stepsUp(self) -> None:
        """
        A path that leaves its route by steps up is refused, also where the reading takes a route
        for all paths, or none: that may be guarded, and is not what the route is for.
        """
        own = [RequestMatch(prefix="/public"), RequestMatch(path="/users/{id}")]
        for matches in (own, [*own, RequestMatch()]):
            table = MatchTable(matches)
            for target in ("/public/../admin", "/public/%2e%2e/admin", "/users/..%2Fadmin"):
                with self.assertRaises(AmbiguousPath, msg=target):
                    table.find(asked(target))
            for target, place in (("/public/a/../b", 0), ("/public/..a", 0), ("/users/a%2Fb", 1)):
                self.assertEqual(table.find(asked(target)), place, target)

    def test_ambiguousWithoutPaths(self) -> None:
        """Where no route asks for a path, no path is ambiguous."""
        table = MatchTable([RequestMatch(hosts=["a.b"]), RequestMatch()])
        self.assertEqual(table.find(asked("/x/../admin")), 1)

    def test_bound(self) -> None:
        """There are as many matches as the limit says, and no more."""
        table = MatchTable([RequestMatch(path=f"/{n}") for n in range(MAX_MATCHES)])
        self.assertEqual(table.find(asked(f"/{MAX_MATCHES - 1}")), MAX_MATCHES - 1)
        with self.assertRaises(ValueError):
            MatchTable([RequestMatch()] * (MAX_MATCHES + 1))

    def test_hidden(self) -> None:
        """A match that an earlier one covers is told; one that it covers in part is not."""
        for earlier, later, place in (
            (RequestMatch(), RequestMatch(path="/a"), 0),
            (RequestMatch(prefix="/a"), RequestMatch(path="/a/{x}"), 0),
            (RequestMatch(prefix="/a"), RequestMatch(prefix="/a/b"), 0),
            (RequestMatch(prefix="/a"), RequestMatch(prefix="/ab"), None),
            (RequestMatch(path="/a/{x}"), RequestMatch(path="/a/{y}"), 0),
            (RequestMatch(path="/a/{x}"), RequestMatch(prefix="/a"), None),
            (RequestMatch(prefix="/a"), RequestMatch(), None),
            (RequestMatch(methods=["GET"]), RequestMatch(methods=["GET", "PUT"]), None),
            (RequestMatch(methods=["GET", "PUT"]), RequestMatch(methods=["PUT"]), 0),
            (RequestMatch(hosts=["*.b.c"]), RequestMatch(hosts=["a.b.c"]), 0),
            (RequestMatch(hosts=["a.b.c"]), RequestMatch(hosts=["*.b.c"]), None),
            (RequestMatch(fields=[("A", True)]), RequestMatch(), None),
            (RequestMatch(query=[("a", "1")]), RequestMatch(query=[("a", "1")]), 0),
        ):
            self.assertEqual(hiddenBy(later, [earlier]), place, (earlier, later))
            request = asked("/a/b")
            if place is not None and MatchTable([later]).find(request) == 0:
                self.assertEqual(MatchTable([earlier]).find(request), 0)


class RewriteTests(SynchronousTestCase):
    """Other paths for the upstream."""

    def test_templates(self) -> None:
        """Named parts go into the other path as they are; the query stays."""
        rewrite = PathRewrite.ofTemplate("/users/{id}/{rest...}", "/v2/{rest}/u/{id}")
        self.assertEqual(rewrite.apply("/users/a%2Fb/x/y?q=1"), "/v2/x/y/u/a%2Fb?q=1")
        self.assertEqual(rewrite.apply("/users/1/"), "/v2//u/1")
        self.assertEqual(rewrite.apply("/other"), "/other")
        literal = PathRewrite.ofTemplate("/a", r"/b\1")
        self.assertEqual(literal.apply("/a"), r"/b\1")

    def test_prefixes(self) -> None:
        """A prefix is replaced, or cut off."""
        for prefix, made, target, expected in (
            ("/api", "/v2", "/api/x?y", "/v2/x?y"),
            ("/api", "/v2", "/api", "/v2/"),
            ("/api", "", "/api/x", "/x"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/apis", "/apis"),
            ("", "/v2", "/x", "/v2/x"),
            # Two slashes at the beginning would be a host to some services.
            ("/api", "", "/api//host/x", "/host/x"),
            ("/api", "", "/api///", "/"),
            ("/api", "/v2", "/api//x", "/v2//x"),
        ):
            self.assertEqual(PathRewrite.ofPrefix(prefix, made).apply(target), expected)

    def test_mistakes(self) -> None:
        """A name that the path does not have, and what is no path, are refused."""
        for path, rewrite, why in (
            ("/users/{id}", "/v2/{name}", "has the name 'name'; the path /users/{id} has id"),
            ("/users", "/v2/{name}", "the path /users has no names"),
            ("/users/{id}", "v2", "is not a path"),
            ("/users/{id}", "/v2/{id}x", "a name in braces is a whole segment"),
        ):
            error = self.assertRaises(ValueError, PathRewrite.ofTemplate, path, rewrite)
            self.assertTrue(re.match(re.escape(repr(rewrite)), str(error)), error)
            self.assertIn(why, str(error))
