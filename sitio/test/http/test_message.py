"""
Tests of L{sitio.http.message}.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.http import headers as headersModule
from sitio.http.bodyfilters import AddedFilter
from sitio.http.headers import FRAMING_FIELDS
from sitio.http.lines import NO_LINES, wireForm
from sitio.http.message import Headers, Request, RequestLine, Response, Retry, reasonFor

#: Texts that would end a line, or that no line can hold.
UNSENDABLE = (
    "a\r\nSet-Cookie: b",
    "a\nb",
    "a\rb",
    "a\r\n",
    "\n",
    "a\0b",
    "a\x0bb",
    "a\x7fb",
    "10 \N{EURO SIGN}",
    "a\N{LINE SEPARATOR}b",
)

SECRET = "hunter2"


class HeadersTests(SynchronousTestCase):
    """Fields have an order, may be repeated, and are found without case."""

    def setUp(self) -> None:
        self.headers = Headers([("B", "1"), ("a", "2"), ("b", "3")])

    def test_get(self) -> None:
        """The values of repeated lines are joined by a comma (RFC 9110, section 5.3)."""
        self.assertEqual(self.headers.get("B"), "1, 3")
        self.assertEqual(self.headers["b"], "1, 3")

    def test_getAll(self) -> None:
        """C{getAll} returns the values of all lines of a name, in order."""
        self.assertEqual(self.headers.getAll("B"), ["1", "3"])
        self.assertEqual(self.headers.getAll("A"), ["2"])

    def test_missing(self) -> None:
        """A missing field is L{None}, the default, an empty list or C{KeyError}."""
        self.assertIdentical(self.headers.get("c"), None)
        self.assertEqual(self.headers.get("c", "d"), "d")
        self.assertEqual(self.headers.getAll("c"), [])
        self.assertNotIn("c", self.headers)
        self.assertRaises(KeyError, lambda: self.headers["c"])

    def test_empty(self) -> None:
        """An empty value is not a missing one."""
        headers = Headers({"A": ""})
        self.assertEqual((headers.get("a", "b"), headers["a"], "a" in headers), ("", "", True))

    def test_contains(self) -> None:
        """Names are found without case; other objects than C{str} are never found."""
        self.assertIn("A", self.headers)
        self.assertNotIn(b"A", self.headers)
        self.assertNotIn("\N{EURO SIGN}", self.headers)

    def test_order(self) -> None:
        """C{allItems} has the lines in order, in their spelling."""
        self.assertEqual(self.headers.allItems(), [("B", "1"), ("a", "2"), ("b", "3")])

    def test_add(self) -> None:
        """C{add} appends a line."""
        self.headers.add("B", "4")
        self.assertEqual(
            self.headers.rawFields, [(b"B", b"1"), (b"a", b"2"), (b"b", b"3"), (b"B", b"4")]
        )

    def test_set(self) -> None:
        """Assigning replaces all lines of the name, at the place of the first."""
        self.headers["b"] = "4"
        self.assertEqual(self.headers.allItems(), [("b", "4"), ("a", "2")])

    def test_setNew(self) -> None:
        """Assigning to a missing name appends a line."""
        self.headers["c"] = "4"
        self.assertEqual(self.headers.allItems(), [("B", "1"), ("a", "2"), ("b", "3"), ("c", "4")])

    def test_delete(self) -> None:
        """Deleting removes all lines of the name; a missing name is no error."""
        del self.headers["B"]
        del self.headers["B"]
        self.assertEqual(self.headers.allItems(), [("a", "2")])

    def test_equal(self) -> None:
        """
        Headers are equal if they have the same lines in the same order, without case of
        names.
        """
        self.assertEqual(self.headers, Headers([("b", "1"), ("A", "2"), ("B", "3")]))
        self.assertNotEqual(self.headers, Headers([("a", "2"), ("B", "1"), ("b", "3")]))
        self.assertNotEqual(Headers({"a": "b"}), Headers({"a": "B"}))
        self.assertNotEqual(self.headers, self.headers.allItems())

    def test_unhashable(self) -> None:
        """Headers can't be hashed, as they can change."""
        self.assertRaises(TypeError, hash, self.headers)

    def test_copy(self) -> None:
        """Changes of a copy do not change the original."""
        copy = self.headers.copy()
        copy["a"] = "4"
        del self.headers["b"]
        self.assertEqual(copy.allItems(), [("B", "1"), ("a", "4"), ("b", "3")])
        self.assertEqual(self.headers.allItems(), [("a", "2")])

    def test_fromMapping(self) -> None:
        """Headers can be made of a mapping."""
        self.assertEqual(Headers({"A": "b", "C": "d"}).allItems(), [("A", "b"), ("C", "d")])

    def test_bytes(self) -> None:
        """Bytes beyond ASCII are decoded and encoded as latin-1, which loses none."""
        every = bytes([9, *range(0x21, 0x7F), *range(0x80, 0x100)])
        value = Headers.fromWire([(b"A", b"x" + every)])["a"]
        self.assertEqual(Headers({"A": value}).rawFields, [(b"A", b"x" + every)])

    def test_blanks(self) -> None:
        """Blanks around a value are cut, also around received ones."""
        self.assertEqual(Headers({"A": " \tb c\t "}).rawFields, [(b"A", b"b c")])
        wired = Headers.fromWire([(b"A", b"b \t")])
        self.assertEqual(
            (wired["a"], wired.allItems(), wired.rawFields), ("b", [("A", "b")], [(b"A", b"b \t")])
        )

    def test_unsendableValue(self) -> None:
        """A value with a line end or a control character is refused; nothing changes."""
        for value in UNSENDABLE:
            self.assertRaises(ValueError, self.headers.add, "A", value)
            self.assertRaises(ValueError, self.headers.__setitem__, "A", value)
            self.assertRaises(ValueError, Headers, {"A": value})
        error = self.assertRaises(ValueError, self.headers.add, "A", "b" * 30_000 + "\n")
        self.assertLess(len(str(error)), 250)
        self.assertEqual(self.headers.allItems(), [("B", "1"), ("a", "2"), ("b", "3")])

    def test_unsendableName(self) -> None:
        """A name that is not a token is refused."""
        for name in (*UNSENDABLE, "", "a b", "a:", "a: b", ":a", "a(", '"a"', "\xe4"):
            self.assertRaises(ValueError, self.headers.add, name, "b")
            self.assertRaises(ValueError, self.headers.__setitem__, name, "b")
        self.assertEqual(self.headers.allItems(), [("B", "1"), ("a", "2"), ("b", "3")])

    def test_framing(self) -> None:
        """Fields of framing and connections are hidden, and can't be set."""
        for name in sorted(FRAMING_FIELDS):
            wired = Headers.fromWire([(name.title().encode(), b"5"), (b"A", b"b")])
            self.assertEqual(
                (wired.get(name), wired.getAll(name), name in wired), (None, [], False)
            )
            self.assertEqual((wired.allItems(), len(wired)), ([("A", "b")], 1))
            self.assertEqual(wired, Headers({"A": "b"}))
            for spelling in (name, name.upper()):
                self.assertRaises(ValueError, wired.add, spelling, "5")
                self.assertRaises(ValueError, wired.__setitem__, spelling, "5")
                self.assertRaises(ValueError, wired.__delitem__, spelling)
            self.assertEqual(len(wired.rawFields), 2)

    def test_sentence(self) -> None:
        """The error names the field."""
        error = self.assertRaises(ValueError, self.headers.add, "Content-Length", "5")
        self.assertEqual(
            str(error),
            "the field Content-Length can't be set: sitio sets it for each connection",
        )

    def test_repr(self) -> None:
        """The repr has the names, and not the values, which may be secret."""
        headers = Headers({"Authorization": SECRET})
        self.assertEqual(repr(headers), "<Headers Authorization>")


