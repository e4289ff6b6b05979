"""
Tests of L{sitio.http.cookies}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.cookies import MAX_ATTRIBUTE_BYTES, MAX_PAIR_BYTES
from sitio.http.message import Headers, Request, Response

#: Values of Cookie fields, and the cookies in them.
READ: list[tuple[list[str], list[tuple[str, str]]]] = [
    ([], []),
    (["a=b; c=d"], [("a", "b"), ("c", "d")]),
    (["a=b;c=d ;\te = f "], [("a", "b"), ("c", "d"), ("e", "f")]),
    (["a=1", "b=2; a=3"], [("a", "1"), ("b", "2"), ("a", "3")]),
    (['a="b"; c="; d=""; e="f'], [("a", "b"), ("c", '"'), ("d", ""), ("e", '"f')]),
    (["a=b=c; d=; e"], [("a", "b=c"), ("d", "")]),
    (["=a; ; ;; b"], []),
    (['a={"x": 1, "y"}; b=%20\\054'], [("a", '{"x": 1, "y"}'), ("b", "%20\\054")]),
    (["Path=/; $Version=1; expires=x"], [("Path", "/"), ("$Version", "1"), ("expires", "x")]),
    (["a@b[c]=d; \xe4=\xf6"], [("a@b[c]", "d"), ("\xe4", "\xf6")]),
]

#: Arguments of C{setCookie}, and the line.
SET: list[tuple[dict[str, Any], str]] = [
    ({}, "a=b; Path=/; SameSite=Lax"),
    ({"value": "", "maxAge": 0}, "a=; Max-Age=0; Path=/; SameSite=Lax"),
    ({"path": None, "sameSite": None}, "a=b"),
    ({"path": "/x y", "domain": "a.example", "sameSite": "Strict", "httpOnly": True},
     "a=b; Domain=a.example; Path=/x y; HttpOnly; SameSite=Strict"),
    ({"sameSite": "None", "secure": True, "partitioned": True},
     "a=b; Path=/; Secure; SameSite=None; Partitioned"),
    ({"name": "__Host-a", "secure": True}, "__Host-a=b; Path=/; Secure; SameSite=Lax"),
    ({"value": "a" * (MAX_PAIR_BYTES - 1)},
     f"a={'a' * (MAX_PAIR_BYTES - 1)}; Path=/; SameSite=Lax"),
]  # fmt: skip

#: Arguments that are refused, and words of the error.
REFUSED: list[tuple[dict[str, Any], str]] = [
    *(({"name": each}, "must be a token") for each in ("", "a b", "a=b", "a;b", "\xe4", "a\n")),
    *(({"value": each}, "encode it") for each in
      ("a b", "a;b", "a,b", '"a"', "a\\b", "\xe4", "a\n", "a\0", "\x7f")),
    ({"value": "a" * MAX_PAIR_BYTES}, "more than 4096 bytes"),
    *(({"maxAge": each}, "whole seconds") for each in (1.5, "1", True)),
    *(({"domain": each}, "host name") for each in ("", ".a", "a;b", "a b", "a" * 300)),
    *(({"path": each}, "begins with /") for each in
      ("", "a", "/a;b", "/\n", "/\xe4", "/" + "a" * MAX_ATTRIBUTE_BYTES)),
    *(({"sameSite": each}, "is Strict, Lax") for each in ("lax", "", "Lax; Domain=a")),
    ({"sameSite": "None"}, "needs secure=True"),
    ({"partitioned": True}, "needs secure=True"),
    ({"name": "__Secure-a"}, "needs secure=True"),
    ({"name": "__host-a"}, "needs secure=True"),
    ({"name": "__Host-a", "secure": True, "path": "/a"}, "needs path='/'"),
    ({"name": "__Host-a", "secure": True, "domain": "a"}, "needs path='/'"),
]  # fmt: skip


class CookiesTests(SynchronousTestCase):
    """Cookies of requests, and those that a response sets."""

    def test_read(self) -> None:
        """The cookies of all fields are found; what is no cookie is left out."""
        for lines, pairs in READ:
            request = Request("GET", "/", Headers([("Cookie", each) for each in lines]))
            self.assertEqual(request.cookies.allItems(), pairs, lines)

    def test_garbage(self) -> None:
        """No field and no target is an error."""
        random = Random(13)
        letters = [*map(chr, range(32, 256)), *';="%&+' * 20]
        for _ in range(500):
            text = "".join(random.choices(letters, k=30))
            fields = [(b"Cookie", text.encode("latin-1"))]
            request = Request("GET", f"/?{text}", Headers.fromWire(fields))
            for several in (request.cookies, request.query):
                self.assertEqual(len(several), len({name for name, _ in several.allItems()}))

    def test_set(self) -> None:
        """A cookie is one more line, with the attributes that were asked for."""
        for given, line in SET:
            response = Response(headers={"Set-Cookie": "x=y"})
            response.setCookie(**{"name": "a", "value": "b", **given})
            self.assertEqual(response.headers.getAll("Set-Cookie"), ["x=y", line])

    def test_refused(self) -> None:
        """What browsers would ignore or misread raises, and nothing is added."""
        for given, words in REFUSED:
            response = Response()
            asked = {"name": "a", "value": "b", **given}
            error = self.assertRaises(ValueError, response.setCookie, **asked)
            self.assertIn(words, str(error), given)
            self.assertEqual(response.headers.getAll("Set-Cookie"), [])

    def test_secret(self) -> None:
        """No error has the value of a cookie."""
        error = self.assertRaises(ValueError, Response().setCookie, "a", "hunter2;")
        self.assertNotIn("hunter2", str(error))
