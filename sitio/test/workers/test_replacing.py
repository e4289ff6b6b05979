"""
Tests of L{sitio.workers.replacing}: all workers have another configuration, or none has.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from sitio.test.helpers.supervised import WorkersTestCase
from sitio.workers.replacing import WORKER_SECONDS, Refused, WorkersReplacement
from sitio.workers.supervisor import FIRST_DELAY_SECONDS

BAD = ["a.toml", 1, "x", "no"]


class ReplacingTests(WorkersTestCase):
    """Two workers, which prepare, and then adopt or discard."""

    def setUp(self) -> None:
        super().setUp()
        self.supervisor = self.started(statsInterval=0)
        self.replacement = WorkersReplacement(self.machine, self.supervisor)
        for each in self.machine.children:
            each.received()

    def told(self) -> list[Any]:
        """What each worker was told since the last call, but for who is absent."""
        return [
            [each for each in child.received() if each[0] != "absent"]
            for child in self.machine.children
            if child.adopted
        ]

    def prepare(self) -> Deferred[None]:
        """Let all prepare."""
        return self.replacement.prepare("text")

    def test_all(self) -> None:
        """All are told to adopt when all can, and not before."""
        prepared = self.prepare()
        asked = [["prepare", {"number": 2, "text": "text"}]]
        self.assertEqual([list(map(list, each)) for each in self.told()], [asked, asked])
        one, two = self.machine.children
        one.sends("prepared", [])
        self.assertNoResult(prepared)
        two.sends("prepared", [])
        self.assertIsNone(self.successResultOf(prepared))
        self.assertEqual(self.told(), [[], []])
        self.assertEqual(self.replacement.adopt(), 2)
        self.assertEqual(self.told(), [[("adopt", 2)], [("adopt", 2)]])

    def test_one(self) -> None:
        """If one can't, all discard it; mistakes that are the same are told once."""
        prepared = self.prepare()
        self.told()
        one, two = self.machine.children
        one.sends("prepared", [])
        two.sends("prepared", [BAD, BAD])
        error = self.failureResultOf(prepared, Refused).value
        self.assertEqual(error.mistakes, [tuple(BAD)])
        self.assertEqual(self.told(), [[("discard", 2)], [("discard", 2)]])

    def test_late(self) -> None:
        """If one does not answer in time, all discard it; its answer is ignored later."""
        prepared = self.prepare()
        self.told()
        one, two = self.machine.children
        one.sends("prepared", [])
        self.machine.advance(WORKER_SECONDS)
        error = self.failureResultOf(prepared, Refused).value
        self.assertEqual(str(error), "worker 2 has not prepared it within 30 seconds")
        self.assertEqual(self.told(), [[("discard", 2)], [("discard", 2)]])
        two.sends("prepared", [])

    def test_ended(self) -> None:
        """If one ends meanwhile, the rest discard it, and its place is taken later."""
        prepared = self.prepare()
        self.told()
        one, two = self.machine.children
        two.ends(1)
        one.sends("prepared", [])
        error = self.failureResultOf(prepared, Refused).value
        self.assertEqual(str(error), "worker 2 has ended meanwhile")
        self.assertEqual(self.told()[0], [("discard", 2)])

    def test_replaced(self) -> None:
        """One that ends when all can: another starts only after the decision."""
        prepared = self.prepare()
        one, two = self.machine.children
        one.sends("prepared", [])
        two.sends("prepared", [])
        self.successResultOf(prepared)
        two.ends(1)
        for _ in range(5):
            self.machine.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(len(self.machine.children), 2)
        self.replacement.adopt()
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(len(self.machine.children), 3)

    def test_noWorkers(self) -> None:
        """If all of them have ended, those that come have it."""
        for each in list(self.machine.children):
            each.ends(1)
        self.assertIsNone(self.successResultOf(self.prepare()))
        self.assertEqual(self.replacement.adopt(), 2)
