"""
What a policy asks for one exchange: its timeout, no masking, its labels; and its id in all logs.
"""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, onRequest, onResponse
from sitio.policies.lastgood.policy import LastGood
from sitio.settings import Settings
from sitio.telemetry.accesslog import AccessLog
from sitio.telemetry.history import History
from sitio.telemetry.logformat import CommonFormat, JsonFormat, LineFormat
from sitio.testing import Runner, connectionRefused, noResponse, request, response, runPolicy

ID = "req-1"
TRICKS = 'a"b\\\n\u20ac'


class Recorder:
    """A log file that is kept in memory."""

    path = "memory"

    def __init__(self) -> None:
        self.written = b""

    def open(self) -> None:
        pass

    close = open

    def write(self, data: bytes) -> tuple[int, None]:
        self.written += data
        return 0, None


def lineOf(exchange: Any, lines: type[LineFormat] = JsonFormat) -> str:
    """The line of the access log about this exchange."""
    recorder: Any = Recorder()
    clock = Clock()
    log = AccessLog(
        clock,
        lines(),
        recorder,
        lambda write, data: succeed(write(data)),
        onReopen=lambda reopen: None,
    )
    log.startService()
    log.exchangeFinished(exchange)
    clock.advance(1)
    log.stopService()
    return str(recorder.written.decode().rstrip("\n"))


def recordIn(events: list[Any]) -> Any:
    """A log observer."""
    return events.append


def asking(**asked: Any) -> Any:
    """A request policy that sets these attributes of each exchange."""

    @onRequest
    def ask(exchange: Any) -> None:
        for name, value in asked.items():
            setattr(exchange, name, value)

    return ask


class TimeoutTests(SynchronousTestCase):
    """The timeout of an exchange replaces --response-timeout."""

    def test_seconds(self) -> None:
        """A shorter and a longer timeout hold for this exchange; the 504 has the seconds."""
        for seconds in (0.5, 5, 300.0):
            for method in ("GET", "POST"):
                asked = request("/", method, body=b"a" if method == "POST" else None)
                outcome = runPolicy(asking(timeout=seconds), asked, noResponse(), pieces=1)
                self.assertEqual(outcome.status, 504)
                self.assertTrue(seconds <= (outcome.exchange.duration or 0) <= seconds + 0.5)
                self.assertEqual(
                    str(outcome.exchange.failure), f"no response in {seconds:g} seconds"
                )

    def test_others(self) -> None:
        """Other exchanges keep the option's value, which the attribute has at first."""
        seen = []

        @onRequest
        def look(exchange: Any) -> None:
            seen.append(exchange.timeout)
            if exchange.request.path == "/slow":
                exchange.timeout = 100

        with Runner(look, settings=Settings(responseTimeout=7)) as runner:
            for path, seconds in (("/slow", 100), ("/", 7)):
                outcome = runner.run(request(path), noResponse())
                self.assertTrue(seconds <= (outcome.exchange.duration or 0) <= seconds + 0.5)
        self.assertEqual(seen, [7, 7])

    def test_wrong(self) -> None:
        """Other values are a failure of the policy, and the sentence says what is right."""
        for wrong in (0, -1, 86401, float("nan"), float("inf"), "5", None, True):
            outcome = runPolicy(asking(timeout=wrong), request(), response(200), raiseErrors=False)
            self.assertEqual(outcome.status, 500, wrong)
            self.assertIn("write a number of seconds above 0, and 86400", str(outcome.errors[0]))


class MaskingTests(SynchronousTestCase):
    """A policy can ask that the client gets a failure as it is."""

    def test_request(self) -> None:
        """C{last-good} masks no exchange for which a request policy has asked that."""

        @onRequest
        def plain(exchange: Any) -> None:
            exchange.masking = exchange.request.query.get("as") != "is"

        for failure in (response(503), connectionRefused()):
            with Runner([plain, LastGood()]) as runner:
                for target in ("/", "/?as=is"):
                    runner.run(request(target), response(200, text="good"))
                self.assertEqual(runner.run(request("/"), failure).text, "good")
                outcome = runner.run(request("/?as=is"), failure)
                self.assertIn(outcome.status, (502, 503))
                self.assertEqual(runner.run(request("/"), failure).text, "good")

    def test_wrong(self) -> None:
        """Other values are a failure of the policy: C{"no"} would mean yes."""
        for wrong in ("no", 0, None):
            outcome = runPolicy(asking(masking=wrong), request(), raiseErrors=False)
            self.assertEqual(outcome.status, 500, wrong)
            self.assertIn("masking is True or False, not ", str(outcome.errors[0]))

    def test_response(self) -> None:
        """A response policy before it can ask for that, too."""

        @onResponse(503)
        def asIs(exchange: Any, response: Any) -> None:
            exchange.masking = "X-Planned" not in response.headers

        with Runner([asIs, LastGood()]) as runner:
            runner.run(request(), response(200, text="good"))
            planned = response(503, headers={"X-Planned": "1"})
            self.assertEqual(runner.run(request(), planned).status, 503)
            self.assertEqual(runner.run(request(), response(503)).text, "good")


