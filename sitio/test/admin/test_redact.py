"""
Promises of L{sitio.admin.redact}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.admin.redact import endpointWithoutSecrets, policyWithoutSecrets


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


class PolicyTests(SynchronousTestCase):
    """Descriptions of policies."""

    def test_builtIn(self) -> None:
        """Those that come with sitio are told nothing secret, but for headers."""
        for text in (
            *("error-page:404,5xx:file=404.html", "last-good:max-age=60", "retry"),
            *("deny:PUT,DELETE:*", "file:mine.py", "headers:remove Server"),
        ):
            self.assertEqual(policyWithoutSecrets(text), text)

    def test_headers(self) -> None:
        """Fields are named, and their values hidden."""
        self.assertEqual(
            policyWithoutSecrets(
                "headers:request set Authorization Bearer a\\:b c:add X-Key k:remove Server"
            ),
            "headers:request set Authorization ***:add X-Key ***:remove Server",
        )

    def test_strangers(self) -> None:
        """Of a policy that is not sitio's own, only the name is shown."""
        self.assertEqual(policyWithoutSecrets("guard:abc:token=def"), "guard:***")
        self.assertEqual(policyWithoutSecrets("guard"), "guard")
