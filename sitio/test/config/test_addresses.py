"""
Tests of L{sitio.config.addresses}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import endpoints
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.addresses import (
    adminDescription,
    connectDescription,
    hostAndPort,
    listenDescription,
)

#: What people type for an upstream, and the endpoint description that it means.
CONNECT: dict[Any, str] = {
    "8087": "tcp:localhost:8087",
    8087: "tcp:localhost:8087",
    ":8087": "tcp:localhost:8087",
    "localhost:8087": "tcp:localhost:8087",
    "photos.default.svc:80": "tcp:photos.default.svc:80",
    "photos:80": "tcp:photos:80",
    "my_service:80": "tcp:my_service:80",
    "10.0.0.1:8087": "tcp:10.0.0.1:8087",
    "[::1]:8087": r"tcp:\:\:1:8087",
    "http://localhost:8087": "tcp:localhost:8087",
    "http://localhost:8087/": "tcp:localhost:8087",
    "HTTP://localhost": "tcp:localhost:80",
    "http://10.0.0.1": "tcp:10.0.0.1:80",
    "http://[::1]": r"tcp:\:\:1:80",
    "http://[::1]:8087/": r"tcp:\:\:1:8087",
    "https://api.example": "tls:api.example:443",
    "https://api.example/": "tls:api.example:443",
    "https://api.example:443": "tls:api.example:443",
    "https://api.example:8443": "tls:api.example:8443",
    "https://[2001:db8::1]:8443": r"tls:2001\:db8\:\:1:8443",
    # Endpoint descriptions, right or wrong.
    "tcp:localhost:8087": "tcp:localhost:8087",
    r"tcp:\:\:1:8087": r"tcp:\:\:1:8087",
    "tcp:80": "tcp:80",
    "tls:80": "tls:80",
    "TCP:80": "TCP:80",
    "tcp:host=a:port=1": "tcp:host=a:port=1",
    "unix:/run/service.sock": "unix:/run/service.sock",
    "unix:8087": "unix:8087",
    "tls:api.example:443:trustRoots=/etc/ca": "tls:api.example:443:trustRoots=/etc/ca",
    "localhost": "localhost",
    "": "",
}

_ONLY = "and an upstream is only scheme, host and port: write"
NO_PORT = "it must be a port from 1 to 65535"
NO_HOST = (
    "it has no host and port that can be asked: write for example localhost:8087, or"
    " https://api.example"
)

#: What is no upstream, and the sentence about it.
NO_CONNECT: dict[Any, str] = {
    "http://localhost/api": f"'http://localhost/...'; it has a path, {_ONLY} http://localhost",
    "https://a:1/b/c?d#e": f"'https://a:1/...?...'; it has a path, {_ONLY} https://a:1",
    "https://a?b": f"'https://a?...'; it has a query, {_ONLY} https://a",
    "https://a#b": f"'https://a'; it has a fragment, {_ONLY} https://a",
    "https://me:geheim@a": (
        "https://***@...; sitio sends no user and no password: write only scheme, host and port,"
        " and let a policy add what the service wants"
    ),
    "ftp://a": (
        "'ftp://a'; its scheme is neither http nor https: write for example localhost:8087, or"
        " https://api.example"
    ),
    "http://": f"'http://'; {NO_HOST}",
    "http://:80": f"'http://:80'; {NO_HOST}",
    "http://a b": f"'http://a b'; {NO_HOST}",
    "http://a:b": f"'http://a:b'; {NO_HOST}",
    "http://::1:80": f"'http://::1:80'; {NO_HOST}",
    "http://a:0": f"'http://a:0'; {NO_PORT}",
    "http://a:65536": f"'http://a:65536'; {NO_PORT}",
    "a:0": f"'a:0'; {NO_PORT}",
    "0": f"'0'; {NO_PORT}",
    "9" * 30: f"'{'9' * 30}'; {NO_PORT}",
    65536: f"'65536'; {NO_PORT}",
    -1: "",
    True: "",
    1.5: "",
    None: "",
}

#: The same for ports.
LISTEN: dict[Any, str] = {
    "8080": "tcp:8080",
    8080: "tcp:8080",
    ":8080": "tcp:8080",
    "0": "tcp:0",
    "0.0.0.0:8080": "tcp:8080:interface=0.0.0.0",
    "127.0.0.1:8080": "tcp:8080:interface=127.0.0.1",
    "localhost:8080": "tcp:8080:interface=127.0.0.1",
    "[::1]:8080": r"tcp6:8080:interface=\:\:1",
    "[::]:8080": r"tcp6:8080:interface=\:\:",
    "tcp:8080": "tcp:8080",
    "tcp6:8080": "tcp6:8080",
    "haproxy:tcp:8080": "haproxy:tcp:8080",
    "unix:/run/sitio.sock": "unix:/run/sitio.sock",
    "8080x": "8080x",
    "-1": "-1",
}
NO_LISTEN: dict[Any, str] = {
    "99999": "'99999'; it must be a port, 0 to 65535",
    ":99999": "'99999'; it must be a port, 0 to 65535",
    "http://localhost:8080": (
        "'http://localhost:8080'; it is a URL, and a port has none: write for example 8080 or"
        " 127.0.0.1:8080"
    ),
    "example.com:80": (
        "'example.com:80'; it names a host: write an IP address of this one, such as"
        " 127.0.0.1:80, or only the port"
    ),
    False: "",
    1.5: "",
}


class ConnectTests(SynchronousTestCase):
    """Addresses of upstreams."""

    def test_spellings(self) -> None:
        """Each spelling means an endpoint description; such a description stays as it is."""
        for text, expected in CONNECT.items():
            self.assertEqual(connectDescription(text), expected, text)

    def test_wrong(self) -> None:
        """What can't be an upstream is refused, and no password is repeated."""
        for text, expected in NO_CONNECT.items():
            error = self.assertRaises(ValueError, connectDescription, text)
            self.assertEqual(str(error), expected)
            self.assertNotIn("geheim", str(error))

    def test_secure(self) -> None:
        """https gives an endpoint that verifies the certificate, and names the host (SNI)."""
        asked: list[tuple[Any, dict[str, Any]]] = []

        def options(hostname: str, **how: Any) -> Any:
            asked.append((hostname, how))
            return optionsForClientTLS(hostname, **how)

        self.patch(endpoints, "optionsForClientTLS", options)
        described = connectDescription("https://api.example")
        endpoint = endpoints.clientFromString(MemoryReactorClock(), described)
        [(name, how)] = asked
        # The trust roots of the system, and no others.
        self.assertEqual((name, how["trustRoot"]), ("api.example", None))
        inner = endpoint._wrappedEndpoint
        self.assertEqual((inner._hostText, inner._port), ("api.example", 443))

    def test_plugin(self) -> None:
        """A kind of endpoint of a plugin is before a host of the same name."""

        class Parser:
            prefix = "Onion"

        self.patch(sys.modules["twisted.plugin"], "getPlugins", lambda interface: [Parser()])
        self.assertEqual(connectDescription("onion:80"), "onion:80")
        self.assertEqual(listenDescription("onion:80"), "onion:80")
        self.assertEqual(connectDescription("lion:80"), "tcp:lion:80")


