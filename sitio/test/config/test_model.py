"""
Tests of L{sitio.config.model}, and of the modules with its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import NOTHING, evolve, fields
from twisted.trial.unittest import SynchronousTestCase

from sitio.config import listeners, model, tables, upstreams
from sitio.config.keys import keyOf
from sitio.config.model import Config, RouteConfig
from sitio.config.places import Places
from sitio.config.policies import PolicyConfig, policiesMade
from sitio.config.tables import ListenerTLSConfig, RouteLimits, UpstreamTLSConfig
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.settings import Settings


def keys() -> Iterator[tuple[type, Any]]:
    """Each class of the model, and each of its attributes that is a key of the file."""
    for module in (listeners, model, tables, upstreams):
        for found in vars(module).values():
            if getattr(found, "__module__", "") == module.__name__ and isinstance(found, type):
                yield from ((found, each) for each in fields(found) if "help" in each.metadata)


class KeysTests(SynchronousTestCase):
    """Each key explains itself."""

    def test_help(self) -> None:
        """Each key has one line of help; each value without a default that shows it, an example."""
        count = 0
        for found, each in keys():
            name = f"{found.__name__}.{each.name}"
            help = each.metadata["help"]
            self.assertTrue(help and "\n" not in help and not help.endswith("."), name)
            self.assertRegex(keyOf(each), r"\A[a-z][a-z-]*\Z", name)
            if "kind" in each.metadata and each.default in (None, NOTHING, (), ""):
                self.assertTrue(each.metadata["example"] or found is RouteLimits, name)
            count += 1
        self.assertGreater(count, 70)

    def test_limits(self) -> None:
        """The limits of a route are limits of all, with the same help."""
        known = {each.name: each for each in fields(Settings)}
        for each in fields(RouteLimits):
            if each.name != "place":
                self.assertEqual(each.metadata["help"], known[each.name].metadata["help"])
                self.assertIsNone(each.default)


class ConfigTests(SynchronousTestCase):
    """What is derived from the plain values."""

    def test_where(self) -> None:
        """A configuration knows where things stand; that is no part of what is configured."""
        config = Config(places=Places("sitio.toml", {"routes[0]": 7}))
        self.assertEqual(config.where("routes[0].path"), "sitio.toml:7: routes[0].path")
        self.assertEqual(config, Config())
        self.assertEqual(RouteConfig(place="routes[0]"), RouteConfig())

    def test_upstream(self) -> None:
        """An upstream is found by its name."""
        photos = UpstreamConfig("photos")
        self.assertIs(Config(upstreams=(photos,)).upstream("photos"), photos)
        self.assertRaises(KeyError, Config().upstream, "photos")

    def test_secure(self) -> None:
        """An upstream is secure by its address or its table; then its own host is the default."""
        plain = UpstreamConfig(endpoints=(EndpointConfig("tcp:a:80"),))
        for upstream, isSecure in (
            (plain, False),
            (evolve(plain, tls=UpstreamTLSConfig()), True),
            (UpstreamConfig(endpoints=(EndpointConfig("tls:a:443"),)), True),
            (UpstreamConfig(dns=("a", 80)), False),
        ):
            self.assertIs(upstream.isSecure, isSecure)
            self.assertEqual(upstream.hostMode, "upstream" if isSecure else "client")
        self.assertEqual(evolve(plain, host="a.example").hostMode, "a.example")

    def test_tells(self) -> None:
        """Of the client only a service is not told that has its own host and TLS; or as asked."""
        secure = UpstreamConfig(endpoints=(EndpointConfig("tls:a:443"),))
        plain = UpstreamConfig(endpoints=(EndpointConfig("tcp:a:80"),))
        for upstream, tells in (
            (plain, True),
            (evolve(plain, host="upstream"), True),
            (secure, False),
            (evolve(secure, host="client"), True),
            (evolve(secure, host="a.example"), True),
            (evolve(secure, forwarded=True), True),
            (evolve(plain, forwarded=False), False),
        ):
            self.assertIs(upstream.tellsClient, tells)

    def test_single(self) -> None:
        """An upstream with one listed address has a single endpoint."""
        one = EndpointConfig("tcp:a:80")
        self.assertTrue(UpstreamConfig(endpoints=(one,)).isSingle)
        self.assertFalse(UpstreamConfig(endpoints=(one, one)).isSingle)
        self.assertFalse(UpstreamConfig(dns=("a", 80)).isSingle)
        self.assertFalse(UpstreamConfig(srv="_http._tcp.a").isSingle)

    def test_mutual(self) -> None:
        """With an authority for clients' certificates, one is required unless told otherwise."""
        tls = ListenerTLSConfig("a.crt", "a.key", place="listener.tls")
        self.assertIsNone(tls.asksForCertificate)
        self.assertEqual(evolve(tls, clientCa="ca.crt").asksForCertificate, "required")
        asks = evolve(tls, clientCa="ca.crt", clientCertificate="optional").asksForCertificate
        self.assertEqual(asks, "optional")
        [first] = tls.certificates
        self.assertEqual((first.certificate, first.key, first.place), ("a.crt", "a.key", tls.place))

    def test_settings(self) -> None:
        """A route has the limits of all, but for its own."""
        settings = Settings(grace=1.0)
        self.assertIs(RouteConfig().settings(settings), settings)
        route = RouteConfig(limits=RouteLimits(responseTimeout=5.0, maxBody=0))
        self.assertEqual(
            route.settings(settings), Settings(grace=1.0, responseTimeout=5.0, maxBody=0)
        )

    def test_secrets(self) -> None:
        """What may be a secret is not in the text of a configuration, which tracebacks show."""
        policies = (PolicyConfig("a:geheim"), PolicyConfig("a", {"key": "geheim"}))
        self.assertNotIn("geheim", repr(Config(fleet="http://me:geheim@a", policies=policies)))

    def test_policies(self) -> None:
        """A policy is made of its description, or of its name and its options."""
        for config, names in (
            (PolicyConfig("error-page:404"), ["error-page"]),
            (PolicyConfig("last-good", {"max-age": "60s"}), ["last-good"]),
        ):
            self.assertEqual([name for name, _ in policiesMade(config)], names)
        self.assertRaises(ValueError, policiesMade, PolicyConfig("last-good", {"nope": 1}))
        self.assertRaises(ValueError, policiesMade, PolicyConfig("last-good:nope=1"))
