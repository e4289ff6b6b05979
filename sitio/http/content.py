"""
What requests and responses share: L{Message}, with the meaning of its body.
"""

from __future__ import annotations

import json as _json
import re
from codecs import lookup
from collections.abc import Callable
from typing import Any

from sitio.http.codings import MAX_DECODED_BYTES, UnreadableBody, decoded
from sitio.http.headers import Headers
from sitio.http.lines import Pairs, pairsOf

#: Fields that are wrong beside another body: how it is coded (RFC 9110, section 8.4), its
#: validators (section 8.8) and ranges (section 14.3), its digests (RFC 9530) and signatures
#: (RFC 9421).  Vary stays: the upstream still chooses by it.
ABOUT_THE_BODY = (
    "Content-Encoding",
    "ETag",
    "Last-Modified",
    "Accept-Ranges",
    "Content-Digest",
    "Repr-Digest",
    "Digest",
    "Content-MD5",
    "Signature",
    "Signature-Input",
)

_parameters = re.compile(
    r";[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(\"(?:[^\"\\]|\\.)*\"|[^;\s]*)"
).findall

# Python's codecs for texts that are no charsets of messages.
_NO_CHARSETS = frozenset(
    ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7")
)

_JSON = re.compile(r"application/(?:json|x-www-form-urlencoded|[^;\s]*\+json)$").match


def charsetOf(contentType: str) -> str | None:
    """The parameter C{charset} of a Content-Type (RFC 9110, section 8.3.2), or L{None}."""
    for name, value in _parameters(contentType):
        if name.lower() == "charset":
            return str(value).strip('"') or None
    return None


def inUTF8(contentType: str) -> str:
    """
    The same Content-Type for a body in UTF-8.  JSON and forms have no charset: they are always
    in UTF-8 (RFC 8259, section 8.1).
    """
    media = contentType.partition(";")[0].strip(" \t")
    kept = [f"; {n}={v}" for n, v in _parameters(contentType) if n.lower() != "charset"]
    charset = "" if _JSON(media.lower()) else "; charset=utf-8"
    return media + "".join(kept) + charset


def jsonOf(value: Any) -> bytes:
    """
    A value as JSON, in ASCII.

    @raise ValueError: it has a number that is NaN or infinite (RFC 8259, section 6).
    @raise TypeError: it has something else that is no JSON.
    """
    return _json.dumps(value, allow_nan=False).encode()


def _noConstant(name: str) -> None:
    raise ValueError(f"it has no {name}")


def _decodeText(body: bytes, charset: str) -> str:
    try:
        codec = lookup(charset).name
        if codec not in _NO_CHARSETS:
            # A byte order mark of UTF-8 is no part of the text.
            return body.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        raise UnreadableBody(f"the body is not text in {codec}; use decoded") from error
    except (LookupError, ValueError):
        pass
    raise UnreadableBody(f"nobody knows the charset {charset[:20]!r}; use decoded")


