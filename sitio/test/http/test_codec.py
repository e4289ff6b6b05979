"""
Tests of L{sitio.http.codec}.

Most tests are rows of two tables, one of requests and one of responses.  Each row is read
whole, byte by byte, and with bytes of the next message after it; the result is compared as
one value.  After the tables come limits, the writers, and properties of any message.

The properties run briefly; with C{HYPOTHESIS_PROFILE=long} they run for minutes.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from typing import Any

import httptools
from attrs import evolve, field, frozen
from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import (
    BadMessage,
    BadResponse,
    BadVersion,
    BodyTooLong,
    HeadTooLong,
    MethodRefused,
    Reached,
    SitioError,
    UpstreamLost,
)
from sitio.http import codec, framing, head
from sitio.http.codec import RequestReader, ResponseReader
from sitio.http.framing import (
    ENDED,
    FIRST,
    HEAD,
    LENGTH,
    TUNNEL,
    UNTIL_CLOSE,
)
from sitio.http.limits import Limits
from sitio.http.message import Headers, Request, Response
from sitio.test.helpers.rows import Row, bytewise, cut, eachRow

LIMITS = Limits(head=2048, fields=20)

Fields = list[tuple[bytes, bytes]]


@frozen
class Asked:
    """A request with its body and trailers, as it was read."""

    method: str = "GET"
    target: str = "/"
    fields: Fields = field(factory=lambda: [(b"Host", b"a")])
    version: str = "1.1"
    length: int | None = None
    body: bytes = b""
    trailers: Fields = field(factory=list)
    upgrade: bytes | None = None
    keepAlive: bool = True
    host: bytes | None = b"a"
    forwarded: bool | str = False


@frozen
class Responded:
    """
    A response with its body and trailers, and the interim responses before it.

    C{lost} is how far the request had got, if the connection ends here and the response is
    incomplete; C{rest} are the bytes of the next message.
    """

    status: int = 200
    reason: str = "OK"
    fields: Fields = field(factory=list)
    length: int | None = None
    body: bytes = b""
    trailers: Fields = field(factory=list)
    upgrade: bytes | None = None
    keepAlive: bool = True
    state: str = ENDED
    lost: Reached | None = None
    interim: list[tuple[int, str, Fields]] = field(factory=list)
    rest: bytes = b""


def readRequests(
    pieces: Iterable[bytes], limits: Limits = LIMITS
) -> tuple[list[Asked], SitioError | None, str]:
    """
    Read requests like a server, one at a time.

    @return: the complete requests, the error after them, and the state of the reader.
    """
    reader = RequestReader(limits)
    seen: list[Asked] = []
    head: Request | None = None
    body = b""
    try:
        for piece in pieces:
            reader.receive(piece)
            while True:
                if head is None:
                    head, body = reader.nextHead(), b""
                    if head is None:
                        break
                body += reader.nextBody()
                if reader.state is not ENDED:
                    break
                seen.append(
                    Asked(
                        head.method,
                        head.target,
                        head.headers.rawFields,
                        head.version,
                        head.length,
                        body,
                        reader.trailers,
                        head.upgrade,
                        reader.keepAlive,
                        reader.host,
                        reader.forwarded,
                    )
                )
                head = None
    except SitioError as error:
        return seen, error, reader.state
    return seen, None, reader.state


def readResponse(reader: ResponseReader, pieces: Iterable[bytes]) -> Responded | None:
    """
    Read one response like a client; L{None} if its head is incomplete.
    """
    interim: list[tuple[int, str, Fields]] = []
    head: Response | None = None
    body = b""
    for piece in pieces:
        reader.receive(piece)
        while head is None:
            response = reader.nextHead()
            if response is None:
                break
            if reader.state is HEAD:
                interim.append((response.status, response.reason, response.headers.rawFields))
            else:
                head = response
        if head is not None:
            body += reader.nextBody()
    if head is None:
        return None
    state, lost = reader.state, None
    try:
        if state is not TUNNEL:
            reader.connectionLost()
    except UpstreamLost as error:
        lost = error.reached
    return Responded(
        head.status,
        head.reason,
        head.headers.rawFields,
        head.length,
        body,
        reader.trailers,
        head.upgrade,
        reader.keepAlive,
        state,
        lost,
        interim,
        reader.takeRest(),
    )


# --- Requests

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
HOST = (b"Host", b"a")
LONGEST = b"a" * 255 + b":65535"


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    """A GET with these lines after Host."""
    return b"\r\n".join((start, b"Host: a", *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with these lines after Host, and this body."""
    return get(*lines, start=b"POST / HTTP/1.1") + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A POST whose body is in chunks, as given."""
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def posted(body: bytes = b"", length: int | None = None, **others: Any) -> Asked:
    """A POST as it is read; if a length is given, it is in the last field."""
    if length is not None:
        others.setdefault("fields", [HOST, (b"Content-Length", b"%d" % length)])
    return Asked("POST", length=length, body=body, **others)


#: RFC 9112, section 3, and what comes in place of it.
REQUEST_LINES: list[Row] = [
    ("A plain request is read", get(), Asked()),
    ("A path and a query are kept as sent", get(start=b"GET /a%2Fb?c=%20&d HTTP/1.1"),
     Asked(target="/a%2Fb?c=%20&d")),
    ("Characters that no URI has but clients send are kept",
     get(start=b"GET /{a}|\"b\"^`<c>\\[d] HTTP/1.1"), Asked(target="/{a}|\"b\"^`<c>\\[d]")),
    ("A target of two slashes is a path", get(start=b"GET //a/b HTTP/1.1"), Asked(target="//a/b")),
    ("A method in lower case is another method", get(start=b"get / HTTP/1.1"), Asked("get")),
    ("A method of another protocol passes", get(start=b"M-SEARCH / HTTP/1.1"), Asked("M-SEARCH")),
    ("A method of WebDAV passes", get(start=b"PROPFIND / HTTP/1.1"), Asked("PROPFIND")),
    ("An unknown method passes", get(start=b"FOO / HTTP/1.1"), Asked("FOO")),
    ("A method of special characters passes", get(start=b"!#$%&'*+-.^_`|~ / HTTP/1.1"),
     Asked("!#$%&'*+-.^_`|~")),
    ("An unknown method may have a body",
     get(b"Content-Length: 2", start=b"FOO / HTTP/1.1") + b"hi",
     Asked("FOO", fields=[HOST, (b"Content-Length", b"2")], length=2, body=b"hi")),
    ("GET may have a body", get(b"Content-Length: 2") + b"hi",
     Asked(fields=[HOST, (b"Content-Length", b"2")], length=2, body=b"hi")),
    ("CONNECT is refused", get(start=b"CONNECT a:80 HTTP/1.1"), MethodRefused),
    ("CONNECT with a path is refused", get(start=b"CONNECT / HTTP/1.1"), MethodRefused),
    ("A method that is not a token is refused", get(start=b"G(T / HTTP/1.1"), BadMessage),
    ("OPTIONS may ask for the whole server", get(start=b"OPTIONS * HTTP/1.1"),
     Asked("OPTIONS", "*")),
    ("An asterisk with another method is refused", get(start=b"GET * HTTP/1.1"), BadMessage),
    ("A fragment is refused", get(start=b"GET /#a HTTP/1.1"), BadMessage),
    ("An authority is refused as a target", get(start=b"GET a:80 HTTP/1.1"), BadMessage),
    ("A word is refused as a target", get(start=b"GET foo HTTP/1.1"), BadMessage),
    ("A target beyond ASCII is refused", get(start=b"GET /\xc3\xa9 HTTP/1.1"), BadMessage),
    ("A target with DEL is refused", get(start=b"GET /\x7f HTTP/1.1"), BadMessage),
    ("A target with NUL is refused", get(start=b"GET /\0 HTTP/1.1"), BadMessage),
    ("No target is refused", get(start=b"GET  HTTP/1.1"), BadMessage),
    ("Two spaces before the target are refused", get(start=b"GET  / HTTP/1.1"), BadMessage),
    ("Two spaces after the target are refused", get(start=b"GET /  HTTP/1.1"), BadMessage),
    ("A space after the version is refused", get(start=b"GET / HTTP/1.1 "), BadMessage),
    ("A space before the method is refused", get(start=b" GET / HTTP/1.1"), BadMessage),
    ("A tab in place of a space is refused", get(start=b"GET\t/ HTTP/1.1"), BadMessage),
    ("A space within the target is refused", get(start=b"GET /a b HTTP/1.1"), BadMessage),
    ("HTTP/2.0 is another version", get(start=b"GET / HTTP/2.0"), BadVersion),
    ("The preface of HTTP/2 is another version", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadVersion),
    ("HTTP/1.2 is another version", get(start=b"GET / HTTP/1.2"), BadVersion),
    ("HTTP/0.9 by name is another version", get(start=b"GET / HTTP/0.9"), BadVersion),
    ("HTTP/0.9 as it was is refused", b"GET /\r\n\r\n", BadMessage),
    ("A version of two digits is refused", get(start=b"GET / HTTP/1.10"), BadMessage),
    ("A version in lower case is refused", get(start=b"GET / http/1.1"), BadMessage),
    ("A line end within the target is refused", get(start=b"GET /\nx HTTP/3.0"),
     BadMessage),
    ("One empty line before a request is tolerated", b"\r\n" + get(), Asked()),
    ("Four empty lines before a request are tolerated", b"\r\n" * 4 + get(), Asked()),
    ("Five empty lines before a request are refused", b"\r\n" * 5 + get(), BadMessage),
    ("An empty line of LF alone is refused", b"\n" + get(), BadMessage),
    ("An empty line of LF alone after another is refused", b"\r\n\n" + get(), BadMessage),
    ("CR alone before a request is refused", b"\r" + get(), BadMessage),
    ("A blank line that isn't empty is refused", b" \r\n" + get(), BadMessage),
]  # fmt: skip

#: RFC 9112, section 3.2, and RFC 9110, section 7.2.
HOSTS: list[Row] = [
    ("No Host is refused", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", BadMessage),
    ("A head without any field is refused", b"GET / HTTP/1.1\r\n\r\n", BadMessage),
    ("Two Hosts are refused", get(b"Host: b"), BadMessage),
    ("Two equal Hosts are refused", get(b"Host: a"), BadMessage),
    ("Two Hosts of different spelling are refused", get(b"hOST: a"), BadMessage),
    ("An empty Host is kept", b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
     Asked(fields=[(b"Host", b"")], host=b"")),
    ("A Host with a port is kept", b"GET / HTTP/1.1\r\nhost: a:8080\r\n\r\n",
     Asked(fields=[(b"host", b"a:8080")], host=b"a:8080")),
    ("A Host that is an IPv6 address is kept", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
     Asked(fields=[(b"Host", b"[::1]:80")], host=b"[::1]:80")),
    ("Blanks around Host are cut", b"GET / HTTP/1.1\r\nHost: \ta \r\n\r\n",
     Asked(fields=[(b"Host", b"a ")])),
    ("The longest Host is kept", b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % LONGEST,
     Asked(fields=[(b"Host", LONGEST)], host=LONGEST)),
    ("A longer Host is refused", b"GET / HTTP/1.1\r\nHost: b%b\r\n\r\n" % LONGEST, BadMessage),
    ("A Host with a port of six digits is refused", b"GET / HTTP/1.1\r\nHost: a:000080\r\n\r\n",
     BadMessage),
    ("A Host with a path is refused", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BadMessage),
    ("A Host with a user is refused", b"GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", BadMessage),
    ("A Host of two words is refused", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BadMessage),
    ("A Host beyond ASCII is refused", b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n", BadMessage),
    ("A Host with a port that is not a number is refused", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
     BadMessage),
    ("A Host with two ports is refused", b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", BadMessage),
    ("A Host with an open bracket is refused", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BadMessage),
    ("HTTP/1.0 needs no Host", b"GET / HTTP/1.0\r\n\r\n",
     Asked(fields=[], version="1.0", keepAlive=False, host=None)),
    ("Two Hosts are refused in HTTP/1.0 too", get(b"Host: a", start=b"GET / HTTP/1.0"), BadMessage),
    ("A URI as target becomes its path", get(start=b"GET http://a/b?c HTTP/1.1"),
     Asked(target="/b?c")),
    ("A URI without a path becomes the root", get(start=b"GET http://a HTTP/1.1"), Asked()),
    ("A URI with a query and no path becomes the root's", get(start=b"GET http://a?b HTTP/1.1"),
     Asked(target="/?b")),
    ("OPTIONS of a URI without a path asks for the whole server",
     get(start=b"OPTIONS http://a HTTP/1.1"), Asked("OPTIONS", "*")),
    ("OPTIONS of a URI with a path asks for that", get(start=b"OPTIONS http://a/ HTTP/1.1"),
     Asked("OPTIONS", "/")),
    ("Scheme and host are compared without case", get(start=b"GET HTTP://A/b HTTP/1.1"),
     Asked(target="/b")),
    ("The port of http may be left out", get(start=b"GET http://a:80/b HTTP/1.1"),
     Asked(target="/b")),
    ("The port of https may be left out", get(start=b"GET https://a:443/b HTTP/1.1"),
     Asked(target="/b")),
    ("The port may be left out of the target", b"GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
     Asked(fields=[(b"Host", b"a:80")], host=b"a:80")),
    ("The port of https is refused for http", get(start=b"GET http://a:443/ HTTP/1.1"),
     BadMessage),
    ("A URI of another host than Host is refused", get(start=b"GET http://b/ HTTP/1.1"),
     BadMessage),
    ("A URI of another port than Host is refused", get(start=b"GET http://a:81/ HTTP/1.1"),
     BadMessage),
    ("A URI with a user is refused", get(start=b"GET http://a@a/ HTTP/1.1"), BadMessage),
    ("A URI without a host is refused", get(start=b"GET http:///b HTTP/1.1"), BadMessage),
    ("A URI of another scheme is refused", get(start=b"GET ftp://a/ HTTP/1.1"), BadMessage),
    ("A URI without Host is refused", b"GET http://a/ HTTP/1.0\r\n\r\n", BadMessage),
]  # fmt: skip

#: RFC 9112, section 5: what a field may look like.
FIELDS: list[Row] = [
    ("Order, repeats and spelling of fields are kept", get(b"b: 1", b"A: 2", b"B: 3", b"a: 4"),
     Asked(fields=[HOST, (b"b", b"1"), (b"A", b"2"), (b"B", b"3"), (b"a", b"4")])),
    ("Bytes beyond ASCII in a value are kept", get(b"A: \x80\xe9\xff"),
     Asked(fields=[HOST, (b"A", b"\x80\xe9\xff")])),
    ("An empty value is kept", get(b"A:", b"B: ", b"C: c"),
     Asked(fields=[HOST, (b"A", b""), (b"B", b""), (b"C", b"c")])),
    ("Blanks before a value are cut, those within and after are kept", get(b"A: \t b \t c \t"),
     Asked(fields=[HOST, (b"A", b"b \t c \t")])),
    ("No blank before a value is needed", get(b"A:b"), Asked(fields=[HOST, (b"A", b"b")])),
    ("Colons in a value are kept", get(b"A: b:c: d"), Asked(fields=[HOST, (b"A", b"b:c: d")])),
    ("A space before the colon is refused", get(b"A : b"), BadMessage),
    ("A tab before the colon is refused", get(b"A\t: b"), BadMessage),
    ("A space before the first field is refused", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
     BadMessage),
    ("A folded line is refused", get(b"A: b", b" c"), BadMessage),
    ("A line folded by a tab is refused", get(b"A: b", b"\tc"), BadMessage),
    ("A folded empty value is refused", get(b"A:", b" c"), BadMessage),
    ("A folded blank line is refused", get(b"A: b", b" "), BadMessage),
    ("A line without a colon is refused", get(b"A"), BadMessage),
    ("A field without a name is refused", get(b": b"), BadMessage),
    ("A name with a space is refused", get(b"A b: c"), BadMessage),
    ("A name in quotes is refused", get(b'"A": b'), BadMessage),
    ("A name beyond ASCII is refused", get(b"\xc3\x84: b"), BadMessage),
    ("NUL in a name is refused", get(b"A\0: b"), BadMessage),
    ("NUL in a value is refused", get(b"A: b\0"), BadMessage),
    ("A control character in a value is refused", get(b"A: b\x01"), BadMessage),
    ("A vertical tab in a value is refused", get(b"A: b\x0b"), BadMessage),
    ("DEL in a value is refused", get(b"A: b\x7f"), BadMessage),
    ("CR alone in a value is refused", get(b"A: b\rc: d"), BadMessage),
    ("CR twice before LF is refused", get(b"A: b\r"), BadMessage),
    ("CR at the start of a line is refused", get(b"\rA: b"), BadMessage),
    ("LF alone after the request line is refused", b"GET / HTTP/1.1\nHost: a\r\n\r\n", BadMessage),
    ("LF alone after a field is refused", b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n", BadMessage),
    ("LF alone after the last field is refused", b"GET / HTTP/1.1\r\nHost: a\n\r\n", BadMessage),
    ("LF alone as the blank line is refused", b"GET / HTTP/1.1\r\nHost: a\r\n\n", BadMessage),
    ("LF alone everywhere is refused", b"GET / HTTP/1.1\nHost: a\n\n", BadMessage),
    ("A second request after LF alone is refused with the first",
     b"GET / HTTP/1.1\r\nHost: a\r\n\n" + NEXT, BadMessage),
    ("CR and LF apart, as many as there are lines, are refused",
     get(b"A: b\rX: c\nD: e"), BadMessage),
    ("CR and LF apart around a line are refused", get(b"A: b\rx", b"y\nB: c"), BadMessage),
    ("Names of all characters of a token are kept", get(b"!#$%&'*+-.^_`|~09Az: b", b"_: c"),
     Asked(fields=[HOST, (b"!#$%&'*+-.^_`|~09Az", b"b"), (b"_", b"c")])),
    *[(f"The byte {each} in a name is refused", get(b"A%c: b" % each), BadMessage)
      for each in (*range(0x21), *b"\"(),/:;<=>?@[\\]{}", 0x7F, 0x80, 0xC3, 0xFF)
      if each != ord(":")],
    *[(f"The byte {each} in a value is refused", get(b"A: b%cc" % each), BadMessage)
      for each in (*range(9), *range(10, 0x20), 0x7F)],
    *[(f"The byte {each} is refused beside names that are rare", get(b"A_: b%cc" % each),
      BadMessage) for each in (0, 10, 13, 0x7F)],
    ("A value may be a tab, a blank or any other byte beyond control characters",
     get(b"A: b\t \x80\xff~!"), Asked(fields=[HOST, (b"A", b"b\t \x80\xff~!")])),
    ("A value may look like a line", get(b"A: Host: b", b"B: \\r\\nContent-Length: 5"),
     Asked(fields=[HOST, (b"A", b"Host: b"), (b"B", b"\\r\\nContent-Length: 5")])),
    ("A value that is only LF is refused", b"GET / HTTP/1.1\r\nHost: a\r\nA:\nB: c\r\n\r\n",
     BadMessage),
]  # fmt: skip

#: RFC 9112, section 6: where a body ends.
LENGTHS: list[Row] = [
    ("A request that announces no body has none", post(), posted()),
    ("A body of a known length is read", post(b"Content-Length: 5", body=b"hello"),
     posted(b"hello", 5)),
    ("A length of 0 is announced and empty", post(b"Content-Length: 0"), posted(b"", 0)),
    ("Leading zeros in a length are ignored", post(b"Content-Length: 0005", body=b"hello"),
     posted(b"hello", 5, fields=[HOST, (b"Content-Length", b"5")])),
    ("Blanks around a length are ignored", post(b"Content-Length:\t 5 \t", body=b"hello"),
     posted(b"hello", 5, fields=[HOST, (b"Content-Length", b"5")])),
    ("A body may look like a request", post(b"Content-Length: 31", body=NEXT),
     posted(NEXT, 31)),
    ("A length of 19 digits is refused", post(b"Content-Length: 1000000000000000000"), BadMessage),
    ("A length beyond 64 bits is refused", post(b"Content-Length: 18446744073709551616"),
     BadMessage),
    ("A length of 5 beyond 64 bits is refused", post(b"Content-Length: 18446744073709551621"),
     BadMessage),
    ("A length with a plus is refused", post(b"Content-Length: +5", body=b"hello"), BadMessage),
    ("A length with a minus is refused", post(b"Content-Length: -5", body=b"hello"), BadMessage),
    ("A length in hexadecimal is refused", post(b"Content-Length: 0x5", body=b"hello"), BadMessage),
    ("A length with letters is refused", post(b"Content-Length: 5a", body=b"hello"), BadMessage),
    ("A length with an underscore is refused", post(b"Content-Length: 1_0", body=b"hello"),
     BadMessage),
    ("A length of two words is refused", post(b"Content-Length: 1 0", body=b"hello"), BadMessage),
    ("A length with a fraction is refused", post(b"Content-Length: 5.0", body=b"hello"),
     BadMessage),
    ("A length in other digits is refused", post(b"Content-Length: \xb2", body=b"hello"),
     BadMessage),
    ("A length with a vertical tab is refused", post(b"Content-Length: 5\x0b", body=b"hello"),
     BadMessage),
    ("An empty length is refused", post(b"Content-Length:", body=b"hello"), BadMessage),
    ("A list of equal lengths is refused", post(b"Content-Length: 5, 5", body=b"hello"),
     BadMessage),
    ("A list of different lengths is refused", post(b"Content-Length: 5, 6", body=b"hello"),
     BadMessage),
    ("Two equal lengths are refused",
     post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), BadMessage),
    ("Two different lengths are refused",
     post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), BadMessage),
    ("Two lengths of different spelling are refused",
     post(b"Content-Length: 5", b"CONTENT-LENGTH: 6", body=b"hello"), BadMessage),
    ("A field that only resembles a length is not one, and is dropped", post(b"Content_Length: 5"),
     posted(fields=[HOST])),
]  # fmt: skip

LAST = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n" + LAST

CODINGS: list[Row] = [
    ("A body in chunks is read", chunked(HELLO), posted(b"hello")),
    ("The coding's case is ignored", post(b"transfer-encoding: ChUnKeD", body=HELLO),
     posted(b"hello")),
    ("Blanks around the coding are ignored", post(b"Transfer-Encoding:\t chunked  ",
     body=HELLO), posted(b"hello")),
    ("A coding beside a length is refused", chunked(HELLO, b"Content-Length: 5"), BadMessage),
    ("A length beside a coding is refused",
     post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=HELLO), BadMessage),
    ("A length of 0 beside a coding is refused", chunked(HELLO, b"Content-Length: 0"), BadMessage),
    ("gzip alone is refused", post(b"Transfer-Encoding: gzip", body=HELLO), BadMessage),
    ("gzip before chunked is refused", post(b"Transfer-Encoding: gzip, chunked", body=HELLO),
     BadMessage),
    ("gzip after chunked is refused", post(b"Transfer-Encoding: chunked, gzip", body=HELLO),
     BadMessage),
    ("chunked twice is refused", post(b"Transfer-Encoding: chunked, chunked", body=HELLO),
     BadMessage),
    ("identity is refused", post(b"Transfer-Encoding: identity", body=b""), BadMessage),
    ("identity before chunked is refused",
     post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=HELLO), BadMessage),
    ("chunked before identity is refused",
     post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=HELLO), BadMessage),
    ("chunked in two lines is refused", chunked(HELLO, b"Transfer-Encoding: chunked"), BadMessage),
    ("A coding of two lines is refused",
     post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=HELLO), BadMessage),
    ("xchunked is refused", post(b"Transfer-Encoding: xchunked", body=HELLO), BadMessage),
    ("chunkedx is refused", post(b"Transfer-Encoding: chunkedx", body=HELLO), BadMessage),
    ("A tab behind chunked is refused", post(b"Transfer-Encoding: chunked\t", body=HELLO),
     BadMessage),
    ("chunked in quotes is refused", post(b'Transfer-Encoding: "chunked"', body=HELLO), BadMessage),
    ("chunked with a parameter is refused", post(b"Transfer-Encoding: chunked;a=b", body=HELLO),
     BadMessage),
    ("chunked after a comma is refused", post(b"Transfer-Encoding: ,chunked", body=HELLO),
     BadMessage),
    ("chunked before a comma is refused", post(b"Transfer-Encoding: chunked,", body=HELLO),
     BadMessage),
    ("chunked after a vertical tab is refused", post(b"Transfer-Encoding: \x0bchunked", body=HELLO),
     BadMessage),
    ("chunked after bytes that some take for a blank is refused",
     post(b"Transfer-Encoding: \xa0chunked", body=HELLO), BadMessage),
    ("An empty coding is refused", post(b"Transfer-Encoding:", body=HELLO), BadMessage),
    ("A coding in HTTP/1.0 is refused",
     get(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0") + HELLO, BadMessage),
    ("A coding before a folded line is refused",
     post(b"Transfer-Encoding:", b" chunked", body=HELLO), BadMessage),
    ("A coding before a space and its colon is refused",
     post(b"Transfer-Encoding : chunked", body=HELLO), BadMessage),
    ("A field that only resembles a coding is not one, and is dropped",
     post(b"Transfer_Encoding: chunked"), posted(fields=[HOST])),
]  # fmt: skip

#: RFC 9112, section 7.1.
CHUNKS: list[Row] = [
    ("An empty body in chunks is read", chunked(LAST), posted()),
    ("Chunks are put together", chunked(b"3\r\nabc\r\n1\r\nd\r\n" + LAST), posted(b"abcd")),
    ("Data of a chunk may look like chunks", chunked(b"a\r\n" + HELLO[:10] + b"\r\n" + LAST),
     posted(HELLO[:10])),
    ("Sizes are hexadecimal in either case", chunked(b"a\r\n0123456789\r\nB\r\n0123456789a\r\n"
     + LAST), posted(b"01234567890123456789a")),
    ("Sizes may have leading zeros", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), posted(b"hello")),
    ("A size of 15 digits is read", chunked(b"000000000000005\r\nhello\r\n" + LAST),
     posted(b"hello")),
    ("A size of 16 digits is refused", chunked(b"0000000000000005\r\nhello\r\n" + LAST),
     BadMessage),
    ("A size beyond 64 bits is refused", chunked(b"10000000000000005\r\nhello\r\n" + LAST),
     BadMessage),
    ("Extensions are passed over", chunked(b"5;a\r\nhello\r\n0;b=c;d=\"e;f\"\r\n\r\n"),
     posted(b"hello")),
    ("Blanks around an extension are passed over", chunked(b"5 ;\ta\r\nhello\r\n" + LAST),
     posted(b"hello")),
    ("Bytes beyond ASCII in an extension are passed over",
     chunked(b'5;a="\xe9"\r\nhello\r\n' + LAST), posted(b"hello")),
    ("Blanks after a size are passed over, as some pad it",
     chunked(b"5 \t\r\nhello\r\n0  \r\n\r\n"),
     posted(b"hello")),
    ("A line of 256 bytes for a size is read", chunked(b"5;%b\r\nhello\r\n" % (b"x" * 252) + LAST),
     posted(b"hello")),
    ("A line of 257 bytes for a size is refused",
     chunked(b"5;%b\r\nhello\r\n" % (b"x" * 253) + LAST), BadMessage),
    ("A size with a plus is refused", chunked(b"+5\r\nhello\r\n" + LAST), BadMessage),
    ("A size with a minus is refused", chunked(b"-5\r\nhello\r\n" + LAST), BadMessage),
    ("A size with 0x is refused", chunked(b"0x5\r\nhello\r\n" + LAST), BadMessage),
    ("A size with an underscore is refused", chunked(b"0_5\r\nhello\r\n" + LAST), BadMessage),
    ("A blank before a size is refused", chunked(b" 5\r\nhello\r\n" + LAST), BadMessage),
    ("A blank within a size is refused", chunked(b"0 5\r\nhello\r\n" + LAST), BadMessage),
    ("A vertical tab after a size is refused", chunked(b"5\x0b\r\nhello\r\n" + LAST), BadMessage),
    ("NUL after a size is refused", chunked(b"5\0\r\nhello\r\n" + LAST), BadMessage),
    ("A size of letters beyond F is refused", chunked(b"g\r\nhello\r\n" + LAST), BadMessage),
    ("No size is refused", chunked(b"\r\nhello\r\n" + LAST), BadMessage),
    ("An extension without a size is refused", chunked(b";a\r\nhello\r\n" + LAST), BadMessage),
    ("NUL in an extension is refused", chunked(b"5;\0\r\nhello\r\n" + LAST), BadMessage),
    ("CR alone in an extension is refused", chunked(b"5;\ra\r\nhello\r\n" + LAST), BadMessage),
    ("CR alone after a size is refused", chunked(b"5\rhello\r\n" + LAST), BadMessage),
    ("LF alone after a size is refused", chunked(b"5\nhello\r\n" + LAST), BadMessage),
    ("LF alone after an extension is refused", chunked(b"5;a\nhello\r\n" + LAST), BadMessage),
    ("LF alone after data is refused", chunked(b"5\r\nhello\n" + LAST), BadMessage),
    ("LF alone after the last size is refused", chunked(b"5\r\nhello\r\n0\n\r\n"), BadMessage),
    ("LF alone at the end is refused", chunked(b"5\r\nhello\r\n0\r\n\n"), BadMessage),
    ("CR alone after data is refused", chunked(b"5\r\nhello\r" + LAST), BadMessage),
    ("Data without a line end is refused", chunked(b"5\r\nhello" + LAST), BadMessage),
    ("Data longer than its size is refused", chunked(b"5\r\nhello!\r\n" + LAST), BadMessage),
    ("Data shorter than its size is refused", chunked(b"6\r\nhello\r\n" + LAST), BadMessage),
]  # fmt: skip

#: RFC 9112, section 7.1.2, and RFC 9110, section 6.5.
TRAILERS: list[Row] = [
    ("Trailers stand apart from the fields", chunked(b"5\r\nhello\r\n0\r\nB: c\r\na: \xe9\r\n\r\n"),
     posted(b"hello", trailers=[(b"B", b"c"), (b"a", b"\xe9")])),
    ("Trailers that frame or route are dropped",
     chunked(b"0\r\nContent-Length: 5\r\nHost: b\r\nX-Forwarded-For: c\r\nConnection: close\r\n"
             b"Expect: 100-continue\r\nA: b\r\n\r\n"),
     posted(trailers=[(b"A", b"b")])),
    ("A coding as trailer is dropped", chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
     posted()),
    ("An upgrade as trailer is dropped",
     chunked(b"0\r\nConnection: upgrade\r\nUpgrade: h2c\r\nA: b\r\n\r\n"),
     posted(trailers=[(b"A", b"b")])),
    ("Trailers that override method and path, or are credentials, are dropped in any spelling",
     chunked(b"0\r\nX-HTTP-Method-Override: DELETE\r\nX_Original_URL: /a\r\nx-script-name: /b\r\n"
             b"X-Host: c\r\nAuthorization: d\r\nCookie: e\r\nRange: bytes=0-\r\nIf_Match: *\r\n"
             b"Content-Type: a/b\r\nA: b\r\n\r\n"),
     posted(trailers=[(b"A", b"b")])),
    ("A trailer with a space before its colon is refused", chunked(b"0\r\nA : b\r\n\r\n"),
     BadMessage),
    *[(f"A trailer {each.decode()!r} is refused as in a head",
      chunked(b"0\r\nA: b\r\n%b\r\n\r\n" % each), BadMessage)
      for each in (b"Content-Length: x", b"Content-Length:",
                   b"Content-Length: 5\r\nContent-Length: 5",
                   b"Transfer-Encoding: gzip", b"Transfer-Encoding:",
                   b"Content-Length: 5\r\nTransfer-Encoding: chunked")],
    ("A folded trailer is refused", chunked(b"0\r\nA: b\r\n c\r\n\r\n"), BadMessage),
    ("NUL in a trailer is refused", chunked(b"0\r\nA: \0\r\n\r\n"), BadMessage),
    ("LF alone after a trailer is refused", chunked(b"0\r\nA: b\nB: c\r\n\r\n"), BadMessage),
    ("LF alone after the trailers is refused", chunked(b"0\r\nA: b\r\n\n"), BadMessage),
    ("A request in place of trailers is refused", chunked(b"0\r\n" + NEXT), BadMessage),
]  # fmt: skip

#: RFC 9110, sections 7.6.1, 7.8 and 10.1.1; RFC 9112, section 9.
CONNECTIONS: list[Row] = [
    ("Connection: close ends the connection", get(b"Connection: close"), Asked(keepAlive=False)),
    ("close among other options ends the connection", get(b"Connection: a, CLOSE ,b"),
     Asked(keepAlive=False)),
    ("close wins over keep-alive", get(b"Connection: keep-alive", b"Connection: close"),
     Asked(keepAlive=False)),
    ("A word that contains close is another option", get(b"Connection: closed"), Asked()),
    ("HTTP/1.0 ends the connection", get(start=b"GET / HTTP/1.0"),
     Asked(version="1.0", keepAlive=False)),
    ("HTTP/1.0 goes on with keep-alive", get(b"Connection: Keep-Alive", start=b"GET / HTTP/1.0"),
     Asked(version="1.0")),
    ("HTTP/1.0 may have a body of known length",
     get(b"Content-Length: 2", start=b"POST / HTTP/1.0") + b"hi",
     posted(b"hi", 2, version="1.0", keepAlive=False)),
    ("keep-alive in other words goes on", get(b"Connection:\tkeep-alive ", start=b"GET / HTTP/1.0"),
     Asked(version="1.0")),
    ("keep-alive twice goes on",
     get(b"Connection: keep-alive", b"connection: keep-alive", start=b"GET / HTTP/1.0"),
     Asked(version="1.0")),
    ("An empty Connection is cut and says nothing", get(b"Connection:", b"A: b"),
     Asked(fields=[HOST, (b"A", b"b")])),
    ("Fields of the connection are cut at any place and number",
     get(b"TE: a", b"A: b", b"Keep-Alive: 5", b"te: c", b"X-Te: d", b"Connection: te"),
     Asked(fields=[HOST, (b"A", b"b"), (b"X-Te", b"d")])),
    ("Fields of one connection are cut",
     get(b"Keep-Alive: timeout=5", b"Proxy-Connection: close", b"TE: trailers", b"A: b"),
     Asked(fields=[HOST, (b"A", b"b")])),
    ("Fields that Connection names are cut, whatever their case",
     get(b"a: 1", b"Connection: A, b", b"B: 2", b"C: 3", b"connection: D", b"d: 4"),
     Asked(fields=[HOST, (b"C", b"3")])),
    ("Naming Host in Connection cuts nothing", get(b"Connection: host"), Asked()),
    ("Naming Content-Length in Connection cuts nothing",
     post(b"Connection: content-length", b"Content-Length: 2", body=b"hi"), posted(b"hi", 2)),
    ("Naming Transfer-Encoding in Connection changes nothing",
     chunked(HELLO, b"Connection: transfer-encoding"), posted(b"hello")),
    ("Expect is kept", post(b"Expect: 100-continue", b"Content-Length: 2", body=b"hi"),
     posted(b"hi", 2, fields=[HOST, (b"Expect", b"100-continue"), (b"Content-Length", b"2")])),
    ("Expect of HTTP/1.0 is dropped",
     get(b"Expect: 100-continue", b"Content-Length: 2", start=b"POST / HTTP/1.0") + b"hi",
     posted(b"hi", 2, version="1.0", keepAlive=False)),
    ("X-Forwarded fields are kept and noticed", get(b"x-forwarded-for: b"),
     Asked(fields=[HOST, (b"x-forwarded-for", b"b")], forwarded=True)),
    ("An upgrade is read", get(b"Connection: Upgrade", b"Upgrade: websocket"),
     Asked(upgrade=b"websocket")),
    ("An upgrade among other options is read",
     get(b"Upgrade: a/1", b"Connection: keep-alive, upgrade", b"Upgrade: b"),
     Asked(upgrade=b"a/1, b")),
    ("An upgrade that Connection does not name is none", get(b"Upgrade: websocket"), Asked()),
    ("An upgrade without a protocol is none", get(b"Connection: upgrade"), Asked()),
    ("An upgrade to HTTP/2 is none",
     get(b"Connection: upgrade, http2-settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"), Asked()),
    ("An upgrade to HTTP/2 among others is none", get(b"Connection: upgrade", b"Upgrade: a, H2C"),
     Asked()),
    ("An upgrade in HTTP/1.0 is none",
     get(b"Connection: upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.0"),
     Asked(version="1.0", keepAlive=False)),
    ("An upgrade may have a body",
     post(b"Connection: upgrade", b"Upgrade: a", b"Content-Length: 2", body=b"hi"),
     posted(b"hi", 2, upgrade=b"a")),
]  # fmt: skip


@eachRow(
    REQUEST_LINES, HOSTS, FIELDS, LENGTHS, CODINGS, CHUNKS, TRAILERS, CONNECTIONS
)  # fmt: skip
class RequestTests(SynchronousTestCase):
    """Each request of the tables is read or refused, in whatever pieces it arrives."""

    def check(self, raw: bytes, expected: Asked | type[BadMessage]) -> None:
        """Read it whole, byte by byte, and with the next request on its heels."""
        following = Asked(target="/next")
        for way, pieces, more in (
            ("whole", [raw], []),
            ("byte by byte", bytewise(raw), []),
            ("with a tail", [raw + NEXT], [following]),
            ("with a tail, byte by byte", bytewise(raw + NEXT), [following]),
        ):
            seen, error, _ = readRequests(pieces)
            if isinstance(expected, Asked):
                self.assertEqual((way, seen, error), (way, [expected, *more], None))
            else:
                self.assertEqual((way, seen, type(error)), (way, [], expected))


# --- Responses


def ok(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    """A response with these lines and this body."""
    return b"\r\n".join((start, *lines, b"", b"")) + body


FIVE = b"Content-Length: 5"
FIVE_FIELD = (b"Content-Length", b"5")


def five(body: bytes = b"hello", **others: Any) -> Responded:
    """A response that announced five bytes."""
    return Responded(length=5, body=body, **{"fields": [FIVE_FIELD], **others})


STATUS_LINES: list[Row] = [
    ("A plain response is read", "GET", ok(FIVE, body=b"hello"), five()),
    ("A reason may be any words", "GET",
     ok(FIVE, start=b"HTTP/1.1 404 Not here, no", body=b"hello"),
     five(status=404, reason="Not here, no")),
    ("A reason may be empty", "GET", ok(FIVE, start=b"HTTP/1.1 200 ", body=b"hello"),
     five(reason="")),
    ("A reason may be missing with its space", "GET", ok(FIVE, start=b"HTTP/1.1 200",
     body=b"hello"), five(reason="")),
    ("Bytes beyond ASCII in a reason are kept", "GET", ok(FIVE, start=b"HTTP/1.1 200 \x80\xe9\xff",
     body=b"hello"), five(reason="\x80\xe9\xff")),
    ("A tab in a reason is kept", "GET", ok(FIVE, start=b"HTTP/1.1 200 a\tb", body=b"hello"),
     five(reason="a\tb")),
    ("An unregistered status passes", "GET", ok(FIVE, start=b"HTTP/1.1 999 x",
     body=b"hello"), five(status=999, reason="x")),
    ("A status below 100 is refused", "GET", ok(FIVE, start=b"HTTP/1.1 099 x", body=b"hello"),
     BadResponse),
    ("A status of two digits is refused", "GET", ok(FIVE, start=b"HTTP/1.1 20 OK", body=b"hello"),
     BadResponse),
    ("A status of four digits is refused", "GET",
     ok(FIVE, start=b"HTTP/1.1 2000 OK", body=b"hello"),
     BadResponse),
    ("A status of letters is refused", "GET", ok(FIVE, start=b"HTTP/1.1 OK", body=b"hello"),
     BadResponse),
    ("Two spaces before the status are refused", "GET", ok(FIVE, start=b"HTTP/1.1  200 OK"),
     BadResponse),
    ("NUL in a reason is refused", "GET", ok(FIVE, start=b"HTTP/1.1 200 a\0b"), BadResponse),
    ("CR alone in a reason is refused", "GET", ok(FIVE, start=b"HTTP/1.1 200 a\rb"), BadResponse),
    ("HTTP/2 is refused", "GET", ok(FIVE, start=b"HTTP/2 200"), BadResponse),
    ("HTTP/1.2 is refused", "GET", ok(FIVE, start=b"HTTP/1.2 200 OK"), BadResponse),
    ("Another protocol is refused", "GET", b"SSH-2.0-OpenSSH_9.2\r\n", BadResponse),
    ("A response without a head is refused", "GET", b"<html>hello</html>", BadResponse),
    ("An empty line before a response is refused", "GET",
     b"\r\n" + ok(FIVE, body=b"hello"), BadResponse),
]  # fmt: skip

RESPONSE_FIELDS: list[Row] = [
    ("Order, repeats, spelling and bytes of response fields are kept", "GET",
     ok(b"b: 1", b"A: \xe9 ", b"CONTENT-length: 5", b"B: 3", body=b"hello"),
     five(fields=[(b"b", b"1"), (b"A", b"\xe9 "), (b"CONTENT-length", b"5"), (b"B", b"3")])),
    ("Cookies are kept apart", "GET", ok(FIVE, b"Set-Cookie: a", b"Set-Cookie: b", body=b"hello"),
     five(fields=[FIVE_FIELD, (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")])),
    ("Response fields of one connection are cut", "GET",
     ok(FIVE, b"Keep-Alive: timeout=5", b"Connection: A", b"a: b", b"Upgrade: h2", body=b"hello"),
     five(upgrade=b"h2")),
    ("Naming Content-Length in a response's Connection cuts nothing", "GET",
     ok(FIVE, b"Connection: content-length", body=b"hello"), five()),
    ("Fields that mean something in a request only are kept in a response", "GET",
     ok(FIVE, b"Host: a", b"Expect: b", b"X-Forwarded-For: c", body=b"hello"),
     five(fields=[FIVE_FIELD, (b"Host", b"a"), (b"Expect", b"b"), (b"X-Forwarded-For", b"c")])),
    ("LF alone after a status line is refused", "GET",
     b"HTTP/1.1 200 OK\nA: b\r\n\r\n", BadResponse),
    ("LF alone after a response field is refused", "GET", b"HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
     BadResponse),
    ("LF alone as a response's blank line is refused", "GET", b"HTTP/1.1 200 OK\r\nA: b\r\n\n",
     BadResponse),
    ("NUL in a response field is refused", "GET", ok(b"A: \0"), BadResponse),
    ("CR alone in a response field is refused", "GET", ok(b"A: b\rc"), BadResponse),
    ("A space before a response field's colon is refused", "GET", ok(b"A : b"), BadResponse),
    ("A folded response field is refused", "GET", ok(b"A: b", b" c"), BadResponse),
]  # fmt: skip

#: RFC 9112, section 6.3, in the order of its rules.
RESPONSE_FRAMING: list[Row] = [
    ("A response to HEAD has no body", "HEAD", ok(FIVE), five(b"")),
    ("A response to HEAD in chunks has no body", "HEAD",
     ok(b"Transfer-Encoding: chunked"), Responded()),
    ("A response to HEAD that announces nothing has no body", "HEAD", ok(b"A: b"),
     Responded(fields=[(b"A", b"b")])),
    ("A failure in response to HEAD has no body", "HEAD", ok(FIVE, start=b"HTTP/1.1 404 No"),
     five(b"", status=404, reason="No")),
    ("head is another method than HEAD", "head", ok(FIVE, body=b"hello"), five()),
    ("204 has no body", "GET", ok(start=b"HTTP/1.1 204 No"), Responded(204, "No")),
    ("204 has no body, and an announced length is cut", "GET", ok(FIVE,
     start=b"HTTP/1.1 204 No"), Responded(204, "No")),
    ("204 in chunks has no body", "GET", ok(b"Transfer-Encoding: chunked",
     start=b"HTTP/1.1 204 No"), Responded(204, "No")),
    ("304 has no body, and keeps its length", "GET",
     ok(FIVE, start=b"HTTP/1.1 304 No"), five(b"", status=304, reason="No")),
    ("304 in chunks has no body", "GET", ok(b"Transfer-Encoding: chunked",
     start=b"HTTP/1.1 304 No"), Responded(304, "No")),
    ("304 that announces nothing has no body", "GET", ok(start=b"HTTP/1.1 304 No"),
     Responded(304, "No")),
    ("205 has the body that it announces", "GET", ok(FIVE, start=b"HTTP/1.1 205 Reset",
     body=b"hello"), five(status=205, reason="Reset")),
    ("A response in chunks is read", "GET", ok(b"Transfer-Encoding: Chunked", body=HELLO),
     Responded(body=b"hello")),
    ("A response in chunks may have trailers", "GET",
     ok(b"Transfer-Encoding: chunked",
        body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nA: b\r\n\r\n"),
     Responded(body=b"hello", trailers=[(b"A", b"b")])),
    ("Chunks beside a length are refused", "GET", ok(FIVE, b"Transfer-Encoding: chunked",
     body=HELLO), BadResponse),
    ("Chunks beside a length are refused in response to HEAD too", "HEAD",
     ok(FIVE, b"Transfer-Encoding: chunked"), BadResponse),
    ("Chunks in HTTP/1.0 are refused", "GET",
     ok(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK", body=HELLO), BadResponse),
    ("A response in gzip alone is refused", "GET", ok(b"Transfer-Encoding: gzip", body=b"hello"),
     BadResponse),
    ("A response in gzip and chunks is refused", "GET", ok(b"Transfer-Encoding: gzip, chunked",
     body=HELLO), BadResponse),
    ("A response in chunks and gzip is refused", "GET", ok(b"Transfer-Encoding: chunked, gzip",
     body=HELLO), BadResponse),
    ("A response in identity is refused", "GET", ok(b"Transfer-Encoding: identity", FIVE,
     body=b"hello"), BadResponse),
    ("A response with two codings is refused", "GET",
     ok(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=HELLO), BadResponse),
    ("A bad chunk in a response is refused", "GET", ok(b"Transfer-Encoding: chunked",
     body=b"+5\r\nhello\r\n" + LAST), BadResponse),
    ("A response with two lengths is refused", "GET", ok(FIVE, b"Content-Length: 6", body=b"hello"),
     BadResponse),
    ("A response with two equal lengths is refused", "GET",
     ok(FIVE, FIVE, body=b"hello"), BadResponse),
    ("A response with a list of lengths is refused", "GET",
     ok(b"Content-Length: 5, 5", body=b"hello"),
     BadResponse),
    ("A response with a length that is not a number is refused", "GET", ok(b"Content-Length: +5",
     body=b"hello"), BadResponse),
    ("A response with too great a length is refused", "GET",
     ok(b"Content-Length: 18446744073709551621", body=b"hello"), BadResponse),
    ("A response of no bytes is whole at once", "GET", ok(b"Content-Length: 0"),
     Responded(length=0, fields=[(b"Content-Length", b"0")])),
    ("A response that announces nothing ends with its connection", "GET",
     ok(b"A: b", body=b"hello"),
     Responded(fields=[(b"A", b"b")], body=b"hello", keepAlive=False, state=UNTIL_CLOSE)),
    ("keep-alive does not change this", "GET", ok(b"Connection: keep-alive", body=b"hello"),
     Responded(body=b"hello", keepAlive=False, state=UNTIL_CLOSE)),
    ("An empty response may end with its connection", "GET", ok(),
     Responded(keepAlive=False, state=UNTIL_CLOSE)),
    ("A response of HTTP/1.0 may end with its connection", "GET", ok(start=b"HTTP/1.0 200 OK",
     body=b"hello"), Responded(body=b"hello", keepAlive=False, state=UNTIL_CLOSE)),
    ("A response of HTTP/1.0 is the last on its connection", "GET", ok(FIVE,
     start=b"HTTP/1.0 200 OK", body=b"hello"), five(keepAlive=False)),
    ("A response of HTTP/1.0 may keep the connection", "GET", ok(FIVE, b"connection: keep-alive",
     start=b"HTTP/1.0 200 OK", body=b"hello"), five()),
    ("A response may close the connection", "GET", ok(FIVE, b"Connection: Close", body=b"hello"),
     five(keepAlive=False)),
    ("204 may close the connection", "GET", ok(b"Connection: close", start=b"HTTP/1.1 204 No"),
     Responded(204, "No", keepAlive=False)),
]  # fmt: skip

CUT_SHORT: list[Row] = [
    ("A response without its whole head is incomplete", "GET", ok(FIVE)[:-1], None),
    ("A response with less than it announced is incomplete", "GET", ok(FIVE, body=b"hell"),
     five(b"hell", state=LENGTH, lost=Reached.ANSWERED)),
    ("A response with nothing of what it announced is incomplete", "GET", ok(FIVE),
     five(b"", state=LENGTH, lost=Reached.ANSWERED)),
    ("A response without its last chunk is broken", "GET",
     ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
     Responded(body=b"hello", state=framing.CHUNK_SIZE, lost=Reached.ANSWERED)),
    ("A response without its first chunk is broken", "GET", ok(b"Transfer-Encoding: chunked"),
     Responded(state=framing.CHUNK_SIZE, lost=Reached.ANSWERED)),
    ("A response within a chunk is broken", "GET",
     ok(b"Transfer-Encoding: chunked", body=b"5\r\nhell"),
     Responded(body=b"hell", state=framing.CHUNK_DATA, lost=Reached.ANSWERED)),
    ("A response at the end of a chunk is broken", "GET",
     ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello"),
     Responded(body=b"hello", state=framing.CHUNK_END, lost=Reached.ANSWERED)),
    ("A response within its last line is broken", "GET",
     ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n"),
     Responded(body=b"hello", state=framing.TRAILERS, lost=Reached.ANSWERED)),
    ("A response within its trailers is broken", "GET",
     ok(b"Transfer-Encoding: chunked", body=b"0\r\nA: b\r\n"),
     Responded(state=framing.TRAILERS, lost=Reached.ANSWERED, rest=b"A: b\r\n")),
]  # fmt: skip

CONTINUE = ok(start=b"HTTP/1.1 100 Continue")

#: RFC 9110, sections 15.2 and 7.8.
INTERIM: list[Row] = [
    ("An interim response comes before the final one", "GET", CONTINUE + ok(FIVE, body=b"hello"),
     five(interim=[(100, "Continue", [])])),
    ("Several interim responses come before the final one", "GET",
     CONTINUE + ok(b"Link: a", start=b"HTTP/1.1 103 Early Hints") + CONTINUE
     + ok(FIVE, body=b"hello"),
     five(interim=[(100, "Continue", []), (103, "Early Hints", [(b"Link", b"a")]),
                   (100, "Continue", [])])),
    ("An interim response has neither length nor body", "GET",
     ok(FIVE, b"A: b", start=b"HTTP/1.1 102 Wait") + ok(FIVE, body=b"hello"),
     five(interim=[(102, "Wait", [(b"A", b"b")])])),
    ("An interim response has no chunks", "GET",
     ok(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 102 Wait") + ok(FIVE, body=b"hello"),
     five(interim=[(102, "Wait", [])])),
    ("An interim response to HEAD is not the final one", "HEAD", CONTINUE + ok(FIVE),
     five(b"", interim=[(100, "Continue", [])])),
    ("Interim responses alone are incomplete", "GET", CONTINUE + CONTINUE, None),
    ("101 switches to another protocol", "GET",
     ok(b"Connection: upgrade", b"Upgrade: websocket", b"A: b",
        start=b"HTTP/1.1 101 Switching Protocols"),
     Responded(101, "Switching Protocols", [(b"A", b"b")], upgrade=b"websocket", state=TUNNEL)),
    ("101 may follow another interim response", "GET",
     CONTINUE + ok(b"Connection: upgrade", b"Upgrade: a", start=b"HTTP/1.1 101 Go"),
     Responded(101, "Go", upgrade=b"a", state=TUNNEL, interim=[(100, "Continue", [])])),
    ("A response may offer an upgrade", "GET", ok(FIVE, b"Connection: upgrade", b"Upgrade: h2",
     b"upgrade: h3", body=b"hello"), five(upgrade=b"h2, h3")),
]  # fmt: skip


@eachRow(STATUS_LINES, RESPONSE_FIELDS, RESPONSE_FRAMING, CUT_SHORT, INTERIM)
class ResponseTests(SynchronousTestCase):
    """Each response of the tables is read or refused, in whatever pieces it arrives."""

    def check(
        self, method: str, raw: bytes, expected: Responded | type[BadResponse] | None
    ) -> None:
        """Read it whole, byte by byte, and with more bytes after it."""
        forged = ok(FIVE, body=b"nasty")
        ways = [("whole", [raw], b""), ("byte by byte", bytewise(raw), b"")]
        if isinstance(expected, type) or (expected and expected.state in (ENDED, TUNNEL)):
            ways.append(("with a tail", [raw + forged], forged))
            ways.append(("with a tail, byte by byte", bytewise(raw + forged), forged))
        for way, pieces, tail in ways:
            reader = ResponseReader(LIMITS)
            reader.expect(method)
            if isinstance(expected, type):
                error = self.assertRaises(expected, readResponse, reader, pieces)
                self.assertEqual((way, error.reached), (way, Reached.ANSWERED))
            elif expected is None:
                self.assertEqual((way, readResponse(reader, pieces)), (way, None))
                lost = self.assertRaises(UpstreamLost, reader.connectionLost)
                self.assertEqual(lost.reached, Reached.ANSWERED)
            else:
                self.assertEqual(
                    (way, readResponse(reader, pieces)),
                    (way, evolve(expected, rest=expected.rest + tail)),
                )


# --- Limits


class LimitTests(SynchronousTestCase):
    """A message at a limit is read; one byte or field more is refused."""

    def both(self, raw: bytes, limits: Limits) -> list[object]:
        """Read a request whole and byte by byte, and return its body or its error."""
        outcomes: list[object] = []
        for pieces in ([raw], bytewise(raw), [raw + NEXT]):
            seen, error, _ = readRequests(pieces, limits)
            outcomes.append(type(error) if error is not None else seen[0].body)
        return outcomes

    def test_bytesOfHead(self) -> None:
        """A head may have as many bytes as the limit, the empty line included."""
        raw = get(b"A: " + b"x" * 100)
        self.assertEqual(self.both(raw, Limits(head=len(raw))), [b"", b"", b""])
        self.assertEqual(self.both(raw, Limits(head=len(raw) - 1)), [HeadTooLong] * 3)

    def test_bytesOfHeadBeforeItsEnd(self) -> None:
        """A head over the limit is refused before its end was received."""
        reader = RequestReader(Limits(head=100))
        reader.receive(b"GET /" + b"x" * 95)
        self.assertIdentical(reader.nextHead(), None)
        reader.receive(b"x")
        self.assertRaises(HeadTooLong, reader.nextHead)

    def test_bytesOfHeadWithTail(self) -> None:
        """Bytes after a head do not count for it."""
        raw = get()
        self.assertEqual(self.both(raw + NEXT * 100, Limits(head=len(NEXT))), [b"", b"", b""])

    def test_fieldsOfHead(self) -> None:
        """A head may have as many fields as the limit, Host included."""
        self.assertEqual(self.both(get(*[b"A: b"] * 9), Limits(fields=10)), [b"", b"", b""])
        self.assertEqual(self.both(get(*[b"A: b"] * 10), Limits(fields=10)), [HeadTooLong] * 3)

    def test_bodyOfLength(self) -> None:
        """An announced length over the limit is refused with the head."""
        raw = post(b"Content-Length: 5", body=b"hello")
        self.assertEqual(self.both(raw, Limits(body=5)), [b"hello"] * 3)
        self.assertEqual(self.both(raw, Limits(body=4)), [BodyTooLong] * 3)
        reader = RequestReader(Limits(body=4))
        reader.receive(raw[:-5])
        self.assertRaises(BodyTooLong, reader.nextHead)

    def test_bodyOfChunks(self) -> None:
        """All chunks together may have as many bytes as the limit."""
        raw = chunked(b"3\r\nhel\r\n2\r\nlo\r\n" + LAST)
        self.assertEqual(self.both(raw, Limits(body=5)), [b"hello"] * 3)
        self.assertEqual(self.both(raw, Limits(body=4)), [BodyTooLong] * 3)

    def test_bodyOfChunksAtItsSize(self) -> None:
        """A chunk over the limit is refused when its size was received."""
        reader = RequestReader(Limits(body=4))
        reader.receive(chunked(b"5\r\n"))
        reader.nextHead()
        self.assertRaises(BodyTooLong, reader.nextBody)

    def test_bodyCountsAnew(self) -> None:
        """The limit of a body is for each message, not for the connection."""
        raw = chunked(HELLO) + post(b"Content-Length: 5", body=b"hello")
        seen, error, _ = readRequests([raw * 3], Limits(body=5))
        self.assertEqual(([each.body for each in seen], error), ([b"hello"] * 6, None))

    def test_bytesOfTrailers(self) -> None:
        """Trailers may have as many bytes as a head, the empty line included."""
        trailers = b"A: %b\r\n\r\n" % (b"x" * 91)
        raw = chunked(b"0\r\n" + trailers)
        self.assertEqual(len(trailers), 98)
        self.assertEqual(self.both(raw, Limits(head=98)), [b"", b"", b""])
        self.assertEqual(self.both(raw, Limits(head=97)), [HeadTooLong] * 3)

    def test_fieldsOfTrailers(self) -> None:
        """There may be as many trailers as fields in a head."""
        raw = chunked(b"0\r\n" + b"A: b\r\n" * 10 + b"\r\n")
        self.assertEqual(self.both(raw, Limits(fields=10)), [b"", b"", b""])
        self.assertEqual(self.both(raw, Limits(fields=9)), [HeadTooLong] * 3)

    def test_responses(self) -> None:
        """The limits of a head apply to responses as well, as the upstream's fault."""
        raw = ok(b"A: b", b"B: c", b"Content-Length: 0")
        for limits in (Limits(head=len(raw) - 1), Limits(fields=2)):
            for pieces in ([raw], bytewise(raw)):
                self.assertRaises(BadResponse, readResponse, ResponseReader(limits), pieces)
        for limits in (Limits(head=len(raw)), Limits(fields=3)):
            for pieces in ([raw], bytewise(raw)):
                response = readResponse(ResponseReader(limits), pieces)
                self.assertEqual(response and response.status, 200)

    def searched(self, reader: codec.RequestReader | ResponseReader, raw: bytes) -> int:
        """How many bytes are searched for a bare LF when this arrives byte by byte."""
        total = 0
        search = framing._bareLineFeed

        def counting(held: bytes, at: int) -> object:
            nonlocal total
            total += len(held) - at
            return search(held, at)

        self.patch(framing, "_bareLineFeed", counting)
        for piece in bytewise(raw):
            reader.receive(piece)
            if reader.state in (HEAD, FIRST):
                reader.nextHead()
            else:
                reader.nextBody()
        return total

    def test_slowHead(self) -> None:
        """In a head that arrives byte by byte, each byte is searched only a few times."""
        limits = Limits(head=8192)
        for reader, raw in (
            (RequestReader(limits), get(b"A: " + b"x" * 8000)),
            (ResponseReader(limits), ok(b"A: " + b"x" * 8000)),
        ):
            self.assertLess(self.searched(reader, raw), 5 * len(raw))

    def test_slowTrailers(self) -> None:
        """In trailers that arrive byte by byte, each byte is searched only a few times."""
        reader = RequestReader(Limits(head=8192))
        reader.receive(chunked(b""))
        reader.nextHead()
        raw = b"0\r\nA: %b\r\n\r\n" % (b"x" * 8000)
        self.assertLess(self.searched(reader, raw), 5 * len(raw))
        self.assertIdentical(reader.state, ENDED)


