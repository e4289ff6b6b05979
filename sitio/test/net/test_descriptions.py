"""
Tests of L{sitio.net.descriptions}; L{sitio.test.test_refusedstarts} has its sentences.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.descriptions import BadDescription, checkServer, parse, target


class ParseTests(SynchronousTestCase):
    """The parts of a description."""

    def test_parts(self) -> None:
        """Parts with and without names, and backslashes, as Twisted reads them."""
        for description, expected in (
            ("tcp", ("tcp", [], {})),
            ("TCP:80", ("tcp", ["80"], {})),
            ("tcp:80:interface=127.0.0.1", ("tcp", ["80"], {"interface": "127.0.0.1"})),
            ("tcp:\\:\\:1:80", ("tcp", ["::1", "80"], {})),
            ("unix:/a\\=b", ("unix", ["/a=b"], {})),
            ("tls:a:1:endpoint=tcp\\:b\\:2", ("tls", ["a", "1"], {"endpoint": "tcp:b:2"})),
            ("unix:path=", ("unix", [], {"path": ""})),
        ):
            self.assertEqual(parse(description), expected)

    def test_kindless(self) -> None:
        """A description begins with a kind."""
        for description in ("", ":80", "port=80"):
            self.assertRaises(BadDescription, parse, description)


class TargetTests(SynchronousTestCase):
    """Where an endpoint connects to."""

    def test_known(self) -> None:
        """Host and port, however they are written, or the path of a socket."""
        for description, expected in (
            ("tcp:a:80", ("a", 80)),
            ("tcp:port=80:host=a", ("a", 80)),
            ("tcp:\\:\\:1:80", ("::1", 80)),
            ("ssl:a:443:timeout=3", ("a", 443)),
            ("tls:a:port=443", ("a", 443)),
            ("unix:/a", "/a"),
            ("unix:path=/a:timeout=3", "/a"),
        ):
            self.assertEqual(target(description), expected)

    def test_others(self) -> None:
        """Of an endpoint of a plugin nothing is known."""
        self.assertIsNone(target("nope:1"))
        checkServer("nope:1:token=2")
