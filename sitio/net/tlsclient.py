"""
Connections to an upstream by TLS: L{TLSClientEndpoint}.

The certificate must be trusted, and be for the name that was asked for, unless the settings say
C{verify = false}.  Both are found out within the handshake, before any request is sent.

The session of the last connection is resumed by the next one (RFC 8446, section 2.2): a
handshake takes less time then, and no certificate is verified.  So a session is used for
L{MAX_SESSION_SECONDS} after the handshake that did verify it, and not after the settings or
their files have changed.  Each endpoint keeps one session at most.

Contract: reactor and endpoints are passed in.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from service_identity.exceptions import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.certificates import namesOf
from sitio.net.recordlayer import Buffer
from sitio.net.tlstransport import TLSTransport, adopt

if TYPE_CHECKING:
    from sitio.net.tlsfiles import UpstreamTLS

#: Seconds for which a certificate counts as verified.  Within them, sessions are resumed.
MAX_SESSION_SECONDS = 3600.0

#: Names of a certificate that a message shows.
_SHOWN_NAMES = 5

_openssl: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]


class NotTrusted(SSL.Error):
    """The upstream's certificate is refused; the message is a clause."""

    def __init__(self, why: str) -> None:
        SSL.Error.__init__(self, [("SSL routines", "", why)])
        self.why = why

    def __str__(self) -> str:
        return self.why


def verifyUpstream(
    connection: SSL.Connection, certificate: Any, error: int, depth: int, isTrusted: Any
) -> bool:
    """
    Decide on one certificate in the chain of an upstream; see C{Context.set_verify}.

    @raise NotTrusted: it is refused.  pyOpenSSL sends the alert for any exception, and raises it
        again in the handshake.
    """
    if not isTrusted:
        text = _ffi.string(_openssl.X509_verify_cert_error_string(error)).decode()
        raise NotTrusted(f"its certificate is not trusted: {text}")
    if depth == 0:
        transport: Any = connection.get_app_data()
        transport.factory.server.verify(certificate.to_cryptography())
    return True


class _Server:
    """
    The name of an upstream: what is asked for, and what its certificate must have.

    @ivar sni: for SNI; L{None} for an IP address (RFC 6066, section 3).
    """

    def __init__(self, name: str) -> None:
        self._name = name.strip("[]").rstrip(".")
        try:
            self._address: str | None = str(ip_address(self._name.partition("%")[0]))
            self.sni = None
        except ValueError:
            self._address = None
            self.sni = self._name.encode("idna")

    def verify(self, certificate: Any) -> None:
        """
        Check that a certificate is for this name.

        @raise NotTrusted: it is not.
        """
        try:
            if self._address is not None:
                verify_certificate_ip_address(certificate, self._address)
            else:
                assert self.sni is not None
                verify_certificate_hostname(certificate, self.sni.decode())
        except (VerificationError, CertificateError):
            names = namesOf(certificate)
            shown = ", ".join(names[:_SHOWN_NAMES]) or "no name"
            more = ", and others" if names[_SHOWN_NAMES:] else ""
            raise NotTrusted(
                f"its certificate is for {shown}{more}, and not for {self._name}"
            ) from None


class _ClientTransport(TLSTransport):
    """A connection to an upstream by TLS."""

    def _checkHandshakeStatus(self) -> None:
        super()._checkHandshakeStatus()
        if self._handshakeDone:
            self.factory.sessions.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        connection = self._tlsConnection
        if self._handshakeDone:
            self.factory.sessions.ended(self)
        super().connectionLost(reason)
        # OpenSSL spoils the session of a connection that was aborted, which others share.
        connection.set_shutdown(SSL.SENT_SHUTDOWN)


class Sessions:
    """
    The last session with one upstream.

    The server sends it some time after the handshake (RFC 8446, section 4.6.1).  So it is taken
    from the last connection when another one is made, or when that ends.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._last: Any = None
        self._kept: tuple[SSL.Context, SSL.Session] | None = None
        # When the certificate was verified, by a handshake that resumed nothing.
        self._verified = float("-inf")

    def connected(self, transport: Any) -> None:
        """The handshake of a connection has ended."""
        if not _openssl.SSL_session_reused(transport._tlsConnection._ssl):
            self._verified = self._clock.seconds()
        self._last = transport

    def ended(self, transport: Any) -> None:
        """A connection has ended."""
        if transport is self._last:
            self._take()
            self._last = None

    def _take(self) -> None:
        last = self._last
        connection = None if last is None else last._tlsConnection
        if connection is not None:
            session = connection.get_session()
            self._kept = None if session is None else (connection.get_context(), session)

    def resume(self, connection: SSL.Connection) -> None:
        """Let a new connection resume the session, if there is one that it may resume."""
        self._take()
        isFresh = self._clock.seconds() < self._verified + MAX_SESSION_SECONDS
        if self._kept is not None and isFresh and self._kept[0] is connection.get_context():
            connection.set_session(self._kept[1])


@implementer(IOpenSSLClientConnectionCreator)
class _ClientFactory(TLSMemoryBIOFactory):
    """
    One connection to an upstream.

    @ivar server: the name of the upstream.
    @ivar sessions: its last session.
    """

    def __init__(self, endpoint: TLSClientEndpoint, wrapped: Any) -> None:
        self._tls = endpoint.tls
        self.server = endpoint.server
        self.sessions = endpoint.sessions
        TLSMemoryBIOFactory.__init__(self, self, True, wrapped, endpoint.reactor)
        adopt(self, endpoint.reactor, _ClientTransport, self._tls.buffer)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        connection = SSL.Connection(self._tls.current.context)
        connection.set_app_data(protocol)
        if self.server.sni is not None:
            connection.set_tlsext_host_name(self.server.sni)
        self.sessions.resume(connection)
        return connection


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """
    Connects by another endpoint, with TLS above it.

    As with all endpoints of Twisted, a connection is there before its handshake:
    L{HandshakeEndpoint<sitio.net.handshake.HandshakeEndpoint>} waits for that.
    """

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, tls: UpstreamTLS, host: str
    ) -> None:
        """
        @param host: the host that the other endpoint connects to: the name of the upstream,
            unless its settings have another.
        """
        self.reactor = reactor
        self.tls = tls
        self.server = _Server(tls.settings.name or host)
        self.sessions = Sessions(reactor)
        tls.buffer = tls.buffer or Buffer(reactor)
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        connecting: Deferred[Any] = self._endpoint.connect(_ClientFactory(self, protocolFactory))
        return connecting.addCallback(lambda tls: tls.wrappedProtocol)