class LabelTests(SynchronousTestCase):
    """Labels are where exchanges are listed."""

    @onRequest
    @staticmethod
    def label(exchange: Any) -> None:
        exchange.labels["tenant"] = "blue"
        exchange.labels["odd"] = TRICKS

    def test_accessLog(self) -> None:
        """They are in both formats of the access log, and can't forge a line."""
        for lines in (JsonFormat, CommonFormat):
            exchange = runPolicy(self.label, request(), response(200)).exchange
            line = lineOf(exchange, lines)
            self.assertTrue(re.fullmatch(r"[ -~]*", line), line)
            if lines is JsonFormat:
                self.assertEqual(json.loads(line)["labels"], {"tenant": "blue", "odd": TRICKS})
            else:
                self.assertTrue(
                    line.endswith(f' label.tenant="blue" label.odd={json.dumps(TRICKS)}')
                )

    def test_history(self) -> None:
        """They are in the records of exchanges, open ones too."""
        with Runner(self.label) as runner:
            history = History(runner.clock, lambda: 0.0, 7)
            runner.harness.context.observers.append(history)
            history.exchanges([])
            runner.run(request(headers={"X-Request-Id": ID}), response(200))
            runner.run(request(), response(503))
            told = history.exchanges([])
        self.assertEqual([each["labels"]["tenant"] for each in told["recent"]], ["blue", "blue"])
        self.assertEqual(told["recent"][1]["id"], ID)

    def test_none(self) -> None:
        """An exchange without labels has none in the line, and makes none."""
        exchange = runPolicy(asking(), request(), response(200)).exchange
        self.assertNotIn("label", lineOf(exchange))
        self.assertIsNone(exchange.ownLabels)


class IdTests(SynchronousTestCase):
    """One id of an exchange is everywhere."""

    def test_everywhere(self) -> None:
        """Policies, the history, the access log, log lines and its repr have the same id."""
        for given in (ID, None):
            seen: list[str] = []

            @onRequest
            def look(exchange: Any, seen: list[str] = seen) -> None:
                seen.append(exchange.id)
                exchange.request.headers["X-Request-Id"] = exchange.id

            events: list[Any] = []
            with Runner(look, clock=Clock()) as runner:
                context = runner.harness.context
                context.log = Logger(observer=recordIn(events))
                history = History(runner.clock, lambda: 0.0, 7)
                context.observers.append(history)
                fields = {"X-Request-Id": given} if given else {}
                outcome = runner.run(request("/a?b", headers=fields), response(200), response(200))
                self.assertEqual(outcome.requests[0].headers["X-Request-Id"], seen[0])
                outcome = runner.run(request("/a?b", headers=fields), connectionRefused())
            id = outcome.exchange.id
            self.assertEqual(seen[1:], [id])
            self.assertEqual(given or id, id)
            self.assertEqual(json.loads(lineOf(outcome.exchange))["id"], id)
            self.assertEqual([each["id"] for each in history.exchanges([])["failed"]], [id])
            [line] = [formatEvent(each) for each in events]
            expected = f"An exchange failed: GET /a (id {id}), upstream upstream: no connection"
            self.assertIn(expected, str(line))
            self.assertEqual(events[0]["id"], id)
            self.assertIn(id, repr(outcome.exchange))

    def test_policies(self) -> None:
        """The log line about a policy that failed has the id of the exchange."""

        @onRequest
        def guard(exchange: Any) -> None:
            raise KeyError("a bug")

        @onResponse(503)
        def lamp(exchange: Any, response: Any) -> None:
            raise KeyError("a bug")

        def wrong(piece: bytes) -> bytes:
            raise KeyError("a bug")

        filtersOut = onResponse(lambda exchange, response: response.addFilter(wrong))
        filtersIn = onRequest(lambda exchange: exchange.request.addFilter(wrong))
        strict = onResponse(failOpen=False)(lamp.function)
        tooLong = onResponse(buffered=True, failOpen=False)(lamp.function)
        skipped = onRequest(buffered=True, failOpen=True)(guard.function)
        for policy in (guard, lamp, strict, tooLong, skipped, filtersOut, filtersIn):
            events: list[Any] = []
            settings = Settings(bufferLimit=2, requestBufferLimit=2)
            with Runner(policy, settings=settings) as runner:
                runner.harness.context.chain.log = Logger(observer=recordIn(events))
                asked = request("/", "POST", {"X-Request-Id": ID}, body=b"long")
                runner.run(asked, response(503, text="long"), raiseErrors=False)
            [event] = events
            self.assertIn(
                f" failed (id {ID}): it", str(formatEvent(event)).replace(": the ", ": it ")
            )
            self.assertEqual(event["id"], ID)

    def test_answer(self) -> None:
        """An exchange that a policy answers has one, too."""

        @onRequest
        def answer(exchange: Any) -> Response:
            return Response(200, text=exchange.id)

        traced = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}
        self.assertEqual(runPolicy(answer, request(headers=traced)).text, "a" * 32)
