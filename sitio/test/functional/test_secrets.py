"""
What stays in memory of a request that has ended.
"""

from __future__ import annotations

import gc
from types import FrameType

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.loader import loadPolicies
from sitio.testing.harness import Harness


def holders(secret: bytes) -> list[str]:
    """The types of objects that hold text with these bytes, but for this very object."""
    text = secret.decode()
    found = []
    gc.collect()
    for each in gc.get_objects():
        if isinstance(each, FrameType) or each is gc.garbage:
            continue
        for held in gc.get_referents(each):
            if (
                (isinstance(held, (bytes, bytearray)) and held is not secret and secret in held)
                or (isinstance(held, str) and held is not text and text in held)
            ):  # fmt: skip
                found.append(type(each).__name__)
    return found


class SecretTests(SynchronousTestCase):
    """sitio keeps no byte of a request beyond its end."""

    def test_gone(self) -> None:
        """
        Once a request and its response have ended, nothing holds a cookie, a token or a query
        of it, whatever policies have seen; no cache and no idle connection.
        """
        secret = b"a8f1c0ffee%d" % id(self)
        policies = [*loadPolicies("error-page:404"), *loadPolicies("last-good")]
        policies += loadPolicies("deny:PUT:/private") + loadPolicies("headers:set X-A b")
        harness = Harness(policies)
        client = harness.connect()
        for method, status in ((b"GET", 200), (b"GET", 404), (b"HEAD", 304), (b"DELETE", 200)):
            client.sends(
                b"%b /a?key=%b HTTP/1.1\r\nHost: h\r\nCookie: s=%b\r\nAuthorization: Bearer %b\r\n"
                b"X-Request-Id: %b\r\nX-Api-Key: %b\r\nX_Odd: %b\r\n\r\n" % (method, *[secret] * 6)
            )
            upstream = harness.upstream()
            sent = upstream.got()
            self.assertIn(secret, sent)
            upstream.sends(
                b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nSet-Cookie: s=%b\r\n\r\n" % (status, secret)
            )
            self.assertTrue(client.got().startswith(b"HTTP/1.1 %d " % status))
            self.assertEqual((client.pieces, upstream.pieces), ([], []))
            del sent
        harness.exchanges.clear()
        self.assertEqual(holders(secret), [])
