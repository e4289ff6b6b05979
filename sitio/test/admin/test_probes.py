"""
Tests of L{sitio.admin.probes}: what whoever reaches a Pod can read.
"""

from __future__ import annotations

from sitio.admin.port import DEFAULT_ENDPOINT
from sitio.admin.probes import PROBE_PATHS, probeSite
from sitio.config.options import DEFAULT_ADMIN
from sitio.telemetry.sidecar import DRAINING
from sitio.test.helpers.admin import GETS, LOCAL, PAGES, POSTS, REMOTE, AdminTestCase, Visitor

OPEN = [each.decode() for each in PROBE_PATHS]

#: Paths of the admin port, of what it had once, and of mistakes.
MISTAKES = ("/dashboard", "/index.html", "/live/", "/live/x", "/metrics/..", "//")
CLOSED = sorted({*GETS, *PAGES, *POSTS, *MISTAKES} - set(OPEN))


class ProbeTests(AdminTestCase):
    """The port for probes."""

    def setUp(self) -> None:
        super().setUp()
        self.probes = probeSite(self.clock, self.pages)

    def test_open(self) -> None:
        """Probes and Prometheus get what they get on the admin port, from any host."""
        for peer in (LOCAL, REMOTE):
            for path in OPEN:
                here = Visitor(self.probes, peer).asks("GET", path, host="192.0.2.80:9902")
                there = Visitor(self.site, peer).asks("GET", path, host="192.0.2.80:9902")
                self.assertEqual(here.status, 200, path)
                self.assertEqual(here.headers["Content-Type"], there.headers["Content-Type"])
                self.assertEqual(here.text[:12], there.text[:12])

    def test_closed(self) -> None:
        """Nobody gets anything else, whatever the method and the address."""
        for peer in (LOCAL, REMOTE):
            for path in CLOSED:
                for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
                    answer = Visitor(self.probes, peer).asks(method, path)
                    self.assertIn(answer.status, (403, 404), (method, path))
        self.assertEqual(self.quits, [])
        self.assertNotEqual(self.sidecar.state, DRAINING)

    def test_told(self) -> None:
        """An error names the pages of this port."""
        answer = Visitor(self.probes).asks("GET", "/exchanges")
        self.assertEqual(answer.text, "404 This port has /live, /ready and /metrics only.\n")

    def test_methods(self) -> None:
        """The pages can only be read."""
        for path in OPEN:
            self.assertEqual(Visitor(self.probes).asks("POST", path).status, 405, path)

    def test_ready(self) -> None:
        """A drain, and an upstream that is ill, are seen on both ports."""
        self.health.why = "ill"
        self.assertEqual(Visitor(self.probes, REMOTE).asks("GET", "/ready").status, 503)
        self.health.why = None
        self.assertEqual(Visitor(self.site).asks("POST", "/drain").status, 200)
        answer = Visitor(self.probes, REMOTE).asks("GET", "/ready")
        self.assertEqual((answer.status, answer.text), (503, f"sitio is {DRAINING}\n"))

    def test_names(self) -> None:
        """Probes may use any Host; /metrics is for known ones, as on the admin port."""
        for path, status in (("/live", 200), ("/ready", 200), ("/metrics", 421)):
            answer = Visitor(self.probes, REMOTE).asks("GET", path, host="a.example.com")
            self.assertEqual(answer.status, status, path)
        known = probeSite(self.clock, self.pages, {"a.example.com"})
        answer = Visitor(known, REMOTE).asks("GET", "/metrics", host="a.example.com")
        self.assertEqual(answer.status, 200)

    def test_default(self) -> None:
        """The options and the admin port know the same default."""
        self.assertEqual(DEFAULT_ENDPOINT, DEFAULT_ADMIN)
