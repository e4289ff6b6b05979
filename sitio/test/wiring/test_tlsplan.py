"""
Promises of L{sitio.wiring.tlsplan}: ports and upstreams have the TLS of their configuration.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.listeners import ListenerConfig
from sitio.config.model import Config
from sitio.config.places import ConfigErrors
from sitio.config.tables import CertificateConfig, ListenerTLSConfig, UpstreamTLSConfig
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.net.tls import PortFactory, TLSServerEndpoint
from sitio.net.tlsclient import TLSClientEndpoint
from sitio.net.tlssettings import NONE, OPTIONAL, REQUIRED, ClientTLS, KeyPair, ServerTLS
from sitio.net.watching import LOOK_SECONDS, Watcher
from sitio.test.helpers.authority import Authority
from sitio.wiring.tlsplan import Connecting, TLSPlan, clientTLS, described, serverTLS


class TLSPlanTestCase(SynchronousTestCase):
    """A plan, and certificates."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.watcher = Watcher(self.reactor)
        self.watcher.startService()
        self.addCleanup(self.watcher.stopService)
        self.plan = TLSPlan(self.reactor, self.watcher)
        self.authority = Authority(Path(self.mktemp()).absolute())
        files = self.authority.issue("server", "a.example", commonName="first")
        self.tls = ListenerTLSConfig(files.certificate, files.key, place="listener.tls")

    def other(self) -> ListenerTLSConfig:
        """TLS with another certificate."""
        files = self.authority.issue("other", "a.example", commonName="second")
        return evolve(self.tls, certificate=files.certificate, key=files.key)


class SettingsTests(TLSPlanTestCase):
    """The tables of the configuration as settings."""

    def test_listener(self) -> None:
        """Each key of C{[listener.tls]} counts."""
        pair = self.tls.certificate, self.tls.key
        self.assertEqual(serverTLS(self.tls), ServerTLS(*pair))
        full = evolve(
            self.tls,
            clientCa="ca",
            clientCertificate="optional",
            minimum="1.3",
            more=(CertificateConfig("c", "d"),),
        )
        self.assertEqual(
            serverTLS(full), ServerTLS(*pair, "ca", OPTIONAL, "1.3", [KeyPair("c", "d")])
        )
        self.assertEqual(serverTLS(evolve(self.tls, clientCa="ca")).clientCertificate, REQUIRED)
        self.assertEqual(serverTLS(self.tls).clientCertificate, NONE)

    def test_upstream(self) -> None:
        """Each key of C{[upstream.tls]} counts."""
        self.assertEqual(clientTLS(None), ClientTLS())
        self.assertEqual(clientTLS(UpstreamTLSConfig()), ClientTLS())
        table = UpstreamTLSConfig(True, "ca", "a.example", "c", "k", "1.3")
        self.assertEqual(clientTLS(table), ClientTLS(True, "ca", "a.example", "c", "k", "1.3"))
        self.assertEqual(clientTLS(UpstreamTLSConfig(False)), ClientTLS(False))


class PortTests(TLSPlanTestCase):
    """Ports."""

    def listen(self, tls: ListenerTLSConfig | None) -> Any:
        """The factory that a port gets."""
        below = TCP4ServerEndpoint(self.reactor, 8443)
        listening = self.plan.listening(ListenerConfig("main", "tcp:8443", tls), below)
        if tls is None:
            self.assertIs(listening, below)
            return None
        self.assertIsInstance(listening, TLSServerEndpoint)
        from twisted.internet.protocol import Factory

        listening.listen(Factory())
        return self.reactor.tcpServers[-1][1]

    def subject(self) -> str:
        """The common name of the certificate in use."""
        found: str = self.plan.snapshot()[0]["certificates"][0]["subject"]
        return found.partition(",")[0]

    def test_plain(self) -> None:
        """A port without TLS stays as it is, and OpenSSL is not asked for."""
        self.listen(None)
        self.assertIsNone(self.plan._files)
        self.assertEqual((self.plan.snapshot(), self.plan.warnings()), ([], []))

    def test_secure(self) -> None:
        """A port with TLS has it, and is seen in metrics."""
        self.assertIsInstance(self.listen(self.tls), PortFactory)
        [row] = self.plan.snapshot()
        self.assertEqual((row["role"], row["name"]), ("listener", "main"))
        self.assertEqual(self.subject(), "CN=first")

    def test_another(self) -> None:
        """The port of another configuration has its certificate once that is adopted."""
        self.listen(self.tls)
        config = Config(listeners=(ListenerConfig("main", "tcp:8443", self.other()),))
        adopt = self.plan.prepare(config)
        self.assertEqual(self.subject(), "CN=first")
        adopt()
        self.assertEqual(self.subject(), "CN=second")
        self.authority.issue("other", "a.example", commonName="third")
        self.reactor.pump([LOOK_SECONDS, LOOK_SECONDS])
        self.assertEqual(self.subject(), "CN=third")

    def test_same(self) -> None:
        """A configuration with the same TLS changes nothing, and no ticket is lost."""
        self.listen(self.tls)
        current = self.plan._ports["tcp:8443"].current
        self.plan.prepare(Config(listeners=(ListenerConfig("main", "tcp:8443", self.tls),)))()
        self.assertIs(self.plan._ports["tcp:8443"].current, current)

    def test_wrong(self) -> None:
        """Files that can't be used are mistakes at their place; nothing changes."""
        self.listen(self.tls)
        wrong = evolve(self.tls, key="/nowhere")
        with self.assertRaises(ConfigErrors) as caught:
            self.plan.prepare(Config(listeners=(ListenerConfig("main", "tcp:8443", wrong),)))
        [mistake] = caught.exception.mistakes
        self.assertIn("can't read the key /nowhere: No such file or directory", str(mistake))
        self.assertIn("listener.tls", str(mistake))
        self.assertEqual(self.subject(), "CN=first")

    def test_otherPorts(self) -> None:
        """Ports that are new, or plain, are left alone."""
        self.listen(self.tls)
        self.plan.prepare(
            Config(
                listeners=(
                    ListenerConfig("main", "tcp:8443"),
                    ListenerConfig("new", "tcp:8444", self.other()),
                )
            )
        )()
        self.assertEqual(self.subject(), "CN=first")