class MappingTests(SynchronousTestCase):
    """Headers are a mutable mapping of text, in which a repeated name counts once."""

    def setUp(self) -> None:
        fields = [(b"B", b"1"), (b"Content-Length", b"5"), (b"a", b"2"), (b"b", b"3")]
        self.headers = Headers.fromWire(fields)

    def test_reads(self) -> None:
        """Names are in the order and spelling of their first lines; values are joined."""
        headers = self.headers
        self.assertIsInstance(headers, MutableMapping)
        self.assertEqual(list(headers), ["B", "a"])
        self.assertEqual(list(headers.keys()), ["B", "a"])
        self.assertEqual(list(headers.values()), ["1, 3", "2"])
        self.assertEqual(list(headers.items()), [("B", "1, 3"), ("a", "2")])
        self.assertEqual(dict(headers), {"B": "1, 3", "a": "2"})
        self.assertEqual({**headers}, {"B": "1, 3", "a": "2"})
        self.assertEqual((len(headers), bool(headers), bool(Headers())), (2, True, False))

    def test_changes(self) -> None:
        """Each change, what it returns, and what is left of three lines."""
        one, two, three = ("B", "1"), ("a", "2"), ("b", "3")
        changes: list[tuple[Callable[[Headers], Any], Any, list[tuple[str, str]]]] = [
            (lambda h: h.pop("b"), "1, 3", [two]),
            (lambda h: h.pop("c", None), None, [one, two, three]),
            (lambda h: h.pop("Content-Length", "x"), "x", [one, two, three]),
            (lambda h: h.popitem(), ("a", "2"), [one, three]),
            (lambda h: h.setdefault("A", "9"), "2", [one, two, three]),
            (lambda h: h.setdefault("c", "9"), "9", [one, two, three, ("c", "9")]),
            (lambda h: h.clear(), None, []),
            (lambda h: h.update({"A": "9"}), None, [one, ("A", "9"), three]),
            (lambda h: h.update([("c", "8"), ("C", "9")], a="7"), None,
             [one, ("a", "7"), three, ("C", "9")]),
            (lambda h: h.update(Headers([("a", "8"), ("A", "9")])), None,
             [one, ("a", "8"), three, ("a", "9")]),
            (lambda h: h.update(), None, [one, two, three]),
        ]  # fmt: skip
        for number, (change, result, left) in enumerate(changes):
            self.setUp()
            self.assertEqual(change(self.headers), result, number)
            self.assertEqual(self.headers.allItems(), left, number)

    def test_missing(self) -> None:
        """What is not there can't be popped."""
        self.assertRaises(KeyError, self.headers.pop, "c")
        self.assertRaises(KeyError, Headers().popitem)

    def test_hiddenStays(self) -> None:
        """C{clear} leaves the hidden fields, which are not the policy's."""
        self.headers.clear()
        self.assertEqual(self.headers.rawFields, [(b"Content-Length", b"5")])

    def test_refusedUpdate(self) -> None:
        """An update with what can't be sent changes nothing."""
        for wrong in ({"a": "8", "c": "a\nb"}, {"a": "8", "Connection": "close"}):
            self.assertRaises(ValueError, self.headers.update, wrong)
            self.assertEqual(self.headers["a"], "2")

    def test_cookiesStayApart(self) -> None:
        """Lines that can't be joined stay apart in a copy and in an update."""
        cookies = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        self.assertEqual(Headers(cookies).allItems(), cookies.allItems())
        updated = Headers({"set-cookie": "c=3"})
        updated.update(cookies)
        self.assertEqual(updated.getAll("Set-Cookie"), ["a=1", "b=2"])

    def test_equalMapping(self) -> None:
        """Another mapping is equal with the same names, without case, and joined values."""
        self.assertEqual(self.headers, {"A": "2", "b": "1, 3"})
        self.assertEqual({"A": "2", "b": "1, 3"}, self.headers)
        for other in ({"a": "2"}, {"a": "2", "b": "3"}, {"a": "2", "b": "1, 3", "c": ""}, {1: 2}):
            self.assertNotEqual(self.headers, other)


