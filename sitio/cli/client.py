"""
Requests to the admin port of a running sitio: L{AdminClient}.

Contract: each request has a time limit, and each response a limit of bytes.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from functools import wraps
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar

import click
from attrs import frozen

#: Where the admin pages are without C{--admin}.
DEFAULT_ADMIN = "127.0.0.1:9901"

#: Seconds for one request: a page of metrics takes a few milliseconds, but a reload imports
#: policies, and waits for workers.
TIMEOUT_SECONDS = 30.0

#: Bytes of a response.  Metrics of ten thousand endpoints have about ten million.
MAX_RESPONSE_BYTES = 64 * 1024 * 1024

#: Bytes that are read at a time.
_PART_BYTES = 64 * 1024

#: Exit status if sitio can't be asked.
UNREACHABLE = 2

_hostPort = re.compile(
    r"(?:http://)?(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):)?([0-9]{1,5})/?"
).fullmatch


class Unreachable(click.ClickException):
    """There is no sitio at the address; it ends the command with status 2."""

    exit_code = UNREACHABLE

    def show(self, file: Any = None) -> None:
        """Print the sentence."""
        click.echo(f"sitio: {self.message}", file=file, err=True)


class Refused(click.ClickException):
    """sitio does not do what it is asked; it ends the command with status 1."""

    def show(self, file: Any = None) -> None:
        """Print what sitio says."""
        click.echo(self.message, file=file, err=True)


@frozen
class Address:
    """
    Where an admin port is.

    @ivar path: of a UNIX socket; L{None} for a TCP port.
    """

    host: str
    port: int
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        The address that an operator has typed: C{9901}, C{:9901}, C{10.0.0.7:9901},
        C{http://localhost:9901/}, or C{unix:/run/sitio.sock}.

        @raise ValueError: it is none of these.
        """
        path = text.removeprefix("unix:")
        if text.startswith(("unix:", "/", "./")):
            return cls("localhost", 0, path.partition(":")[0])
        found = _hostPort(text)
        if found is None or not 0 < int(found[2]) <= 65535:
            raise ValueError(
                f"{text!r} is no address: write for example 127.0.0.1:9901 or unix:/run/sitio.sock"
            )
        return cls(found[1] or "127.0.0.1", int(found[2]))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.path is None else f"unix:{self.path}"


def printable(text: str) -> str:
    """A text in which nothing but the ends of lines acts on a terminal."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def _printableData(data: Any) -> Any:
    if isinstance(data, str):
        return data if data.isprintable() else printable(data)
    if isinstance(data, list):
        return [_printableData(each) for each in data]
    if isinstance(data, dict):
        return {printable(name): _printableData(each) for name, each in data.items()}
    return data


class _UnixConnection(HTTPConnection):
    """A connection to a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        HTTPConnection.__init__(self, "localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@frozen
class Answer:
    """
    The response of a page.

    @ivar type: the media type, without parameters.
    """

    status: int
    type: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as text for a terminal."""
        return printable(self.body.decode("utf-8", "replace").strip())

    def json(self) -> Any:
        """
        The body as plain data.

        @raise Refused: it is no JSON: something else than sitio has answered.
        """
        try:
            return _printableData(json.loads(self.body))
        except ValueError as error:
            raise Refused(
                "sitio: what answers there is no sitio: it sends no JSON; name the admin port with"
                " --admin"
            ) from error


class AdminClient:
    """Asks one sitio."""

    def __init__(
        self,
        address: Address,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """@param timeout: seconds for each request, from the connection to the last byte."""
        self.address = address
        self._timeout = timeout
        self._clock = clock

    def get(self, path: str) -> Answer:
        """
        Ask for a page.

        @raise Unreachable: nothing answers in time.
        @raise Refused: the answer is an error of the client.
        """
        answer = self.request("GET", path)
        if 400 <= answer.status < 500:
            raise Refused(f"sitio: {self.address} answers {answer.text}")
        return answer

    def request(self, method: str, path: str) -> Answer:
        """
        The answer to a request, whatever its status is.

        @raise Unreachable: nothing answers in time.
        """
        until = self._clock() + self._timeout
        connection = self._connection()
        try:
            connection.request(method, path, headers={"Accept": "*/*"})
            response = connection.getresponse()
            body = self._body(response, until)
            kind = (response.getheader("Content-Type") or "").partition(";")[0]
            return Answer(response.status, kind, body)
        except TimeoutError as error:
            raise Unreachable(
                f"{self.address} does not answer within {self._timeout:g} seconds: is it the admin"
                " port of sitio? Name it with --admin, and look into the log of sitio"
            ) from error
        except HTTPException as error:
            raise Unreachable(
                f"what answers at {self.address} is no admin port of sitio: name it with --admin"
            ) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise Unreachable(
                f"nothing answers at {self.address} ({why}): start sitio, or name its admin port"
                " with --admin; the log of sitio has it in the line The admin pages are on"
            ) from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        address = self.address
        if address.path is not None:
            return _UnixConnection(address.path, self._timeout)
        return HTTPConnection(address.host.strip("[]"), address.port, timeout=self._timeout)

    def _body(self, response: Any, until: float) -> bytes:
        """Read a body within its limits of time and bytes."""
        parts: list[bytes] = []
        size = 0
        while part := response.read1(_PART_BYTES):
            size += len(part)
            parts.append(part)
            if size > MAX_RESPONSE_BYTES:
                raise Refused(
                    f"sitio: {self.address} sends more than {MAX_RESPONSE_BYTES} bytes: is it the"
                    " admin port of sitio? Name it with --admin"
                )
            if self._clock() > until:
                raise TimeoutError
        return b"".join(parts)


class _AddressType(click.ParamType):
    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """The L{Address}."""
        if isinstance(value, Address):
            return value
        try:
            return Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_Function = TypeVar("_Function", bound=Callable[..., Any])


def asksSitio(function: _Function) -> _Function:
    """Give a command the options C{--admin} and C{--timeout}, and a client, its first argument."""

    @click.option(
        "--admin",
        "address",
        type=_AddressType(),
        default=DEFAULT_ADMIN,
        show_default=True,
        metavar="ADDRESS",
        help="the admin port of the running sitio; unix:PATH for a UNIX socket",
    )
    @click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=TIMEOUT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="seconds that an answer may take",
    )
    @wraps(function)
    def asking(address: Address, timeout: float, **rest: Any) -> Any:
        return function(AdminClient(address, timeout), **rest)

    return asking  # type: ignore[return-value]
