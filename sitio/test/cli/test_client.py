"""
Promises of L{sitio.cli.client}: addresses, and what is said if there is no sitio.

C{system.test_command} asks a real one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from http.client import BadStatusLine, HTTPResponse
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.cli import client
from sitio.cli.client import Address, AdminClient, Answer, Refused, Unreachable, printable


class AddressTests(SynchronousTestCase):
    """Addresses as people type them."""

    def test_forms(self) -> None:
        """Ports, hosts, URLs and UNIX sockets."""
        for text, shown in (
            ("9901", "127.0.0.1:9901"),
            (":9901", "127.0.0.1:9901"),
            ("localhost:9901", "localhost:9901"),
            ("http://10.0.0.7:9901/", "10.0.0.7:9901"),
            ("[::1]:9901", "[::1]:9901"),
            ("unix:/run/sitio.sock", "unix:/run/sitio.sock"),
            ("unix:run/sitio.sock:mode=600", "unix:run/sitio.sock"),
            ("/run/sitio.sock", "unix:/run/sitio.sock"),
        ):
            self.assertEqual(str(Address.parse(text)), shown)

    def test_wrong(self) -> None:
        """Other texts are refused with an example."""
        for text in ("", "localhost", "0", "99999", "https://a:1", "a b:1", "http://a:1/stats"):
            error = self.assertRaises(ValueError, Address.parse, text)
            self.assertIn("write for example 127.0.0.1:9901", str(error))


class _Socket:
    """What an C{HTTPResponse} reads."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> Any:
        return io.BytesIO(self._data)


class _Connection:
    """A connection that answers with these bytes, or raises an error."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked = ("", "")
        self.closed = False

    def request(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.asked = (method, path)
        if isinstance(self.answer, Exception):
            raise self.answer

    def getresponse(self) -> HTTPResponse:
        assert isinstance(self.answer, bytes)
        response = HTTPResponse(_Socket(self.answer))  # type: ignore[arg-type]
        response.begin()
        return response

    def close(self) -> None:
        self.closed = True


class _Client(AdminClient):
    """A client with such a connection."""

    def __init__(self, answer: bytes | Exception, clock: Callable[[], float] = lambda: 0.0) -> None:
        AdminClient.__init__(self, Address.parse(":9901"), 2.0, clock)
        self.connection = _Connection(answer)

    def _connection(self) -> Any:
        return self.connection


class ClientTests(SynchronousTestCase):
    """One request."""

    def test_answer(self) -> None:
        """An answer has its status, its type and its body; the connection is closed."""
        asking = _Client(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=a\r\n\r\nhello\n")
        answer = asking.get("/live")
        self.assertEqual((answer.status, answer.type, answer.text), (200, "text/plain", "hello"))
        self.assertEqual(asking.connection.asked, ("GET", "/live"))
        self.assertTrue(asking.connection.closed)

    def test_unreachable(self) -> None:
        """If nothing answers, one sentence says what to do, and the status is 2."""
        for error, told in (
            (
                ConnectionRefusedError(111, "Connection refused"),
                "(Connection refused): start sitio",
            ),
            (TimeoutError(), "does not answer within 2 seconds"),
            (BadStatusLine("SSH-2.0"), "is no admin port of sitio"),
        ):
            asking = _Client(error)
            raised = self.assertRaises(Unreachable, asking.get, "/live")
            self.assertIn(told, raised.message)
            self.assertIn("--admin", raised.message)
            self.assertEqual(raised.exit_code, 2)
            self.assertTrue(asking.connection.closed)

    def test_slow(self) -> None:
        """The limit of time is for the whole body, however steadily its parts come."""
        now = iter((0.0, 1.0, 3.0))
        self.patch(client, "_PART_BYTES", 2)
        asking = _Client(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100, lambda: next(now))
        self.assertRaises(Unreachable, asking.get, "/live")

    def test_large(self) -> None:
        """A body has a limit."""
        self.patch(client, "MAX_RESPONSE_BYTES", 99)
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        self.assertRaises(Refused, _Client(head + b"x" * 100).get, "/live")
        self.assertEqual(len(_Client(head + b"x" * 99).get("/live").body), 99)

    def test_refused(self) -> None:
        """What sitio refuses is told as sitio says it."""
        asking = _Client(b"HTTP/1.1 421 No\r\n\r\n421 'a.b' may be a public name\n")
        raised = self.assertRaises(Refused, asking.get, "/config")
        self.assertEqual(
            raised.message, "sitio: 127.0.0.1:9901 answers 421 'a.b' may be a public name"
        )
        self.assertEqual(raised.exit_code, 1)

    def test_noJson(self) -> None:
        """Another program's page is not taken for sitio's."""
        raised = self.assertRaises(Refused, Answer(200, "text/html", b"<p>").json)
        self.assertIn("no sitio", raised.message)

    def test_printable(self) -> None:
        """Nothing that answers acts on the terminal."""
        self.assertEqual(printable("a\x1b[31m\nb\x07"), "a?[31m\nb?")
        answer = Answer(200, "application/json", b'{"a\\u001b": ["\\u009b1m", 1, {"b": "c\\n"}]}')
        self.assertEqual(answer.json(), {"a?": ["?1m", 1, {"b": "c\n"}]})
