"""
OpenSSL's contexts, made of L{sitio.net.tlssettings} and the files that they name:
L{ServerContexts} for a port, L{ClientContext} for an upstream.

A context never changes.  When files change, others take its place, with keys for tickets of
their own: so a session of a certificate, or of authorities, that were replaced is not resumed.

Contract: reads the files of the settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509, Error as CryptoError

from sitio.net.certificates import BadTLSFiles, Identity, readAuthorities, readIdentity
from sitio.net.tlssettings import NONE, OPTIONAL, REQUIRED, ClientTLS, ServerTLS

_MINIMA = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

#: How certificates of clients are asked for.
_MODES = {
    NONE: SSL.VERIFY_NONE,
    OPTIONAL: SSL.VERIFY_PEER,
    REQUIRED: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}

#: Those of TLS 1.2 with forward secrecy and authenticated encryption.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"

#: Those of TLS 1.3.  AES-128 comes first, as in Mozilla's recommendations: its key schedule
#: takes SHA-256, and a handshake a tenth less time than with SHA-384.
_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

#: Sessions belong to sitio.  Without such a mark OpenSSL resumes none that has a certificate of
#: the client.
_SESSION_MARK = b"sitio"

#: Certificates in a chain of the peer, without the authority's.
_MAX_DEPTH = 9

_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE

#: Called with a connection and the protocols that its client offers; see
#: C{Context.set_alpn_select_callback}.
Select = Callable[[SSL.Connection, Sequence[bytes]], Any]


def _context(minimum: str) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(_MINIMA[minimum])
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS)
    if hasattr(context, "set_tls13_ciphersuites"):
        context.set_tls13_ciphersuites(_SUITES)
    # Tickets need no memory here.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def _identify(context: SSL.Context, identity: Identity) -> None:
    try:
        context.use_certificate(identity.chain[0])
        for each in identity.chain[1:]:
            context.add_extra_chain_cert(each)
        context.use_privatekey(identity.key)
        context.check_privatekey()
    except SSL.Error as error:
        raise BadTLSFiles(
            f"OpenSSL refuses the certificate in {identity.files.certificate}: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    queue = error.args[0] if error.args else ()
    return queue[-1][-1] if isinstance(queue, list) and queue else "it gives no reason"


def _trust(context: SSL.Context, path: str, *, ofClients: bool) -> None:
    store = context.get_cert_store()
    assert store is not None
    for each in readAuthorities(path):
        try:
            store.add_cert(X509.from_cryptography(each))
            if ofClients:
                # Sent to clients, so that they choose a certificate of theirs.
                context.add_client_ca(each)
        except (SSL.Error, CryptoError):
            raise BadTLSFiles(f"OpenSSL refuses a certificate in {path}") from None
    context.set_verify_depth(_MAX_DEPTH)


class ServerContexts:
    """
    The contexts of a port: one for each certificate.

    @ivar identities: the certificates; the first is the default.
    """

    def __init__(self, settings: ServerTLS, select: Select) -> None:
        """
        @param select: chooses the protocol of a connection.
        @raise BadTLSFiles: a file can't be read or used.
        """
        self.identities = tuple(readIdentity(each) for each in settings.pairs)
        self._byName: dict[str, SSL.Context] = {}
        contexts = [self._make(settings, each, select) for each in self.identities]
        self._default = contexts[0]
        if contexts[1:]:
            for identity, context in zip(self.identities, contexts):
                for name in identity.names:
                    self._byName.setdefault(name, context)
            self._default.set_tlsext_servername_callback(self._named)

    def _make(self, settings: ServerTLS, identity: Identity, select: Select) -> SSL.Context:
        context = _context(settings.minimum)
        _identify(context, identity)
        context.set_session_id(_SESSION_MARK)
        context.set_alpn_select_callback(select)
        if settings.clientCA is not None:
            _trust(context, settings.clientCA, ofClients=True)
            context.set_verify(_MODES[settings.clientCertificate])
        return context

    def connection(self) -> SSL.Connection:
        """OpenSSL's side of a new connection."""
        return SSL.Connection(self._default)

    def _named(self, connection: SSL.Connection) -> None:
        """Use the certificate for the name that a client asks for (RFC 6066, section 3)."""
        context = self.forName(connection.get_servername())
        if context is not self._default:
            connection.set_context(context)

    def forName(self, asked: bytes | None) -> SSL.Context:
        """
        The context for a name of SNI; that of the first certificate if none has the name.

        An exact name is better than one with C{*}, which stands for one label (RFC 9525,
        section 6.3).
        """
        if not asked:
            return self._default
        name = asked.decode("latin-1").lower().rstrip(".")
        byName = self._byName
        return byName.get(name) or byName.get(f"*.{name.partition('.')[2]}") or self._default


class ClientContext:
    """
    The context of the connections to an upstream.

    @ivar context: OpenSSL's.
    @ivar identities: the certificate that sitio shows, if there is one.
    """

    def __init__(self, settings: ClientTLS, protocols: Sequence[bytes], verify: Any) -> None:
        """
        @param protocols: offered by ALPN.
        @param verify: the callback that decides on each certificate of the upstream; see
            C{Context.set_verify}.
        @raise BadTLSFiles: a file can't be read or used.
        """
        pair = settings.pair
        self.identities = () if pair is None else (readIdentity(pair),)
        self.context = context = _context(settings.minimum)
        for each in self.identities:
            _identify(context, each)
        context.set_alpn_protos(list(protocols))
        if not settings.verify:
            return
        if settings.ca is None:
            with contextlib.suppress(SSL.Error):
                context.set_default_verify_paths()
            context.set_verify_depth(_MAX_DEPTH)
        else:
            _trust(context, settings.ca, ofClients=False)
        context.set_verify(SSL.VERIFY_PEER, verify)
