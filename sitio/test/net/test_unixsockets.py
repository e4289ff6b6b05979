"""
Tests of L{sitio.net.unixsockets}: which files of UNIX sockets are replaced.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

from twisted.internet.error import CannotListenError
from twisted.python.lockfile import FilesystemLock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.listening import explainListenError
from sitio.net.unixsockets import CLAIM_SUFFIX, claiming


def bound(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket that is bound to a path, and does not listen."""
    skt = socket.socket(socket.AF_UNIX, kind)
    skt.bind(os.fspath(path))
    return skt


def listening(path: Path, backlog: int = 5) -> socket.socket:
    """A socket that listens on a path."""
    skt = bound(path)
    skt.listen(backlog)
    return skt


class ClaimingTests(SynchronousTestCase):
    """A socket is stale if nothing accepts a connection to it."""

    def setUp(self) -> None:
        # A short path: the name of a socket has 107 bytes at most.
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, folder)
        self.path = folder / "s"
        self.lock = folder / "s.lock"

    def stale(self) -> None:
        """Leave what a killed process leaves: the file, and Twisted's lock."""
        listening(self.path).close()

    def refused(self) -> str:
        """The socket can't be claimed; returns why, as the operator reads it."""
        with self.assertRaises(CannotListenError) as caught, claiming(os.fspath(self.path)):
            self.fail("it was claimed")
        return explainListenError(caught.exception)

    def test_table(self) -> None:
        """
        A file on which nothing listens is removed, and the lock with it, whoever's number the
        lock has: this process's (as always in a container), a running one's, one that ended, or
        none at all.
        """
        for pid in (None, os.getpid(), 1, os.getppid(), 2**22 + 1, "x"):
            for prepare in (self.stale, lambda: None):
                with self.subTest(pid=pid, prepare=prepare):
                    prepare()
                    if pid is not None:
                        self.lock.symlink_to(str(pid))
                    with claiming(os.fspath(self.path)):
                        self.assertFalse(os.path.lexists(self.path))
                        self.assertFalse(os.path.lexists(self.lock))

    def test_listening(self) -> None:
        """A socket on which another process listens stays, with any lock or none."""
        with listening(self.path):
            for pid in (None, os.getpid(), 2**22 + 1):
                if pid is not None:
                    self.lock.symlink_to(str(pid))
                said = self.refused()
                self.assertEqual(
                    said, f"can't listen on {self.path}: another process listens on this socket"
                )
                self.assertTrue(self.path.is_socket())
                self.assertEqual(self.lock.is_symlink(), pid is not None)
                self.lock.unlink(missing_ok=True)

    def test_busy(self) -> None:
        """A socket whose backlog is full is not stale."""
        with listening(self.path, 0), socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(os.fspath(self.path))
            self.assertIn("another process listens", self.refused())

    def test_otherFiles(self) -> None:
        """Only the files of sockets are removed."""

        def link() -> None:
            other = self.path.with_name("other")
            listening(other).close()
            self.path.symlink_to(other)

        kinds: list[tuple[Callable[[], object], Callable[[], object]]] = [
            (lambda: self.path.write_text("precious"), self.path.unlink),
            (self.path.mkdir, self.path.rmdir),
            (lambda: os.mkfifo(self.path), self.path.unlink),
            (link, self.path.unlink),
        ]
        for make, remove in kinds:
            make()
            said = self.refused()
            self.assertIn(f"can't listen on {self.path}: ", said)
            self.assertIn("is no socket", said)
            self.assertTrue(os.path.lexists(self.path))
            remove()

    def test_datagrams(self) -> None:
        """A socket of another kind that is in use stays."""
        with bound(self.path, socket.SOCK_DGRAM):
            self.assertIn("another process", self.refused())

    def test_lockIsAFile(self) -> None:
        """A file beside the socket that is no lock of Twisted's stays."""
        self.lock.write_text("precious")
        with claiming(os.fspath(self.path)):
            pass
        self.assertEqual(self.lock.read_text(), "precious")

    def test_inTheWay(self) -> None:
        """The error names the file that is in the way, if it is not that of the socket."""
        claim = Path(os.fsdecode(os.fsencode(self.path) + CLAIM_SUFFIX))
        kinds: list[tuple[Callable[[], object], Callable[[], object]]] = [
            (claim.mkdir, claim.rmdir),
            (lambda: claim.symlink_to("/etc/passwd"), claim.unlink),
        ]
        for make, remove in kinds:
            make()
            said = self.refused()
            self.assertIn(f"can't listen on {self.path}: {claim} is in the way (", said)
            self.assertIn("; remove it", said)
            remove()
        self.lock.write_text("precious")
        with self.assertRaises(CannotListenError) as caught, claiming(os.fspath(self.path)):
            FilesystemLock(os.fspath(self.lock)).lock()
        said = explainListenError(caught.exception)
        self.assertIn(f"can't listen on {self.path}: {self.lock} is in the way (", said)

    def test_noFolder(self) -> None:
        """Without its folder the error names the file."""
        self.path = self.path / "none" / "s"
        self.assertEqual(self.refused(), f"can't listen on {self.path}: No such file or directory")

    def test_failsWithin(self) -> None:
        """What the caller fails with names the file too."""
        with self.assertRaises(CannotListenError) as caught, claiming(os.fspath(self.path)):
            raise OSError(22, "Invalid argument")
        said = explainListenError(caught.exception)
        self.assertEqual(said, f"can't listen on {self.path}: Invalid argument")

    def test_abstract(self) -> None:
        """An abstract name has no file."""
        with claiming("\0sitio"), claiming(""):
            pass

    def test_oneAtATime(self) -> None:
        """
        While one process claims a socket, another is refused; so is one that gets the lock
        only when the first has finished.
        """
        claim = Path(os.fsdecode(os.fsencode(self.path) + CLAIM_SUFFIX))
        with claiming(os.fspath(self.path)):
            self.assertIn("another process opens this socket just now", self.refused())
            late = claim.open("r+b")
        self.addCleanup(late.close)
        self.assertFalse(claim.exists())
        self.patch(os, "open", lambda *arguments: os.dup(late.fileno()))
        self.assertIn("another process opens this socket just now", self.refused())

    def test_killedWithin(self) -> None:
        """A process that is killed while it claims a socket leaves nothing that refuses another."""
        claim = Path(os.fsdecode(os.fsencode(self.path) + CLAIM_SUFFIX))
        claim.touch()
        with claiming(os.fspath(self.path)):
            pass
        self.assertFalse(claim.exists())
