"""
Tests of L{sitio.policies.lastgood.lookup}, in a whole proxy with other policies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio.http.message import Response
from sitio.interfaces import IExchange, IRequestPolicy, IResponsePolicy
from sitio.policies.lastgood.options import makePolicy as declared
from sitio.test.helpers.policies import fromText
from sitio.testing import Runner, connectionRefused, request, response

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)


@implementer(IRequestPolicy)
class Before:
    """A request policy that calls a function with each exchange."""

    def __init__(self, function: Callable[[Any], Response | None]) -> None:
        self.requestReceived = function


@implementer(IResponsePolicy)
class Changing:
    """A response policy that calls a function with each response."""

    statuses = range(200, 600)

    def __init__(
        self, function: Callable[[IExchange, Response], Any], buffered: bool = True
    ) -> None:
        self.responseReceived = function
        self.buffered = buffered


def guard(exchange: Any) -> None:
    """Reads the token, tells the service who that is, and takes the token away."""
    headers = exchange.request.headers
    user = headers.get("X-Token")
    if user is not None:
        del headers["X-Token"]
        headers["X-Request-Id"] = "1"


class RequestTests(SynchronousTestCase):
    """A request is judged as it came, and keyed as it was sent."""

    def masked(
        self, others: list[Any], first: dict[str, str], second: dict[str, str], **how: Any
    ) -> bool:
        """Whether a request with other fields gets what the first has got."""
        policies = [*others, makePolicy()]
        runner = Runner(policies[::-1] if how.pop("isFirst", False) else policies)
        said = how.pop("said", {})
        runner.run(request("/", headers=first), response(200, text="mine", headers=said))
        outcome = runner.run(request("/", headers=second), connectionRefused(), **how)
        return outcome.status == 200

    def test_guard(self) -> None:
        """Behind a guard that takes the token away no user sees the page of another."""
        me, you, nobody = {"X-Token": "me"}, {"X-Token": "you"}, {"Accept": "*/*"}
        for isFirst in (False, True):

            def masked(one: dict[str, str], other: dict[str, str]) -> bool:
                return self.masked([Before(guard)], one, other, isFirst=isFirst)  # noqa: B023

            for one in (me, you, nobody):
                for other in (me, you):
                    self.assertFalse(masked(one, other), (one, other))
            self.assertFalse(masked(me, nobody))
            self.assertTrue(masked(nobody, nobody))

    def test_added(self) -> None:
        """What a policy adds is a part of the key: it may name the user, whom it knows by TLS."""

        def names(exchange: Any) -> None:
            exchange.request.headers["X-User"] = exchange.clientAddress

        policies = [Before(names)]
        self.assertTrue(self.masked(policies, {}, {}))
        self.assertFalse(self.masked(policies, {}, {}, clientAddress="198.51.100.7"))
        said = {"Cache-Control": "public"}
        self.assertFalse(self.masked(policies, {}, {}, clientAddress="198.51.100.7", said=said))

    def test_target(self) -> None:
        """A target that a policy has shortened is keyed as it came, as well."""

        def shorten(exchange: Any) -> None:
            exchange.request.target = exchange.request.path

        runner = Runner([makePolicy(), Before(shorten)])
        runner.run(request("/?token=me"), response(200, text="mine"))
        self.assertEqual(runner.run(request("/?token=you"), connectionRefused()).status, 502)
        self.assertEqual(runner.run(request("/"), connectionRefused()).status, 502)
        self.assertEqual(runner.run(request("/?token=me"), connectionRefused()).text, "mine")

    def test_vary(self) -> None:
        """Vary counts with the values that the upstream got, also those that sitio adds."""
        there, here = "198.51.100.7", "192.0.2.1"
        for field in ("X-Forwarded-For", "x-forwarded-for, Accept"):
            said = {"Vary": field}
            for others in ([], [Before(guard)]):
                for fields in ({}, {"X-Forwarded-For": "203.0.113.9"}):
                    for address, masked in ((here, True), (there, False)):
                        runner = Runner([*others, makePolicy()])
                        for text in ("mine", "mine", "mine"):
                            runner.run(
                                request("/", headers=fields),
                                response(200, text=text, headers=said),
                                clientAddress=here,
                            )
                        outcome = runner.run(
                            request("/", headers=fields), connectionRefused(), clientAddress=address
                        )
                        self.assertEqual(outcome.status == 200, masked, (field, fields, address))
                        self.assertTrue(outcome.exchange.sentFields)
        for field, other in (
            ("X-Forwarded-Proto", {"X-Forwarded-Proto": "https"}),
            ("X-Forwarded-Host", {"X-Forwarded-Host": "other.example"}),
            ("Accept-Language", {"Accept-Language": "pt"}),
            ("Host", {"Host": "other.example"}),
            ("User-Agent", {"User-Agent": "x"}),
        ):
            said = {"Vary": field, "Cache-Control": "public"}
            self.assertTrue(self.masked([], {}, {}, said=said), field)
            self.assertFalse(self.masked([], {}, other, said=said), field)
            self.assertFalse(self.masked([], other, {}, said=said), field)
            self.assertTrue(self.masked([], other, other, said=said), field)

    def test_renewed(self) -> None:
        """An equal response to another client does not renew the one that varies by client."""
        runner = Runner([makePolicy(maxAge="100")])
        good = response(200, text="mine", headers={"Vary": "X-Forwarded-For"})
        for _ in range(4):
            runner.run(request("/"), good, clientAddress="192.0.2.1")
        runner.advance(60)
        runner.run(request("/"), good, clientAddress="192.0.2.2")
        runner.advance(60)
        for address, status in (("192.0.2.1", 502), ("192.0.2.2", 200)):
            outcome = runner.run(request("/"), connectionRefused(), clientAddress=address)
            self.assertEqual(outcome.status, status)

    def test_underscores(self) -> None:
        """A field that sitio does not send decides nothing."""
        self.assertTrue(self.masked([], {"X_Forwarded_Host": "evil.example"}, {}))


class ResponseTests(SynchronousTestCase):
    """Only what the upstream said is kept."""

    def kept(self, change: Any, real: Response, *, buffered: bool = True, **how: Any) -> str | None:
        """The mask after a response that a policy before has changed, or L{None}."""
        active = True

        def changes(exchange: IExchange, response: Response) -> Any:
            return change(response) if active else None

        runner = Runner([Changing(changes, buffered), makePolicy()])
        active = False
        runner.run(request("/"), response(200, text="good"))
        active = True
        runner.run(request("/"), real, **how)
        active = False
        outcome = runner.run(request("/"), connectionRefused())
        return outcome.text if outcome.status == 200 else None

    def test_changed(self) -> None:
        """A status or a body that another policy has made is not kept; the good page stays."""

        def status(response: Response) -> None:
            response.status = 200

        def body(response: Response) -> None:
            response.body = b"theirs"

        def replaced(was: Response) -> Response:
            return response(200, text="theirs")

        def filtered(response: Response) -> None:
            response.addFilter(bytes.upper, keepsLength=True)

        def both(response: Response) -> None:
            status(response)
            body(response)

        for change in (status, body, replaced, filtered, both):
            for real in (500, 503, 429, 200):
                for pieces in (None, 3):
                    for buffered in (True, False):
                        if real == 200 and change is status:
                            continue
                        if not buffered and change in (body, both):
                            continue
                        kept = self.kept(
                            change, response(real, text="other"), buffered=buffered, pieces=pieces
                        )
                        self.assertEqual(kept, "good", (change, real, pieces, buffered))

    def test_gone(self) -> None:
        """A 404 of the upstream drops the good page, whatever a policy has made of it."""

        def found(was: Response) -> Response:
            return response(200, text="theirs")

        for real in (404, 410, 301, 403):
            self.assertIsNone(self.kept(found, response(real)), real)

    def test_fields(self) -> None:
        """
        Fields are sent as the policies before have left them, but what the upstream said of
        storing counts.
        """

        def open(response: Response) -> None:
            response.headers["Cache-Control"] = "public"
            del response.headers["Set-Cookie"]
            response.headers["X-Frame-Options"] = "DENY"

        for fields, kept in (
            ({"Cache-Control": "private"}, None),
            ({"Cache-Control": "no-store"}, None),
            ({"Set-Cookie": "a=b"}, None),
            ({"Vary": "*"}, None),
            ({"Server": "x"}, "other"),
        ):
            text = self.kept(open, response(200, text="other", headers=fields))
            self.assertEqual(text, kept, fields)
        for name, value in (("Set-Cookie", "a=b"), ("Cache-Control", "no-store"), ("Vary", "*")):
            text = self.kept(
                lambda each: each.headers.add(name, value),  # noqa: B023
                response(200, text="other"),
            )
            self.assertIsNone(text, name)

    def test_confirmed(self) -> None:
        """After a 304 both count as well: what the upstream said, and what policies made of it."""
        english, german = {"Accept-Language": "en"}, {"Accept-Language": "de"}
        tag = {"ETag": '"a"'}

        def vary(value: str | None) -> Any:
            def change(exchange: IExchange, response: Response) -> None:
                if value is None:
                    response.headers.pop("Vary", None)
                else:
                    response.headers["Vary"] = value

            return Changing(change)

        for said, others in (
            ({**tag, "Vary": "Accept-Language"}, vary(None)),
            ({**tag, "Vary": "Accept-Language"}, vary("Accept")),
            (tag, vary("Accept-Language")),
        ):
            runner = Runner([others, "last-good"])
            runner.run(request("/", headers=english), response(200, text="hello", headers=said))
            asked = request("/", headers={**english, "If-None-Match": '"a"'})
            self.assertEqual(runner.run(asked, response(304, headers=tag)).status, 304)
            for headers, status in ((english, 200), (german, 502)):
                outcome = runner.run(request("/", headers=headers), connectionRefused())
                self.assertEqual(outcome.status, status, (said, others, headers))

    def test_confirmedForOne(self) -> None:
        """What a policy adds to the 304 of one user is not sent to another."""

        def named(exchange: IExchange, response: Response) -> None:
            if "Cookie" in exchange.request.headers:
                response.headers["X-User"] = "me"

        public = {"Cache-Control": "public", "ETag": '"a"'}
        runner = Runner([Changing(named), "last-good"])
        runner.run(request("/"), response(200, text="all", headers=public))
        asked = request("/", headers={"If-None-Match": '"a"', "Cookie": "me"})
        runner.run(asked, response(304, headers=public))
        self.assertNotIn("X-User", runner.run(request("/"), connectionRefused()).headers)

    def test_madePublic(self) -> None:
        """A policy can't make the page of one user public, nor what it adds to a public one."""

        def public(exchange: IExchange, response: Response) -> None:
            response.headers["Cache-Control"] = "public"

        def named(exchange: IExchange, response: Response) -> None:
            response.headers["X-User"] = "me"

        for change, said in ((public, {}), (named, {"Cache-Control": "public"})):
            runner = Runner([Changing(change), makePolicy()])
            headers = {"Cookie": "a=b"}
            runner.run(request("/", headers=headers), response(200, text="mine", headers=said))
            self.assertEqual(runner.run(request("/"), connectionRefused()).status, 502)

    def test_behind(self) -> None:
        """What policies behind make of a response is not kept either, though it streams."""

        def later(exchange: IExchange, response: Response) -> None:
            response.status, response.reason = 404, "Not here"
            response.headers["X-User"] = "me"

        active: list[Any] = [Changing(later, buffered=False)]
        runner = Runner([makePolicy(), *active])
        harness = runner.harness
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        harness.acceptConnections()
        upstream = harness.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
        upstream.sends(b"0\r\n\r\n")
        self.assertIn(b"404 Not here", client.got())
        policy: Any = runner.policies[0]
        [[stored]] = policy._store._variants.values()
        self.assertEqual((stored.status, stored.reason, stored.body), (200, "OK", b"good"))
        self.assertNotIn(b"X-User", stored.lines)

    def test_closeDelimited(self) -> None:
        """A body that ends with the connection is not kept: nobody knows whether it is whole."""
        for head in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ):
            runner = Runner("last-good")
            harness = runner.harness
            client = harness.connect()
            client.sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            harness.acceptConnections()
            upstream = harness.upstream()
            upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
            client.sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            upstream.sends(head + b"half a pa")
            upstream.closes()
            harness.settle()
            self.assertIn(b"half a pa", client.got())
            self.assertEqual(runner.run(request("/"), connectionRefused()).status, 502)
