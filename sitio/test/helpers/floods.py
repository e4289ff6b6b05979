"""
Clients and an upstream that flood sitio, each in a process of its own, and a client that
measures how long sitio makes it wait.

C{python -m sitio.test.helpers.floods upstream} prints its port and answers each request; a
path below C{/flood/} gets a response without an end.  C{python -m sitio.test.helpers.floods
client PORT KIND [tls]} floods the port until it is killed; with TLS, in records of one byte, or
for C{key updates} with records that TLS keeps to itself.
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import itertools
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from sitio.test.helpers.messages import OK

HOST = "127.0.0.1"

#: Bytes of one write of a flood.
BLOB_BYTES = 512 * 1024

_POST = b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_UPGRADE = b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"
_LARGE = b"".join(b"X-Field-%d: %b\r\n" % (each, b"v" * 290) for each in range(95))


def _get(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path


#: KeyUpdates (RFC 8446, section 4.6.3): each costs new keys, the second one also an answer.
KEY_UPDATES = {"key updates": 0, "key updates both ways": 1}

#: KeyUpdates of one write.
_UPDATES = 2500

#: What a client of the admin port sends for ever.
ADMIN_CLIENTS = {
    "metrics": _get(b"/metrics"),
    "openmetrics": _get(b"/metrics").replace(
        b"Host", b"Accept: application/openmetrics-text;version=1.0.0\r\nHost"
    ),
    "stats": _get(b"/stats.json"),
    "exchanges": _get(b"/exchanges"),
    "policies": _get(b"/policies"),
    "config": _get(b"/config"),
    "dashboard": _get(b"/"),
    "ready": _get(b"/ready"),
    "missing": _get(b"/missing"),
    "lines": b"\r\n" * 1000,
}

#: A client of the admin port that opens the dashboard's events and leaves, again and again.
VIEWERS = "viewers"

#: What a client sends: once at first, and then for ever.
CLIENTS = {
    "hops": (b"", b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
    "denied": (b"", _get(b"/denied")),
    "chunks": (_POST, b"1\r\na\r\n"),
    "extensions": (_POST, b"1;%b\r\na\r\n" % (b"e" * 240)),
    "body": (b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", b"b" * 999),
    "tunnel": (_UPGRADE, b"t" * 999),
    "pipelined": (b"", _get(b"/")),
    "trailers": (
        b"",
        b"POST /denied HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\n%b\r\n" % _LARGE,
    ),
    "large heads": (b"", b"GET /denied HTTP/1.1\r\nHost: a\r\n%b\r\n" % _LARGE),
    "empty lines": (b"", b"\r\n\r\n\r\n\r\n" + _get(b"/denied")),
    "only empty lines": (b"", b"\r\n" * 1000),
    "malformed": (b"", b"GET\r\n\r\n"),
    "response chunks": (_get(b"/flood/chunks"), b""),
    "response extensions": (_get(b"/flood/extensions"), b""),
    "interim": (_get(b"/flood/interim"), b""),
    "response body": (_get(b"/flood/body"), b""),
    "response tunnel": (_UPGRADE.replace(b"/tunnel", b"/flood/tunnel"), b""),
    "response head": (_get(b"/flood/head"), b""),
}

_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"

#: What the upstream sends for C{/flood/...}.
RESPONSES = {
    b"chunks": (_CHUNKED, b"1\r\na\r\n"),
    b"extensions": (_CHUNKED, b"1;%b\r\na\r\n" % (b"e" * 240)),
    b"interim": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    b"body": (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", b"b" * 999),
    b"tunnel": (_SWITCH, b"t" * 999),
    b"head": (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n" % _LARGE),
}


def _endlessly(
    sock: socket.socket, first: bytes, then: bytes, seal: Callable[[bytes], bytes] = bytes
) -> None:
    sock.sendall(seal(first))
    if then:
        blob = then * max(1, BLOB_BYTES // len(then))
        while True:
            sock.sendall(seal(blob))


def _handshake(sock: socket.socket) -> tuple[Any, ssl.MemoryBIO]:
    """Begin TLS; returns it and what it wants to send."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(sent.read())
            received.write(sock.recv(65536))
        else:
            sock.sendall(sent.read())
            return tls, sent


def _sealing(tls: Any, sent: ssl.MemoryBIO) -> Callable[[bytes], bytes]:
    """A function that puts each byte into a record of its own."""

    def seal(data: bytes) -> bytes:
        for at in range(len(data)):
            tls.write(data[at : at + 1])
        return sent.read()

    return seal


def _updateKeys(tls: Any, kind: int) -> None:
    """Have OpenSSL send a KeyUpdate, for which Python has no method."""
    # Of a C{_ssl._SSLSocket}, the third word is OpenSSL's object.
    pointer = ctypes.c_void_p.from_address(id(tls._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p))
    openssl = ctypes.CDLL(_ssl.__file__)
    if openssl.SSL_key_update(pointer, kind) != 1:
        raise OSError("OpenSSL sends no KeyUpdate")
    tls.do_handshake()


def _discard(sock: socket.socket) -> None:
    room = bytearray(1024 * 1024)
    with contextlib.suppress(OSError):
        while sock.recv_into(room):
            pass


def _flood(port: int, kind: str, tls: bool) -> None:
    first, then = CLIENTS.get(kind, (b"", ADMIN_CLIENTS.get(kind, b"")))
    while True:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port)) as plain:
            if kind == VIEWERS:
                plain.sendall(_get(b"/events"))
                plain.recv(65536)
                continue
            secure = _handshake(plain) if tls else None
            reader = threading.Thread(target=_discard, args=(plain,), daemon=True)
            reader.start()
            if secure is not None and kind in KEY_UPDATES:
                while True:
                    for _ in range(_UPDATES):
                        _updateKeys(secure[0], KEY_UPDATES[kind])
                    plain.sendall(secure[1].read())
            _endlessly(plain, first, then, _sealing(*secure) if secure is not None else bytes)
            reader.join()


def _serve(sock: socket.socket) -> None:
    received = b""
    with contextlib.suppress(OSError), sock:
        while True:
            while b"\r\n\r\n" not in received:
                data = sock.recv(65536)
                if not data:
                    return
                received += data
            head, _, received = received.partition(b"\r\n\r\n")
            path = head.split(b" ")[1]
            if path == b"/sink":
                _discard(sock)
            elif path == b"/tunnel":
                sock.sendall(_SWITCH)
                _discard(sock)
            elif path.startswith(b"/flood/"):
                _endlessly(sock, *RESPONSES[path[7:]])
            else:
                sock.sendall(OK)


def _upstream() -> None:
    listening = socket.create_server((HOST, 0), backlog=1024)
    print("listens on", listening.getsockname()[1], flush=True)
    while True:
        sock, _ = listening.accept()
        threading.Thread(target=_serve, args=(sock,), daemon=True).start()


def probe(port: int, seconds: float, path: bytes = b"/", tls: bool = False) -> list[float]:
    """The seconds that each request of another client takes, one after another."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    took: list[float] = []
    until = time.monotonic() + seconds
    for number in itertools.count():
        began = time.monotonic()
        if began > until and number > 2:
            return took
        plain = socket.create_connection((HOST, port), timeout=20)
        with context.wrap_socket(plain) if tls else plain as sock:
            sock.sendall(_get(path).replace(b"Host", b"Connection: close\r\nHost"))
            while sock.recv(65536):
                pass
        took.append(time.monotonic() - began)
        threading.Event().wait(0.01)
    return took


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        _upstream()
    else:
        _flood(int(sys.argv[2]), sys.argv[3], "tls" in sys.argv[4:])
