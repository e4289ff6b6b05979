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
from sitio.settings import Settings
from sitio.testing import Runner, connectionRefused, noResponse, request, response, runPolicy

ROOT = Path(sitio.__file__).parent.parent
EXAMPLES = ROOT / "examples"

#: Lines of an example, which is to be short.
MAX_LINES = 60

if not EXAMPLES.exists():
    skip = "only a checkout has examples"


def example(name: str) -> Any:
    """The policy of an example."""
    [(_, policy)] = loadPolicies(f"file:{EXAMPLES / name}")
    return policy


def examples(name: str, arguments: str = "") -> list[Any]:
    """All policies of an example."""
    return [policy for _, policy in loadPolicies(f"file:{EXAMPLES / name}{arguments}")]


class ExperimentTests(SynchronousTestCase):
    """The policy that puts visitors into groups."""

    def test_groups(self) -> None:
        """A new visitor gets a cookie, errors included; a known one keeps the group."""
        policy = examples("experiment.py", ":shares=a=0%,b=100%:lifetime=1m")
        cookie = "group=b; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"
        small = Settings(maxBody=1)
        for sent, group in (({}, "b"), ({"Cookie": "group=c"}, "b"), ({"Cookie": "group=a"}, "a")):
            line = cookie if group == "b" else None
            for policies, asked, answer, status in (
                (policy, request("/"), response(200), 200),
                (policy, request("/"), connectionRefused(), 502),
                (["deny:GET:/*", *policy], request("/"), response(200), 403),
                (policy, request("/", "PUT", body=b"12"), response(200), 413),
            ):
                asked.headers.update({"X_Group": "evil", **sent})
                outcome = runPolicy(policies, asked, answer, settings=small)
                outcome.assertResponse(status, headers={"Set-Cookie": line})
                self.assertEqual(dict(outcome.exchange.labels), {"group": group})
                if outcome.requests:
                    outcome.assertRequest("/", headers={"X-Group": group, "X_Group": None})
        outcome = runPolicy(policy, request(headers={"Host": "a b", "Cookie": "group=a"}))
        outcome.assertResponse(400, headers={"Set-Cookie": None})

    def test_options(self) -> None:
        """Wrong shares and cookies are refused at the start."""
        for options in ("a", "a=100", "a=50%,b=60%", "a=50%,a=50%", "a=100%:cookie=a b"):
            self.assertRaises(ValueError, examples, "experiment.py", f":shares={options}")


class RedactTests(SynchronousTestCase):
    """The policy that removes secrets from JSON."""

    def test_removed(self) -> None:
        """Members with secrets are removed, at any depth; other responses pass."""
        policy = examples("redact.py")
        value = {"name": "A", "token": "x", "all": [{"password": "y", "id": 1}]}
        outcome = runPolicy(policy, request(), response(json=value))
        self.assertEqual(outcome.json(), {"name": "A", "all": [{"id": 1}]})
        self.assertEqual(runPolicy(policy, request(), response(text="token")).text, "token")
        self.assertEqual(runPolicy(policy, request("/", "HEAD"), response(json=value)).body, b"")

    def test_withheld(self) -> None:
        """What is no JSON, or too long, does not get out."""
        policy = examples("redact.py")
        broken = response(body=b'{"token"', headers={"Content-Type": "application/json"})
        for answer, settings in (
            (broken, Settings()),
            (response(json={"token": "x" * 100}), Settings(bufferLimit=50)),
        ):
            outcome = runPolicy(policy, request(), answer, settings=settings, raiseErrors=False)
            self.assertEqual((outcome.status, b"token" in outcome.body), (502, False))

    def test_parts(self) -> None:
        """A client can't ask for the part that is the secret."""
        policy = examples("redact.py")
        asked = request("/", headers={"Range": "bytes=10-12,15-16"})
        outcome = runPolicy(policy, asked, response(json={"token": "x"}))
        outcome.assertRequest("/", headers={"Range": None})
        outcome.assertResponse(200, json={})


class Service(Resource):
    """
    A service that policies call.

    @ivar asked: the requests that it got: method, path, the Authorization field, body.
    @ivar status: the status of its responses; L{None} for no response.
    """

    isLeaf = True

    def __init__(self, status: int | None = 200) -> None:
        Resource.__init__(self)
        self.status = status
        self.asked: list[tuple[str, str, str | None, str]] = []

    def render(self, asked: Any) -> Any:
        """Record the request, and answer."""
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
    """The form of all examples."""

    def test_small(self) -> None:
        """Each is short, and starts with a line that says what it does."""
        for path in EXAMPLES.rglob("*.py"):
            text = path.read_text("utf-8")
            self.assertRegex(text, r'^""".+[.`]"""\n', str(path))
            self.assertLessEqual(len(text.splitlines()), MAX_LINES, str(path))


