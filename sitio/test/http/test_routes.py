"""
Promises of L{sitio.http.routes}: templates of paths.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.routes import MAX_ROUTES, MAX_TEMPLATE, Routes

TEMPLATES = (
    "/",
    "/users",
    "/users/",
    "/users/{id}",
    "/users/me",
    "/users/{id}/orders",
    "/users/me/{what}",
    "/{tenant}/orders",
    "/files/{path...}",
    "/files/{name}",
    "/files/{name}/raw",
    "/a%20b/{id}",
)


class MatchTests(SynchronousTestCase):
    """Which template a path matches."""

    def test_table(self) -> None:
        """The most specific template wins, in whatever order they are given."""
        for templates in (TEMPLATES, TEMPLATES[::-1]):
            routes = Routes(templates)
            for path, expected in (
                ("/", "/"),
                ("/users", "/users"),
                ("/users/", "/users/"),
                ("/users/7", "/users/{id}"),
                ("/users/{id}", "/users/{id}"),
                ("/users/7%2F8", "/users/{id}"),
                ("/users/me", "/users/me"),
                ("/users/Me", "/users/{id}"),
                ("/users/7/", None),
                ("/users/7/orders", "/users/{id}/orders"),
                ("/users/7/orders/", None),
                ("/users//orders", None),
                ("/users/me/orders", "/users/me/{what}"),
                ("/users/orders", "/users/{id}"),
                ("/x/orders", "/{tenant}/orders"),
                ("/files/orders", "/files/{name}"),
                ("/files", None),
                ("/files/", "/files/{path...}"),
                ("/files/a", "/files/{name}"),
                ("/files/a/raw", "/files/{name}/raw"),
                ("/files/a/b", "/files/{path...}"),
                ("/files/a/raw/c/d/e/f/", "/files/{path...}"),
                ("/a%20b/1", "/a%20b/{id}"),
                ("/a b/1", None),
                ("/none", None),
                ("users", None),
                ("*", None),
                ("-", None),
                ("", None),
                ("http://a/users", None),
            ):
                self.assertEqual(routes.match(path), expected, path)

    def test_all(self) -> None:
        """C{/{path...}} alone matches each path, and no template none."""
        routes = Routes(["/{path...}"])
        for path in ("/", "/a", "/a/b/", "//"):
            self.assertEqual(routes.match(path), "/{path...}")
            self.assertIsNone(Routes().match(path))
        self.assertIsNone(routes.match("*"))

    def test_hostilePath(self) -> None:
        """Neither many slashes nor many templates that begin alike make it slow."""
        names = [f"{{a{each}}}" for each in range(9)]
        shapes = [f"/{'/'.join(names[:each])}/x{each}" for each in range(1, 9)]
        shapes += [f"/a/{'/'.join(names[:each])}/y{each}" for each in range(1, 9)]
        routes = Routes(shapes)
        for path in ("/" * 30_000, "/a" * 15_000, "/a" * 9):
            self.assertIsNone(routes.match(path))


class RefusalTests(SynchronousTestCase):
    """Templates that are wrong."""

    def test_table(self) -> None:
        """Each gets one sentence, which begins with it and says what is wrong."""
        for templates, sentence in (
            (["users"], "'users' is no path; write a path such as /users/{id} or"),
            ([""], "'' is no path; write"),
            (["/a b"], "'/a b' is no path"),
            (["/\xe9"], "'/\xe9' is no path"),
            (["/a#b"], "'/a#b' is no path"),
            (["/a?b=1"], "'/a?b=1' has a query, which is no part of a route"),
            (["/:id"], "'/:id' has the segment ':id', which is literal; write a path such as"),
            (["/a/*"], "'/a/*' has the segment '*', which is literal"),
            (["/a/x{id}"], "'/a/x{id}' has the segment 'x{id}'; a name in braces is a whole"),
            (["/{}"], "'/{}' has the segment '{}'"),
            (["/{1}"], "'/{1}' has the segment '{1}'"),
            (["/{a-b}"], "'/{a-b}' has the segment '{a-b}'"),
            (["/{id"], "'/{id' has the segment '{id'"),
            (["/{a}/{a}"], "'/{a}/{a}' has the name 'a' twice"),
            (["/{a...}/b"], "'/{a...}/b' has '{a...}' before its end"),
            (["/a", "/a"], "'/a' matches the same paths as '/a'; leave out one"),
            (["/{a}/b", "/{c}/b"], "'/{c}/b' matches the same paths as '/{a}/b'"),
            (["/{a...}", "/{b...}"], "'/{b...}' matches the same paths as '/{a...}'"),
            (["/" + MAX_TEMPLATE * "a"], f"'/{39 * 'a'}...' has 257 characters; it may have 256"),
            (
                [f"/{each}" for each in range(MAX_ROUTES + 1)],
                "'/200' is one too many; there may be 200",
            ),
        ):
            error = self.assertRaises(ValueError, Routes, templates)
            self.assertTrue(str(error).startswith(sentence), error)

    def test_limits(self) -> None:
        """As many templates as may be, and the longest one, are taken."""
        longest = "/" + (MAX_TEMPLATE - 1) * "a"
        routes = Routes([longest, *(f"/{each}" for each in range(MAX_ROUTES - 1))])
        self.assertEqual(len(routes.templates), MAX_ROUTES)
        self.assertEqual(routes.match(longest), longest)
