"""
Promises of L{sitio.redact}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.loader import loadPolicies
from sitio.policy.sources import shownPolicy
from sitio.redact import (
    endpointMessageWithoutSecrets,
    endpointWithoutSecrets,
    messageWithoutSecrets,
    textWithoutSecrets,
)


class EndpointTests(SynchronousTestCase):
    """Endpoint descriptions, addresses and the like."""

    def test_plain(self) -> None:
        """What holds no secret is shown as it is."""
        for text in (
            "tcp:8080:interface=127.0.0.1:backlog=1024",
            "unix:/run/sitio.sock:mode=660",
            "tls:localhost:8443:trustRoots=/etc/roots",
            "ssl:8443:privateKey=key.pem:certKey=cert.pem",
            "haproxy:tcp:8080",
            "TCP:localhost:80:timeout=3",
            "systemd:domain=INET:index=0",
            "",
        ):
            self.assertEqual(endpointWithoutSecrets(text), text)
        for text in ("/healthz", "30", "http://board.example:8080/hits"):
            self.assertEqual(textWithoutSecrets(text), text)

    def test_unknown(self) -> None:
        """Only known options of Twisted's endpoints are shown, however they are written."""
        for text, shown in (
            (r"socks:proxy:1080:password=s3cret\:b:timeout=3", "socks:***"),
            ("socks:user:s3cret:proxy:1080", "socks:***"),
            ("socks", "socks"),
            ("tcp:1:apiKey=s3cret", "tcp:1:apiKey=***"),
            (r"tcp:1:pass\word=s3cret", r"tcp:1:pass\word=***"),
            (r"tcp:1:pass\:word=s3cret:port=1", r"tcp:1:pass\:word=***:port=1"),
            (r"tcp:1:x=a\\=s3cret\:s3cret", "tcp:1:x=***"),
            ("tcp:1:p =s3cret:q=s3cret", "tcp:1:p =***:q=***"),
            (r"tls:a:1:endpoint=socks\:u\:s3cret", "tls:a:1:endpoint=***"),
            ("haproxy:socks:s3cret", "haproxy:socks:***"),
            ("HAPROXY:tcp:1:key=s3cret", "HAPROXY:tcp:1:key=***"),
            ("tcp:1:privateKey=key.pem", "tcp:1:privateKey=key.pem"),
        ):
            self.assertEqual(endpointWithoutSecrets(text), shown)

    def test_address(self) -> None:
        """Of an address, who asks and the query are hidden."""
        for text, shown in (
            ("https://user:word@board.example/hits?a=1&b=2", "https://***@board.example/hits?***"),
            ("//token@board", "//***@board"),
            ("http://user:s3@cret@board/hits", "http://***@board/hits"),
            ("http://user:s3 cret@board", "http://***@board"),
            ("json:/log?token=s3cret", "json:/log?***"),
            ("/healthz?key=abc", "/healthz?***"),
        ):
            self.assertEqual(textWithoutSecrets(text), shown)


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
            self.assertEqual(shownPolicy(text), text)

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
            ("add s3cret", "***"),
            ("set X-Key=s3cret", "***"),
            ("set X-Key=a s3cret", "***"),
            ("remove X-Key=s3cret", "***"),
            ("token=s3cret", "***"),
            ("s3cret", "***"),
            ("", "***"),
        ):
            self.assertEqual(shownPolicy(f"headers:{change}"), f"headers:{text}", change)
            self.assertNotIn("s3cret", shownPolicy(f"headers:remove A:{change}:set X s3cret"))

    def test_readAlike(self) -> None:
        """What the policy reads as a value is what is hidden."""
        for before in ("", " ", "\t", "request ", "request  ", " request "):
            for gap in (" ", "  ", "\t", " \t ", "\u00a0"):
                for between in (" ", "   ", "\t"):
                    description = f"headers:{before}set{gap}X-Key{between}s3cret"
                    loadPolicies(description)
                    self.assertEqual(
                        shownPolicy(description),
                        f"headers:{'request ' * ('request' in before)}set X-Key ***",
                    )

    def test_strangers(self) -> None:
        """Of a policy that is not sitio's own, only the name is shown."""
        for text in ("guard:abc:token=def", "guard:", "guard:a", "guard:a=b", r"gu\ard:a"):
            self.assertEqual(shownPolicy(text), "guard:***")
        self.assertEqual(shownPolicy("guard"), "guard")
        self.assertEqual(shownPolicy(" retry:times=s3cret"), " retry:***")


class MessageTests(SynchronousTestCase):
    """Sentences of others, which may repeat what they were given."""

    def test_hidden(self) -> None:
        """A secret is hidden as it is, as C{repr} writes it, and word by word."""
        for message, secret, shown in (
            ("it is 'abc'", "abc", "it is '***'"),
            ("it is ABC", "abc", "it is ***"),
            ("it is abcd", "abc", "it is abcd"),
            ("a bad word", "a", "*** bad word"),
            ("not a number: 's3cret'", "Bearer s3cret", "not a number: '***'"),
            ("in 's3cret,more'", "s3cret,more", "in '***'"),
            ("in s3cret and more", "s3cret,more", "in *** and ***"),
            (r"in 's3\ncret'", "s3\ncret", "in '***'"),
            (r"in b's3\xff'", "s3\xff", "in b'***'"),
            ("xs3cretx", "s3cret", "x***x"),
            ("all is shown", "", "all is shown"),
            ("a.b", "a+b", "a.b"),
        ):
            self.assertEqual(messageWithoutSecrets(message, [secret]), shown)
        self.assertEqual(messageWithoutSecrets("ab abcde", ["ab", "abcde"]), "*** ***")

    def test_endpoint(self) -> None:
        """Of an endpoint's message, what its description would hide is hidden."""
        for description, shown in (
            ("tcp:s3cret", "bad s3cret"),  # A part of Twisted's that is no secret.
            ("socks:s3cret", "bad ***"),
            ("socks:u:key=s3cret", "bad ***"),
            (r"socks:s3\cret", "bad ***"),
            ("haproxy:socks:s3cret", "bad ***"),
            ("tcp:1:key=s3cret", "bad ***"),
            (r"tls:a:1:endpoint=socks\:u\:s3cret", "bad ***"),
            ("tcp:1:s3cret=", "bad ***"),
        ):
            self.assertEqual(endpointMessageWithoutSecrets("bad s3cret", description), shown)
