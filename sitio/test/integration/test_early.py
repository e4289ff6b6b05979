"""
Tests of clients and services that end before the other side has, over loopback.

The upstream closes with bytes unread, so that its kernel resets the connection, while
sitio still sends.  sitio runs in the process of the tests, on the reactor of the tests;
clients and services are threads with plain sockets.
"""

from __future__ import annotations

import contextlib
import fcntl
import random
import re
import socket
import ssl
import struct
import tempfile
import termios
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from sitio import onResponse
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.loopback import (
    LIMIT_SECONDS,
    LOCALHOST,
    LoopbackTestCase,
    Upstream,
    reactor,
)

#: Bytes of the upload: more than all buffers on the way hold.
UPLOAD_BYTES = 16 * 1024 * 1024

PIECE = b"x" * 65536

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Mon, 30 Nov 2026 09:06:59 GMT\r\n\r\nok"

#: How the service closes: with bytes unread, or after it has ended its half, too.
RESETS, ENDS = "resets", "ends"


class Service(threading.Thread):
    """
    A service that reads a part of each upload, answers, and closes.

    @ivar port: its port.
    """

    def __init__(self, answer: bytes, read: int, how: str, tls: ssl.SSLContext | None) -> None:
        """@param read: how many bytes after the head it reads before it answers."""
        threading.Thread.__init__(self, daemon=True)
        self._listening = socket.create_server((LOCALHOST, 0))
        self.port = self._listening.getsockname()[1]
        self._pause = threading.Event()
        self._answer, self._read, self._how, self._tls = answer, read, how, tls

    def run(self) -> None:
        """Serve until the port is closed."""
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                self._serve(connection)
            connection.close()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(LIMIT_SECONDS)
        connection = raw if self._tls is None else self._tls.wrap_socket(raw, server_side=True)
        try:
            got = b""
            while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < self._read:
                data = connection.recv(4096)
                if not data:
                    return
                got += data
            connection.sendall(self._answer)
            # The reset would drop what the other side has not acknowledged.
            while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
                self._pause.wait(0.001)
            if self._how is ENDS:
                connection.shutdown(socket.SHUT_WR)
        finally:
            connection.close()

    def stop(self) -> None:
        """Close the port."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.join(LIMIT_SECONDS)


def upload(
    port: int,
    fields: bytes,
    isChunked: bool,
    tls: ssl.SSLContext | None,
    until: bytes,
    meanwhile: bool,
) -> bytes:
    """
    Upload L{UPLOAD_BYTES}, and read the response.

    The response has a length.  The connection stays open after it if sitio has read the
    whole upload.

    @param until: the end of the response, if that has no length.
    @param meanwhile: whether to read while the upload is being sent, not only after it.

    @raise OSError: the connection was reset before the end of the response.
    """
    with contextlib.ExitStack() as closing:
        connection = socket.create_connection((LOCALHOST, port), LIMIT_SECONDS)
        closing.enter_context(connection)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname="localhost")
            closing.enter_context(connection)
        framing = b"Transfer-Encoding: chunked" if isChunked else b"Content-Length: %d"
        if not isChunked:
            framing %= UPLOAD_BYTES
        connection.sendall(b"PUT /x HTTP/1.1\r\nHost: h\r\n" + fields + framing + b"\r\n\r\n")
        sending = threading.Thread(target=sendAll, args=(connection, isChunked))
        sending.start()
        if not meanwhile:
            sending.join()
        got = b""
        while not (got.endswith(until) if until else isWhole(got)):
            data = connection.recv(65536)
            if not data:
                raise AssertionError(f"incomplete: {got!r}")
            got += data
        if meanwhile:
            connection.shutdown(socket.SHUT_RDWR)
            sending.join()
        return got


def sendAll(connection: socket.socket, isChunked: bool) -> None:
    """Send the body of an upload."""
    with contextlib.suppress(OSError):
        for piece in pieces(isChunked):
            connection.sendall(piece)


def isWhole(got: bytes) -> bool:
    """Whether these bytes are a whole response with a length."""
    head, end, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end and length and len(body) == int(length[1]))


def pieces(isChunked: bool) -> Iterator[bytes]:
    """The body of an upload."""
    for _ in range(UPLOAD_BYTES // len(PIECE)):
        yield b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if isChunked else PIECE
    if isChunked:
        yield b"0\r\n\r\n"


def endsFirst(port: int, framing: bytes) -> bytes:
    """
    Send a request, end the sending half, and read to the end.

    @raise OSError: the connection was reset.
    """
    with socket.create_connection((LOCALHOST, port), LIMIT_SECONDS) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n")
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while data := connection.recv(65536):
            got += data
        return got


class HalfCloseTests(LoopbackTestCase):
    """A client that ends its sending half sees FIN, with or without a response."""

    async def ends(self, seconds: float, framing: bytes = b"", answers: bool = False) -> bytes:
        """What such a client gets, with this time for its response."""

        def later(connection: Any) -> None:
            reactor.callLater(0.3, connection.send, OK)

        upstream = Upstream(later if answers else None)
        sidecar = SidecarService(
            reactor,
            serverFromString(reactor, f"tcp:0:interface={LOCALHOST}"),
            clientFromString(reactor, f"tcp:{LOCALHOST}:{await self.listen(upstream)}"),
            statsInterval=0,
            settings=Settings(grace=0, halfClose=seconds),
        )
        sidecar.startService()
        self.addCleanup(sidecar.stopService)
        assert sidecar.port is not None
        address: Any = sidecar.port.getHost()
        got: bytes = await deferToThread(endsFirst, address.port, framing)
        return got

    async def test_gone(self) -> None:
        """It is taken for gone, also within its request: no response, and no reset."""
        self.assertEqual(await self.ends(0), b"")
        self.assertEqual(await self.ends(0, b"Content-Length: 9\r\n"), b"")
        self.assertEqual(await self.ends(5, b"Content-Length: 9\r\n"), b"")

    async def test_late(self) -> None:
        """A response that comes too late: the same."""
        self.assertEqual(await self.ends(0.01), b"")

    async def test_inTime(self) -> None:
        """It gets a response that comes in time."""
        self.assertEqual(await self.ends(5, answers=True), OK)


class EarlyTests(LoopbackTestCase):
    """
    A client that sends all before it reads gets the whole response, whatever the upstream
    does after it.
    """

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="sitio-")
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name)
        self.key, self.certificate = certify(self.path)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.certificate, self.key)
        self.client = ssl.create_default_context(cafile=str(self.certificate))

    async def uploads(
        self,
        answer: bytes,
        *policies: Any,
        read: int = 10_000,
        how: str = RESETS,
        fields: bytes = b"",
        isChunked: bool = False,
        secureUpstream: bool = False,
        secure: bool = False,
        until: bytes = b"",
        meanwhile: bool = False,
    ) -> bytes:
        """Upload through a sidecar with these policies, and return the client's bytes."""
        service = Service(answer, read, how, self.server if secureUpstream else None)
        service.start()
        self.addCleanup(service.stop)
        port = f"tcp:0:interface={LOCALHOST}"
        if secure:
            port = f"ssl:0:interface={LOCALHOST}:privateKey={self.key}:certKey={self.certificate}"
        upstream = f"tcp:{LOCALHOST}:{service.port}"
        if secureUpstream:
            upstream = f"tls:localhost:{service.port}:trustRoots={self.path}/trusted"
        sidecar = SidecarService(
            reactor,
            serverFromString(reactor, port),
            clientFromString(reactor, upstream),
            policies,
            statsInterval=0,
            settings=Settings(grace=0),
        )
        sidecar.startService()
        self.addCleanup(sidecar.stopService)
        assert sidecar.port is not None
        address: Any = sidecar.port.getHost()
        tls = self.client if secure else None
        got: bytes = await deferToThread(
            upload, address.port, fields, isChunked, tls, until, meanwhile
        )
        return got

    async def test_table(self) -> None:
        """Each status, framing, close and kind of policy; before the body and within it."""
        policies: list[tuple[Any, ...]] = [
            (),
            (onResponse(413, 401, 417, 501, buffered=True)(lambda exchange, response: None),),
            ("error-page:413:401:417:501",),
            ("last-good:max-age=60",),
        ]
        rows = list(product((413, 401, 417, 501), (False, True), (b"", b"Connection: close\r\n")))
        for number, (status, isChunked, fields) in enumerate(rows):
            for read in (0, 10_000):
                answer = b"HTTP/1.1 %d No\r\nContent-Length: 4\r\n\r\nno!\n" % status
                got = await self.uploads(
                    answer,
                    *policies[number % 4],
                    read=read,
                    fields=fields,
                    isChunked=isChunked,
                    how=(RESETS, ENDS)[number // 4 % 2],
                )
                self.assertTrue(got.startswith(b"HTTP/1.1 %d " % status), got[:300])

    async def test_TLS(self) -> None:
        """The same over TLS, on either side and on both."""
        for secure, secureUpstream, isChunked in product((False, True), repeat=3):
            got = await self.uploads(
                b"HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\nno!\n",
                secure=secure,
                secureUpstream=secureUpstream,
                isChunked=isChunked,
            )
            self.assertTrue(got.startswith(b"HTTP/1.1 413 No"), got[:300])
            self.assertTrue(got.endswith(b"\r\n\r\nno!\n"), got[-300:])

    async def test_paused(self) -> None:
        """A policy takes its time, so that reading is paused while the reset arrives."""

        def slow(exchange: Any, response: Any) -> Any:
            return deferLater(reactor, 0.2, lambda: None)

        for isChunked in (False, True):
            got = await self.uploads(
                b"HTTP/1.1 413 No\r\nContent-Length: 100000\r\n\r\n" + b"y" * 100_000,
                onResponse(413)(slow),
                isChunked=isChunked,
            )
            self.assertTrue(got.endswith(b"\r\n\r\n" + b"y" * 100_000), got[:300])

    async def test_long(self) -> None:
        """A long response, whose rest the kernel moves where it can, passes whole."""
        body = random.Random(5).randbytes(3 * 1024 * 1024)
        for how, isChunked in product((RESETS, ENDS), (False, True)):
            got = await self.uploads(
                b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
                how=how,
                isChunked=isChunked,
                meanwhile=True,
            )
            self.assertEqual(got.partition(b"\r\n\r\n")[2], body)

    async def test_untilClose(self) -> None:
        """
        A response without a length is whole if the upstream has ended its half; after a
        reset alone it is broken off, and what there is of it arrives.
        """
        answer = b"HTTP/1.1 413 No\r\n\r\nno!\n"
        got = await self.uploads(answer, how=ENDS, until=b"0\r\n\r\n")
        self.assertTrue(got.endswith(b"4\r\nno!\n\r\n0\r\n\r\n"), got)
        for secure, isChunked in product((False, True), repeat=2):
            with self.assertRaisesRegex(AssertionError, r"b'HTTP/1.1 413 .*no!\\n") as raised:
                await self.uploads(
                    answer, how=RESETS, until=b"0\r\n\r\n", secure=secure, isChunked=isChunked
                )
            self.assertNotIn("\\r\\n0\\r\\n", str(raised.exception))