class RequestIdTests(SynchronousTestCase):
    """C{requestid.py}: one id at the client and at the upstream, and the times."""

    def test_passed(self) -> None:
        """A good id of the client goes to the upstream and back."""
        asked = request(headers={"X-Request-Id": "abc-1"})
        outcome = runPolicy(
            examples("requestid.py"), asked, response(headers={"X-Request-Id": "x"})
        )
        outcome.assertRequest("/", headers={"X-Request-Id": "abc-1"})
        outcome.assertResponse(200, headers={"X-Request-Id": "abc-1"})

    def test_made(self) -> None:
        """Without one, or with one that is no good, sitio makes one; errors have it, too."""
        for fields in ({}, {"X-Request-Id": "a b"}):
            asked = request(headers=fields)
            outcome = runPolicy(examples("requestid.py"), asked, connectionRefused())
            outcome.assertResponse(502, headers={"X-Request-Id": outcome.exchange.id})

    def test_times(self) -> None:
        """Server-Timing has the time of the service; its own line stays."""
        answer = response(headers={"Server-Timing": "db;dur=5"})
        outcome = runPolicy(examples("requestid.py"), request(), answer)
        times = ["db;dur=5", "app;dur=0.0, proxy;dur=0.0"]
        self.assertEqual(outcome.headers.getAll("Server-Timing"), times)
        silent = runPolicy(
            examples("requestid.py"), request(), noResponse(), settings=Settings(responseTimeout=5)
        )
        silent.assertResponse(504, headers={"Server-Timing": "app;dur=5000.0, proxy;dur=0.0"})


class CorsTests(SynchronousTestCase):
    """C{cors.py}: pages of one origin may read each response."""

    origin = "https://shop.example"

    def setUp(self) -> None:
        [cors] = examples("cors.py", ":origin=https://shop.example")
        self.policies = ["deny:DELETE:/*", cors]

    def test_all(self) -> None:
        """Responses of the service, of sitio and of other policies may be read."""
        fields = {"Origin": self.origin}
        for method, answer, status in (
            ("GET", response(200), 200),
            ("GET", response(500), 500),
            ("GET", connectionRefused(), 502),
            ("DELETE", response(200), 403),
        ):
            outcome = runPolicy(self.policies, request("/", method, fields), answer)
            wanted = {"Access-Control-Allow-Origin": self.origin, "Vary": "Origin"}
            outcome.assertResponse(status, headers=wanted)

    def test_otherOrigin(self) -> None:
        """Pages of another origin may not, and no cache takes the one response for the other."""
        for fields in ({}, {"Origin": "https://evil.example"}):
            outcome = runPolicy(self.policies, request(headers=fields))
            wanted = {"Access-Control-Allow-Origin": None, "Vary": "Origin"}
            outcome.assertResponse(200, headers=wanted)

    def test_preflight(self) -> None:
        """The question of a browser is answered; any other OPTIONS goes to the service."""
        fields = {"Origin": self.origin, "Access-Control-Request-Method": "POST"}
        outcome = runPolicy(self.policies, request("/", "OPTIONS", fields))
        wanted = {"Access-Control-Allow-Methods": "GET,POST"}
        outcome.assertResponse(204, headers={**wanted, "Access-Control-Allow-Origin": self.origin})
        self.assertEqual(outcome.attempts, 0)
        self.assertEqual(runPolicy(self.policies, request("/", "OPTIONS")).attempts, 1)