class LinesTests(SynchronousTestCase):
    """Fields are held as the bytes that were received, and changed there."""

    def setUp(self) -> None:
        fields = [(b"A", b"b"), (b"Content-Length", b"5"), (b"C", b"d: e"), (b"F", b"")]
        self.lines = wireForm(fields)
        headers = Headers.fromLines(self.lines, 5)
        self.response = Response.fromHead(200, "OK", headers, 5)

    def test_looking(self) -> None:
        """Reading does not change the bytes, and does not copy them."""
        headers = self.response.headers
        self.assertEqual((headers["a"], headers.get("x"), "c" in headers), ("b", None, True))
        self.assertEqual((len(headers), headers.getAll("content-length")), (3, []))
        self.assertEqual(headers, headers.copy())
        self.assertEqual(headers.allItems(), [("A", "b"), ("C", "d: e"), ("F", "")])
        self.assertEqual(len(headers.rawFields), 4)
        self.assertIdentical(headers.encoded(5), self.lines)
        self.assertIdentical(headers.copy().encoded(5), self.lines)

    def test_changes(self) -> None:
        """A change leaves all other bytes as they are, and copies unchanged."""
        odd = b"\r\na:\t1 \r\nContent-Length: 5\r\nB:2\r\nA:  3\r\nc_: \xff\r\n"
        for change, left in (
            (lambda headers: headers.add("X", "y"), odd + b"X: y\r\n"),
            (lambda headers: headers.__setitem__("X", " y\t"), odd + b"X: y\r\n"),
            (lambda headers: headers.__setitem__("B", "9"), odd.replace(b"B:2", b"B: 9")),
            (
                lambda headers: headers.__setitem__("A", "9"),
                b"\r\nA: 9\r\nContent-Length: 5\r\nB:2\r\nc_: \xff\r\n",
            ),
            (
                lambda headers: headers.__delitem__("a"),
                b"\r\nContent-Length: 5\r\nB:2\r\nc_: \xff\r\n",
            ),
            (lambda headers: headers.__delitem__("C_"), odd[:-7] + b""),
            (lambda headers: headers.__delitem__("C"), odd),
            (lambda headers: headers.append(b""), odd),
            (lambda headers: headers.clear(), b"\r\nContent-Length: 5\r\n"),
        ):
            response = Response.fromHead(200, "OK", Headers.fromLines(odd, 5), 5)
            copy = response.headers.copy()
            self.assertEqual(response.headers.getAll("a"), ["1", "3"])
            self.assertEqual(response.headers.lineKeys()[0], b"\na:")
            change(response.headers)
            self.assertEqual(response.headers.encoded(5), left)
            self.assertEqual(response.headers.lowered(), left.lower())
            self.assertEqual(len(response.headers.lineKeys()), left.count(b"\n") - 1)
            self.assertIdentical(copy.encoded(5), odd)
            self.assertIdentical(response.received, odd)

    def test_values(self) -> None:
        """A value is found by its whole name, and not in the value of another field."""
        lines = b"\r\nX-A: 1\r\nA-X: 2\r\nB: \x0aa: 3"[:-6] + b"a: 3 A: 4\r\nA:5\r\n"
        headers = Headers.fromLines(lines, None)
        self.assertEqual((headers["a"], headers.bytesOf(b"a")), ("5", b"5"))
        self.assertEqual((headers["b"], headers["x-a"], headers["A-X"]), ("a: 3 A: 4", "1", "2"))
        self.assertIs(headers.bytesOf(b"c"), None)
        for name in ("", ":", "A:", "\n", "\na", "A: 5", "\nA:5\r\n", "x" * 100):
            self.assertNotIn(name, headers)
            self.assertEqual((headers.get(name), headers.getAll(name)), (None, []))

    def test_names(self) -> None:
        """How a name is spelled is remembered for a bounded number of names."""
        known = headersModule._names
        self.patch(type(known), "most", 8)
        # Other tests may have used these names.
        known.clear()
        self.addCleanup(known.clear)
        for n in range(40):
            self.assertIs(Headers().get(f"X-{n}"), None)
            self.assertIs(Headers().get("x" * 100 + str(n)), None)
            self.assertLessEqual(len(known), 8)
        self.assertEqual([each for each in known if len(each) > 64], [])

    def test_inVain(self) -> None:
        """A refused change changes nothing."""
        self.assertRaises(ValueError, self.response.headers.add, "A", "b\r\nc")
        self.assertRaises(ValueError, self.response.headers.__setitem__, "Connection", "b")
        for value in (5, None, b"b"):
            self.assertRaises(TypeError, self.response.headers.__setitem__, "A", value)
        self.assertIdentical(self.response.headers.encoded(5), self.lines)

    def test_length(self) -> None:
        """C{encoded} writes the length in its argument, whatever Content-Length was."""
        for length in (5, -1):
            encoded = Headers.fromLines(self.lines, length).encoded
            self.assertEqual(encoded(None), b"\r\nA: b\r\nC: d: e\r\nF: \r\n")
            changed = b"\r\nA: b\r\nContent-Length: 0\r\nC: d: e\r\nF: \r\n"
            self.assertEqual((encoded(0), encoded(5)), (changed, self.lines))
        other = Headers({"A": "b"})
        self.assertEqual(other.encoded(5), b"\r\nA: b\r\nContent-Length: 5\r\n")
        self.assertEqual(Headers.fromWire([]).encoded(5), b"\r\nContent-Length: 5\r\n")
        self.assertEqual(Headers.fromWire([]).encoded(None), NO_LINES)

    def test_replaced(self) -> None:
        """New headers of a message replace its lines; what was received is still known."""
        self.response.headers = Headers({"X": "y"})
        self.assertEqual(self.response.headers.encoded(None), b"\r\nX: y\r\n")
        self.assertIdentical(self.response.received, self.lines)
        taken = Response(404, headers=Headers.fromLines(self.lines, 5))
        taken.headers["A"] = "x"
        self.assertEqual(taken.received, taken.headers.lines)

    def test_noHeaders(self) -> None:
        """Only L{Headers} can be assigned; the error contains no value."""
        for headers in (None, {"A": SECRET}, [("A", SECRET)]):
            for message in self.response, Request("GET", "/"), Response():
                error = self.assertRaises(TypeError, setattr, message, "headers", headers)
                self.assertNotIn(SECRET, str(error))
            if headers is not None:
                self.assertRaises(TypeError, Request, "GET", "/", headers)
        self.assertIdentical(self.response.headers.lines, self.lines)

    def test_line(self) -> None:
        """Setting method or target does not change the shared request line."""
        line = RequestLine("GET", "/a?b")
        requests = [Request.fromHead(line, Headers(), True, b"", None, None) for _ in range(2)]
        requests[0].method = "PUT"
        self.assertEqual((line.method, requests[1].method), ("GET", "GET"))
        self.assertEqual(requests[0].line.raw, b"PUT /a?b HTTP/1.1")
        requests[0].target = "/c"
        self.assertEqual(requests[0].line.raw, b"PUT /c HTTP/1.1")
        self.assertEqual(requests[0].line.endpoint, ("PUT", "/c"))
        self.assertIdentical(requests[1].line, line)
        self.assertEqual((line.raw, line.endpoint), (b"GET /a?b HTTP/1.1", ("GET", "/a")))


