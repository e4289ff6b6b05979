"""
Reads the messages that a test has got: L{readResponses} and L{readRequests}.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import FailTest

from sitio.http import codec, framing
from sitio.http.limits import Limits
from sitio.http.message import Request, Response


def readResponses(data: bytes, *methods: str, closed: bool = False) -> Iterator[Response]:
    """
    Parse responses, interim ones included, with their bodies.

    @param methods: those of the requests, the last one for all later responses; by default
        GET.
    @param closed: whether the connection was closed after them.

    @raise AssertionError: the last response is incomplete.
    @raise SitioError: a response is malformed.
    """
    reader = codec.ResponseReader(Limits())
    waiting = list(methods) or ["GET"]
    reader.receive(data)
    while reader.held:
        reader.expect(waiting[0])
        response = reader.nextHead()
        while response is not None and reader.state is framing.HEAD:
            response.body = b""
            yield response
            response = reader.nextHead()
        if response is None:
            raise FailTest(f"an incomplete response: {data!r}")
        response.body = reader.takeRest() if reader.state is framing.TUNNEL else _body(reader)
        if closed and reader.state is framing.UNTIL_CLOSE:
            reader.connectionLost()
        if reader.state not in (framing.ENDED, framing.TUNNEL):
            raise FailTest(f"an incomplete response: {data!r}")
        yield response
        waiting = waiting[1:] or waiting


def readRequests(data: bytes) -> Iterator[Request]:
    """Parse requests, with their bodies; raises like L{readResponses}."""
    reader = codec.RequestReader(Limits())
    reader.receive(data)
    while reader.held:
        request = reader.nextHead()
        if request is None:
            raise FailTest(f"an incomplete request: {data!r}")
        request.body = _body(reader)
        if reader.state is not framing.ENDED:
            raise FailTest(f"an incomplete request: {data!r}")
        yield request


def _body(reader: framing.Reader) -> bytes:
    """All of a body that a reader has received."""
    body = reader.nextBody()
    while reader.isCut:
        body += reader.nextBody()
    return body
