"""
Visitors of the admin pages, and a sidecar that a test controls, in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio.admin.pages import Admin
from sitio.telemetry.configstate import ConfigState
from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.sidecar import DRAINING, SERVING, ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.test.helpers.snapshots import workerSnapshot

ADMIN = IPv4Address("TCP", "127.0.0.1", 9901)
LOCAL = IPv4Address("TCP", "127.0.0.1", 40000)
REMOTE = IPv4Address("TCP", "192.0.2.7", 40000)

GETS = ["/help", "/live", "/ready", "/metrics", "/stats.json", "/exchanges", "/policies", "/config"]
POSTS = ["/reload", "/drain", "/quit"]

#: All pages that tell something of requests or of the configuration; and none that there is.
PAGES = ["/", "/events", *(each for each in GETS if each not in ("/live", "/ready")), "/none"]


@implementer(ISidecar)
@define
class Played:
    """A sidecar with the state that a test sets."""

    state: str = SERVING
    late: Deferred[SidecarSnapshot] | None = None
    warned: list[str] = field(factory=list)

    def warnings(self) -> list[str]:
        return self.warned

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        return self.late or succeed(workerSnapshot(3))

    def exchanges(self) -> Deferred[ExchangeLists]:
        return succeed({"failed": [], "recent": [], "open": []})

    def drain(self) -> None:
        self.state = DRAINING


@define
class Well:
    """A health check with the result that a test sets."""

    why: str | None = None

    def problem(self) -> Deferred[str | None]:
        return succeed(self.why)


@define
class Response:
    """The response of a page."""

    status: int
    headers: dict[str, str]
    text: str


class Visitor:
    """A connection to a site, in memory."""

    def __init__(self, site: Any, peer: IAddress = LOCAL) -> None:
        self.transport = StringTransport(peerAddress=peer)
        self._clock = getattr(site, "reactor", Clock())
        self.channel = site.buildProtocol(peer)
        self.channel.makeConnection(self.transport)

    def sends(self, data: bytes) -> bytes:
        """Send bytes; returns what is received."""
        self.transport.clear()
        self.channel.dataReceived(data)
        value: bytes = self.transport.value()
        return value

    def asks(
        self, method: str, path: str, *, host: str = "localhost:9901", **fields: str
    ) -> Response:
        """Make a request; C{sec_fetch_site="x"} is the field Sec-Fetch-Site."""
        named = {"Host": host, **{name.replace("_", "-"): fields[name] for name in fields}}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {named[name]}" for name in named)]
        self.sends("\r\n".join([*lines, "", ""]).encode())
        self._clock.advance(0)
        return read(self.transport.value())


def read(data: bytes) -> Response:
    """Parse one response."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Response(int(first.split()[1]), headers, body.decode())


class AdminTestCase(SynchronousTestCase):
    """The pages of a sidecar that the test controls."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sidecar = Played()
        self.health = Well()
        self.quits: list[str] = []
        self.reloads: list[str] = []
        self.configState = ConfigState(0.0)
        self.quit: Callable[[], object] = lambda: self.quits.append("quit")
        self.pages = Admin(
            self.clock,
            self.sidecar,
            self.health,
            lambda: {"sitio": "1", "options": {}},
            lambda: self.quit(),
            reload=self.reload,
        )
        self.site = self.pages.site()

    def reload(self, cause: str) -> Deferred[ConfigState]:
        """Read the configuration anew."""
        self.reloads.append(cause)
        return succeed(self.configState)

    def ask(self, method: str, path: str, *, peer: IAddress = LOCAL, **fields: str) -> Response:
        """Make a request on a new connection."""
        return Visitor(self.site, peer).asks(method, path, **fields)
