"""
Tests of L{sitio.wiring.reloading}: one reload after the other, and what is told of them.
"""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.places import ConfigErrors, Mistake
from sitio.net.watching import LOOK_SECONDS, Watcher
from sitio.telemetry.configstate import ConfigState
from sitio.test.helpers.logs import LogRecorder
from sitio.wiring.reloading import MAX_KEPT, PREPARE_SECONDS, Reloads

MISTAKE = Mistake("a.toml", 3, "routes", "it must be a list")


class Target:
    """What is replaced; the test says what comes of it."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.preparing: Deferred[list[str]] = Deferred()
        self.watched: set[Path] = set()
        self.number = 1
        self.broken: Exception | None = None

    def prepare(self) -> Deferred[list[str]]:
        self.story.append("prepare")
        self.preparing = Deferred()
        return self.preparing

    def adopt(self) -> int:
        if self.broken is not None:
            raise self.broken
        self.story.append("adopt")
        self.number += 1
        return self.number

    def discard(self) -> None:
        self.story.append("discard")

    def files(self) -> set[Path]:
        return self.watched


class ReloadsTests(SynchronousTestCase):
    """Reloads, one by one."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.target = Target()
        self.state = ConfigState(0.0)
        self.recorder = LogRecorder()
        self.patch(Reloads, "log", Logger("sitio", observer=self.recorder))
        self.time = 100.0
        self.reloads = self.made()

    def made(self, watcher: Watcher | None = None) -> Reloads:
        """Reloads of the target."""
        return Reloads(self.clock, self.state, lambda: self.target, watcher, lambda: self.time)

    def test_adopted(self) -> None:
        """What can be used is, and all who ask are told."""
        asked = self.reloads.reload("SIGHUP")
        self.assertNoResult(asked)
        self.target.preparing.callback([])
        self.assertEqual(self.target.story, ["prepare", "adopt"])
        self.assertIs(self.successResultOf(asked), self.state)
        self.assertEqual((self.state.generation, self.state.since), (2, 100.0))
        self.assertEqual(
            self.recorder.texts(),
            ["sitio has read its configuration anew (SIGHUP): generation 2 is in use"],
        )

    def test_waiting(self) -> None:
        """Keys that need a restart are told in one line, and in the state."""
        self.reloads.reload("SIGHUP")
        self.target.preparing.callback(["workers", "admin.address"])
        self.assertEqual(
            self.recorder.texts()[1:],
            ["These keys of the configuration need a restart of sitio: workers, admin.address"],
        )
        self.assertEqual(self.state.waiting, ["workers", "admin.address"])

    def test_refused(self) -> None:
        """Mistakes change nothing; all of them are told, until the next good one."""
        asked = self.reloads.reload("POST /reload")
        self.target.preparing.errback(ConfigErrors([MISTAKE] * 2))
        self.assertEqual(self.target.story, ["prepare"])
        self.assertEqual(
            self.successResultOf(asked).mistakes, ["a.toml:3: routes: it must be a list"]
        )
        self.assertEqual(self.state.failed, 100.0)
        self.assertEqual(
            self.recorder.texts(),
            [
                "The new configuration is not used (POST /reload), generation 1 stays in use:\n"
                "a.toml:3: routes: it must be a list"
            ],
        )
        self.reloads.reload("POST /reload")
        self.target.preparing.callback([])
        self.assertEqual(self.state.mistakes, ())

    def test_many(self) -> None:
        """Of very many mistakes, some are kept."""
        asked = self.reloads.reload("x")
        mistakes = [Mistake("a", number, "", "no") for number in range(MAX_KEPT + 9)]
        self.target.preparing.errback(ConfigErrors(mistakes))
        self.assertEqual(len(self.successResultOf(asked).mistakes), MAX_KEPT)

    def test_unexpected(self) -> None:
        """Any other failure is one as well, with a traceback in the log."""
        asked = self.reloads.reload("x")
        self.target.preparing.errback(RuntimeError("odd"))
        self.assertEqual(self.successResultOf(asked).mistakes, ["RuntimeError: odd"])
        self.assertIn("log_failure", self.recorder.events[0])
        self.target.broken = RuntimeError("worse")
        asked = self.reloads.reload("x")
        self.target.preparing.callback([])
        self.assertEqual(self.successResultOf(asked).mistakes, ["RuntimeError: worse"])

    def test_late(self) -> None:
        """What is not prepared in time is given up, and the next reload runs."""
        asked = self.reloads.reload("x")
        self.clock.advance(PREPARE_SECONDS)
        [sentence] = self.successResultOf(asked).mistakes
        self.assertIn("TimeoutError", sentence)
        self.reloads.reload("x")
        self.assertEqual(self.target.story, ["prepare", "prepare"])

    def test_meanwhile(self) -> None:
        """Those that come during another run after it, once for all of them."""
        first = self.reloads.reload("one")
        others = [self.reloads.reload(each) for each in ("two", "three")]
        self.reloads.request("four")
        self.assertEqual(self.target.story, ["prepare"])
        self.target.preparing.errback(ConfigErrors([MISTAKE]))
        self.successResultOf(first)
        self.assertEqual(self.target.story, ["prepare", "prepare"])
        for each in others:
            self.assertNoResult(each)
        self.target.preparing.callback([])
        for each in others:
            self.assertEqual(self.successResultOf(each).mistakes, ())
        self.assertEqual(self.target.story, ["prepare", "prepare", "adopt"])
        self.assertIn("(four)", self.recorder.texts()[-1])

    def test_cancelled(self) -> None:
        """Who waits no longer disturbs nobody."""
        asked = self.reloads.reload("x")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.target.preparing.callback([])
        self.assertEqual(self.target.story, ["prepare", "adopt"])

    def test_stopped(self) -> None:
        """What is prepared when sitio has stopped is dropped."""
        parent = MultiService()
        self.reloads.setServiceParent(parent)
        parent.startService()
        self.reloads.request("x")
        parent.stopService()
        self.target.preparing.callback([])
        self.assertEqual(self.target.story, ["prepare", "discard"])

    def watching(self) -> Path:
        """Watch a file."""
        path = Path(self.mktemp())
        path.write_text("1")
        self.target.watched = {path}
        watcher = Watcher(self.clock)
        parent = MultiService()
        watcher.setServiceParent(parent)
        self.reloads = self.made(watcher)
        self.reloads.setServiceParent(parent)
        parent.startService()
        self.addCleanup(parent.stopService)
        return path

    def look(self) -> list[str]:
        """Some looks later: what has happened."""
        for _ in range(3):
            self.clock.advance(LOOK_SECONDS)
        story, self.target.story = self.target.story, []
        return story

    def test_watched(self) -> None:
        """A reload follows a change of the files that count then, and no other."""
        path = self.watching()
        self.assertEqual(self.look(), [])
        path.write_text("2")
        self.assertEqual(self.look(), ["prepare"])
        other = Path(self.mktemp())
        other.write_text("1")
        self.target.watched = {other}
        self.target.preparing.callback([])
        self.assertIn("(files have changed)", self.recorder.texts()[-1])
        self.assertEqual(self.look(), ["adopt"])
        path.write_text("3")
        self.assertEqual(self.look(), [])
        other.write_text("2")
        self.assertEqual(self.look(), ["prepare"])

    def test_once(self) -> None:
        """A change that was read because somebody has asked is not read again."""
        path = self.watching()
        path.write_text("2")
        self.reloads.request("SIGHUP")
        self.target.preparing.callback([])
        self.assertEqual(self.look(), ["prepare", "adopt"])

    def test_during(self) -> None:
        """A change while files are read is not missed."""
        path = self.watching()
        self.reloads.request("SIGHUP")
        path.write_text("2")
        self.target.preparing.callback([])
        self.assertEqual(self.look(), ["prepare", "adopt", "prepare"])
