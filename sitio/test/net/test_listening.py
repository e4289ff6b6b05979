"""
Tests of L{sitio.net.listening}.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.net.listening import Listening, Ports, explainListenError


class Port:
    """A port that closes when the test says so."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.stopped = 0

    def stopListening(self) -> Deferred[None]:
        """Begin to close."""
        self.stopped += 1
        return self.closed


@implementer(IStreamServerEndpoint)
class Endpoint:
    """An endpoint with a given outcome."""

    def __init__(self, outcome: Deferred[Any]) -> None:
        self.outcome = outcome
        self.factories: list[Any] = []

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """See L{IStreamServerEndpoint}."""
        self.factories.append(protocolFactory)
        return self.outcome


def taken() -> CannotListenError:
    """The error of a port that another process has."""
    return CannotListenError("", 8080, OSError(98, "Address already in use"))


class ListeningTests(SynchronousTestCase):
    """A port listens from the start, or the start fails."""

    def setUp(self) -> None:
        self.events: list[Any] = []
        self.opened: list[Any] = []
        self.factory = Factory()
        self.listening = Listening(
            self.factory,
            self.opened.append,
            log=Logger(observer=cast(Any, self.events.append)),
            consequence="sitio takes no requests",
            name="sitio: --port",
        )

    def test_listens(self) -> None:
        """The factory is given to the endpoint, and the port is there."""
        port = Port()
        endpoint = Endpoint(succeed(port))
        self.listening.listen(endpoint)
        self.assertEqual(endpoint.factories, [self.factory])
        self.assertEqual(self.opened, [port])
        self.assertIs(self.listening.port, port)

    def test_once(self) -> None:
        """To listen a second time changes nothing."""
        endpoint = Endpoint(succeed(Port()))
        self.listening.listen(endpoint)
        self.listening.listen(endpoint)
        self.assertEqual(len(endpoint.factories), 1)

    def test_cannotStart(self) -> None:
        """A failure at once is raised, as one sentence, with its cause."""
        cause = taken()
        error = self.assertRaises(CannotStart, self.listening.listen, Endpoint(fail(cause)))
        self.assertEqual(
            str(error),
            "sitio: --port: can't listen on port 8080: Address already in use (another process"
            " listens there; stop it, or choose another port)",
        )
        self.assertIs(error.__cause__, cause)
        self.assertIsNone(self.listening.port)

    def test_another(self) -> None:
        """After a failure it can listen on another endpoint."""
        self.assertRaises(CannotStart, self.listening.listen, Endpoint(fail(taken())))
        self.listening.listen(Endpoint(succeed(port := Port())))
        self.assertIs(self.listening.port, port)

    def test_late(self) -> None:
        """An endpoint may take its time; it has begun to listen meanwhile."""
        outcome: Deferred[Any] = Deferred()
        self.assertFalse(self.listening.begun)
        self.listening.listen(Endpoint(outcome))
        self.assertTrue(self.listening.begun)
        self.assertIsNone(self.listening.port)
        outcome.callback(port := Port())
        self.assertIs(self.listening.port, port)
        self.assertEqual(self.opened, [port])

    def test_lateFailure(self) -> None:
        """A failure that comes later is logged as critical."""
        outcome: Deferred[Any] = Deferred()
        self.listening.listen(Endpoint(outcome))
        outcome.errback(taken())
        [event] = self.events
        self.assertEqual(event["log_level"].name, "critical")
        self.assertEqual(
            event["log_format"].format(**event),
            "sitio takes no requests: can't listen on port 8080: Address already in use",
        )

    def test_close(self) -> None:
        """To close waits until the port is closed; to close again is no error."""
        self.listening.listen(Endpoint(succeed(port := Port())))
        closed = self.listening.close()
        self.assertNoResult(closed)
        self.assertIsNone(self.listening.port)
        port.closed.callback(None)
        self.successResultOf(closed)
        self.successResultOf(self.listening.close())
        self.assertEqual(port.stopped, 1)

    def test_closeWhileWaiting(self) -> None:
        """To close cancels an endpoint that still takes its time, and logs nothing."""
        cancelled: list[Any] = []
        self.listening.listen(Endpoint(Deferred(cancelled.append)))
        self.successResultOf(self.listening.close())
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.events, [])
        self.assertIsNone(self.listening.port)

    def test_neverListened(self) -> None:
        """To close what never listened is no error."""
        self.successResultOf(self.listening.close())


class ExplainListenErrorTests(SynchronousTestCase):
    """A failure to listen is told in the words of the operating system."""

    def test_port(self) -> None:
        """The port is named."""
        self.assertEqual(
            explainListenError(taken()), "can't listen on port 8080: Address already in use"
        )

    def test_address(self) -> None:
        """What has no port is called the address."""
        self.assertEqual(
            explainListenError(OSError(13, "Permission denied")),
            "can't listen on the address: Permission denied",
        )

    def test_otherError(self) -> None:
        """Any other error speaks for itself."""
        self.assertEqual(explainListenError(ValueError("bad")), "can't listen on the address: bad")


class PortsTests(SynchronousTestCase):
    """Several ports, which come and go."""

    def setUp(self) -> None:
        self.one, self.two, self.three = Port(), Port(), Port()
        self.ports = Ports(self.made, {"one": Endpoint(succeed(self.one))})

    def made(self) -> Listening:
        """What listens on one of them."""
        return Listening(Factory(), log=Logger(), consequence="sitio takes no requests")

    def test_life(self) -> None:
        """Those that are added are open, those that are removed close, and others stay."""
        self.assertFalse(self.ports.begun)
        self.ports.listen()
        self.assertTrue(self.ports.begun)
        self.ports.add({"two": Endpoint(succeed(self.two))})
        self.assertEqual((self.ports.names, self.ports.first), ({"one", "two"}, self.one))
        closed = self.ports.remove(["one", "none"])
        self.assertEqual((self.one.stopped, self.two.stopped), (1, 0))
        self.assertNoResult(closed)
        self.one.closed.callback(None)
        self.successResultOf(closed)
        self.assertIs(self.ports.first, self.two)

    def test_taken(self) -> None:
        """If one of several can't be opened, none of them is."""
        self.ports.listen()
        more = {"two": Endpoint(succeed(self.two)), "three": Endpoint(fail(taken()))}
        self.assertRaises(CannotStart, self.ports.add, more)
        self.assertEqual(self.ports.names, {"one"})
        self.assertEqual((self.one.stopped, self.two.stopped), (0, 1))

    def test_closed(self) -> None:
        """When all are closed, none can be opened any more."""
        self.ports.listen()
        self.ports.close()
        self.assertEqual(self.one.stopped, 1)
        self.ports.add({})
        self.assertRaises(CannotStart, self.ports.add, {"two": Endpoint(succeed(self.two))})
