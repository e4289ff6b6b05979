"""
Tests of L{sitio.net.room}.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.room import PausingPort, Room, SpareDescriptors


class Port(PausingPort):
    """A port that notes when it may go on."""

    resumed = 0

    def resume(self) -> None:
        """See L{PausingPort}."""
        self.resumed += 1


class RoomTests(SynchronousTestCase):
    """How many connections there may be."""

    def test_leave(self) -> None:
        """Each port that waits goes on once when a connection closes."""
        room, ports = Room(1), [Port(), Port()]
        room.take()
        for each in ports:
            room.waitFor(each)
        room.leave()
        room.take()
        room.leave()
        self.assertEqual(([each.resumed for each in ports], room.taken), ([1, 1], 0))

    def test_full(self) -> None:
        """It is told each time that a port waits as the limit is reached, and else not."""
        told: list[int] = []
        room, port = Room(1, lambda: told.append(room.taken)), Port()
        room.waitFor(port)
        self.assertEqual(told, [])
        room.take()
        room.waitFor(port)
        self.assertEqual(told, [1])

    def test_forget(self) -> None:
        """A port that is forgotten is not called; to forget it again is no error."""
        room, port = Room(1), Port()
        room.take()
        room.waitFor(port)
        room.forget(port)
        room.forget(port)
        room.leave()
        self.assertEqual(port.resumed, 0)


class SpareTests(SynchronousTestCase):
    """Descriptors that are kept for a port."""

    def setUp(self) -> None:
        self.spare = SpareDescriptors(3)
        self.addCleanup(self.spare.giveAll)
        self.open: set[int] = set()
        self.limit = 99
        opened, closed = os.open, os.close

        def tryToOpen(*arguments: Any) -> int:
            if len(self.open) >= self.limit:
                raise OSError(errno.EMFILE, "Too many open files")
            self.open.add(descriptor := opened(*arguments))
            return descriptor

        def close(descriptor: int) -> None:
            self.open.discard(descriptor)
            closed(descriptor)

        self.patch(os, "open", tryToOpen)
        self.patch(os, "close", close)

    def test_keep(self) -> None:
        """So many are kept, no more the second time; each is given once."""
        self.spare.keep()
        self.spare.keep()
        self.assertEqual(len(self.open), 3)
        self.assertEqual([self.spare.give() for _ in range(4)], [True, True, True, False])
        self.assertEqual(self.open, set())

    def test_atTheLimit(self) -> None:
        """As many as there are are kept; the rest when there are some again."""
        self.limit = 2
        self.spare.keep()
        self.assertEqual(len(self.open), 2)
        self.limit = 99
        self.spare.keep()
        self.assertEqual(len(self.open), 3)

    def test_giveAll(self) -> None:
        """All are given at once."""
        self.spare.keep()
        self.spare.giveAll()
        self.assertEqual((self.open, self.spare.give()), (set(), False))
