"""
A TLS client in memory: Python's own TLS above a L{Peer} of the test kit.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from sitio.testing.network import Peer


class SecureClient:
    """
    A client that speaks TLS with sitio.

    @ivar peer: its end of the connection.
    @ivar tls: Python's object for the connection.
    @ivar data: all that it has received.
    @ivar notified: whether sitio has sent its close_notify.
    """

    def __init__(
        self, peer: Peer, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> None:
        self.peer = peer
        transport = peer.transport
        write = transport.write
        # Twisted's TLS writes alerts also when its connection is lost.
        transport.write = lambda data: write(data) if transport.connected else None  # type: ignore
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, False, "localhost", session)
        self.data = b""
        self.notified = False

    def _move(self) -> bool:
        out = self._out.read()
        if out:
            self.peer.sends(out)
        got = self.peer.got()
        self._in.write(got)
        return bool(out or got)

    def handshake(self) -> None:
        """
        Do the handshake, up to its end.

        @raise ssl.SSLError: sitio has sent an alert.
        """
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                if not self._move():
                    raise AssertionError("the handshake does not end") from None
            else:
                self._move()
                return

    def sends(self, data: bytes) -> None:
        """Send bytes, and take what comes back."""
        self.tls.write(data)
        self.receive()

    def receive(self) -> bytes:
        """Take what sitio has sent, and return all that was received so far."""
        self._move()
        while True:
            try:
                piece = self.tls.read()
            except ssl.SSLWantReadError:
                return self.data
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                self.notified = True
                return self.data
            self.data += piece

    def closes(self) -> None:
        """Send the close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._move()


def clientContext(certificate: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """
    The settings of a client that trusts this certificate.

    @param version: the only version of TLS that it speaks.
    """
    context = ssl.create_default_context(cafile=str(certificate))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
