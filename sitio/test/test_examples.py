"""
Tests of the policies in C{examples/}, each loaded as an operator loads it.

C{integration.test_examples} runs the embedded one, and C{system.test_examples}
installs the packaged one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import sitio
from sitio import Response, onResponse
from sitio.policy.loader import loadPolicies
from sitio.testing import Runner, refused, request, response, runPolicy

ROOT = Path(sitio.__file__).parent.parent
EXAMPLES = ROOT / "examples"

#: Lines of an example: more would be no example of something small.
MAX_LINES = 60

if not EXAMPLES.exists():
    skip = "this is no checkout, and only a checkout has examples"


def example(name: str) -> Any:
    """The policy that an example makes."""
    [(_, policy)] = loadPolicies(f"file:{EXAMPLES / name}")
    return policy


class Service(Resource):
    """
    A service that policies call, answering what it is told to.

    @ivar asked: the requests that it got: method, path, the Authorization field, body.
    @ivar status: what it answers; L{None} for nothing.
    """

    isLeaf = True

    def __init__(self, status: int | None = 200) -> None:
        Resource.__init__(self)
        self.status = status
        self.asked: list[tuple[str, str, str | None, str]] = []

    def render(self, asked: Any) -> Any:
        """Note the request down, and answer."""
        self.asked.append(
            (
                asked.method.decode(),
                asked.uri.decode(),
                asked.getHeader("Authorization"),
                asked.content.read().decode(),
            )
        )
        if self.status is None:
            return NOT_DONE_YET
        asked.setResponseCode(self.status)
        asked.setHeader("Location", "/login")
        return b"whatever"


class EachTests(SynchronousTestCase):
    """All examples keep to the form of an example."""

    def test_small(self) -> None:
        """Each is short, and begins with a line that says what it does."""
        for path in EXAMPLES.rglob("*.py"):
            text = path.read_text("utf-8")
            self.assertRegex(text, r'^""".+[.`]"""\n', str(path))
            self.assertLessEqual(len(text.splitlines()), MAX_LINES, str(path))


class FriendlyTests(SynchronousTestCase):
    """C{friendly.py}: an error page of one's own, as a function."""

    def test_notFound(self) -> None:
        """A 404 shows what was asked for, and stays a 404."""
        outcome = runPolicy(example("friendly.py"), request("/x?secret=1"), response(404))
        self.assertEqual((outcome.status, outcome.attempts), (404, 1))
        self.assertIn("<h1>/x is not here</h1>", outcome.text)

    def test_escaped(self) -> None:
        """What a client wrote into the path becomes no tag of the page."""
        outcome = runPolicy(example("friendly.py"), request("/'<script>&"), response(404))
        self.assertIn("<h1>/&#x27;&lt;script&gt;&amp; is not here</h1>", outcome.text)

    def test_others(self) -> None:
        """All else passes."""
        outcome = runPolicy(example("friendly.py"), request(), response(200, text="a"))
        self.assertEqual((outcome.status, outcome.text), (200, "a"))


class CheckTokenTests(SynchronousTestCase):
    """C{checktoken.py}: a request policy that asks another service first."""

    def setUp(self) -> None:
        self.accounts = Service()
        self.policy = example("checktoken.py")
        self.policy.client = StubTreq(self.accounts)
        self.asks = request("/", headers={"Authorization": "Bearer abc"})

    def test_good(self) -> None:
        """Who is known gets in; the other service was shown what the client sent."""
        outcome = runPolicy(self.policy, self.asks)
        self.assertEqual((outcome.status, outcome.attempts), (200, 1))
        self.assertEqual(self.accounts.asked, [("GET", "/check", "Bearer abc", "")])

    def test_none(self) -> None:
        """Who shows nothing is asked to, and nobody is bothered."""
        outcome = runPolicy(self.policy, request())
        self.assertEqual((outcome.status, outcome.attempts), (401, 0))
        self.assertEqual(outcome.headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(self.accounts.asked, [])

    def test_bad(self) -> None:
        """Who is not known stays out, as does whom it sends to a page to log in."""
        for status in (401, 403, 404, 302):
            self.accounts.status = status
            outcome = runPolicy(self.policy, self.asks)
            self.assertEqual((outcome.status, outcome.attempts), (401, 0))

    def test_noAnswer(self) -> None:
        """When the other service fails, refuses or is silent, nobody is let in for now."""
        for status in (500, 503, None):
            self.accounts.status = status
            outcome = runPolicy(self.policy, self.asks)
            self.assertEqual((outcome.status, outcome.attempts), (503, 0))
        self.policy.client.get = lambda *arguments, **options: fail(ConnectionError())
        self.assertEqual(runPolicy(self.policy, self.asks).headers["Retry-After"], "5")

    def test_remembered(self) -> None:
        """A token that was good is asked for once a minute; a bad one each time."""
        with Runner(self.policy) as runner:
            for seconds, status, asked in ((0, 200, 1), (59, 200, 1), (2, 200, 2)):
                runner.advance(seconds)
                self.assertEqual(runner.run(self.asks).status, status)
                self.assertEqual(len(self.accounts.asked), asked)
            self.accounts.status = 401
            runner.advance(61)
            for asked in (3, 4):
                self.assertEqual(runner.run(self.asks).status, 401)
                self.assertEqual(len(self.accounts.asked), asked)

    def test_bounded(self) -> None:
        """However many tokens there are, a thousand are remembered, the oldest not."""
        module = type(self.policy).requestReceived.__globals__
        self.assertEqual(module["MOST"], 1000)
        # A thousand requests would take seconds.
        module["MOST"] = 10
        with Runner(self.policy) as runner:
            for each in range(12):
                runner.run(request(headers={"Authorization": f"Bearer {each}"}))
            asked = len(self.accounts.asked)
            runner.run(request(headers={"Authorization": "Bearer 2"}))
            self.assertEqual(len(self.accounts.asked), asked)
            runner.run(request(headers={"Authorization": "Bearer 0"}))
            self.assertEqual(len(self.accounts.asked), asked + 1)


class NotifyTests(SynchronousTestCase):
    """C{notify.py}: an observer that is a service, and posts what it has seen."""

    def setUp(self) -> None:
        self.webhook = Service()
        self.policy = example("notify.py")
        self.clock = self.policy.clock = Clock()
        self.policy.client = StubTreq(self.webhook)

    def test_batched(self) -> None:
        """Failures are told in one message, ten seconds later, their queries cut."""
        with Runner(self.policy, clock=self.clock) as runner:
            runner.run(request("/a?secret=1"), response(500))
            runner.run(request("/b", "POST"), refused())
            runner.run(request("/c"), response(404))
            self.assertEqual(self.webhook.asked, [])
            runner.advance(10)
            [(method, _, _, body)] = self.webhook.asked
            self.assertEqual(method, "POST")
            text = r'{"text":"2 requests failed, the last of them:\n500 GET /a\n502 POST /b"}'
            self.assertEqual(body.replace('": "', '":"'), text)

    def test_silent(self) -> None:
        """While nothing fails nothing is told."""
        with Runner(self.policy, clock=self.clock) as runner:
            runner.run(request(), response(404))
            runner.advance(60)
        self.assertEqual(self.webhook.asked, [])

    def test_masked(self) -> None:
        """A failure that another policy has masked is told all the same."""
        mask = onResponse(500)(lambda exchange, response: Response(200))
        with Runner([mask, self.policy], clock=self.clock) as runner:
            self.assertEqual(runner.run(request("/a"), response(500)).status, 200)
        self.assertIn("500 GET /a", self.webhook.asked[0][3])

    def test_bounded(self) -> None:
        """Of many failures the number is told, and the last of them."""
        with Runner(self.policy, clock=self.clock) as runner:
            for each in range(50):
                runner.run(request(f"/{each}"), response(500))
        text = self.webhook.asked[0][3]
        self.assertIn("50 requests failed", text)
        self.assertEqual(text.count("GET"), 20)
        self.assertIn("/49", text)

    def test_atTheEnd(self) -> None:
        """What was not told yet is told when sitio stops, which leaves no call behind."""
        with Runner(self.policy, clock=self.clock) as runner:
            runner.run(request(), response(500))
        self.assertEqual(len(self.webhook.asked), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowWebhook(self) -> None:
        """A webhook that does not answer gets no second message meanwhile."""
        slow: list[Deferred[Any]] = []

        def post(*arguments: Any, **options: Any) -> Deferred[Any]:
            slow.append(Deferred())
            return slow[-1]

        self.policy.client.post = post
        with Runner(self.policy, clock=self.clock) as runner:
            for _ in range(3):
                runner.run(request(), response(500))
                runner.advance(10)
            self.assertEqual(len(slow), 1)
            slow[0].errback(ConnectionError())
            runner.advance(10)
            self.assertEqual(len(slow), 2)
            slow[1].errback(ConnectionError())
        # It was told what failed, and went on.
        self.assertEqual(len(self.flushLoggedErrors(ConnectionError)), 2)
