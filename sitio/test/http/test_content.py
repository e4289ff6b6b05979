"""
Tests of L{sitio.http.content}: what the bodies of messages mean.
"""

from __future__ import annotations

import gzip
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.codings import UnreadableBody
from sitio.http.content import ABOUT_THE_BODY, charsetOf, inUTF8
from sitio.http.message import Headers, Request, Response
from sitio.http.request import BodyNotBuffered

#: Content-Type, its charset, and the same for UTF-8.
TYPES = [
    ("text/html", None, "text/html; charset=utf-8"),
    ("text/html; charset=ISO-8859-1", "ISO-8859-1", "text/html; charset=utf-8"),
    ('text/html;charset="windows-1252" ; a=b', "windows-1252", "text/html; a=b; charset=utf-8"),
    ('text/plain; a="; charset=x"', None, 'text/plain; a="; charset=x"; charset=utf-8'),
    ("application/json; charset=latin-1", "latin-1", "application/json"),
    ("application/problem+json; v=1", None, "application/problem+json; v=1"),
    ("application/x-www-form-urlencoded", None, "application/x-www-form-urlencoded"),
    ("image/svg+xml; CHARSET=a", "a", "image/svg+xml; charset=utf-8"),
    ("text/plain; charset=", None, "text/plain; charset=utf-8"),
]

#: Content-Type, body, and its text; None where it can't be read.
TEXTS: list[tuple[str, bytes, str | None]] = [
    ("text/plain", "\xe4\u20ac".encode(), "\xe4\u20ac"),
    ("text/plain; charset=utf-8", b"\xef\xbb\xbfa", "a"),
    ("text/plain; charset=iso-8859-1", b"\xe4", "\xe4"),
    ("text/plain; charset=windows-1252", b"\x80", "\u20ac"),
    ("text/plain; charset=Shift_JIS", b"\x83\x65", "\u30c6"),
    ("text/plain; charset=utf-16", b"\xff\xfea\0", "a"),
    ("text/plain", b"\xe4", None),
    ("text/plain; charset=us-ascii", b"\xe4", None),
    *((f"text/plain; charset={each}", b"a", None) for each in
      ("none", "rot13", "zip", "base64", "idna", "punycode", "unicode_escape", "utf-7", "\xe4")),
]  # fmt: skip

#: Content-Type, body, and the value; an error's words where it is no JSON.
VALUES: list[tuple[str, bytes, Any]] = [
    ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
    ("application/json", b"\xef\xbb\xbf1", 1),
    ("application/json; charset=iso-8859-1", b'"\xe4"', "\xe4"),
    ("", b"true", True),
]
NO_VALUES = [
    (b"", "there is no body, as in a response to HEAD"),
    (b"{", "is not JSON"),
    (b'"\xe4"', "not in UTF-8"),
    (b"[" * 100000, "nested too deeply"),
    (b"1" * 5000, "is not JSON"),
    (b'{"a": NaN}', "the body is not JSON: it has no NaN"),
    (b"[-Infinity]", "it has no -Infinity"),
]


def response(kind: str = "text/plain", body: bytes = b"old", **fields: str) -> Response:
    """A response of the upstream."""
    lines = [(b"Content-Type", kind.encode("latin-1"))] if kind else []
    lines += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    made = Response.fromWire(200, "OK", lines, len(body))
    made.body = body
    return made


class ReadingTests(SynchronousTestCase):
    """Bodies of both kinds of message can be read decoded, as text and as JSON."""

    def test_types(self) -> None:
        """The charset of a Content-Type is found, and replaced; JSON has none."""
        for kind, charset, utf8 in TYPES:
            self.assertEqual((charsetOf(kind), inUTF8(kind)), (charset, utf8), kind)

    def test_text(self) -> None:
        """Text is decoded by its charset; what is no such text is an error."""
        for kind, body, text in TEXTS:
            message = response(kind, body)
            if text is None:
                error = self.assertRaises(UnreadableBody, getattr, message, "text")
                self.assertIn("use decoded", str(error))
            else:
                self.assertEqual(message.text, text, kind)

    def test_json(self) -> None:
        """C{json()} parses the body."""
        for kind, body, value in VALUES:
            self.assertEqual(response(kind, body).json(), value, kind)

    def test_noJSON(self) -> None:
        """What is no JSON is a C{ValueError} without anything of the body."""
        for body, words in NO_VALUES:
            error = self.assertRaises(ValueError, response("application/json", body).json)
            self.assertIsInstance(error, UnreadableBody)
            self.assertIn(words, str(error))
            self.assertIsNone(getattr(error.__cause__, "doc", None))

    def test_coded(self) -> None:
        """Codings are undone; C{body} stays as it was."""
        body = gzip.compress(b'{"a":1}')
        for message in (
            response("application/json", body, Content_Encoding="gzip"),
            Request("POST", "/", Headers({"Content-Encoding": "GZIP"}), body=body),
        ):
            self.assertEqual(message.decoded, b'{"a":1}')
            self.assertEqual(message.text, '{"a":1}')
            self.assertEqual(message.json(), {"a": 1})
            self.assertIs(message.body, body)
            self.assertRaises(UnreadableBody, message.decode, 6)

    def test_streams(self) -> None:
        """A body that is still to come can't be read; the error says what to do."""
        for message in (Response.fromWire(200, "OK", []), Request("POST", "/", body=None)):
            message.headers = Headers()
            for name in ("decoded", "text"):
                with self.assertRaisesRegex((ValueError, BodyNotBuffered), "buffered=True"):
                    getattr(message, name)
            with self.assertRaises((ValueError, BodyNotBuffered)):
                message.json()


