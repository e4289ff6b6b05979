"""
Tests of L{sitio.policies.deny}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.interfaces import IRequestPolicy
from sitio.policies.deny import (
    METHOD_FIELDS,
    PATH_FIELDS,
    Deny,
    makePolicy,
    readings,
)
from sitio.test.helpers.policies import exchangeFor
from sitio.testing import request, runPolicy


def denied(policy: Deny, target: str, method: str = "GET", **fields: str) -> bool:
    """Whether a request is refused."""
    return policy.requestReceived(exchangeFor(target, method, **fields)) is not None


class DenyTests(SynchronousTestCase):
    """What is refused, and how."""

    def test_interface(self) -> None:
        """It is a request policy."""
        verifyObject(IRequestPolicy, makePolicy("*", "/admin"))

    def test_refusal(self) -> None:
        """A refusal is a 403 that discloses nothing, a new response each time."""
        policy = makePolicy("*", "/admin")
        first = policy.requestReceived(exchangeFor("/admin"))
        second = policy.requestReceived(exchangeFor("/admin"))
        assert first is not None and second is not None
        self.assertEqual((first.status, first.body), (403, b"403 Forbidden\n"))
        self.assertEqual(first.headers["Content-Type"], "text/plain; charset=utf-8")
        first.headers.add("X-A", "1")
        self.assertNotIn("X-A", second.headers)

    def test_status(self) -> None:
        """The operator may choose another status, registered or not."""
        for status, body in (("404", b"404 Not Found\n"), ("499", b"499\n")):
            answer = makePolicy("*", "/admin", status=status).requestReceived(exchangeFor("/admin"))
            assert answer is not None
            self.assertEqual((answer.status, answer.body), (int(status), body))

    def test_patterns(self) -> None:
        """Patterns match whole paths; C{*} matches slashes; case matters."""
        for pattern, inside, outside in (
            ("/admin", ["/admin", "/admin/", "/admin?a=b"], ["/admins", "/Admin", "/x/admin", "/"]),
            ("/admin*", ["/admin", "/admin/x", "/administrator"], ["/", "/adm", "/x/admin"]),
            ("/admin/*", ["/admin", "/admin/", "/admin/x/y"], ["/administrator", "/x/admin/y"]),
            ("*.bak", ["/a.bak", "/x/a.bak", "/.bak"], ["/a.bak.txt", "/bak", "/?a.bak"]),
            ("/a?c", ["/abc", "/a/c"], ["/ac", "/abbc"]),
            ("/[ab]", ["/a", "/b/"], ["/c", "/ab"]),
            ("/caf\u00e9", ["/caf%C3%A9"], ["/caf%E9", "/cafe"]),
            ("/a b", ["/a%20b"], ["/a+b"]),
            ("/100%", ["/100%", "/100%25"], ["/100"]),
            ("/*", ["/", "/a"], ["*"]),
            ("*", ["/", "/a", "*", ""], []),
        ):
            policy = makePolicy("*", pattern)
            for target in inside:
                self.assertTrue(denied(policy, target), (pattern, target))
            for target in outside:
                self.assertFalse(denied(policy, target), (pattern, target))

    def test_severalPatterns(self) -> None:
        """A path is refused if one of several patterns matches."""
        policy = makePolicy("*", "/a/*", "/b/*c")
        for target, refused in (("/a/c", True), ("/b/xc", True), ("/b/x", False)):
            self.assertEqual(denied(policy, target), refused, target)

    def test_methods(self) -> None:
        """Only the methods in the description are refused, in any case, also unknown ones."""
        policy = makePolicy("PUT, delete,X-Burn", "*")
        for method in ("PUT", "DELETE", "put", "Delete", "X-BURN"):
            self.assertTrue(denied(policy, "/", method), method)
        for method in ("GET", "HEAD", "POST", "PATCH"):
            self.assertFalse(denied(policy, "/", method), method)

    def test_anyMethod(self) -> None:
        """C{*} is all methods, also beside others."""
        for methods in ("*", "GET,*"):
            self.assertTrue(denied(makePolicy(methods, "/a"), "/a", "BREW"))

    def test_head(self) -> None:
        """GET includes HEAD, but HEAD does not include GET."""
        self.assertTrue(denied(makePolicy("GET", "/a"), "/a", "HEAD"))
        self.assertFalse(denied(makePolicy("HEAD", "/a"), "/a", "GET"))

    def test_inPython(self) -> None:
        """The class can be used without a description."""
        self.assertTrue(denied(Deny(None, ["/a"]), "/a", "POST"))
        self.assertFalse(denied(Deny(["GET"], ["/a"]), "/a", "POST"))


class SpellingTests(SynchronousTestCase):
    """Other spellings of a path, or other ways to request it, do not evade a rule."""

    def setUp(self) -> None:
        self.policy = makePolicy("*", "/admin", "/secret/*")

    def test_spellings(self) -> None:
        """Each known spelling of a refused path is refused."""
        for target in (
            "/%61dmin",
            "/%61%64%6D%69%6e",
            "/%2561dmin",
            "/%25252561dmin",
            "//admin",
            "///admin//",
            "/./admin",
            "/admin/.",
            "/x/../admin",
            "/x/y/../../admin",
            "/../../admin",
            "/x/%2e%2e/admin",
            "/x%2f..%2fadmin",
            "/x/.%2e/%61dmin",
            "/x/%252e%252e/admin",
            "/%2fadmin",
            "/admin%2f",
            "/admin/x/..",
            "/admin;a=b",
            "/admin;",
            "/;a/admin",
            "/x/..;/admin",
            "/x/..;a=b/%61dmin;c",
            "/%3Badmin/../admin",
            "/admin%3Ba=b",
            "/\\admin",
            "/x\\..\\admin",
            "/x%5c..%5cadmin",
            "\\admin",
            "/admin%00",
            "/admin%00.png",
            "/admin#top",
            "/admin%23top",
            "/admin%3fa=b",
            "/admin%20",
            "/admin%0a",
            "/a//../admin",
            "/secret//../../admin",
            "//photos.example/admin",
            "http://photos.example/admin",
            "HTTP://photos.example//admin?a=b",
            "/secret/%ff",
            "/secret%2f%2e",
            "/x/%2e./secret",
        ):
            self.assertTrue(denied(self.policy, target), target)

    def test_bothOrders(self) -> None:
        """Slashes may be merged before or after dots are resolved; both readings count."""
        self.assertTrue(denied(makePolicy("*", "/a/admin"), "/a//../admin"))
        self.assertTrue(denied(makePolicy("*", "/admin"), "/a//../admin"))

    def test_folder(self) -> None:
        """A path with dots that ends in a folder is that folder."""
        policy = makePolicy("*", "/x/")
        for target in ("/x/", "/x/.", "/x/y/..", "/x/y/%2e%2e"):
            self.assertTrue(denied(policy, target), target)
        self.assertFalse(denied(policy, "/x"))

    def test_others(self) -> None:
        """Unusual paths that match no rule are not refused."""
        for target in (
            "/",
            "*",
            "//",
            "/%",
            "/%zz",
            "/a%20b",
            "/x;admin",
            "/x/.admin",
            "/admin.",
            "/x//y",
            "/..",
            "/.well-known/x",
            "/caf%e9",
            "/%61dmins",
            "/x?/../admin",
            "http://admin",
        ):
            self.assertFalse(denied(self.policy, target), target)

    @given(st.data())
    def test_encoded(self, data: st.DataObject) -> None:
        """A path is the same path, however much of it is encoded, and however often."""
        path = "/admin"
        for _ in range(data.draw(st.integers(1, 3))):
            path = "/" + "".join(
                f"%{ord(each):02{data.draw(st.sampled_from('xX'))}}"
                if data.draw(st.booleans())
                else each
                for each in path[1:]
            )
        self.assertTrue(denied(self.policy, path), path)

    @given(
        st.lists(
            st.sampled_from(
                ["/.", "/x/..", "/x/y/../..", "/%2e", "/", "/x;a/..", "/x/..;b", "/x/%2e%2e", "/.;"]
            ),
            max_size=6,
        ),
        st.sampled_from(["/admin", "/%61dmin", "/admin;x", "/admin/", "\\admin"]),
    )
    def test_detours(self, detours: list[str], path: str) -> None:
        """A path is the same path, with any number of dots in it."""
        self.assertTrue(denied(self.policy, "".join(detours) + path), (detours, path))

    @given(st.text(st.sampled_from("/ab.-_~%2;=:\\"), max_size=30))
    def test_innocent(self, path: str) -> None:
        """A path without the letters of a rule is never refused."""
        self.assertFalse(denied(self.policy, f"/{path}"), path)

    @given(st.text(max_size=60))
    def test_anything(self, path: str) -> None:
        """No path raises an exception, which would be a 500."""
        self.assertIn(denied(self.policy, path), (True, False))

    def test_readings(self) -> None:
        """A plain path has one reading: itself."""
        for path in ("/", "/a/b.c", "/a/b/", "/a...b"):
            self.assertEqual(readings(path), {path})
        self.assertEqual(readings("*"), {"*"})

    def test_bounded(self) -> None:
        """A path with too many readings is refused in any case; a long plain one is not."""
        trick = "/%2525%252e;\\..//.%00#" * 1000
        self.assertIsNone(readings(trick))
        self.assertTrue(denied(self.policy, trick))
        for honest in ("/" + "%20x" * 8000, "/" + "x/" * 16_000, "/x" + "/../x" * 6000):
            self.assertFalse(denied(self.policy, honest))

    def test_methodOverride(self) -> None:
        """A method in a field counts, beside the method of the request."""
        for field in METHOD_FIELDS:
            name = field.decode()
            policy = makePolicy("DELETE", "/a")
            self.assertTrue(denied(policy, "/a", "POST", **{name: " delete "}), name)
            self.assertFalse(denied(policy, "/a", "POST", **{name: "PUT"}), name)
            self.assertTrue(denied(policy, "/a", "DELETE", **{name: "GET"}), name)

    def test_pathOverride(self) -> None:
        """A path in a field counts, beside the path of the request."""
        for field in PATH_FIELDS:
            name = field.decode()
            for value in ("/admin", "/%61dmin?a=b", "https://photos.example/admin"):
                self.assertTrue(denied(self.policy, "/", **{name: value}), (name, value))
            self.assertFalse(denied(self.policy, "/", **{name: "/x"}), name)
            self.assertTrue(denied(self.policy, "/admin", **{name: "/x"}), name)


class OptionTests(SynchronousTestCase):
    """Descriptions that are refused at start."""

    def test_methods(self) -> None:
        """A malformed method is quoted."""
        for methods in ("", "GET,", "GET POST", "/admin"):
            with self.assertRaisesRegex(
                ValueError, "is not a method: write GET, or GET,POST, or \\* for all"
            ):
                makePolicy(methods, "/admin")

    def test_noPattern(self) -> None:
        """A description without a pattern is refused."""
        with self.assertRaisesRegex(ValueError, "needs the paths to refuse"):
            makePolicy("*")

    def test_pattern(self) -> None:
        """A pattern that can match no path is refused."""
        for pattern in ("", "admin", "[/]admin"):
            with self.assertRaisesRegex(ValueError, "it must begin with / or"):
                makePolicy("*", "/a", pattern)

    def test_spelledPattern(self) -> None:
        """A pattern with two readings is refused."""
        for pattern in ("/a%20b", "//admin", "/x/../admin", "/a;b", "/a\\b", "/a#b", "/a "):
            with self.assertRaisesRegex(ValueError, "write a pattern decoded"):
                makePolicy("*", pattern)

    def test_status(self) -> None:
        """A status that does not fit a refusal, or needs a field, is refused."""
        for status in ("200", "600", "forbidden", "401", "405", "407", "", "4030"):
            with self.assertRaisesRegex(ValueError, f"status={status}: write 400 to 599"):
                makePolicy("*", "/a", status=status)


class ProxyTests(SynchronousTestCase):
    """The policy in a whole proxy."""

    def test_refused(self) -> None:
        """A refused request does not reach the upstream; any other does."""
        outcome = runPolicy("deny:*:/admin/*:status=404", request("/x/%2e%2e/admin"))
        self.assertEqual((outcome.status, outcome.attempts), (404, 0))
        self.assertEqual(outcome.text, "404 Not Found\n")
        outcome = runPolicy("deny:*:/admin/*", request("/public"))
        self.assertEqual((outcome.status, outcome.attempts), (200, 1))
