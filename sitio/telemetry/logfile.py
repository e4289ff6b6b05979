"""
L{LogFile}: a file, or a descriptor, to which lines are written in a thread.

L{callInThread<sitio.net.threads.callInThread>} runs a call that may block;
L{LogFile.write} does.

Contract: blocking file I/O.
"""

from __future__ import annotations

import os
import select
import stat

#: Largest line, and largest piece that is written at a time to anything but a file.
#: Linux writes this much to a pipe in one piece (C{PIPE_BUF}), so that lines of several
#: processes don't mix.
ATOMIC_BYTES = 4096

#: Largest piece that is written to a file at a time.  The kernel appends each piece
#: without mixing it with others.
FILE_PIECE_BYTES = 64 * 1024

_LINE_END = ord("\n")


class LogFile:
    """
    A file, or an open descriptor, for lines.

    Used by one thread at a time, except for L{reopen} and L{left}.
    """

    def __init__(self, path: str | None, descriptor: int = 1) -> None:
        """
        @param path: of the file, which is created if it does not exist; L{None} to write
            to the descriptor.
        """
        self.path = path
        self._descriptor: int | None = descriptor if path is None else None
        self._piece = ATOMIC_BYTES
        self._stale = False
        # The line end that is missing where a full disk cut a line short.
        self._before = b""
        # The data that is being written, and how many bytes of it are written.
        self._data = b""
        self._written = 0

    def open(self) -> None:
        """
        Open the file, if it is one, unless the open file still has this name.

        @raise OSError: the file can't be opened.
        """
        if self.path is None:
            return
        if self._descriptor is not None and not self._stale and self._isCurrent():
            return
        self.close()
        self._stale = False
        # O_NONBLOCK: opening a named pipe without a reader fails instead of blocking.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self.path, flags, 0o640)
        os.set_blocking(self._descriptor, True)
        isPipe = stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self._piece = ATOMIC_BYTES if isPipe else FILE_PIECE_BYTES

    def _isCurrent(self) -> bool:
        """Whether the path still names the open file."""
        try:
            return os.path.samestat(os.stat(self.path or ""), os.fstat(self._descriptor or 0))
        except OSError:
            return False

    def reopen(self) -> None:
        """Have the file opened anew before the next line."""
        self._stale = True

    def close(self) -> None:
        """Close the file, if it is one."""
        if self.path is not None and self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def write(self, data: bytes) -> tuple[int, OSError | None]:
        """
        Write lines.  Blocks until all are written or an error occurs.

        @return: how many lines were not written, and the error.
        """
        self._data, self._written = data, 0
        try:
            self.open()
            while self._written < len(data):
                start = self._written
                self._written += self._put(data[start : self._endOf(data, start)])
        except OSError as error:
            if self._written:
                self._before = b"" if data[self._written - 1] == _LINE_END else b"\n"
            return self.left, error
        return 0, None

    @property
    def left(self) -> int:
        """How many lines of the current L{write} are not written yet; for any thread."""
        return self._data.count(b"\n", self._written)

    def _endOf(self, data: bytes, start: int) -> int:
        """The end of the last line that fits into one piece."""
        return data.rfind(b"\n", start, start + self._piece) + 1

    def _put(self, piece: bytes) -> int:
        """Write a piece, or as much of it as there is room for; returns how much."""
        before, descriptor = self._before, self._descriptor or 0
        try:
            wrote = os.write(descriptor, before + piece) - len(before)
        except BlockingIOError:
            # Another process that shares the descriptor has made it non-blocking.
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
            return 0
        self._before = b""
        return wrote