# --- What is remembered


def readOne(raw: bytes, limits: Limits = LIMITS) -> Request:
    """A request, read by a new reader."""
    reader = RequestReader(limits)
    reader.receive(raw)
    request = reader.nextHead()
    assert request is not None
    return request


def respondedOne(raw: bytes, method: str = "GET") -> tuple[Response, ResponseReader]:
    """A response, read by a new reader."""
    reader = ResponseReader(LIMITS)
    reader.expect(method)
    reader.receive(raw)
    response = reader.nextHead()
    assert response is not None
    return response, reader


class HeadTests(SynchronousTestCase):
    """Each head is read by itself, and nothing of it is kept."""

    def test_spelling(self) -> None:
        """Lines go on as they came, but for a length that is written in another way."""
        odd = (
            b"POST / HTTP/1.1\r\nHost:\ta \r\nA:b\r\nA:b\r\nB:  c\t\r\nX-Forwarded-For:d\r\n"
            b"x!_:\r\nContent-Length: 7\r\n\r\n"
        )
        for length in b":\t007 ", b":7", b":07", b": 7 ", b": 00000000000000007":
            request = readOne(odd.replace(b": 7", length))
            self.assertEqual((request.length, codec.requestHead(request, 7)), (7, odd))
            response, _ = respondedOne(ok(b"A:b", b"CONTENT-length%b" % length, b"B: "))
            self.assertEqual(
                codec.responseHead(response, 7), ok(b"A:b", b"CONTENT-length: 7", b"B: ")
            )

    def test_badHeads(self) -> None:
        """A malformed head is refused each time."""
        for raw in (
            get(b"A : b"),
            get(b"Host: b"),
            get(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
            get(start=b"GET /\x80 HTTP/1.1"),
            get(start=b"CONNECT / HTTP/1.1"),
            get(start=b"GET http://b/ HTTP/1.1"),
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            errors = [readRequests([raw])[1] for _ in range(3)]
            self.assertEqual(len(set(map(str, errors))), 1, errors)
            for error in errors:
                self.assertIsInstance(error, BadMessage, raw)
                self.assertNotIsInstance(error and error.__context__, KeyError)
        for raw in ok(b"A : b"), ok(start=b"HTTP/1.1 99 no"):
            for _ in range(3):
                self.assertRaises(BadResponse, respondedOne, raw)

    def test_limits(self) -> None:
        """Each reader has its own limits."""
        raw = post(b"A: b", b"Content-Length: 5", body=b"hello")
        size = len(raw) - 5
        for limits, refusal in (
            (Limits(head=size, fields=3, body=5), None),
            (Limits(), None),
            (Limits(head=size - 1), HeadTooLong),
            (Limits(fields=2), HeadTooLong),
            (Limits(body=4), BodyTooLong),
            (Limits(head=size, fields=3, body=5), None),
        ):
            for pieces in ([raw], bytewise(raw)):
                seen, error, _ = readRequests(pieces, limits)
                self.assertEqual(type(error), refusal or type(None), limits)
                self.assertEqual(len(seen), 0 if refusal else 1)
        raw = ok(b"A: b", b"Content-Length: 0")
        for limits in (Limits(), Limits(), Limits(head=len(raw) - 1), Limits(fields=1)):
            reader = ResponseReader(limits)
            if limits == Limits():
                self.assertEqual(readResponse(reader, [raw]).status, 200)  # type: ignore[union-attr]
            else:
                self.assertRaises(BadResponse, readResponse, reader, [raw])

    def test_ownRequest(self) -> None:
        """A change of one request does not change the next one with the same head."""
        raw = get(b"A: b", b"A: c", b"Content-Length: 0", start=b"PUT /x?y HTTP/1.1")
        _, first, untouched = readOne(raw), readOne(raw), readOne(raw)
        expected = codec.requestHead(untouched, 0)
        first.headers["A"] = "changed"
        first.headers.add("B", "added")
        del first.headers["Host"]
        first.headers.append(b"C: appended\r\n")
        first.method = "DELETE"
        first.target = "/other"
        first.body = b"other"
        first.length = 5
        for after in (untouched, readOne(raw)):
            self.assertEqual((after.method, after.target, after.path), ("PUT", "/x?y", "/x"))
            self.assertEqual((after.rawQuery, after.body, after.length), ("y", b"", 0))
            self.assertEqual(after.headers.allItems(), [("Host", "a"), ("A", "b"), ("A", "c")])
            self.assertEqual(codec.requestHead(after, 0), expected)
        self.assertEqual(
            codec.requestHead(first, None),
            b"DELETE /other HTTP/1.1\r\nA: changed\r\nB: added\r\nC: appended\r\n\r\n",
        )

    def test_ownResponse(self) -> None:
        """A change of one response does not change the next one with the same head."""
        raw = ok(b"A: b", FIVE)
        _, (first, _), (untouched, _) = respondedOne(raw), respondedOne(raw), respondedOne(raw)
        first.status, first.reason = 500, "Changed"
        first.headers["A"] = "changed"
        first.headers.clear()
        first.length = 7
        first.addFilter(bytes.upper)
        for after in (untouched, respondedOne(raw)[0]):
            self.assertEqual((after.status, after.reason, after.length), (200, "OK", 5))
            self.assertEqual((after.headers.allItems(), after.filters), ([("A", "b")], None))
            self.assertEqual(codec.responseHead(after, 5), raw)

    def test_ownTrailers(self) -> None:
        """Each message has its own trailers."""
        raw = chunked(b"0\r\nA: b\r\n\r\n")
        [one], [two], [none] = (readRequests([each])[0] for each in (raw, raw, get()))
        self.assertEqual((one.trailers, none.trailers), ([(b"A", b"b")], []))
        self.assertIsNot(one.trailers, two.trailers)

    def test_firstLines(self) -> None:
        """The same field lines are read according to the first line before them."""
        fields = (b"Expect: 100-continue", b"Connection: upgrade", b"Upgrade: a")
        announced = (b"Expect: 100-continue", b"Content-Length: 5")
        for _ in range(3):
            for start in b"POST / HTTP/1.1", b"POST / HTTP/1.0":
                request = readOne(get(*announced, start=start))
                self.assertEqual((request.length, request.content), (5, None))
                self.assertIn(b"Content-Length: 5\r\n", request.headers.encoded(5))
                self.assertNotIn(b"Content-Length", request.headers.encoded(None))
            new, old = (readOne(get(*fields, start=b"GET / HTTP/1.%d" % n)) for n in (1, 0))
            self.assertEqual((new.upgrade, "Expect" in new.headers), (b"a", True))
            self.assertEqual((old.upgrade, "Expect" in old.headers), (None, False))
            for start, keepAlive in ((b"GET / HTTP/1.1", True), (b"GET / HTTP/1.0", False)):
                self.assertEqual(readRequests([get(start=start)])[0][0].keepAlive, keepAlive)
            chunks = b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST
            self.assertIsNone(readRequests([b"POST / HTTP/1.1\r\n" + chunks])[1])
            self.assertIsInstance(readRequests([b"POST / HTTP/1.0\r\n" + chunks])[1], BadMessage)
            self.assertIsNone(readRequests([b"GET / HTTP/1.0\r\nA: b\r\n\r\n"])[1])
            self.assertIsInstance(readRequests([b"GET / HTTP/1.1\r\nA: b\r\n\r\n"])[1], BadMessage)

    def test_questions(self) -> None:
        """The same head of a response has a body or not, depending on the request's method."""
        raw = ok(FIVE, body=b"hello")
        for method, state in (("GET", LENGTH), ("HEAD", ENDED)) * 3:
            response, reader = respondedOne(raw, method)
            self.assertEqual((reader.state, response.length), (state, 5))
        for status, state, length in ((200, LENGTH, 5), (304, ENDED, 5), (204, ENDED, None)) * 3:
            response, reader = respondedOne(ok(FIVE, start=b"HTTP/1.1 %d x" % status))
            self.assertEqual((reader.state, response.length), (state, length))
            headers = response.headers
            self.assertEqual((headers.length, len(headers.rawFields)), (length, bool(length)))

    def test_sides(self) -> None:
        """Fields of requests and of responses differ in meaning."""
        twice = b"Host: a\r\nHost: b c\r\n\r\n"
        for _ in range(3):
            response, _ = respondedOne(b"HTTP/1.1 200 OK\r\n" + twice)
            self.assertEqual(response.headers.getAll("Host"), ["a", "b c"])
            self.assertIsInstance(readRequests([b"GET / HTTP/1.1\r\n" + twice])[1], BadMessage)


# --- The contract of readers


class ReaderTests(SynchronousTestCase):
    """The contract of a reader."""

    def test_holdsNothing(self) -> None:
        """Between two messages a reader keeps neither the head nor the body of the last one."""
        lines = [b"A: %d" % n + b"x" * 300 for n in range(90)]
        request = post(*lines, b"Content-Length: 5", body=b"hello")
        response = ok(*lines, FIVE, body=b"hello")
        readers: list[tuple[Any, bytes]] = [
            (RequestReader(Limits()), request),
            (ResponseReader(Limits()), response),
        ]
        for reader, raw in readers:
            # What the interpreter allocates for itself by chance is not in every round.
            self.assertLess(min(self.kept(reader, raw) for _ in range(3)), len(raw) // 10)

    def kept(self, reader: Any, raw: bytes) -> int:
        """How many more bytes are in use after a reader has read this message."""
        if isinstance(reader, ResponseReader):
            reader.expect("GET")
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            # Bytes of its own, as a transport gives them.
            reader.receive(bytes(bytearray(raw)))
            self.assertIsNotNone(reader.nextHead())
            self.assertEqual(reader.nextBody(), b"hello")
            self.assertIs(reader.state, ENDED)
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    def test_receiveOnlyStores(self) -> None:
        """C{receive} parses nothing, not even malformed bytes."""
        reader = RequestReader(LIMITS)
        reader.receive(b"\0")
        reader.receive(b"\n\n")
        self.assertEqual((reader.held, reader.state), (3, HEAD))
        self.assertRaises(BadMessage, reader.nextHead)

    def test_nothingReceived(self) -> None:
        """A reader without bytes returns no head and no body, and raises nothing."""
        for reader in (RequestReader(LIMITS), ResponseReader(LIMITS)):
            self.assertEqual((reader.nextHead(), reader.nextBody(), reader.held), (None, b"", 0))

    def test_bodyBeforeHead(self) -> None:
        """There is no body between an interim response and the next head."""
        reader = ResponseReader(LIMITS)
        reader.receive(CONTINUE + b"HTTP/1.1 200")
        self.assertNotIdentical(reader.nextHead(), None)
        self.assertEqual((reader.nextBody(), reader.held), (b"", 12))

    def test_noBodyInTunnel(self) -> None:
        """Bytes of another protocol are not a body; C{takeRest} returns them once."""
        reader = ResponseReader(LIMITS)
        reader.receive(
            ok(b"Upgrade: a", b"Connection: upgrade", start=b"HTTP/1.1 101 x") + b"\0\xff"
        )
        reader.nextHead()
        self.assertEqual(
            (reader.nextBody(), reader.takeRest(), reader.takeRest(), reader.held),
            (b"", b"\0\xff", b"", 0),
        )

    def test_restOfUpgrade(self) -> None:
        """C{takeRest} returns the bytes after an upgrade request."""
        reader = RequestReader(LIMITS)
        reader.receive(get(b"Connection: upgrade", b"Upgrade: a"))
        reader.nextHead()
        reader.receive(b"ab")
        reader.receive(b"cd")
        self.assertEqual((reader.held, reader.takeRest(), reader.held), (4, b"abcd", 0))

    def test_bodyUncopied(self) -> None:
        """A piece of a body of known length is returned without a copy."""
        reader = RequestReader(LIMITS)
        reader.receive(post(b"Content-Length: 2000"))
        reader.nextHead()
        piece = b"x" * 1000
        reader.receive(piece)
        self.assertIdentical(reader.nextBody(), piece)
        self.assertEqual(reader.left, 1000)

    def test_responseUncopied(self) -> None:
        """A piece of a response that ends with its connection is returned without a copy."""
        reader = ResponseReader(LIMITS)
        reader.receive(ok())
        reader.nextHead()
        piece = b"x" * 1000
        reader.receive(piece)
        self.assertIdentical(reader.nextBody(), piece)
        self.assertIdentical(reader.left, None)

    def test_left(self) -> None:
        """C{left} is the number of bytes of a body that are still to come, if it is known."""
        reader = RequestReader(LIMITS)
        reader.receive(post(b"Content-Length: 5", body=b"he"))
        self.assertIdentical(reader.left, None)
        reader.nextHead()
        self.assertEqual(reader.left, 5)
        reader.nextBody()
        self.assertEqual(reader.left, 3)

    def test_requestIncomplete(self) -> None:
        """C{content} of a request is L{None} if a body is to come, and C{b""} if there is none."""
        for raw, body in (
            (post(b"Content-Length: 5"), None),
            (chunked(b""), None),
            (post(b"Content-Length: 0"), b""),
            (post(), b""),
        ):
            reader = RequestReader(LIMITS)
            reader.receive(raw)
            head = reader.nextHead()
            self.assertEqual(head and head.content, body)

    def test_trailersOfTheirMessage(self) -> None:
        """Trailers, Host and C{forwarded} are those of the current message."""
        first = chunked(b"0\r\nA: b\r\n\r\n", b"X-Forwarded-For: c")
        seen, error, _ = readRequests([first + NEXT + b"GET / HTTP/1.0\r\n\r\n"])
        self.assertEqual(
            ([(each.trailers, each.forwarded, each.host) for each in seen], error),
            ([([(b"A", b"b")], True, b"a"), ([], False, b"a"), ([], False, None)], None),
        )

    def test_lostBeforeResponse(self) -> None:
        """If the connection ends before the first byte of a response, the request was only sent."""
        reader = ResponseReader(LIMITS)
        error = self.assertRaises(UpstreamLost, reader.connectionLost)
        self.assertEqual(error.reached, Reached.SENT)

    def test_lostBeforeLaterResponse(self) -> None:
        """The same holds for a reused connection."""
        reader = ResponseReader(LIMITS)
        readResponse(reader, [ok(FIVE, body=b"hello")])
        reader.expect("GET")
        error = self.assertRaises(UpstreamLost, reader.connectionLost)
        self.assertEqual(error.reached, Reached.SENT)

    def test_lostAfterInterim(self) -> None:
        """After an interim response the request counts as answered."""
        reader = ResponseReader(LIMITS)
        readResponse(reader, [CONTINUE])
        error = self.assertRaises(UpstreamLost, reader.connectionLost)
        self.assertEqual(error.reached, Reached.ANSWERED)

    def test_lostWithinFirstBytes(self) -> None:
        """After one byte of a response the request counts as answered."""
        reader = ResponseReader(LIMITS)
        readResponse(reader, [b"H"])
        error = self.assertRaises(UpstreamLost, reader.connectionLost)
        self.assertEqual(error.reached, Reached.ANSWERED)

    def test_methodOfEachResponse(self) -> None:
        """The framing of each response on a connection depends on its request's method."""
        reader = ResponseReader(LIMITS)
        responses = []
        for method, raw in (
            ("HEAD", ok(FIVE)),
            ("GET", ok(FIVE, body=b"hello")),
            ("HEAD", ok(b"Transfer-Encoding: chunked")),
            ("POST", ok(b"Transfer-Encoding: chunked", body=HELLO)),
        ):
            reader.expect(method)
            self.assertEqual(reader.state, FIRST)
            response = readResponse(reader, [raw])
            responses.append(response and (response.body, response.state, response.rest))
        self.assertEqual(
            responses,
            [(b"", ENDED, b""), (b"hello", ENDED, b""), (b"", ENDED, b""), (b"hello", ENDED, b"")],
        )

    def test_sentence(self) -> None:
        """The error of a malformed response names the response and the mistake."""
        error = self.assertRaises(BadResponse, readResponse, ResponseReader(LIMITS), [b"no reply"])
        self.assertEqual(str(error), "the response has no status line")


# --- What other parsers let pass


class StrictTests(SynchronousTestCase):
    """What push parsers such as llhttp leave to their callers, and the readers do themselves."""

    def test_pause(self) -> None:
        """Pipelined requests are taken one at a time; the next one is not parsed."""
        reader = RequestReader(LIMITS)
        reader.receive(get() + b"\0 no request\n")
        self.assertNotIdentical(reader.nextHead(), None)
        self.assertEqual((reader.nextBody(), reader.state, reader.held), (b"", ENDED, 13))
        self.assertRaises(BadMessage, reader.nextHead)

    def test_headLimit(self) -> None:
        """A field without an end is limited with its head."""
        reader = RequestReader(LIMITS)
        reader.receive(b"GET / HTTP/1.1\r\nA: ")
        reader.nextHead()
        reader.receive(b"x" * 65536)
        self.assertRaises(HeadTooLong, reader.nextHead)

    def test_fieldLimit(self) -> None:
        """The number of fields is limited."""
        _, error, _ = readRequests([get(*[b"a:"] * 50)])
        self.assertIsInstance(error, HeadTooLong)

    def test_bodilessResponses(self) -> None:
        """Responses to HEAD, 204 and 304 do not take bytes of the next response."""
        for method, start in (
            ("HEAD", b"HTTP/1.1 200 OK"),
            ("GET", b"HTTP/1.1 204 No Content"),
            ("GET", b"HTTP/1.1 304 Not Modified"),
        ):
            following = ok(FIVE, body=b"hello")
            reader = ResponseReader(LIMITS)
            reader.expect(method)
            response = readResponse(reader, [ok(FIVE, start=start) + following])
            self.assertEqual(response and (response.body, response.state), (b"", ENDED))
            self.assertEqual(response and response.rest, following)

    def test_endAtConnectionLost(self) -> None:
        """A response without length or chunks is complete when its connection ends."""
        reader = ResponseReader(LIMITS)
        reader.receive(ok(body=b"hello"))
        reader.nextHead()
        self.assertEqual((reader.nextBody(), reader.state), (b"hello", UNTIL_CLOSE))
        reader.connectionLost()
        self.assertIdentical(reader.state, ENDED)

    def test_truncation(self) -> None:
        """A response without all of its length or chunks is incomplete when its connection ends."""
        for raw in (
            ok(FIVE, body=b"hell"),
            ok(b"Transfer-Encoding: chunked", body=HELLO[:-2]),
        ):
            response = readResponse(ResponseReader(LIMITS), [raw])
            self.assertEqual(response and response.lost, Reached.ANSWERED)

    def test_trailers(self) -> None:
        """Trailers are not among the fields of the head."""
        raw = chunked(b"0\r\nA: b\r\n\r\n")
        seen, _, _ = readRequests([raw])
        self.assertEqual(
            [(each.fields, each.trailers) for each in seen], [([HOST], [(b"A", b"b")])]
        )

    def test_pieces(self) -> None:
        """Target and reason are complete, in whatever pieces the head arrives."""
        raw = get(start=b"GET /a/long/target?with=query HTTP/1.1")
        for at in range(1, len(raw)):
            seen, _, _ = readRequests(cut(raw, [at]))
            self.assertEqual([each.target for each in seen], ["/a/long/target?with=query"])
        raw = ok(FIVE, start=b"HTTP/1.1 404 No Such Thing", body=b"hello")
        for at in range(1, len(raw)):
            response = readResponse(ResponseReader(LIMITS), cut(raw, [at]))
            self.assertEqual(response and response.reason, "No Such Thing")

    def test_interimResponses(self) -> None:
        """Interim and final responses are separate."""
        response = readResponse(ResponseReader(LIMITS), [CONTINUE + ok(FIVE, body=b"hello")])
        self.assertEqual(response, five(interim=[(100, "Continue", [])]))

    def test_unusableCoding(self) -> None:
        """
        A message with an unusable Transfer-Encoding is refused with its head; complete
        messages before it are read first.
        """
        seen, error, _ = readRequests([NEXT + post(b"Transfer-Encoding: gzip", body=b"hello")])
        self.assertEqual((seen, type(error)), ([Asked(target="/next")], BadMessage))

    def test_whatIsNotRefused(self) -> None:
        """Messages are refused that other parsers accept and a proxy must not."""
        for raw, refusal in (
            (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", BadMessage),
            (get(b"Host: b"), BadMessage),
            (get(start=b"GET / HTTP/2.0"), BadVersion),
            (get(start=b"GET http://b/ HTTP/1.1"), BadMessage),
        ):
            _, error, _ = readRequests([raw])
            self.assertIdentical(type(error), refusal)

    def test_upgradeWithBody(self) -> None:
        """The body of an upgrade is read, and then the rest."""
        raw = post(b"Connection: upgrade", b"Upgrade: a", b"Content-Length: 5")
        seen, error, _ = readRequests([raw + b"hello" + NEXT])
        self.assertEqual(([each.body for each in seen], error), ([b"hello", b""], None))

    def test_framingIsOurs(self) -> None:
        """Fields of framing that could be read in two ways are refused."""
        coding = b"Transfer-Encoding: chunked"
        for framed in (
            (FIVE, coding),
            (FIVE, FIVE),
            (coding, coding),
            (b"Content-Length: +5",),
            (b"Content-Length: 5, 5",),
            (b"Content-Length:",),
            (b"Content-Length: 18446744073709551621",),
            (b"Transfer-Encoding: gzip",),
            (b"Transfer-Encoding: chunked, gzip",),
            (b"Transfer-Encoding: \x0bchunked",),
            (b"Transfer-Encoding:",),
        ):
            _, error, _ = readRequests([post(*framed, body=HELLO)])
            self.assertIs(type(error), BadMessage, framed)
            reader = ResponseReader(LIMITS)
            self.assertRaises(BadResponse, readResponse, reader, [ok(*framed, body=HELLO)])


# --- Writing


class WriterTests(SynchronousTestCase):
    """Each message is written as exactly one message."""

    def test_request(self) -> None:
        """A request is written with its fields, in HTTP/1.1."""
        request = Request(
            "PUT", "/a?b", Headers.fromWire([(b"host", b"A"), (b"X-y", b"\xe9 ")]), "1.0"
        )
        self.assertEqual(
            codec.requestHead(request, None), b"PUT /a?b HTTP/1.1\r\nhost: A\r\nX-y: \xe9 \r\n\r\n"
        )

    def test_requestExtra(self) -> None:
        """Extra lines are written at the end of the head."""
        self.assertEqual(
            codec.requestHead(Request("GET", "*"), None, extra=b"A: b\r\n"),
            b"GET * HTTP/1.1\r\nA: b\r\n\r\n",
        )

    def test_requestUpgrade(self) -> None:
        """Connection and Upgrade are written by sitio."""
        self.assertEqual(
            codec.requestHead(Request("GET", "/", upgrade=b"a/1"), None),
            b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a/1\r\n\r\n",
        )

    def test_requestChunked(self) -> None:
        """A chunked body is announced."""
        self.assertEqual(
            codec.requestHead(Request("POST", "/"), None, chunked=True),
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        )

    def test_response(self) -> None:
        """A response is written with its reason and fields."""
        for reason in ("OK", "Whatever", "", "\xe9"):
            response = Response.fromWire(200, reason, [(b"server", b"a"), (b"A", b"\xff")])
            self.assertEqual(
                codec.responseHead(response, 0, extra=b"B: c\r\n"),
                b"HTTP/1.1 200 %b\r\nserver: a\r\nA: \xff\r\nContent-Length: 0\r\nB: c\r\n\r\n"
                % reason.encode("latin-1"),
            )

    def test_responseUpgrade(self) -> None:
        """Upgrade is written in a 101, and not in other responses."""
        switching = Response.fromWire(101, "Switching Protocols", [], upgrade=b"a")
        self.assertEqual(
            codec.responseHead(switching, None),
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n",
        )
        offering = Response.fromWire(200, "OK", [], upgrade=b"a")
        self.assertEqual(codec.responseHead(offering, None), b"HTTP/1.1 200 OK\r\n\r\n")

    def test_reasonThatCannotBeSent(self) -> None:
        """A reason that can't be sent is left out."""
        for reason in ("a\r\nSet-Cookie: b", "a\n", "\0"):
            response = Response(200)
            response.reason = reason
            self.assertEqual(codec.responseHead(response, None), b"HTTP/1.1 200 \r\n\r\n")
        response.reason = "10 \N{EURO SIGN}"
        self.assertEqual(codec.responseHead(response, None), b"HTTP/1.1 200 10 ?\r\n\r\n")

    def test_upgradeNamed(self) -> None:
        """Upgrade is written in 101 and 426, and in no other response."""
        upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
        for status, expected in ((101, upgrade), (426, upgrade), (200, b"")):
            head = codec.responseHead(Response.fromWire(status, "X", [], None, b"websocket"), None)
            self.assertEqual(head, b"HTTP/1.1 %d X\r\n%b\r\n" % (status, expected))

    def test_lengthInItsPlace(self) -> None:
        """Content-Length keeps its place and spelling."""
        fields = [(b"A", b"b"), (b"content-length", b"5"), (b"C", b"d")]
        self.assertEqual(
            codec.responseHead(Response.fromWire(200, "OK", fields, 5), 5),
            b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 5\r\nC: d\r\n\r\n",
        )

    def test_lengthThatIsNoLongerTrue(self) -> None:
        """An outdated Content-Length is replaced."""
        fields = [(b"A", b"b"), (b"Content-Length", b"5")]
        response = Response.fromWire(200, "OK", fields, 5)
        self.assertEqual(
            codec.responseHead(response, 7), b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 7\r\n\r\n"
        )
        self.assertEqual(
            codec.responseHead(response, None, chunked=True),
            b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n",
        )

    def test_lengthOfAnotherMessage(self) -> None:
        """A Content-Length that a policy copied from another response is not written."""
        upstream = Response.fromWire(200, "OK", [(b"Content-Length", b"5"), (b"A", b"b")], 5)
        made = Response(200, body=b"made up", headers=upstream.headers)
        self.assertEqual(
            codec.responseHead(made, 7), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nA: b\r\n\r\n"
        )

    def test_lengthThatAPolicyLost(self) -> None:
        """New fields of a policy do not change the framing."""
        request = Request("POST", "/", Headers(), body=None, length=5)
        self.assertEqual(
            codec.requestHead(request, 5), b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
        )

    def test_lengthTwice(self) -> None:
        """Only one Content-Length is written, even if there are several."""
        fields = [(b"Content-Length", b"5"), (b"CONTENT-LENGTH", b"6")]
        self.assertEqual(
            codec.responseHead(Response.fromWire(200, "OK", fields), 7),
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        )

    def test_chunk(self) -> None:
        """
        A chunk has its size and its data; empty data is not written, as it would be the
        last chunk.
        """
        self.assertEqual(codec.chunk(b"x" * 26), b"1a\r\n" + b"x" * 26 + b"\r\n")
        self.assertEqual(codec.chunk(b""), b"")

    def test_lastChunk(self) -> None:
        """The last chunk has the trailers."""
        self.assertEqual(codec.lastChunk(), b"0\r\n\r\n")
        self.assertEqual(
            codec.lastChunk([(b"A", b"b"), (b"c", b"\xe9")]), b"0\r\nA: b\r\nc: \xe9\r\n\r\n"
        )


# --- Properties

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _bytesOf(
    alphabet: Iterable[int], min_size: int = 0, max_size: int = 20
) -> st.SearchStrategy[bytes]:
    each = st.sampled_from(bytes(alphabet))
    return st.lists(each, min_size=min_size, max_size=max_size).map(bytes)


tokens = _bytesOf(_TOKEN, min_size=1, max_size=10)
methods = st.one_of(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND"]), tokens
).filter(lambda each: each != b"CONNECT")
targets = _bytesOf(each for each in range(0x21, 0x7F) if each != ord("#")).map(
    lambda each: b"/" + each
)
names = tokens.filter(lambda each: each.lower() not in head.SPECIAL_FIELDS)
values = _bytesOf([9, *range(0x20, 0x7F), *range(0x80, 0x100)]).map(
    lambda each: each.lstrip(b" \t")
)
lines = st.lists(st.tuples(names, values), max_size=5)
bodies = st.lists(st.binary(min_size=1, max_size=50), max_size=4)
extensions = st.sampled_from([b"", b";a", b' ;b="c"', b" "])
reasons = _bytesOf([9, *range(0x20, 0x7F), *range(0x80, 0x100)], max_size=10)


def _raw(start: bytes, fields: Fields, body: bytes) -> bytes:
    return b"%b\r\n%b\r\n%b" % (start, b"".join(b"%b: %b\r\n" % each for each in fields), body)


@st.composite
def framings(draw: st.DrawFn) -> tuple[Fields, bytes, int | None, bytes, Fields]:
    """Framing fields, the body in that framing, its length, the body, and its trailers."""
    pieces = draw(bodies)
    body = b"".join(pieces)
    kind = draw(st.sampled_from(["none", "length", "chunks"]))
    if kind == "none":
        return [], b"", None, b"", []
    if kind == "length":
        return [(b"Content-Length", b"%d" % len(body))], body, len(body), body, []
    trailers = draw(lines)
    framed = b"".join(
        b"%X%b\r\n%b\r\n" % (len(each), draw(extensions), each) for each in pieces
    ) + codec.lastChunk(trailers)
    return [(b"Transfer-Encoding", b"chunked")], framed, None, body, trailers


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, Asked]:
    """A valid request, and the expected result of reading it."""
    method, target, fields = draw(methods), draw(targets), draw(lines)
    framing, framed, length, body, trailers = draw(framings())
    at = draw(st.integers(0, len(fields)))
    sent = [*fields[:at], HOST, *framing, *fields[at:]]
    return (
        draw(st.sampled_from([b"", b"", b"\r\n"]))
        + _raw(b"%b %b HTTP/1.1" % (method, target), sent, framed),
        Asked(
            method.decode(),
            target.decode(),
            [each for each in sent if each[0] != b"Transfer-Encoding"],
            length=length,
            body=body,
            trailers=trailers,
        ),
    )


@st.composite
def responses(draw: st.DrawFn) -> tuple[str, bytes, Responded]:
    """The method of a request, a valid response, and the expected result of reading it."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "FOO"]))
    status = draw(st.sampled_from([200, 204, 206, 304, 404, 500, 999]))
    reason, fields = draw(reasons), draw(lines)
    framing, framed, length, body, trailers = draw(framings())
    bodiless = method == "HEAD" or status in (204, 304)
    if bodiless:
        framed, body, trailers = b"", b"", []
    state, keepAlive = ENDED, True
    if not framing and not bodiless:
        state, keepAlive, framed = UNTIL_CLOSE, False, draw(st.binary(max_size=50))
        body = framed
    kept = [*fields, *framing] if length is not None and status != 204 else fields
    interim = draw(st.lists(st.tuples(st.sampled_from([100, 103]), lines), max_size=2))
    raw = b"".join(_raw(b"HTTP/1.1 %d x" % code, some, b"") for code, some in interim)
    return (
        method,
        raw + _raw(b"HTTP/1.1 %d %b" % (status, reason), [*fields, *framing], framed),
        Responded(
            status,
            reason.decode("latin-1"),
            kept,
            None if status == 204 else length,
            body,
            trailers,
            keepAlive=keepAlive,
            state=state,
            interim=[(code, "x", some) for code, some in interim],
        ),
    )


places = st.lists(st.integers(0, 2000), max_size=12)

#: What a mutation likes to put in.
SPICE = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\xff", b"\r\n\r\n", b"0", b"-",
    b"chunked", b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b",
    b"\r\nConnection: close", b"\r\nConnection: upgrade\r\nUpgrade: a", b"0\r\n\r\n", b"\r\nA: b",
    b"HTTP/1.0", NEXT, b"\n\n", b"\r\n ",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Valid messages with bytes changed, inserted, removed and moved."""
    raw = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        end = min(len(raw), at + draw(st.integers(1, 8)))
        kind = draw(st.sampled_from(["change", "put in", "take out", "double", "splice"]))
        if kind == "change":
            raw[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "put in":
            raw[at:at] = draw(st.sampled_from(SPICE))
        elif kind == "take out":
            del raw[at:end]
        elif kind == "double":
            raw[at:at] = raw[at:end]
        else:
            other = draw(valid)
            raw[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(raw)


anyRequests = st.lists(requests(), min_size=1, max_size=3).map(
    lambda each: b"".join(raw for raw, _ in each)
)
anyResponses = responses().map(lambda each: each[1])
#: Rows of the tables, which are closer to the edge than what is made up.
requestRows = st.sampled_from(
    [row[1] for table in (LENGTHS, CODINGS, CHUNKS, TRAILERS, CONNECTIONS) for row in table]
)
responseRows = st.sampled_from([row[2] for table in (RESPONSE_FRAMING, INTERIM) for row in table])

#: Methods that httptools knows, for which it can be asked for a second opinion.
_KNOWN = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class _Opinion:
    """The messages and bodies that httptools finds."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.whole = 0

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        self.bodies[-1] += data

    def on_message_complete(self) -> None:
        self.whole += 1


class PropertyTests(SynchronousTestCase):
    """Properties of any message."""

    @given(st.lists(requests(), min_size=1, max_size=4), places)
    def test_cutRequests(self, messages: list[tuple[bytes, Asked]], at: list[int]) -> None:
        """Valid pipelined requests are read, in whatever pieces they arrive."""
        raw = b"".join(raw for raw, _ in messages)
        expected = [asked for _, asked in messages]
        for pieces in ([raw], cut(raw, at), bytewise(raw)):
            self.assertEqual(readRequests(pieces)[:2], (expected, None))

    @given(responses(), places)
    def test_cutResponses(self, response: tuple[str, bytes, Responded], at: list[int]) -> None:
        """A valid response is read, in whatever pieces it arrives."""
        method, raw, expected = response
        for pieces in ([raw], cut(raw, at), bytewise(raw)):
            reader = ResponseReader(LIMITS)
            reader.expect(method)
            self.assertEqual(readResponse(reader, pieces), expected)

    @given(mutated(anyRequests | requestRows), places)
    def test_mutatedRequests(self, raw: bytes, at: list[int]) -> None:
        """
        Any bytes are read, or refused with BadMessage or a subclass; the result does not
        depend on the pieces in which they arrive.
        """
        seen, error, state = readRequests([raw])
        self.assertIsInstance(error, (BadMessage, type(None)))
        for pieces in (cut(raw, at), bytewise(raw)):
            again, otherError, otherState = readRequests(pieces)
            self.assertEqual(again, seen)
            self.assertEqual(error is None, otherError is None)
            if error is None and state is not ENDED:
                self.assertIdentical(otherState, state)

    @given(st.sampled_from(["GET", "HEAD"]), mutated(anyResponses | responseRows), places)
    def test_mutatedResponses(self, method: str, raw: bytes, at: list[int]) -> None:
        """
        Any bytes are read, or refused with BadResponse, in whatever pieces they arrive.
        """

        def outcome(pieces: Iterable[bytes]) -> object:
            reader = ResponseReader(LIMITS)
            reader.expect(method)
            try:
                return readResponse(reader, pieces)
            except BadResponse as error:
                return error.reached

        whole = outcome([raw])
        self.assertEqual(outcome(cut(raw, at)), whole)
        self.assertEqual(outcome(bytewise(raw)), whole)

    @given(mutated(anyRequests | requestRows))
    def test_sentOn(self, raw: bytes) -> None:
        """
        An accepted request is forwarded as exactly one request: it is read again as the same,
        and httptools finds the same body and end.
        """
        for asked in readRequests([raw])[0]:
            request = Request(
                asked.method,
                asked.target,
                Headers.fromWire(asked.fields),
                length=asked.length,
                upgrade=asked.upgrade,
            )
            framed, inChunks = asked.body, asked.length is None and bool(asked.body)
            extra = b"" if asked.host is not None else b"Host: a\r\n"
            head = codec.requestHead(request, asked.length, chunked=inChunks, extra=extra)
            if inChunks:
                framed = codec.chunk(asked.body) + codec.lastChunk(asked.trailers)
            sent = head + framed
            again, error, _ = readRequests([sent + NEXT])
            expected = evolve(
                asked,
                version="1.1",
                keepAlive=True,
                host=b"a" if asked.host is None else asked.host,
                fields=asked.fields + ([HOST] if asked.host is None else []),
                trailers=asked.trailers if inChunks else [],
            )
            if asked.length is not None:
                expected = _withLength(expected)
            self.assertEqual((again, error), ([expected, Asked(target="/next")], None))
            if asked.method in _KNOWN and asked.upgrade is None:
                opinion = _Opinion()
                httptools.HttpRequestParser(opinion).feed_data(sent + NEXT)
                self.assertEqual((opinion.bodies, opinion.whole), ([asked.body, b""], 2))

    @given(responses())
    def test_responsesSentOn(self, case: tuple[str, bytes, Responded]) -> None:
        """A response that is read and written is read again as the same."""
        method, raw, _ = case
        reader = ResponseReader(LIMITS)
        reader.expect(method)
        responded = readResponse(reader, [raw])
        assert responded is not None
        response = Response.fromWire(
            responded.status, responded.reason, responded.fields, responded.length
        )
        inChunks = responded.length is None and bool(responded.body)
        sent = codec.responseHead(response, responded.length, chunked=inChunks)
        if inChunks:
            sent += codec.chunk(responded.body) + codec.lastChunk(responded.trailers)
        else:
            sent += responded.body
        other = ResponseReader(LIMITS)
        other.expect(method)
        again = readResponse(other, [sent])
        untilClose = responded.state is UNTIL_CLOSE and not inChunks
        expected = evolve(
            responded,
            interim=[],
            trailers=responded.trailers if inChunks else [],
            state=responded.state if untilClose else ENDED,
            keepAlive=not untilClose,
        )
        if not inChunks and responded.state is ENDED and again and again.state is UNTIL_CLOSE:
            # An empty body in chunks: nothing of it is left to be written.
            expected = evolve(expected, state=UNTIL_CLOSE, keepAlive=False)
        self.assertEqual(again, expected)

    @given(methods, targets, lines, bodies, lines)
    def test_roundTrip(
        self, method: bytes, target: bytes, fields: Fields, pieces: list[bytes], trailers: Fields
    ) -> None:
        """A request that is written in chunks is read again as the same."""
        request = Request(method.decode(), target.decode(), Headers.fromWire([HOST, *fields]))
        sent = (
            codec.requestHead(request, None, chunked=True)
            + b"".join(map(codec.chunk, pieces))
            + codec.lastChunk(trailers)
        )
        expected = Asked(
            request.method,
            request.target,
            [HOST, *fields],
            body=b"".join(pieces),
            trailers=trailers,
        )
        self.assertEqual(readRequests([sent])[:2], ([expected], None))


def _withLength(asked: Asked) -> Asked:
    """The fields with the length as it is written: without zeros or blanks."""
    return evolve(
        asked,
        fields=[
            (name, b"%d" % asked.length)
            if asked.length is not None and name.lower() == b"content-length"
            else (name, value)
            for name, value in asked.fields
        ],
    )