#: What a policy sets, the body and the Content-Type that are sent.
SET: list[tuple[str, Any, str, bytes, str | None]] = [
    ("text", "\xe4", "text/html; charset=iso-8859-1", b"\xc3\xa4", "text/html; charset=utf-8"),
    ("text", "", "", b"", "text/plain; charset=utf-8"),
    ("decoded", b"\xff", "image/png", b"\xff", "image/png"),
    ("decoded", b"a", "", b"a", None),
    ("json", {"a": 1}, "text/html", b'{"a": 1}', "application/json"),
    ("json", None, "application/hal+json; charset=x", b"null", "application/hal+json"),
]


class SettingTests(SynchronousTestCase):
    """A new body is sent with fields that are true of it."""

    def test_set(self) -> None:
        """Body, Content-Type and length fit what was set, and it can be read again."""
        for name, value, kind, body, sent in SET:
            message = response(kind, gzip.compress(b"old"), Content_Encoding="gzip")
            setattr(message, name, value)
            self.assertEqual((message.body, message.headers.get("Content-Type")), (body, sent))
            self.assertEqual(message.length, len(body))
            read = getattr(message, name)
            self.assertEqual(read() if name == "json" else read, value)

    def test_fields(self) -> None:
        """Fields about the old body are removed; all others stay, such as Vary."""
        for name, value in (("text", "a"), ("decoded", b"a"), ("json", 1)):
            for kind in (Response, Request):
                fields = Headers([(each, "x") for each in ABOUT_THE_BODY])
                fields.update({"Vary": "Accept-Encoding", "Cache-Control": "no-store"})
                message: Any = Response(headers=fields) if kind is Response else Request(
                    "PUT", "/", fields
                )  # fmt: skip
                setattr(message, name, value)
                left = [each for each in message.headers if each != "Content-Type"]
                self.assertEqual(left, ["Vary", "Cache-Control"])

    def test_parts(self) -> None:
        """A part of a body can't be replaced: nothing changes, and the error says what to do."""
        part = {"Content-Range": "bytes 0-2/9", "ETag": '"a"'}
        for message in (
            Response(206, body=b"abc", headers=part),
            Response(206, body=b"abc", headers={"ETag": '"a"'}),
            Response(200, body=b"abc", headers=part),
            Request("PUT", "/", Headers(part), body=b"abc"),
        ):
            for name, value in (("text", "a"), ("decoded", b"a"), ("json", 1)):
                error = self.assertRaises(ValueError, setattr, message, name, value)
                self.assertIn("remove Range from requests", str(error))
            self.assertEqual((message.body, message.headers["ETag"]), (b"abc", '"a"'))

    def test_partsAreRead(self) -> None:
        """Nor is a part of a response read as the whole, even if it looks like one."""
        for message in (
            Response(206, body=b'"secret"', headers={"Content-Range": "bytes 9-16/20"}),
            Response(
                206, body=b"--x", headers={"Content-Type": "multipart/byteranges; boundary=x"}
            ),
            Response(200, body=b"{}", headers={"Content-Range": "bytes 0-1/9"}),
        ):
            for read in (
                lambda message: message.text,
                lambda message: message.decoded,
                lambda message: message.json(),
                lambda message: message.decode(limit=5),
            ):
                error = self.assertRaises(UnreadableBody, read, message)
                self.assertIn("remove Range from requests", str(error))

    def test_limit(self) -> None:
        """A limit is a number of bytes: with another the decoders might have none."""
        for limit in (-1, -(10**9)):
            self.assertRaisesRegex(ValueError, "0 or more", Response().decode, limit)
        self.assertEqual(Response().decode(0), b"")

    def test_unsatisfied(self) -> None:
        """The Content-Range of a 416 is about the resource: its page can be replaced."""
        message = Response(416, body=b"a", headers={"Content-Range": "bytes */9"})
        message.text = "No."
        self.assertEqual((message.body, message.headers["Content-Range"]), (b"No.", "bytes */9"))

    def test_wrongTypes(self) -> None:
        """Only bytes are a decoded body, and only what JSON has can be set as JSON."""
        message: Any = response()
        self.assertRaises(TypeError, setattr, message, "decoded", "a")
        self.assertRaises(TypeError, setattr, message, "json", {1, 2})
        for number in (float("nan"), float("inf"), float("-inf")):
            self.assertRaises(ValueError, setattr, message, "json", [number])
            self.assertRaises(ValueError, Response, json={"a": number})
        self.assertRaises(AttributeError, setattr, message, "text", b"a")
        self.assertEqual(message.body, b"old")
