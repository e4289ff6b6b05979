"""
Connecting by TLS takes until the end of the handshake: L{HandshakeEndpoint}.

Twisted's endpoints report a connection before its handshake.  So an untrusted certificate
would look like a connection that was accepted and then lost, and a peer that is silent
within the handshake like one that is slow to respond.

Contract: endpoints are passed in.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer


class HandshakeFailed(Exception):
    """No TLS connection came about; the message says why, for the operator."""


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """
    Connects like another endpoint.  With TLS, the handshake is a part of that.

    Cancel the Deferred of L{connect} to give up, also within the handshake.
    """

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint}.

        The protocol's C{connectionMade} is called before the handshake, as everywhere in
        Twisted.  If the handshake fails its C{connectionLost} is not called: the
        connection was never there.

        @return: fails with L{HandshakeFailed} if the handshake does, else as the other
            endpoint says.
        """
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(_whenSecure)


def _whenSecure(protocol: Any) -> Any:
    tls = getattr(protocol, "transport", None)
    if not isinstance(tls, TLSMemoryBIOProtocol) or tls._handshakeDone or not tls.connected:
        return protocol
    return _Handshake(tls, protocol).done


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """
    Takes the protocol's place at its TLS transport until the handshake is over.

    @ivar done: fires with the protocol.
    """

    def __init__(self, tls: Any, protocol: Any) -> None:
        self.done: Deferred[Any] = Deferred(lambda _: tls.abortConnection())
        self._tls = tls
        self._protocol = protocol
        # Not always the protocol itself: some endpoints wrap it.
        self._before = tls.wrappedProtocol
        tls.wrappedProtocol = self

    def handshakeCompleted(self) -> None:
        if self._tls.disconnecting:
            # Twisted 24 checks the certificate's name just before this.
            return
        self._tls.wrappedProtocol = self._before
        if not self.done.called:
            self.done.callback(self._protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            error = HandshakeFailed(explainHandshake(reason.value))
            error.__cause__ = reason.value
            self.done.errback(error)


def explainHandshake(error: BaseException | None) -> str:
    """Why a TLS handshake failed, as a clause."""
    # Imported here, as they take memory; with TLS they are loaded already.
    from OpenSSL import SSL
    from service_identity.exceptions import VerificationError

    why = getattr(error, "why", None)
    if isinstance(why, str):
        # Of sitio's own TLS: see L{sitio.net.tlsclient}.
        return why
    if isinstance(error, VerificationError):
        return "its certificate is for another name"
    if not isinstance(error, SSL.Error):
        return "it closed the connection within the TLS handshake"
    queue = error.args[0] if error.args else ()
    why = queue[-1][-1] if isinstance(queue, list) and queue else "it speaks no TLS"
    if why == "certificate verify failed":
        return f"its certificate is not trusted: {why}"
    return f"the TLS handshake failed: {why}"