class ListenTests(SynchronousTestCase):
    """Addresses of ports."""

    def test_spellings(self) -> None:
        """Each spelling means an endpoint description; such a description stays as it is."""
        for text, expected in LISTEN.items():
            self.assertEqual(listenDescription(text), expected, text)

    def test_wrong(self) -> None:
        """What can't be listened on is refused."""
        for text, expected in NO_LISTEN.items():
            error = self.assertRaises(ValueError, listenDescription, text)
            self.assertEqual(str(error), expected)

    def test_admin(self) -> None:
        """A number for the admin pages is a port of this host only."""
        self.assertEqual(adminDescription("9901"), "tcp:9901:interface=127.0.0.1")
        self.assertEqual(adminDescription(9901), "tcp:9901:interface=127.0.0.1")
        self.assertEqual(adminDescription("0.0.0.0:9901"), "tcp:9901:interface=0.0.0.0")
        self.assertEqual(adminDescription("tcp:9901"), "tcp:9901")


class HostAndPortTests(SynchronousTestCase):
    """Names that are looked up."""

    def test_both(self) -> None:
        """A name needs a port."""
        self.assertEqual(hostAndPort("photos.default.svc:80"), ("photos.default.svc", 80))
        for text in ("photos", ":80", "a:0", "a:x", "[::1]:80", "http://a:80", 80, ""):
            self.assertRaises(ValueError, hostAndPort, text)
