"""
Promises of L{sitio.net.handshake}: with TLS, a connection is there when its handshake has
ended.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio.net.handshake import HandshakeEndpoint, HandshakeFailed, explainHandshake


class Recorder(Protocol):
    """Records how often it was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def connectionMade(self) -> None:
        self.calls.append("made")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.calls.append("lost")


class Recorders(Factory):
    """Makes one L{Recorder}."""

    def __init__(self) -> None:
        self.protocol: Any = Recorder()

    def buildProtocol(self, addr: Any) -> Recorder:
        recorder: Recorder = self.protocol
        return recorder


@implementer(IStreamClientEndpoint)
class Endpoint:
    """An endpoint that connects at once, with or without TLS."""

    def __init__(self, secure: bool) -> None:
        self.secure = secure
        self.transport = StringTransport()
        self.outer: Any = None

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        factory = protocolFactory
        if self.secure:
            options = optionsForClientTLS("localhost")
            factory = TLSMemoryBIOFactory(options, True, protocolFactory, Clock())
        self.outer = factory.buildProtocol(None)
        self.outer.makeConnection(self.transport)
        done: Deferred[Any] = Deferred()
        done.callback(self.outer.wrappedProtocol if self.secure else self.outer)
        return done


class HandshakeTests(SynchronousTestCase):
    """The handshake is a part of connecting; integration.test_tls has whole handshakes."""

    def connect(self, secure: bool = True) -> tuple[Endpoint, Recorder, Deferred[Any]]:
        """Begin to connect."""
        endpoint, recorders = Endpoint(secure), Recorders()
        return endpoint, recorders.protocol, HandshakeEndpoint(endpoint).connect(recorders)

    def test_plain(self) -> None:
        """Without TLS nothing changes."""
        endpoint, recorder, done = self.connect(secure=False)
        self.assertIs(self.successResultOf(done), recorder)
        endpoint.outer.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(recorder.calls, ["made", "lost"])

    def test_lost(self) -> None:
        """If the connection ends within the handshake, the protocol was never connected."""
        for reason in (ConnectionDone(), ConnectionLost()):
            endpoint, recorder, done = self.connect()
            self.assertNoResult(done)
            endpoint.outer.connectionLost(Failure(reason))
            error = self.failureResultOf(done, HandshakeFailed).value
            self.assertEqual(str(error), "it closed the connection within the TLS handshake")
            self.assertEqual(recorder.calls, ["made"])

    def test_cancelled(self) -> None:
        """To give up within the handshake aborts the connection."""
        endpoint, recorder, done = self.connect()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(endpoint.transport.disconnected)
        endpoint.outer.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(recorder.calls, ["made"])

    def test_refusedAtTheEnd(self) -> None:
        """A handshake that ends while the connection is being closed has failed."""
        endpoint, recorder, done = self.connect()
        endpoint.outer.failVerification(Failure(VerificationError(errors=[])))
        endpoint.outer.wrappedProtocol.handshakeCompleted()
        self.assertNoResult(done)
        endpoint.outer.connectionLost(Failure(ConnectionLost()))
        error = self.failureResultOf(done, HandshakeFailed).value
        self.assertEqual(str(error), "its certificate is for another name")
        self.assertEqual(recorder.calls, ["made"])

    def test_noTLS(self) -> None:
        """A peer that speaks no TLS is named as such."""
        endpoint, _, done = self.connect()
        endpoint.outer.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        endpoint.outer.connectionLost(Failure(ConnectionDone()))
        error = self.failureResultOf(done, HandshakeFailed).value
        self.assertRegex(str(error), "the TLS handshake failed: .+")

    def test_explained(self) -> None:
        """Each kind of failure has a sentence."""

        def queue(reason: str) -> SSL.Error:
            return SSL.Error([("SSL routines", "", "first"), ("SSL routines", "", reason)])

        table: list[tuple[BaseException | None, str]] = [
            (
                queue("certificate verify failed"),
                "its certificate is not trusted: certificate verify failed",
            ),
            (queue("wrong version number"), "the TLS handshake failed: wrong version number"),
            (VerificationError(errors=[]), "its certificate is for another name"),
            (SSL.Error([]), "the TLS handshake failed: it speaks no TLS"),
            (SSL.Error(), "the TLS handshake failed: it speaks no TLS"),
            (ConnectionLost(), "it closed the connection within the TLS handshake"),
            (None, "it closed the connection within the TLS handshake"),
        ]
        for error, sentence in table:
            self.assertEqual(explainHandshake(error), sentence)