class Message:
    """
    What requests and responses share: their fields, and what their bodies mean.

    B{Reading} C{decoded}, C{text} or C{json()} needs the whole body, and raises
    L{UnreadableBody}, a C{ValueError}, if that is still to come or is not what its fields say.

    B{Setting} one of them replaces the representation (RFC 9110, section 8): the new body has no
    content coding, and the fields about the old one are removed, which are
    L{ABOUT_THE_BODY}.  C{text} and C{json} are sent in UTF-8, and Content-Type says so.  A part
    of a representation (206, or Content-Range) can't be replaced: C{ValueError}.
    """

    __slots__ = ("_received", "body", "fields", "length", "upgrade", "version")

    #: For sitio: C{headers}, which a property costs a call to read.
    fields: Headers
    #: The field lines as received, or L{None} if they were not.
    _received: bytes | None
    body: bytes | None

    @property
    def headers(self) -> Headers:
        return self.fields

    @headers.setter
    def headers(self, headers: Headers) -> None:
        if not isinstance(headers, Headers):
            raise TypeError(f"headers of a message are Headers, not {type(headers).__name__}")
        self.fields = headers

    @property
    def received(self) -> bytes:
        """The field lines in wire form, as received, whatever policies have changed since."""
        received = self._received
        return self.fields.lines if received is None else received

    @property
    def receivedFields(self) -> Pairs:
        """Name and value of each line of C{received}, in a new list."""
        return pairsOf(self.received)

    @property
    def rawFields(self) -> Pairs:
        """Name and value of each line of C{headers}, in a new list."""
        return pairsOf(self.fields.lines)

    def decode(self, limit: int = MAX_DECODED_BYTES) -> bytes:
        """
        The whole body without its content codings: gzip, deflate, and br and zstd if their
        libraries are installed.  It is decoded anew at each call.

        @param limit: bytes of the result.

        @raise UnreadableBody: the body is not whole, longer than the limit, or not of the coding
            that it is said to have.
        """
        if limit < 0:
            raise ValueError(f"decode(limit={limit!r}): write a number of bytes, 0 or more")
        body = self.body
        if body is None:
            raise UnreadableBody(
                "the body still streams: a policy with buffered=True gets the whole body"
            )
        codings = self.headers.get("Content-Encoding")
        return body if codings is None else decoded(body, codings, limit)

    @property
    def decoded(self) -> bytes:
        """The body without its content codings, 16 MiB at most; see L{decode}."""
        return self.decode()

    @decoded.setter
    def decoded(self, body: bytes) -> None:
        if not isinstance(body, bytes):
            raise TypeError(f"a decoded body is bytes, not {type(body).__name__}")
        self._replaceBody(body)

    @property
    def text(self) -> str:
        """
        The decoded body as text, by the charset of Content-Type, which is UTF-8 if it says
        none.  Bytes that are no text in this charset are an error: a policy that sends the text
        on would damage them.
        """
        return _decodeText(
            self.decode(), charsetOf(self.headers.get("Content-Type", "")) or "utf-8"
        )

    @text.setter
    def text(self, text: str) -> None:
        body = text.encode()
        self._replaceBody(body, inUTF8(self.headers.get("Content-Type") or "text/plain"))

    @property
    def json(self) -> Callable[[], Any]:
        """
        C{message.json()} is the decoded body, parsed as JSON (RFC 8259); C{message.json = value}
        sets it to any value that C{json.dumps} takes, but for NaN and infinite numbers, which are
        no JSON (section 6).
        """
        return self._readJson

    @json.setter
    def json(self, value: Any) -> None:
        kind = self.headers.get("Content-Type", "")
        body = jsonOf(value)
        self._replaceBody(body, inUTF8(kind) if "json" in kind.lower() else "application/json")

    def _readJson(self) -> Any:
        charset = charsetOf(self.headers.get("Content-Type", ""))
        body = self.decode() if charset is None else self.text
        if not body:
            raise UnreadableBody(
                "there is no body, as in a response to HEAD or a 304: check it before json()"
            )
        try:
            return _json.loads(body, parse_constant=_noConstant)
        except UnicodeDecodeError as error:
            raise UnreadableBody("the body is not JSON: it is not in UTF-8") from error
        except ValueError as error:
            # Without the cause, which has the whole body.
            raise UnreadableBody(f"the body is not JSON: {error}") from None
        except RecursionError:
            raise UnreadableBody("the body is JSON that is nested too deeply") from None

    def _replaceBody(self, body: bytes, contentType: str | None = None) -> None:
        headers = self.fields
        if self._isPart(headers):
            raise ValueError(
                "this is a part of a body (206 or Content-Range), which can't be replaced: remove"
                " Range from requests"
            )
        for name in ABOUT_THE_BODY:
            if name in headers:
                del headers[name]
        if contentType is not None:
            headers["Content-Type"] = contentType
        self.body = body

    def _isPart(self, headers: Headers) -> bool:
        return "Content-Range" in headers
