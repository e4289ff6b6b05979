"""
Promises of L{sitio.telemetry.logfile}: whole lines, in files that come and go.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.logfile import ATOMIC_BYTES, FILE_PIECE_BYTES, LogFile

FULL = Path("/dev/full")


def lines(count: int, length: int = 100) -> bytes:
    """So many different lines."""
    return b"".join(
        b"%d" % each + b"." * (length - 8) + b"\n" for each in range(10**6, 10**6 + count)
    )


class LogFileTestCase(SynchronousTestCase):
    """A directory for log files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "log"
        self.pieces: list[bytes] = []

    def logFile(self, path: Path | None = None, descriptor: int = 1) -> LogFile:
        """A log file for our path, another one, or a descriptor."""
        logFile = LogFile(None if descriptor != 1 else str(path or self.file), descriptor)
        self.addCleanup(logFile.close)
        return logFile

    def accepting(self, takes: Callable[[bytes], int]) -> None:
        """Have C{os.write} write so many bytes, or raise."""
        write = os.write

        def some(descriptor: int, data: bytes) -> int:
            self.pieces.append(data)
            return write(descriptor, data[: takes(data)])

        self.patch(os, "write", some)


class FileTests(LogFileTestCase):
    """A file with a path."""

    def test_appended(self) -> None:
        """Lines are appended; the file is created if it does not exist."""
        logFile = self.logFile()
        self.assertEqual(logFile.write(b"a\n"), (0, None))
        logFile.close()
        self.assertEqual(self.logFile().write(b"b\n"), (0, None))
        self.assertEqual(self.file.read_bytes(), b"a\nb\n")

    def test_private(self) -> None:
        """The file is not readable for all users."""
        self.logFile().open()
        self.assertEqual(self.file.stat().st_mode & 0o007, 0)

    def test_closed(self) -> None:
        """No descriptor is leaked, however often the file is opened anew."""
        before = len(os.listdir("/proc/self/fd"))
        logFile = self.logFile()
        for _ in range(5):
            logFile.reopen()
            logFile.write(b"a\n")
            self.file.unlink()
        logFile.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_missing(self) -> None:
        """A missing directory is an error when the file is opened."""
        logFile = self.logFile(self.folder / "no" / "log")
        self.assertRaises(FileNotFoundError, logFile.open)

    def test_renamed(self) -> None:
        """After a rename, lines go to a new file, also without a signal."""
        logFile = self.logFile()
        logFile.write(b"a\n")
        self.file.rename(self.folder / "old")
        logFile.write(b"b\n")
        self.assertEqual(self.file.read_bytes(), b"b\n")
        self.assertEqual((self.folder / "old").read_bytes(), b"a\n")

    def test_reopen(self) -> None:
        """After C{reopen} the file is opened anew, also by an empty write."""
        logFile = self.logFile()
        logFile.open()
        self.file.rename(self.folder / "old")
        logFile.reopen()
        logFile.write(b"")
        self.assertTrue(self.file.exists())

    def test_directoryGone(self) -> None:
        """While the directory is missing, lines are not written; afterwards they are."""
        logFile = self.logFile()
        logFile.write(b"a\n")
        rmtree(self.folder)
        for _ in range(2):
            lost, error = logFile.write(b"b\nc\n")
            self.assertEqual((lost, error and error.errno), (2, errno.ENOENT))
        self.folder.mkdir()
        self.assertEqual(logFile.write(b"d\n"), (0, None))
        self.assertEqual(self.file.read_bytes(), b"d\n")

    @skipUnless(FULL.exists(), "this system has no disk that is always full")
    def test_full(self) -> None:
        """On a full disk lines are not written and are counted, each time."""
        logFile = self.logFile(FULL)
        for _ in range(2):
            lost, error = logFile.write(lines(3))
            self.assertEqual((lost, error and error.errno), (3, errno.ENOSPC))

    def test_fullWithinALine(self) -> None:
        """
        A line that a full disk cut short counts as not written; the next line that is
        written begins on a line of its own.
        """
        logFile = self.logFile()
        room = [150, None, None]

        def takes(data: bytes) -> int:
            left = room.pop(0)
            if left is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            return left

        self.accepting(takes)
        self.assertEqual(logFile.write(lines(4))[0], 3)
        # What is left without room a second time still has to end that line.
        self.assertEqual(logFile.write(lines(2))[0], 2)
        room += [10**6]
        self.assertEqual(logFile.write(b"next\n"), (0, None))
        found = self.file.read_bytes().split(b"\n")
        self.assertEqual([len(each) for each in found], [99, 50, 4, 0])

    def test_pieces(self) -> None:
        """Whole lines are written to a file, as many as fit into a piece."""
        logFile = self.logFile()
        self.accepting(len)
        data = lines(3000)
        logFile.write(data)
        self.assertEqual(b"".join(self.pieces), data)
        for each in self.pieces:
            self.assertTrue(each.endswith(b"\n"))
            self.assertLessEqual(len(each), FILE_PIECE_BYTES)
        self.assertLess(len(self.pieces), 8)

    def test_shortWrites(self) -> None:
        """What a short write leaves is written by the next."""
        logFile = self.logFile()
        self.accepting(lambda data: min(len(data), 77))
        data = lines(50)
        self.assertEqual(logFile.write(data), (0, None))
        self.assertEqual(self.file.read_bytes(), data)


