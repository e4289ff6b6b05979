"""
Tests of the spellings of a request's fields: a client can't send what a policy sets or removes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from sitio import Exchange, Headers, Response, onRequest, onResponse
from sitio.testing import request, response, runPolicy

#: Names that CGI and WSGI read as X-User, and other names.
SPELLINGS = ("X-User", "x-user", "X_User", "x_USER", "X_user", "X.User", "X+User")
OTHERS = ("X-Users", "XUser", "A_B")


def changing(change: Callable[[Headers], object]) -> object:
    """A policy that changes the fields of requests."""

    @onRequest
    def policy(exchange: Exchange) -> None:
        change(exchange.request.headers)

    return policy


def popAndAdd(fields: Headers) -> None:
    fields.pop("X-User", None)
    fields.add("X-User", "me")


def removeAndSetDefault(fields: Headers) -> None:
    del fields["X-User"]
    fields.setdefault("X-User", "me")


class SpellingTests(SynchronousTestCase):
    """What a policy does to a name holds for what CGI and WSGI take for it."""

    def sent(self, policy: object, name: str) -> list[tuple[str, str]]:
        """The fields that the upstream gets of a client that has sent this and some others."""
        fields = {name: "evil", **dict.fromkeys(OTHERS, "good")}
        outcome = runPolicy(policy, request("/", headers=fields), response(200))
        got = outcome.requests[0].headers.allItems()
        names = {each.lower() for each in (*SPELLINGS, *OTHERS)}
        return [(each, value) for each, value in got if each.lower() in names]

    def test_set(self) -> None:
        """Setting a name replaces all its spellings."""
        changes: list[Callable[[Headers], object]] = [
            lambda fields: fields.__setitem__("X-User", "me"),
            lambda fields: fields.update({"x-user": "me"}),
            popAndAdd,
            removeAndSetDefault,
        ]
        for change in changes:
            for name in SPELLINGS:
                sent = self.sent(changing(change), name)
                got = [(each.lower(), value) for each, value in sent if each not in OTHERS]
                self.assertEqual(got, [("x-user", "me")], name)
                self.assertEqual([each for each, _ in sent if each in OTHERS], list(OTHERS))

    def test_remove(self) -> None:
        """Removing a name removes all its spellings, and C{pop} needs no line of the name."""
        changes: list[Callable[[Headers], object]] = [
            lambda fields: fields.__delitem__("X-User"),
            lambda fields: fields.pop("x-user", None),
            lambda fields: fields.pop("X-User", ""),
        ]
        for change in changes:
            for name in SPELLINGS:
                sent = self.sent(changing(change), name)
                self.assertEqual([each for each, _ in sent], list(OTHERS), name)

    def test_popped(self) -> None:
        """C{pop} is that of a C{dict} else: the value, the default or C{KeyError}."""
        seen: list[object] = []

        def pop(fields: Headers) -> None:
            seen.append((fields.pop("A"), fields.pop("A", "none"), fields.pop("A", None)))
            self.assertRaises(KeyError, fields.pop, "A")

        runPolicy(changing(pop), request("/", headers={"A": "b"}), response(200))
        self.assertEqual(seen, [("b", "none", None)])

    def test_asWritten(self) -> None:
        """A name with an underscore is that name only; an untouched one passes."""
        removed = changing(lambda fields: fields.__delitem__("A_B"))
        outcome = runPolicy(removed, request(headers={"A_B": "c", "A-B": "d"}), response(200))
        outcome.assertRequest("/", headers={"A_B": None, "A-B": "d"})
        for name in SPELLINGS:
            self.assertEqual(
                self.sent(changing(lambda fields: fields.get("X-User")), name)[0][0], name
            )

    def test_undone(self) -> None:
        """The fields of a request are such after a policy that fails open was undone, too."""

        @onRequest(failOpen=True)
        def broken(exchange: Exchange) -> None:
            exchange.request.headers["X-User"] = "broken"
            raise KeyError("who?")

        good = changing(lambda fields: fields.__setitem__("X-User", "me"))
        for before in ([], [changing(lambda fields: fields.add("B", "c"))]):
            outcome = runPolicy(
                [*before, broken, good], request(headers={"X_User": "evil"}), raiseErrors=False
            )
            outcome.assertRequest("/", headers={"X-User": "me", "X_User": None})

    def test_response(self) -> None:
        """Fields of responses are the names as written: browsers do not fold them."""

        @onResponse
        def mark(exchange: Exchange, response: Response) -> None:
            response.headers["X-User"] = "me"

        outcome = runPolicy(mark, request(), response(200, headers={"X_User": "a"}))
        outcome.assertResponse(200, headers={"X-User": "me", "X_User": "a"})
