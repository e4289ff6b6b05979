"""
Tests of L{sitio.policy.handover}: self-tests, and state that is handed over.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio.interfaces import IHandover, ISelfTest
from sitio.policy.handover import SELF_TEST_SECONDS, handOver, kindOf, selfTests
from sitio.test.helpers.logs import LogRecorder


@implementer(ISelfTest)
class Tested:
    """A policy whose self-test has this result."""

    def __init__(self, result: Any = None, error: BaseException | None = None) -> None:
        self._result, self._error = result, error

    def selfTest(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


async def failing() -> None:
    """A self-test that waits for nothing."""
    raise LookupError("no table")


@implementer(IHandover)
class Keeping:
    """A policy with a state."""

    def __init__(self, state: Any = None, error: BaseException | None = None) -> None:
        self.state, self._error = state, error

    def giveState(self) -> Any:
        if self.state == "unwilling":
            raise RuntimeError("no")
        return self.state

    def takeState(self, state: Any) -> None:
        if self._error is not None:
            raise self._error
        self.state = state


class HandoverTestCase(SynchronousTestCase):
    """With a log."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recorder = LogRecorder()
        self.log = Logger("test", observer=self.recorder)


class SelfTestTests(HandoverTestCase):
    """Policies that can't work are told."""

    def test_good(self) -> None:
        """Those that return None, at once or later, and those without a test, are not."""
        later: Deferred[None] = Deferred()
        policies = [("a", Tested()), ("b", object()), ("c", Tested(later))]
        found = selfTests(policies, self.clock, self.log)
        self.assertNoResult(found)
        later.callback(None)
        self.assertEqual(self.successResultOf(found), [])

    def test_bad(self) -> None:
        """All that raise, at once or in a coroutine, are told by name, with what they say."""
        policies = [
            ("a", Tested(error=ValueError("no database"))),
            ("b", Tested(failing())),
            ("c", Tested(error=SystemExit("bye"))),
            ("d", Tested()),
        ]
        self.assertEqual(
            self.successResultOf(selfTests(policies, self.clock, self.log)),
            [
                "the self-test of the policy a fails: ValueError: no database",
                "the self-test of the policy b fails: LookupError: no table",
                "the self-test of the policy c fails: SystemExit: bye",
            ],
        )

    def test_late(self) -> None:
        """One that takes too long has failed, and is cancelled."""
        cancelled: list[str] = []
        endless: Deferred[None] = Deferred(lambda _: cancelled.append("yes"))
        found = selfTests([("a", Tested(endless))], self.clock, self.log)
        self.clock.advance(SELF_TEST_SECONDS)
        [sentence] = self.successResultOf(found)
        self.assertIn("policy a fails: TimeoutError: it took longer than 10 s", sentence)
        self.assertEqual(cancelled, ["yes"])


class HandOverTests(HandoverTestCase):
    """State goes from a policy to the one that takes its place."""

    def test_taken(self) -> None:
        """The one with the same key takes it; others begin anew."""
        one, two = Keeping(), Keeping()
        taken = handOver({"a": Keeping(7), "c": Keeping(8)}, {"a": one, "b": two}, self.log)
        self.assertEqual((taken, one.state, two.state), (["a"], 7, None))

    def test_neither(self) -> None:
        """Those that have no state, before or now, and one that stays, are left alone."""
        same = Keeping(1)
        former = {"a": object(), "b": Keeping(7), "c": same}
        now = {"a": Keeping(), "b": object(), "c": same}
        self.assertEqual(handOver(former, now, self.log), [])
        self.assertEqual(self.recorder.events, [])

    def test_failing(self) -> None:
        """One that fails to give or to take is logged; others get theirs."""
        three = Keeping()
        former = {"a": Keeping("unwilling"), "b": Keeping(7), "c": Keeping(8)}
        now = {"a": Keeping(), "b": Keeping(error=TypeError("old")), "c": three}
        self.assertEqual(handOver(former, now, self.log), ["c"])
        self.assertEqual(three.state, 8)
        self.assertEqual(
            self.recorder.texts(),
            [
                "The state of the policy a could not be handed over",
                "The state of the policy b could not be handed over",
            ],
        )

    def test_kind(self) -> None:
        """Classes of equal names in the same module are the same kind; others are not."""

        def made() -> Any:
            class Mine:
                """A class of a file that is loaded twice."""

            return Mine()

        self.assertEqual(kindOf(made()), kindOf(made()))
        self.assertNotEqual(kindOf(made()), kindOf(Keeping()))
