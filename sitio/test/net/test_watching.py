"""
Promises of L{sitio.net.watching}: a change of a file's content is told once, and soon.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from sitio.net import watching
from sitio.net.watching import LOOK_SECONDS, MAX_UNSETTLED, Watcher


class WatchTestCase(SynchronousTestCase):
    """A watcher that runs, and a folder."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watcher = Watcher(self.clock)
        self.watcher.startService()
        self.addCleanup(self.watcher.stopService)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "file"
        self.file.write_text("one")
        self.calls: list[str] = []

    def changed(self) -> None:
        """What is called back."""
        self.calls.append(self.file.read_text() if self.file.exists() else "gone")

    def look(self, times: int = 1) -> None:
        """Let the watcher look so many times."""
        for _ in range(times):
            self.clock.advance(LOOK_SECONDS)

    def write(self, text: str, path: Path | None = None) -> None:
        """Write to a file, whose time changes in any case."""
        path = path or self.file
        path.write_text(text)
        found = path.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))


class ChangeTests(WatchTestCase):
    """What is a change, and when it is told."""

    def test_unchanged(self) -> None:
        """Files that stay the same are not told, nor is a new time with the same content."""
        self.watcher.watch([self.file], self.changed)
        self.look(3)
        self.write("one")
        self.look(3)
        self.assertEqual(self.calls, [])

    def test_changed(self) -> None:
        """A change is told once, at the first look at which nothing changes any more."""
        self.watcher.watch([self.file], self.changed)
        self.write("two")
        self.look()
        self.assertEqual(self.calls, [])
        self.look()
        self.assertEqual(self.calls, ["two"])
        self.look(3)
        self.assertEqual(self.calls, ["two"])

    def test_oneAfterTheOther(self) -> None:
        """Two files that are written one after the other are one change."""
        other = self.folder / "other"
        other.write_text("one")
        self.watcher.watch([self.file, other], self.changed)
        self.write("two")
        self.look()
        self.write("two", other)
        self.look()
        self.assertEqual(self.calls, [])
        self.look(2)
        self.assertEqual(self.calls, ["two"])

    def test_withoutEnd(self) -> None:
        """If a file changes at each look, the change is told after a few of them."""
        self.watcher.watch([self.file], self.changed)
        for number in range(MAX_UNSETTLED):
            self.assertEqual(self.calls, [])
            self.write(f"version {number}")
            self.look()
        self.assertEqual(self.calls, [f"version {MAX_UNSETTLED - 1}"])

    def test_link(self) -> None:
        """
        A symbolic link above the file that is replaced is a change, as Kubernetes does it, even
        if the file has the same size and time.
        """
        for name in ("old", "new"):
            (self.folder / name).mkdir()
            (self.folder / name / "tls.crt").write_text(name)
            os.utime(self.folder / name / "tls.crt", (1, 1))
        data = self.folder / "..data"
        data.symlink_to("old")
        self.file.unlink()
        self.file.symlink_to("..data/tls.crt")
        self.watcher.watch([self.file], self.changed)
        (self.folder / "..next").symlink_to("new")
        (self.folder / "..next").replace(data)
        self.look(2)
        self.assertEqual(self.calls, ["new"])

    def test_comesAndGoes(self) -> None:
        """A file that appears is a change, and so is one that goes."""
        self.file.unlink()
        self.watcher.watch([self.file], self.changed)
        self.look(2)
        self.assertEqual(self.calls, [])
        self.write("two")
        self.look(2)
        self.file.unlink()
        self.look(2)
        self.assertEqual(self.calls, ["two", "gone"])

    def test_notRead(self) -> None:
        """A file is read only when its C{stat} has changed."""
        self.watcher.watch([self.file], self.changed)
        with mock.patch.object(Path, "read_bytes") as read:
            self.look(5)
        read.assert_not_called()

    def test_long(self) -> None:
        """A long file is never read: a new C{stat} is a change."""
        with (
            mock.patch.object(watching, "MAX_BYTES", 2),
            mock.patch.object(Path, "read_bytes") as read,
        ):
            self.watcher.watch([self.file], self.changed)
            self.write("one")
            self.look(2)
        read.assert_not_called()
        self.assertEqual(self.calls, ["one"])

    def test_pipe(self) -> None:
        """A named pipe does not hold up the process."""
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.watcher.watch([pipe], self.changed)
        pipe.unlink()
        os.mkfifo(pipe)
        self.look(2)
        self.assertEqual(len(self.calls), 1)


class WatcherTests(WatchTestCase):
    """What a watcher does with many watches."""

    def test_oneTimer(self) -> None:
        """However many files there are, there is one timer."""
        for _ in range(10):
            self.watcher.watch([self.file], self.changed)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.write("two")
        self.look(2)
        self.assertEqual(self.calls, ["two"] * 10)

    def test_stop(self) -> None:
        """What is watched no longer is not told, and to stop twice is no error."""
        watch = self.watcher.watch([self.file], self.changed)
        watch.stop()
        watch.stop()
        self.write("two")
        self.look(2)
        self.assertEqual(self.calls, [])

    def test_stopsAnother(self) -> None:
        """A callback may stop another watch, which is not called any more."""
        watches = [
            self.watcher.watch([self.file], lambda: watches[1].stop()),
            self.watcher.watch([self.file], self.changed),
        ]
        self.write("two")
        self.look(2)
        self.assertEqual(self.calls, [])

    def test_follow(self) -> None:
        """Other files can take the place of those that are watched."""
        other = self.folder / "other"
        watch = self.watcher.watch([self.file], self.changed)
        watch.follow([other])
        self.write("two")
        self.look(2)
        self.assertEqual(self.calls, [])
        self.write("two", other)
        self.look(2)
        self.assertEqual(self.calls, ["two"])

    def test_raises(self) -> None:
        """A callback that raises is logged, and others are called."""
        self.watcher.watch([self.file], lambda: 1 / 0)
        self.watcher.watch([self.file], self.changed)
        self.write("two")
        with capturedLogs() as logs:
            self.look(2)
        self.assertEqual(len(logs), 1)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(self.calls, ["two"])

    def test_stopped(self) -> None:
        """A service that has stopped looks no more."""
        self.watcher.watch([self.file], self.changed)
        self.watcher.stopService()
        self.write("two")
        self.look(3)
        self.assertEqual(self.calls, [])
        self.watcher.startService()
