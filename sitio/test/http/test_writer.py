"""Tests of L{sitio.http.writer}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.codec import LONG_BODY_BYTES
from sitio.http.message import UNKNOWN_LENGTH, Request
from sitio.http.writer import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    RequestWriter,
    framingFor,
)

#: method, status, HTTP/1.1, announced, whole, filtered: framing, length in the head.
FRAMINGS = (
    ("GET", 200, True, None, 5, False, LENGTH, 5),
    ("GET", 200, False, None, 5, False, LENGTH, 5),
    ("GET", 200, True, 9, 5, False, LENGTH, 5),
    ("GET", 200, True, None, 0, False, LENGTH, 0),
    ("GET", 200, True, None, 5, True, LENGTH, 5),
    ("GET", 200, True, 9, None, False, LENGTH, 9),
    ("GET", 200, True, 0, None, False, LENGTH, 0),
    ("GET", 200, True, 9, None, True, CHUNKED, None),
    ("GET", 200, True, None, None, False, CHUNKED, None),
    ("GET", 200, False, None, None, False, UNTIL_CLOSE, None),
    ("GET", 200, False, 9, None, True, UNTIL_CLOSE, None),
    ("GET", 404, True, None, None, False, CHUNKED, None),
    ("HEAD", 200, True, 9, 0, False, NO_BODY, 9),
    ("HEAD", 200, True, None, 5, False, NO_BODY, 5),
    ("HEAD", 200, True, None, 0, False, NO_BODY, None),
    ("HEAD", 200, True, 9, None, False, NO_BODY, 9),
    ("HEAD", 200, True, 9, 5, True, NO_BODY, None),
    ("HEAD", 204, True, 9, 0, False, NO_BODY, None),
    ("GET", 204, True, 9, 5, False, NO_BODY, None),
    ("GET", 204, True, None, None, False, NO_BODY, None),
    ("HEAD", 200, True, UNKNOWN_LENGTH, 5, False, NO_BODY, None),
    ("GET", 200, True, UNKNOWN_LENGTH, 5, False, LENGTH, 5),
    ("GET", 304, True, UNKNOWN_LENGTH, 0, False, NO_BODY, None),
    ("GET", 304, True, 9, 0, False, NO_BODY, 9),
    ("GET", 304, True, None, 0, False, NO_BODY, None),
    ("GET", 304, False, None, None, False, NO_BODY, None),
)


class FramingTests(SynchronousTestCase):
    """How a response is framed for a client (RFC 9112, section 6.3)."""

    def test_table(self) -> None:
        """Method, status, version, length and filters decide together."""
        for *case, framing, length in FRAMINGS:
            self.assertEqual(framingFor(*case), (framing, length), case)  # type: ignore[arg-type]


class RequestWriterTests(SynchronousTestCase):
    """Requests for an upstream."""

    def test_whole(self) -> None:
        """A request whose body is whole is one piece, and ends with it."""
        writer = RequestWriter()
        data = writer.begin(Request("PUT", "/"), b"abc", True, b"X: y\r\n")
        self.assertEqual(data, b"PUT / HTTP/1.1\r\nContent-Length: 3\r\nX: y\r\n\r\nabc")
        self.assertTrue(writer.hasEnded)

    def test_streams(self) -> None:
        """A body of unknown length goes in chunks, and ends with the last one."""
        writer = RequestWriter()
        first = writer.begin(Request("PUT", "/", body=None), b"abc", False, b"")
        self.assertEqual(first, b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        self.assertFalse(writer.hasEnded)
        self.assertEqual(writer.body(b"de"), b"2\r\nde\r\n")
        self.assertEqual(writer.end([(b"X", b"y")]), b"0\r\nX: y\r\n\r\n")
        self.assertTrue(writer.hasEnded)

    def test_announced(self) -> None:
        """A body of known length goes as it is, with nothing behind it."""
        writer = RequestWriter()
        head = writer.begin(Request("PUT", "/", body=None, length=5), b"", False, b"")
        self.assertEqual(head, b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
        self.assertEqual((writer.body(b"abcde"), writer.end([])), (b"abcde", b""))

    def test_long(self) -> None:
        """A long body is a piece of its own, and is not copied."""
        body = bytes(LONG_BODY_BYTES)
        data = RequestWriter().begin(Request("PUT", "/"), body, True, b"")
        self.assertIs(data[1], body)

    def test_abandoned(self) -> None:
        """The rest of a request that the upstream does not take is dropped, and never ends."""
        writer = RequestWriter()
        writer.begin(Request("PUT", "/", body=None), b"abc", False, b"")
        writer.abandon()
        self.assertEqual((writer.body(b"de"), writer.end([])), (b"", b""))
        self.assertFalse(writer.hasEnded)
