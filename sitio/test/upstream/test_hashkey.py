"""
Tests of L{sitio.upstream.hashkey}: what requests are hashed on.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.upstreams import asking
from sitio.upstream.hashkey import hashKey


class HashKeyTests(SynchronousTestCase):
    """The key of a request."""

    def test_field(self) -> None:
        """The value of a field, whatever the case of its name."""
        key = hashKey("field:X-User")
        self.assertEqual(key(asking(**{"x-user": "ann"})), "ann")
        self.assertIsNone(key(asking()))

    def test_cookie(self) -> None:
        """The value of the first cookie of the name; cookies of other names don't count."""
        key = hashKey("cookie:session")
        self.assertEqual(key(asking(Cookie="a=1; session=s1; session=s2")), "s1")
        self.assertIsNone(key(asking(Cookie="Session=s1")))
        self.assertIsNone(key(asking()))

    def test_path(self) -> None:
        """The path without its query."""
        self.assertEqual(hashKey("path")(asking("/a/b?c=d")), "/a/b")

    def test_client(self) -> None:
        """The address of the client."""
        self.assertEqual(hashKey("client")(asking(client="192.0.2.7")), "192.0.2.7")

    def test_wrong(self) -> None:
        """Any other text is refused with the texts that are right."""
        for text in ("", "header:X", "field:", "field:a b", "cookie", "Path"):
            error = self.assertRaises(ValueError, hashKey, text)
            self.assertIn("field:X-User, cookie:session, path or client", str(error))
            self.assertIn(repr(text), str(error))
