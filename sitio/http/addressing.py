"""
Requests as one upstream gets them: L{Addressing}.

Most upstreams get the Host that the client has sent, and the fields that tell of the client.
That is wrong for a service that sitio calls on behalf of an application beside it: such a
service knows its own name only, and needs to know nothing of the application.

A section without the name of an RFC is one of RFC 9110.
"""

from __future__ import annotations

from functools import partial

from attrs import frozen

from sitio.http.claims import CLAIM_FIELDS
from sitio.http.headers import Headers
from sitio.http.lines import keyOf
from sitio.http.message import Request
from sitio.http.overrides import foldedName
from sitio.http.writer import MakeWriter, RequestWriter

_HOST = keyOf(b"host")
_CLAIMS = frozenset(map(keyOf, CLAIM_FIELDS))

#: Ports that a Host leaves out (section 4.2).
_DEFAULT_PORTS = {"http": 80, "https": 443}


def hostOf(name: str, port: int, scheme: str) -> str:
    """The Host of a request for this place (section 7.2)."""
    name = f"[{name}]" if ":" in name else name
    return name if port == _DEFAULT_PORTS.get(scheme) else f"{name}:{port}"


@frozen
class Addressing:
    """
    What requests for one upstream have in place of what the client's have.

    @ivar host: the Host; L{None} for the client's.  A Host that a policy has set stays.
    @ivar tells: whether they tell of the client: by the fields of sitio, and by all claims
        (L{sitio.http.claims}), whoever has set them.
    """

    host: bytes | None = None
    tells: bool = True

    def addressed(self, request: Request, extra: bytes) -> Request:
        """
        A request with its new fields, to be written.

        @param extra: lines to add to it.
        """
        headers = request.headers.copy()
        headers.append(extra)
        if not self.tells:
            _withoutClaims(headers)
        if self.host is not None and not _isHostSet(request):
            headers.replace(_HOST, b"Host: %b\r\n" % self.host)
        return Request.fromHead(request.line, headers, True, None, request.length, request.upgrade)


def _withoutClaims(headers: Headers) -> None:
    keys = headers.lineKeys()
    found = _CLAIMS.intersection(keys)
    if not headers.isPlain:
        # Spellings that CGI and WSGI take for a claim, where sitio has let them pass.
        found |= {each for each in keys if foldedName(each[1:-1]) in CLAIM_FIELDS}
    for key in found:
        headers.replace(key, b"")


def _isHostSet(request: Request) -> bool:
    """
    Whether a policy has set the Host.  Without one in the request it is taken for the default
    one, which sitio has added.
    """
    received = request.received
    if received is request.headers.lines:
        return False
    came = Headers.fromLines(received).valueOf(_HOST)
    return came is not None and request.headers.valueOf(_HOST) != came


def writerFor(host: str, tells: bool) -> MakeWriter:
    """
    What makes the writers for an upstream.

    @param host: as of L{Addressing}; empty for the client's.
    """
    if not host and tells:
        return RequestWriter
    return partial(AddressedWriter, Addressing(host.encode("ascii") or None, tells))


class AddressedWriter(RequestWriter):
    """
    Writes requests for an upstream.

    @ivar addressing: what they have in place of what the client's have.
    """

    __slots__ = ("addressing",)

    def __init__(self, addressing: Addressing) -> None:
        RequestWriter.__init__(self)
        self.addressing = addressing

    def begin(
        self, request: Request, body: bytes, ended: bool, extra: bytes
    ) -> bytes | tuple[bytes, bytes]:
        """See L{RequestWriter.begin}."""
        return RequestWriter.begin(
            self, self.addressing.addressed(request, extra), body, ended, b""
        )
