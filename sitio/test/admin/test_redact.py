"""
Promises of L{sitio.admin.redact}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.admin.redact import endpointWithoutSecrets, policyWithoutSecrets
from sitio.policy.loader import loadPolicies, parseDescription


class EndpointTests(SynchronousTestCase):
    """Endpoint descriptions, addresses and the like."""

    def test_plain(self) -> None:
        """What holds no secret is shown as it is."""
        for text in (
            "tcp:8080:interface=127.0.0.1:backlog=1024",
            "unix:/run/sitio.sock:mode=660",
            "tls:localhost:8443:trustRoots=/etc/roots",
            "ssl:8443:privateKey=key.pem:certKey=cert.pem",
            "/healthz",
            "30",
            "http://board.example:8080/hits",
        ):
            self.assertEqual(endpointWithoutSecrets(text), text)

    def test_named(self) -> None:
        """What its name tells to be a secret is hidden, to the end of its value."""
        for text, shown in (
            (
                "socks:proxy:1080:password=a\\:b:timeout=3",
                "socks:proxy:1080:password=***:timeout=3",
            ),
            ("x:apiKey=abc", "x:apiKey=***"),
            ("x:auth-token=abc:SECRET=def", "x:auth-token=***:SECRET=***"),
        ):
            self.assertEqual(endpointWithoutSecrets(text), shown)

    def test_address(self) -> None:
        """Of an address, who asks and the query are hidden."""
        for text, shown in (
            ("https://user:word@board.example/hits?a=1&b=2", "https://***@board.example/hits?***"),
            ("//token@board", "//***@board"),
            ("/healthz?key=abc", "/healthz?***"),
        ):
            self.assertEqual(endpointWithoutSecrets(text), shown)


def shown(description: str) -> str:
    """What is shown of a policy that is given in this way."""
    return policyWithoutSecrets(*parseDescription(description))


class PolicyTests(SynchronousTestCase):
    """Descriptions of policies."""

    def test_builtIn(self) -> None:
        """Those that come with sitio are told nothing secret, but for headers."""
        for text in (
            *("error-page:404,5xx:file=404.html", "last-good:max-age=60", "retry"),
            *("deny:PUT,DELETE:*", "file:mine.py", "headers:remove Server"),
            *(r"file:C\:\\mine.py", "last-good:max-age=60:max-bytes=5:despite=a", "headers"),
            "headers:request remove Cookie",
        ):
            self.assertEqual(shown(text), text)

    def test_headers(self) -> None:
        """Fields are named, and their values hidden, however a change is written."""
        for change, text in (
            ("request set Authorization Bearer s3cret", "request set Authorization ***"),
            ("request  set Authorization Bearer s3cret", "request set Authorization ***"),
            ("request set  Authorization Bearer s3cret", "request set Authorization ***"),
            ("request set Authorization  Bearer s3cret", "request set Authorization ***"),
            ("request set\tAuthorization\tBearer s3cret", "request set Authorization ***"),
            ("request\tset Authorization s3cret", "request set Authorization ***"),
            ("  set X-Key s3cret", "set X-Key ***"),
            ("set\nX-Key\ns3cret", "set X-Key ***"),
            ("set\u00a0X-Key\u2003s3cret", "set X-Key ***"),
            (r"\set X-Key s3cret", "set X-Key ***"),
            (r"s\et X-Key s3cret", "set X-Key ***"),
            ("add X-Key s3cret more s3cret", "add X-Key ***"),
            ("add X-Key a=s3cret", "add X-Key ***"),
            (r"add X-Key s3cret\:s3cret", "add X-Key ***"),
            ("remove X-Key", "remove X-Key"),
            # None of these starts, but neither is shown.
            ("remove X-Key s3cret", "***"),
            ("SET X-Key s3cret", "***"),
            ("request request set X-Key s3cret", "***"),
            ("token=s3cret", "***"),
            ("s3cret", "***"),
            ("", "***"),
        ):
            self.assertEqual(shown(f"headers:{change}"), f"headers:{text}", change)
            self.assertNotIn("s3cret", shown(f"headers:remove A:{change}:set X s3cret"))

    def test_readAlike(self) -> None:
        """What the policy reads as a value is what is hidden."""
        for before in ("", " ", "\t", "request ", "request  ", " request "):
            for gap in (" ", "  ", "\t", " \t ", "\u00a0"):
                for between in (" ", "   ", "\t"):
                    description = f"headers:{before}set{gap}X-Key{between}s3cret"
                    loadPolicies(description)
                    self.assertEqual(
                        shown(description),
                        f"headers:{'request ' * ('request' in before)}set X-Key ***",
                    )

    def test_strangers(self) -> None:
        """Of a policy that is not sitio's own, only the name is shown."""
        for text in ("guard:abc:token=def", "guard:", "guard:a", "guard:a=b", r"gu\ard:a"):
            self.assertEqual(shown(text), "guard:***")
        self.assertEqual(shown("guard"), "guard")
        self.assertEqual(shown(" retry:times=s3cret"), " retry:***")