class RequestTests(SynchronousTestCase):
    """Requests."""

    def test_pathAndQuery(self) -> None:
        """A target is split into path and query, percent-encoded as received."""
        for target, path, query in (
            ("/", "/", ""),
            ("/a%2Fb", "/a%2Fb", ""),
            ("/a?", "/a", ""),
            ("/a?b=c?d&e", "/a", "b=c?d&e"),
            ("*", "*", ""),
        ):
            request = Request("GET", target)
            self.assertEqual((request.path, request.rawQuery), (path, query))

    def test_plain(self) -> None:
        """By default a request is HTTP/1.1, without fields and body."""
        request = Request("GET", "/")
        self.assertEqual(
            (
                request.headers.allItems(),
                request.version,
                request.body,
                request.length,
                request.upgrade,
            ),
            ([], "1.1", b"", None, None),
        )

    def test_rewrite(self) -> None:
        """A policy may set target and method; path and query follow."""
        request = Request("GET", "/a?b")
        request.target = "/c?d"
        request.method = "PROPFIND"
        self.assertEqual(
            (request.method, request.target, request.path, request.rawQuery),
            ("PROPFIND", "/c?d", "/c", "d"),
        )
        request.target = "*"
        self.assertEqual(request.path, "*")

    def test_unsendableTarget(self) -> None:
        """A target that can't be sent is refused."""
        request = Request("GET", "/a")
        for target in (
            *UNSENDABLE,
            *("/" + each for each in UNSENDABLE),
            "",
            "a",
            "**",
            "/a b",
            "/a#b",
            "/\xe4",
            "/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "http://b/",
        ):
            self.assertRaises(ValueError, setattr, request, "target", target)
        self.assertEqual(request.target, "/a")

    def test_unsendableMethod(self) -> None:
        """A method that is not a token is refused."""
        request = Request("GET", "/a")
        for method in (*UNSENDABLE, "", "GET ", "GET /", "G(T"):
            self.assertRaises(ValueError, setattr, request, "method", method)
        self.assertEqual(request.method, "GET")

    def test_repr(self) -> None:
        """The repr has neither query nor values, which may be secret."""
        request = Request("GET", f"/a?{SECRET}", Headers({"Cookie": SECRET}), body=SECRET.encode())
        self.assertEqual(repr(request), "<Request GET /a>")

    def test_reprOfChanged(self) -> None:
        """Nor does it have what a policy has put into the target."""
        request = Request("GET", "/a")
        request.target = f"/{SECRET}"
        self.assertEqual(repr(request), "<Request GET /a>")

    def test_errorWithoutTarget(self) -> None:
        """The error for a bad target says what is wrong with it, without the target."""
        for target, why in (
            (f"/{SECRET} b?{SECRET}", f"character {len(SECRET) + 2} of this one is ' '"),
            ("/a#b", "character 3 of this one is '#'"),
            (SECRET, "this one does not begin with /"),
            ("", "this one does not begin with /"),
        ):
            error = self.assertRaises(ValueError, setattr, Request("GET", "/"), "target", target)
            self.assertTrue(str(error).endswith(why), str(error))
            self.assertNotIn(SECRET, str(error))

    def test_errorWithoutValue(self) -> None:
        """The error for a bad value of a field says where it is wrong, without the value."""
        headers = Headers()
        for value, why in (
            (f"{SECRET}\n", f"its character {len(SECRET) + 1} is '\\n'"),
            (f" \u20ac{SECRET}", "its character 1 is '\u20ac'"),
        ):
            error = self.assertRaises(ValueError, headers.add, "Authorization", value)
            self.assertIn(why, str(error))
            self.assertIn("the field Authorization", str(error))
            self.assertNotIn(SECRET, str(error))


