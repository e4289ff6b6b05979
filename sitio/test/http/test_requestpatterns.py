"""
Tests of L{sitio.http.requestpatterns}; C{test_deny} has the spellings.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.paths import UnreadablePath
from sitio.http.requestpatterns import MAX_METHODS, RequestPattern, TooManyMethods
from sitio.testing import request


class RequestPatternTests(SynchronousTestCase):
    """A pattern tells which requests a service may take for one of its method and path."""

    def test_paths(self) -> None:
        """A path matches in all its spellings, and the folder itself does."""
        hooks = RequestPattern("POST", "/hooks/*")
        for target, matches in (
            *(("/hooks/a", True), ("/hooks", True), ("/hooks/?a=b", True), ("/%68ooks/a", True)),
            *(("//hooks/a", True), ("/x/../hooks/a", True), ("/hooks;a/b", True)),
            *(("/hooksy", False), ("/Hooks/a", False), ("/", False), ("/x/hooks/a", False)),
        ):
            self.assertIs(hooks.mayMatch(request(target, "POST")), matches, target)
            self.assertIs(hooks.matches(request(target, "POST")), matches, target)

    def test_case(self) -> None:
        """Case counts, unless it is ignored."""
        hooks = RequestPattern("POST", ["/hooks/*", "/in"], ignoreCase=True)
        for target in ("/Hooks/a", "/HOOKS", "/%48ooks/a", "/IN"):
            self.assertTrue(hooks.mayMatch(request(target, "POST")), target)

    def test_methods(self) -> None:
        """One method or several, in any case; what a service may take for one counts."""
        for methods, method, matches in (
            *(("POST", "POST", True), ("post", "POST", True), ("POST", "post", True)),
            *(("POST", "PUT", False), (["PUT", "POST"], "PUT", True), (None, "X", True)),
            *(("GET", "HEAD", True), ((), "GET", False)),
        ):
            pattern = RequestPattern(methods, "/a")
            self.assertIs(pattern.mayMatch(request("/a", method)), matches, (methods, method))
        post = RequestPattern("POST", "/a")
        for other in (
            request("/a?_method=POST"),
            request("/a", headers={"X_HTTP_Method_Override": "post"}),
            request("/b", "POST", headers={"X-Original-URL": "/a"}),
        ):
            self.assertTrue(post.mayMatch(other))

    def test_unreadable(self) -> None:
        """What no service should read may match, if the method fits; C{matches} raises."""
        post = RequestPattern("POST", "/a")
        many = ",".join(["X"] * (MAX_METHODS + 1))
        for wrong, error in (
            (request("/x%00", "POST"), UnreadablePath),
            (request("/b", headers={"X-Method": many}), TooManyMethods),
        ):
            self.assertTrue(post.mayMatch(wrong))
            self.assertRaises(error, post.matches, wrong)
        self.assertFalse(post.mayMatch(request("/x%00", "GET")))

    def test_wrong(self) -> None:
        """A pattern that would not match what it seems to match is refused, and so is none."""
        patterns: list[Any] = ["hooks", "/a//b", "/%61", "/a/../b", "/a;b", "", []]
        for wrong in patterns:
            self.assertRaises(ValueError, RequestPattern, "POST", wrong)
