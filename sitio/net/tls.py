"""
TLS of the ports: that of L{sitio.net.tlstransport}, with four differences from Twisted's.

  - A connection that is aborted ends with a reset, without a close_notify before it: that
    would tell the client that it has all (RFC 8446, section 6.1).
  - After the last byte, sitio waits L{CLOSE_NOTIFY_SECONDS} for the client's
    close_notify, not for ever.  It can send its own before that.
  - A client whose ALPN names no protocol of the port gets the alert
    C{no_application_protocol} (RFC 7301, section 3.2), and the log says so.
  - Sessions are resumed by tickets, in TLS 1.2 and 1.3.  They need no memory here.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.loglimit import LogLimit
from sitio.net.tlstransport import TLSTransport, adopt

_log = Logger(namespace="sitio")

#: Seconds to wait for a client's close_notify after all was written.
CLOSE_NOTIFY_SECONDS = 1.0

#: Characters of the protocols that a client offers, in the log.
_MAX_OFFER = 100


class NoProtocol(SSL.Error):
    """Client and port have no protocol in common."""

    def __init__(self, offered: str, spoken: str) -> None:
        why = f"it offers {offered}, sitio speaks {spoken}"
        SSL.Error.__init__(self, [("SSL routines", "", why)])


class PortTransport(TLSTransport):
    """A client's connection by TLS."""

    _closing: IDelayedCall | None = None
    # The time at which the client was told, by close_notify, that no more comes.
    _notified: float | None = None
    # Whether the connection below has ended: what TLS says of that is no news.
    _isLost = False

    def abortConnection(self) -> None:
        """Reset the connection: unlike after a close_notify, the client sees the break."""
        self.layer.isReady = False
        self._aborted = self.disconnecting = True
        self.transport.abortConnection()

    def notifyClose(self) -> None:
        """
        Tell the client that no more comes, and read on.

        This is the half-close of TLS (RFC 8446, section 6.1).  C{loseConnection} follows,
        and nothing is written before that.  No producer is registered.
        """
        self.layer.flush()
        if self._handshakeDone and not self._appSendBuffer and not self._lostTLSConnection:
            super()._shutdownTLS()
            self._notified = self.factory.reactor.seconds()

    def _dropProducer(self) -> None:
        """
        Let the transport close although a producer is registered.

        The client has closed, or TLS has failed: nothing more can be sent.
        """
        if self._producer is not None:
            self._producer = None
            self.transport.unregisterProducer()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        self._dropProducer()
        if reason is not None and not self._handshakeDone and not self._isLost:
            refused = getattr(self.factory, "refused", None)
            if refused is not None:
                refused(self, reason.value)
        super()._tlsShutdownFinished(reason)

    def _shutdownTLS(self) -> None:
        self._dropProducer()
        super()._shutdownTLS()
        if self._closing is None and self.connected and not self._aborted:
            reactor = self.factory.reactor
            now = reactor.seconds()
            since = now if self._notified is None else self._notified
            self._closing = reactor.callLater(
                max(0.0, since + CLOSE_NOTIFY_SECONDS - now), self.transport.loseConnection
            )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._isLost = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        super().connectionLost(reason)


class PortFactory(TLSMemoryBIOFactory):
    """
    The connections of a port by TLS.

    @ivar reactor: for timers.
    @ivar spoken: the protocols for ALPN, in order of preference; without any, each offer is
        ignored.
    """

    def __init__(self, reactor: Any, contextFactory: Any, wrapped: Any) -> None:
        creator = contextFactory
        if isinstance(contextFactory, CertificateOptions):
            creator = ServerConnections(contextFactory)
        negotiating = IProtocolNegotiationFactory(wrapped, None)
        self.spoken: Sequence[bytes] = (
            negotiating.acceptableProtocols() if negotiating is not None else ()
        )
        TLSMemoryBIOFactory.__init__(self, creator, False, wrapped, reactor)
        adopt(self, reactor, PortTransport)
        self._refusals = LogLimit(reactor)

    def refused(self, transport: PortTransport, error: BaseException) -> None:
        """Log why a handshake has failed, or one of many."""
        skipped = self._refusals.due()
        if skipped is not None:
            _log.warn(
                "The TLS client {peer} is refused: {why} ({skipped} more since the last report)",
                peer=getattr(transport.getPeer(), "host", None),
                why=_reasonOf(error, transport._tlsConnection),
                skipped=skipped,
            )

    def _applyProtocolNegotiation(self, connection: SSL.Connection) -> None:
        """Twisted 24 calls this, and would replace the callback of L{ServerConnections}."""


def closeBoundedly(factory: TLSMemoryBIOFactory, reactor: Any) -> None:
    """
    Let the connections of another factory close as those of L{PortFactory} do.

    Which protocols it negotiates stays its own affair.
    """
    adopt(factory, reactor, PortTransport)


@implementer(IOpenSSLServerConnectionCreator)
class ServerConnections:
    """Makes OpenSSL's side of the connections of a port."""

    def __init__(self, options: CertificateOptions) -> None:
        """@param options: of a port that has no connection yet."""
        # Before the context is made, as OpenSSL's options can't be taken back.
        options._options &= ~SSL.OP_NO_TICKET
        self._context = options.getContext()
        self._context.set_alpn_select_callback(selectProtocol)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator}."""
        connection = SSL.Connection(self._context)
        connection.set_app_data(protocol)
        return connection


def selectProtocol(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """
    Choose the protocol of a connection of a L{PortFactory} by ALPN (RFC 7301).

    @raise NoProtocol: there is none in common.  pyOpenSSL sends the alert for any exception,
        and raises it again in the handshake.
    """
    transport: Any = connection.get_app_data()
    factory: PortFactory = transport.factory
    if not factory.spoken:
        return SSL.NO_OVERLAPPING_PROTOCOLS
    for each in factory.spoken:
        if each in offered:
            return each
    raise NoProtocol(_readable(offered)[:_MAX_OFFER], _readable(factory.spoken))


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """
    Listens on another endpoint, with TLS above it.

    With C{haproxy:}, the header comes before TLS, as load balancers send it.
    """

    def __init__(self, reactor: Any, endpoint: IStreamServerEndpoint, tls: Any) -> None:
        """
        @param tls: makes the connections: a L{PortTLS<sitio.net.tlsfiles.PortTLS>}, or any
            other L{IOpenSSLServerConnectionCreator}.
        """
        self._reactor = reactor
        self._endpoint = endpoint
        self._tls = tls

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See L{IStreamServerEndpoint}."""
        return self._endpoint.listen(PortFactory(self._reactor, self._tls, protocolFactory))


def _reasonOf(error: BaseException, connection: SSL.Connection) -> str:
    """Why a handshake has failed, as OpenSSL says it."""
    queue = error.args[0] if error.args else ()
    why = queue[-1][-1] if isinstance(queue, list) and queue else "it speaks no TLS"
    if why == "certificate verify failed":
        # Names that pyOpenSSL keeps for itself; it has no others for this.
        openssl: Any = SSL._lib  # type: ignore[attr-defined]
        result = openssl.SSL_get_verify_result(connection._ssl)
        text = openssl.X509_verify_cert_error_string(result)
        why = f"its certificate is not trusted: {SSL._ffi.string(text).decode()}"  # type: ignore
    return str(why)


def _readable(protocols: Sequence[bytes]) -> str:
    return ", ".join(each.decode("ascii", "backslashreplace") for each in protocols)
