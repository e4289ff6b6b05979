"""Tests of L{sitio.upstream.hosts}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.rows import Row, eachRow
from sitio.upstream.hosts import hostFor

#: The mode, the endpoint, and the Host.
HOSTS: list[Row] = [
    ("The client's", "client", "tls:api.example:443", ""),
    ("A Host that is given", "a.example:1", "tcp:localhost:8087", "a.example:1"),
    ("That of TLS", "upstream", "tls:api.example:443", "api.example"),
    ("TLS on another port", "upstream", "tls:api.example:8443", "api.example:8443"),
    ("TLS as it was written before", "upstream", "ssl:api.example:443", "api.example"),
    ("Without TLS", "upstream", "tcp:api.example:80", "api.example"),
    ("Without TLS on another port", "upstream", "tcp:localhost:8087", "localhost:8087"),
    ("Options are no part of it", "upstream", "tls:api.example:443:trustRoots=/etc/roots",
     "api.example"),
    ("IPv6", "upstream", r"tcp:\:\:1:8087", "[::1]:8087"),
    ("A UNIX socket has no name", "upstream", "unix:/run/a.sock", ""),
]  # fmt: skip


@eachRow(HOSTS)
class HostTests(SynchronousTestCase):
    """C{hostFor}."""

    def check(self, mode: str, description: str, expected: str) -> None:
        """The Host for an endpoint."""
        self.assertEqual(hostFor(mode, description), expected)

    def test_secure(self) -> None:
        """An endpoint may have TLS by other settings."""
        for port, expected in ((443, "a.example"), (80, "a.example:80")):
            self.assertEqual(hostFor("upstream", f"tcp:a.example:{port}", True), expected)
