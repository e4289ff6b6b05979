"""
The socket below a L{Connection<sitio.net.transport.Connection>}: addresses, options,
descriptors.
"""

from __future__ import annotations

import _socket
import os
import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from sitio.net.families import unmapped

#: SO_LINGER with a time of 0 s: closing the socket sends RST and drops unsent bytes.
_NO_LINGER = struct.pack("ii", 1, 0)


def addressOf(name: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    """Twisted's address object for an address of the C{socket} module."""
    if not isinstance(name, tuple):
        return UNIXAddress(name or None)
    name = unmapped(name)
    if len(name) == 2:
        return IPv4Address("TCP", *name)
    # Only getnameinfo tells the scope of a link-local address.
    host, _ = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return IPv6Address("TCP", host, *name[1:])


class AcceptedSocket(socket.socket):
    """
    A socket whose family and type are numbers.

    Those of C{socket.socket} are members of enums, made anew at each look.  That costs more
    than the system calls of a new connection.
    """

    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]
    detach = _socket.socket.detach


class SocketOptions:
    """
    The part of a connection that reads and sets its socket.

    See C{ITCPTransport} and C{ISystemHandle} for the methods that have no docstring.
    """

    #: uvloop's transport.
    _uv: Any
    _isUNIX: bool
    connected: bool
    disconnecting: bool
    TLS: bool

    _peer: Any = None
    #: The socket that uvloop was given, if there was one.
    _given: socket.socket | None = None
    _handle: socket.socket | None = None
    #: Why the connection ends, unless uvloop is the one who knows.
    _reason: Any = None

    def getHost(self) -> Any:
        return addressOf(self._uv.get_extra_info("sockname"))

    def getPeer(self) -> Any:
        return self._peer

    def fileno(self) -> int:
        """The number of the socket's descriptor; -1 while not connected."""
        return self._uv.get_extra_info("socket").fileno() if self.connected else -1

    def getHandle(self) -> Any:
        """
        A socket object for reading and setting options, valid while connected.

        With TLS another method hides this one and returns OpenSSL's object.
        """
        return self._socket()

    def _socket(self) -> socket.socket:
        if self._handle is None:
            self._handle = self._given or socket.socket(fileno=self.fileno())
        return self._handle

    def _releaseSocket(self) -> None:
        """Leave the descriptor to uvloop, which closes it."""
        if self._handle is not None:
            self._handle.detach()

    def _dropUnsent(self) -> None:
        """Make the close that follows a reset, which drops unsent bytes."""
        skt = self._uv.get_extra_info("socket")
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    def getTcpNoDelay(self) -> bool:
        if self._isUNIX:
            return False
        return bool(self._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        # uvloop sets it at the start, and without a handle nothing has changed it since.
        if not self._isUNIX and not (enabled and self._handle is None):
            self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self._socket().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def duplicate(self) -> int | None:
        """
        A second descriptor of the socket, for moving bytes past this transport.

        @return: the descriptor, which the caller closes; L{None} with TLS, when the
            connection ends, and when the process has no descriptors left.
        """
        if self.TLS or not self.connected or self.disconnecting or self._reason is not None:
            return None
        try:
            return os.dup(self.fileno())
        except OSError:
            return None
