"""
Promises of L{sitio.fleet.address}: which URLs are accepted, and what is shown of them.
"""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from sitio.fleet.address import Address, parseAddress


class AddressTests(SynchronousTestCase):
    """Addresses of a fleet dashboard."""

    def test_plain(self) -> None:
        """Scheme, host, port and path are kept, without slashes at the end."""
        for text, url in (
            ("http://dashboard", "http://dashboard"),
            ("http://dashboard:8080/", "http://dashboard:8080"),
            ("https://dashboard.example/a/b//", "https://dashboard.example/a/b"),
            ("http://web-1.Example.:81", "http://web-1.Example.:81"),
            ("http://192.0.2.1:81", "http://192.0.2.1:81"),
            ("http://[2001:db8::1]:81/x", "http://[2001:db8::1]:81/x"),
        ):
            self.assertEqual(parseAddress(text), Address(url))

    def test_secret(self) -> None:
        """User and password become the Authorization field, decoded, and are never shown."""
        address = parseAddress("http://me:p%40ss%2Fword@dashboard:8080/x")
        self.assertEqual(address.url, "http://dashboard:8080/x")
        pair = b64encode(b"me:p@ss/word").decode()
        self.assertEqual(address.authorization, f"Basic {pair}")
        for shown in (str(address), repr(address), f"{address}"):
            self.assertNotIn("ss", shown.replace("Address", "").replace("dashboard", ""))
            self.assertNotIn(pair, shown)

    def test_noPassword(self) -> None:
        """A user may have no password."""
        address = parseAddress("http://token@dashboard")
        self.assertEqual(address.authorization, f"Basic {b64encode(b'token:').decode()}")

    def test_wrong(self) -> None:
        """Anything else is refused in one sentence, which does not repeat it."""
        for text in (
            "dashboard",
            "dashboard:8080",
            "ftp://me:secret@dashboard",
            "http://",
            "http:///x",
            "http://:8080",
            "http://me:secret@",
            "http://a:0",
            "http://a:70000",
            "http://a:x",
            "http://[::1",
            "http://a b",
            "http://a/\r\nX: secret",
            "http://a/?token=secret",
            "http://a/#secret",
            "http://a%41",
            "http://my_dashboard:8080",
            "http://-a",
            "http://a..b",
            "http://" + 64 * "a",
            "http://caf\xe9",
            "http://a/" + 2048 * "x",
        ):
            error = self.assertRaises(ValueError, parseAddress, text)
            self.assertEqual(
                str(error),
                "not the URL of a fleet dashboard; use for example http://dashboard:8080",
                text,
            )