class DescriptorTests(LogFileTestCase):
    """An open descriptor."""

    def pipe(self) -> tuple[int, int]:
        """The ends of a pipe."""
        ends = os.pipe()
        for each in ends:
            self.addCleanup(os.close, each)
        return ends

    def test_pieces(self) -> None:
        """Whole lines are written to a pipe, no more than it takes in one piece."""
        reading, writing = self.pipe()
        self.accepting(len)
        data = lines(300)
        self.assertEqual(self.logFile(descriptor=writing).write(data), (0, None))
        self.assertEqual(os.read(reading, len(data)), data)
        for each in self.pieces:
            self.assertTrue(each.endswith(b"\n"))
            self.assertLessEqual(len(each), ATOMIC_BYTES)

    def test_longest(self) -> None:
        """The longest line is one piece."""
        _, writing = self.pipe()
        self.accepting(len)
        self.logFile(descriptor=writing).write(lines(3, ATOMIC_BYTES))
        self.assertEqual([len(each) for each in self.pieces], 3 * [ATOMIC_BYTES])

    def test_notBlocking(self) -> None:
        """
        If another process has made the descriptor non-blocking, the write waits until
        there is room.
        """
        reading, writing = self.pipe()
        os.set_blocking(writing, False)
        calls = []

        def takes(data: bytes) -> int:
            calls.append(data)
            if len(calls) == 1:
                raise BlockingIOError
            return len(data)

        self.accepting(takes)
        self.assertEqual(self.logFile(descriptor=writing).write(b"a\n"), (0, None))
        self.assertEqual(os.read(reading, 100), b"a\n")

    def test_left(self) -> None:
        """During a write it is known how many lines are not written yet."""
        _, writing = self.pipe()
        left = []
        logFile = self.logFile(descriptor=writing)

        def takes(data: bytes) -> int:
            left.append(logFile.left)
            return len(data)

        self.accepting(takes)
        logFile.write(lines(4, ATOMIC_BYTES))
        self.assertEqual((left, logFile.left), ([4, 3, 2, 1], 0))

    def test_readerGone(self) -> None:
        """If the reader of a pipe is gone, lines are counted as not written."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        os.close(reading)
        lost, error = self.logFile(descriptor=writing).write(b"a\nb\n")
        self.assertEqual((lost, error and error.errno), (2, errno.EPIPE))

    def test_notClosed(self) -> None:
        """A descriptor is neither closed nor opened anew."""
        reading, writing = self.pipe()
        logFile = self.logFile(descriptor=writing)
        logFile.reopen()
        logFile.write(b"a\n")
        logFile.close()
        os.write(writing, b"b\n")
        self.assertEqual(os.read(reading, 100), b"a\nb\n")

    def test_namedPipe(self) -> None:
        """A named pipe without a reader is an error, and does not block."""
        os.mkfifo(self.file)
        error = self.assertRaises(OSError, self.logFile().open)
        self.assertEqual(error.errno, errno.ENXIO)