class UpstreamTests(TLSPlanTestCase):
    """Upstreams."""

    def connect(self, address: str, target: str = "", **keys: Any) -> Any:
        """What connects to an address."""
        endpoints = () if "dns" in keys or "srv" in keys else (EndpointConfig(address),)
        return self.plan.connects(UpstreamConfig("up", endpoints=endpoints, **keys))(
            target or address
        )

    def assertReaches(self, endpoint: Any, host: str, port: int, name: str) -> None:
        """Assert where it connects to by TLS, and the name that the certificate must have."""
        self.assertIsInstance(endpoint, TLSClientEndpoint)
        below = endpoint._endpoint
        found = getattr(below, "_hostText", None) or getattr(below, "_host", None)
        self.assertEqual((found, below._port), (host, port))
        self.assertEqual(endpoint.server._name, name)

    def test_plain(self) -> None:
        """Without TLS there is none, and OpenSSL is not asked for."""
        for address in ("tcp:localhost:8087", "unix:/run/service"):
            self.assertNotIsInstance(self.connect(address), TLSClientEndpoint)
        self.assertNotIsInstance(
            self.connect("", "10.0.0.1:8087", dns=("a.example", 8087)), TLSClientEndpoint
        )
        self.assertIsNone(self.plan._files)

    def test_secure(self) -> None:
        """With C{https}, or a table, TLS is sitio's own."""
        self.assertReaches(self.connect("tls:a.example:443"), "a.example", 443, "a.example")
        table = UpstreamTLSConfig(ca=str(self.authority.file), name="b.example")
        self.assertReaches(
            self.connect("tcp:10.0.0.1:8443", tls=table), "10.0.0.1", 8443, "b.example"
        )
        self.assertReaches(
            self.connect("tls:a.example:443:trustRoots=/etc", tls=table),
            *("a.example", 443, "b.example"),
        )

    def test_ofItsOwn(self) -> None:
        """A description with more of TLS keeps that, unless there is a table."""
        endpoint = self.connect(f"tls:a.example:443:trustRoots={self.authority.folder}")
        self.assertNotIsInstance(endpoint, TLSClientEndpoint)

    def test_dns(self) -> None:
        """Of addresses that DNS has named, the certificate is for the name that was asked for."""
        table = UpstreamTLSConfig(verify=False)
        for keys, name in (
            ({"dns": ("a.example", 8443)}, "a.example"),
            ({"srv": "_https._tcp.b.example"}, "b.example"),
        ):
            endpoint = self.connect("", "10.0.0.1:8443", tls=table, **keys)
            self.assertReaches(endpoint, "10.0.0.1", 8443, name)

    def test_described(self) -> None:
        """Addresses of DNS become descriptions."""
        self.assertEqual(described("10.0.0.1:80"), "tcp:10.0.0.1:80")
        self.assertEqual(described("[::1]:80"), r"tcp:\:\:1:80")
        self.assertEqual(described("unix:/a"), "unix:/a")

    def test_wrong(self) -> None:
        """Files that can't be used raise."""
        with self.assertRaises(ValueError) as caught:
            self.connect("tls:a.example:443", tls=UpstreamTLSConfig(ca="/nowhere"))
        self.assertEqual(
            str(caught.exception),
            "can't read the file of authorities /nowhere: No such file or directory",
        )

    def test_ends(self) -> None:
        """An upstream that nobody has any more is in no metric, and not watched."""
        table = UpstreamTLSConfig(ca=str(self.authority.file))
        endpoint = self.connect("tls:a.example:443", tls=table)
        self.assertEqual([each["name"] for each in self.plan.snapshot()], ["up"])
        del endpoint
        gc.collect()
        self.assertEqual(self.plan.snapshot(), [])
        self.assertEqual(len(self.watcher._watches), 0)


class ConnectingTests(SynchronousTestCase):
    """L{Connecting}: what connects to an upstream."""

    def test_places(self) -> None:
        """Each address of each upstream is connected to, as an endpoint or as DNS names it."""
        reactor: Any = MemoryReactorClock()
        connects = Connecting(reactor, TLSPlan(reactor))
        for address in ("tcp:10.0.0.1:81", "10.0.0.2:82"):
            connects(UpstreamConfig("a"))(address).connect(Factory())
        found = [each[:2] for each in reactor.tcpClients]
        self.assertEqual(found, [("10.0.0.1", 81), ("10.0.0.2", 82)])

    def test_demo(self) -> None:
        """The photo site stands in place of all."""
        asked: list[Any] = []

        class Demo:
            def connect(self, factory: Any) -> Any:
                asked.append(factory)
                return Deferred()

        demo: Any = Demo()
        factory = Factory()
        connects = Connecting(MemoryReactorClock(), TLSPlan(MemoryReactorClock()), demo)
        connects(UpstreamConfig("demo"))("").connect(factory)
        self.assertEqual(asked, [factory])