class ResponseTests(SynchronousTestCase):
    """Responses."""

    def test_plain(self) -> None:
        """By default a response is a 200, without fields and body."""
        response = Response()
        self.assertEqual(
            (response.status, response.reason, response.headers.allItems(), response.body),
            (200, "OK", [], b""),
        )
        self.assertEqual(
            (response.length, response.upgrade, response.failure, response.filters),
            (None, None, None, None),
        )

    def test_bodies(self) -> None:
        """A body is made of bytes, text, HTML or JSON, with its Content-Type."""
        for given, body, kind in (
            ({"body": b"\xff"}, b"\xff", None),
            ({"text": "\xe4"}, b"\xc3\xa4", "text/plain; charset=utf-8"),
            ({"html": "<p>"}, b"<p>", "text/html; charset=utf-8"),
            ({"json": {"a": [1]}}, b'{"a": [1]}', "application/json"),
            ({"json": 0}, b"0", "application/json"),
            ({"text": ""}, b"", "text/plain; charset=utf-8"),
        ):
            arguments: dict[str, Any] = dict(given)
            response = Response(**arguments)
            self.assertEqual((response.body, response.headers.get("Content-Type")), (body, kind))

    def test_kindGiven(self) -> None:
        """A Content-Type in the headers wins, in any case."""
        response = Response(html="<p>", headers={"content-TYPE": "application/xhtml+xml"})
        self.assertEqual(response.headers.allItems(), [("content-TYPE", "application/xhtml+xml")])

    def test_twoBodies(self) -> None:
        """Only one of body, text, html and json can be given."""
        self.assertRaises(ValueError, Response, text="a", html="b")
        self.assertRaises(ValueError, Response, body=b"", json=[])

    def test_status(self) -> None:
        """The status is 200 to 999; an interim response can't be made."""
        for status in (200, 404, 599, 999):
            self.assertEqual(Response(status).status, status)
        for status in (-1, 0, 99, 100, 101, 199, 1000):
            self.assertRaises(ValueError, Response, status)

    def test_reason(self) -> None:
        """The reason is the given one, or the registered one, or empty."""
        self.assertEqual(Response(404).reason, "Not Found")
        self.assertEqual(Response(404, reason="Gone fishing").reason, "Gone fishing")
        self.assertEqual(Response(404, reason="").reason, "")
        self.assertEqual(Response(599).reason, "")

    def test_unsendableReason(self) -> None:
        """A reason with a line end is refused."""
        for reason in UNSENDABLE:
            self.assertRaises(ValueError, Response, 200, reason=reason)

    def test_unsendableHeader(self) -> None:
        """The headers of a response are checked."""
        for value in UNSENDABLE:
            self.assertRaises(ValueError, Response, headers={"A": value})
        self.assertRaises(ValueError, Response, headers={"Content-Length": "5"})

    def test_headersCopied(self) -> None:
        """Headers of another message are copied."""
        headers = Headers({"A": "b"})
        response = Response(text="a", headers=headers)
        response.headers["A"] = "c"
        self.assertEqual(headers.allItems(), [("A", "b")])

    def test_fromWire(self) -> None:
        """A response from a head has no body yet."""
        fields = [(b"Content-Length", b"5")]
        response = Response.fromWire(206, "Part", fields, 5)
        self.assertEqual(
            (response.status, response.reason, response.body, response.length, response.upgrade),
            (206, "Part", None, 5, None),
        )
        self.assertEqual(response.headers.rawFields, fields)
        self.assertEqual((response.failure, response.filters), (None, None))

    def test_addFilter(self) -> None:
        """
        Filters are kept in order.  By default one that keeps the length fails open in a
        response, and none does in a request; one that may change the length can't.
        """

        def bodyFilter(data: bytes) -> bytes:
            return data

        response = Response()
        response.addFilter(bodyFilter)
        response.addFilter(bytes, keepsLength=True)
        response.addFilter(bytes, keepsLength=True, failOpen=False)
        self.assertEqual(
            response.filters,
            [
                AddedFilter(bodyFilter, False, False),
                AddedFilter(bytes, True, True),
                AddedFilter(bytes, True, False),
            ],
        )
        asked = Request("PUT", "/")
        self.assertIsNone(asked.filters)
        asked.addFilter(bodyFilter)
        asked.addFilter(bytes, keepsLength=True)
        asked.addFilter(bytes, keepsLength=True, failOpen=True)
        self.assertEqual(
            asked.filters,
            [
                AddedFilter(bodyFilter, False, False),
                AddedFilter(bytes, True, False),
                AddedFilter(bytes, True, True),
            ],
        )
        for each in response, asked:
            with self.assertRaisesRegex(ValueError, "leave out failOpen"):
                each.addFilter(bytes, failOpen=True)

    def test_repr(self) -> None:
        """The repr has neither fields nor body, but says whether there is a failure."""
        response = Response(502, text=SECRET, headers={"Set-Cookie": SECRET}, reason=SECRET)
        self.assertEqual(repr(response), "<Response 502>")
        response.failure = ValueError(SECRET)
        self.assertEqual(repr(response), "<Response 502 failure>")


class RetryTests(SynchronousTestCase):
    """L{Retry}."""

    def test_bounds(self) -> None:
        """The wait is 0 to 60 seconds, by default 0."""
        self.assertEqual([Retry().after, Retry(0).after, Retry(60).after], [0, 0, 60])
        for after in (-0.1, 60.1, float("inf"), float("nan")):
            self.assertRaises(ValueError, Retry, after)

    def test_sentence(self) -> None:
        """The error says which values are right."""
        error = self.assertRaises(ValueError, Retry, 61)
        self.assertEqual(str(error), "Retry(after=61): write 0 to 60 seconds")


class ReasonTests(SynchronousTestCase):
    """Registered reason phrases."""

    def test_reasonFor(self) -> None:
        """A registered status has its phrase, any other an empty one."""
        self.assertEqual([reasonFor(200), reasonFor(999)], ["OK", ""])