class FriendlyTests(SynchronousTestCase):
    """C{friendly.py}: an error page, as a function."""

    def test_notFound(self) -> None:
        """The page shows the path, and has the status 404."""
        outcome = runPolicy(example("friendly.py"), request("/x?secret=1"), response(404))
        self.assertEqual((outcome.status, outcome.attempts), (404, 1))
        self.assertIn("<h1>/x is not here</h1>", outcome.text)

    def test_escaped(self) -> None:
        """The path is escaped."""
        outcome = runPolicy(example("friendly.py"), request("/'<script>&"), response(404))
        self.assertIn("<h1>/&#x27;&lt;script&gt;&amp; is not here</h1>", outcome.text)

    def test_others(self) -> None:
        """Other responses are not replaced."""
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
        """A request with a good token is let in; the service gets the client's Authorization."""
        outcome = runPolicy(self.policy, self.asks)
        self.assertEqual((outcome.status, outcome.attempts), (200, 1))
        self.assertEqual(self.accounts.asked, [("GET", "/check", "Bearer abc", "")])

    def test_none(self) -> None:
        """A request without a token gets a 401, and the service is not asked."""
        outcome = runPolicy(self.policy, request())
        self.assertEqual((outcome.status, outcome.attempts), (401, 0))
        self.assertEqual(outcome.headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(self.accounts.asked, [])

    def test_bad(self) -> None:
        """A bad token gets a 401, also if the service redirects to a login page."""
        for status in (401, 403, 404, 302):
            self.accounts.status = status
            outcome = runPolicy(self.policy, self.asks)
            self.assertEqual((outcome.status, outcome.attempts), (401, 0))

    def test_noAnswer(self) -> None:
        """If the service fails, can't be reached or does not answer, the client gets a 503."""
        for status in (500, 503, None):
            self.accounts.status = status
            outcome = runPolicy(self.policy, self.asks)
            self.assertEqual((outcome.status, outcome.attempts), (503, 0))
        self.policy.client.get = lambda *arguments, **options: fail(ConnectionError())
        self.assertEqual(runPolicy(self.policy, self.asks).headers["Retry-After"], "5")

    def test_remembered(self) -> None:
        """A good token is checked once a minute, a bad one each time."""
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
        """A thousand tokens are cached; the oldest is dropped."""
        module = type(self.policy).requestReceived.__globals__
        self.assertEqual(module["MAX_CACHED"], 1000)
        # A thousand requests would take seconds.
        module["MAX_CACHED"] = 10
        with Runner(self.policy) as runner:
            for each in range(12):
                runner.run(request(headers={"Authorization": f"Bearer {each}"}))
            asked = len(self.accounts.asked)
            runner.run(request(headers={"Authorization": "Bearer 2"}))
            self.assertEqual(len(self.accounts.asked), asked)
            runner.run(request(headers={"Authorization": "Bearer 0"}))
            self.assertEqual(len(self.accounts.asked), asked + 1)


class NotifyTests(SynchronousTestCase):
    """C{notify.py}: an observer that is a service, and posts failures."""

    def setUp(self) -> None:
        self.webhook = Service()
        self.policy = example("notify.py")
        self.clock = self.policy.clock = Clock()
        self.policy.client = StubTreq(self.webhook)

    def test_batched(self) -> None:
        """Failures are posted in one message after ten seconds, without queries."""
        with Runner(self.policy, clock=self.clock) as runner:
            runner.run(request("/a?secret=1"), response(500))
            runner.run(request("/b", "POST"), connectionRefused())
            runner.run(request("/c"), response(404))
            self.assertEqual(self.webhook.asked, [])
            runner.advance(10)
            [(method, _, _, body)] = self.webhook.asked
            self.assertEqual(method, "POST")
            text = r'{"text":"2 requests failed. The last ones:\n500 GET /a\n502 POST /b"}'
            self.assertEqual(body.replace('": "', '":"'), text)

    def test_silent(self) -> None:
        """Without failures nothing is posted."""
        with Runner(self.policy, clock=self.clock) as runner:
            runner.run(request(), response(404))
            runner.advance(60)
        self.assertEqual(self.webhook.asked, [])

    def test_masked(self) -> None:
        """A failure that another policy masked is posted."""
        mask = onResponse(500)(lambda exchange, response: Response(200))
        with Runner([mask, self.policy], clock=self.clock) as runner:
            self.assertEqual(runner.run(request("/a"), response(500)).status, 200)
        self.assertIn("500 GET /a", self.webhook.asked[0][3])

    def test_bounded(self) -> None:
        """Many failures are counted, and the last ones are listed."""
        with Runner(self.policy, clock=self.clock) as runner:
            for each in range(50):
                runner.run(request(f"/{each}"), response(500))
        text = self.webhook.asked[0][3]
        self.assertIn("50 requests failed", text)
        self.assertEqual(text.count("GET"), 20)
        self.assertIn("/49", text)

    def test_atTheEnd(self) -> None:
        """Failures are also posted when sitio stops, and no call is left behind."""
        with Runner(self.policy, clock=self.clock) as runner:
            runner.run(request(), response(500))
        self.assertEqual(len(self.webhook.asked), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowWebhook(self) -> None:
        """While the webhook does not answer, it gets no second message."""
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
        # Both failures were logged.
        self.assertEqual(len(self.flushLoggedErrors(ConnectionError)), 2)
