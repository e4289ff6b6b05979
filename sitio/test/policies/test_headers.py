"""
Tests of L{sitio.policies.headers}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import providedBy
from zope.interface.verify import verifyObject

from sitio.http.headers import FRAMING_FIELDS
from sitio.http.message import Headers
from sitio.interfaces import IRequestPolicy, ISendPolicy
from sitio.policies.headers import Changes, FieldPolicy, makePolicy as declared
from sitio.test.helpers.policies import exchangeFor, fromText, upstreamResponse
from sitio.testing import request, response, runPolicy

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)

NAMES = ["A", "a", "B", "b", "C"]


class ChangeTests(SynchronousTestCase):
    """Changes of fields."""

    def response(self, *changes: str) -> list[tuple[str, str]]:
        """The fields of a response after these changes."""
        response = upstreamResponse(
            200, ("Server", "x/1"), ("Via", "a"), ("X-A", "1"), ("via", "b")
        )
        makePolicy(*changes).responseSending(exchangeFor(), response)
        return response.headers.allItems()

    def test_interface(self) -> None:
        """It provides the interfaces of what it changes, so that the others cost nothing."""
        for changes, provided in (
            (["set A b"], [ISendPolicy]),
            (["request set A b"], [IRequestPolicy]),
            (["set A b", "request set A b"], [IRequestPolicy, ISendPolicy]),
        ):
            policy = makePolicy(*changes)
            self.assertEqual(list(providedBy(policy)), provided)
            for each in provided:
                verifyObject(each, policy)

    def test_set(self) -> None:
        """Set replaces all lines of a name, in any case."""
        self.assertEqual(
            self.response("set VIA c, d"), [("Server", "x/1"), ("X-A", "1"), ("VIA", "c, d")]
        )

    def test_setNew(self) -> None:
        """Set adds a field that is missing."""
        self.assertEqual(self.response("set X-Frame-Options DENY")[-1], ("X-Frame-Options", "DENY"))

    def test_add(self) -> None:
        """Add keeps the other lines of this name."""
        self.assertEqual(self.response("add Via c")[-1], ("Via", "c"))
        self.assertEqual(len(self.response("add Via c")), 5)

    def test_remove(self) -> None:
        """Remove removes all lines of a name; a missing field is no error."""
        self.assertEqual(
            self.response("remove vIa", "remove X-None"), [("Server", "x/1"), ("X-A", "1")]
        )

    def test_values(self) -> None:
        """A value may have spaces, equals signs and colons; spaces around it are ignored."""
        self.assertEqual(
            self.response("  set  X-See   https://a.example/?b=c;  d  ")[-1],
            ("X-See", "https://a.example/?b=c;  d"),
        )

    def test_framing(self) -> None:
        """The framing fields of the message are not changed."""
        response = upstreamResponse(200)
        makePolicy("remove Server").responseSending(exchangeFor(), response)
        self.assertEqual(response.headers.rawFields, [(b"Content-Length", b"6")])

    def test_request(self) -> None:
        """A change with C{request} before it applies to requests only."""
        policy = makePolicy(
            "request add X-Team blue", "request remove Cookie", "request set host b"
        )
        exchange = exchangeFor(cookie="a=b", accept="c/d")
        policy.requestReceived(exchange)
        self.assertEqual(
            exchange.request.headers.allItems(),
            [("accept", "c/d"), ("X-Team", "blue"), ("host", "b")],
        )

    def test_spellings(self) -> None:
        """
        In requests, set and remove also remove the spellings that CGI and WSGI read as the same
        name; a name with another mark than a hyphen is taken as written.
        """
        for change, left in (
            ("request remove X-User-Id", ["X-Other_Id", "X-User"]),
            ("request remove x-user-id", ["X-Other_Id", "X-User"]),
            ("request set X-User-Id 7", ["X-Other_Id", "X-User", "X-User-Id"]),
            (
                "request remove X_User_Id",
                ["X-User-Id", "x_user-id", "X.User.Id", "X-Other_Id", "X-User"],
            ),
            (
                "request add X-User-Id 7",
                ["X-User-Id", "X_User_Id", "x_user-id", "X.User.Id", "X-Other_Id", "X-User"]
                + ["X-User-Id"],
            ),
        ):
            exchange = exchangeFor()
            for name in (
                "X-User-Id", "X_User_Id", "x_user-id", "X.User.Id", "X-Other_Id", "X-User"
            ):  # fmt: skip
                exchange.request.headers.add(name, "1")
            makePolicy(change).requestReceived(exchange)
            self.assertEqual(
                [name for name, _ in exchange.request.headers.allItems()][1:], left, change
            )

    def test_spellingsOfResponses(self) -> None:
        """In responses only the name as written is changed: no CGI reads them."""
        response = upstreamResponse(200, ("X_A", "1"), ("X-A", "2"))
        makePolicy("remove X-A").responseSending(exchangeFor(), response)
        self.assertEqual(response.headers.allItems(), [("X_A", "1")])

    def test_responsesOnly(self) -> None:
        """Changes to responses do not change requests."""
        exchange = exchangeFor(via="a")
        before = exchange.request.headers.copy()
        makePolicy("remove Via").requestReceived(exchange)
        self.assertEqual(exchange.request.headers, before)

    def test_everyMessage(self) -> None:
        """The policy changes each message in the same way."""
        policy = makePolicy("add A b")
        for _ in range(2):
            response = upstreamResponse(200)
            policy.responseSending(exchangeFor(), response)
            self.assertEqual(response.headers.allItems(), [("A", "b")])

    @given(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("12")), max_size=5),
        st.lists(
            st.tuples(
                st.sampled_from(["set", "add", "remove"]),
                st.sampled_from(NAMES),
                st.sampled_from("34"),
            ),
            max_size=5,
        ),
    )
    def test_order(self, fields: list[tuple[str, str]], steps: list[tuple[str, str, str]]) -> None:
        """The result is that of making the changes one after the other."""
        changes = Changes()
        expected: list[tuple[str, str]] = list(fields)
        for verb, name, value in steps:
            if verb != "add":
                expected = [each for each in expected if each[0].lower() != name.lower()]
            if verb == "remove":
                changes.remove(name)
            else:
                expected.append((name, value))
                (changes.set if verb == "set" else changes.add)(name, value)
        headers = Headers(fields)
        changes.apply(headers)
        self.assertEqual(headers.allItems(), expected)

    def test_inPython(self) -> None:
        """The class can be used without a description, and without changes."""
        changes = Changes()
        changes.set("A", "b")
        response = upstreamResponse(200)
        FieldPolicy(responses=changes).responseSending(exchangeFor(), response)
        self.assertEqual(response.headers["A"], "b")
        self.assertEqual(list(providedBy(FieldPolicy())), [])


class OptionTests(SynchronousTestCase):
    """Descriptions that are refused at start."""

    def test_noChange(self) -> None:
        """A malformed change is quoted, with how to write one."""
        for change in (
            "",
            "set",
            "set A",
            "add A ",
            "remove",
            "remove A b",
            "replace A b",
            "Set A b",
            "request",
            "request ",
            "request A b",
            "request set A",
            "request request set A b",
        ):
            with self.assertRaisesRegex(ValueError, f"'{change}': write set NAME VALUE, add"):
                makePolicy("set A b", change)
        with self.assertRaisesRegex(ValueError, "headers needs a change: write set NAME VALUE"):
            makePolicy()

    def test_framing(self) -> None:
        """Fields of framing and connections are refused, for requests and responses."""
        for name in FRAMING_FIELDS:
            for change in (f"set {name} b", f"add {name.title()} b", f"remove {name}"):
                for prefix in ("", "request "):
                    with self.assertRaisesRegex(ValueError, "sitio sets it for each connection"):
                        makePolicy(prefix + change)

    def test_badNames(self) -> None:
        """A malformed name of a field is refused."""
        for name in ("A:", "A@b", "\u00e4"):
            for change in (f"set {name} b", f"remove {name}"):
                with self.assertRaisesRegex(ValueError, "is not a field name"):
                    makePolicy(change)

    def test_badValues(self) -> None:
        """A value with line ends is refused: it could add a field, or a whole response."""
        for value in ("b\r\nC: d", "b\nC: d", "b\0", "\u20ac"):
            with self.assertRaisesRegex(ValueError, "can't be the value of the field A"):
                makePolicy(f"set A {value}")

    def test_host(self) -> None:
        """The Host of a request can be set, but not added or removed."""
        for change in ("request add HOST b", "request remove Host"):
            with self.assertRaisesRegex(ValueError, "the Host of a request can only be set"):
                makePolicy(change)


class ProxyTests(SynchronousTestCase):
    """The policy in a whole proxy."""

    def test_both(self) -> None:
        """
        One description changes both the request for the upstream and the response for
        the client.
        """
        outcome = runPolicy(
            "headers:set X-See https\\://a.example/?b=c:remove server:request set X-Team blue",
            request("/", headers={"X-Team": "red"}),
            response(headers={"Server": "x"}),
        )
        self.assertEqual(outcome.requests[0].headers["X-Team"], "blue")
        self.assertEqual(outcome.headers["X-See"], "https://a.example/?b=c")
        self.assertNotIn("Server", outcome.headers)
        self.assertEqual(outcome.exchange.acted, ())
