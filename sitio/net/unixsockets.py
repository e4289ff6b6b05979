"""
The files of UNIX sockets: which of them can be replaced.

A process that is killed leaves its socket's file behind, and the next one can't bind to that
name.  Twisted lays a lock beside the file that names the process, but the number of a
process says little: in a container each sitio is process 1.  So the socket itself is asked:
it is stale if nothing accepts a connection to it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.error import CannotListenError

try:
    import fcntl
except ImportError:  # Windows, where Twisted has no UNIX sockets.
    fcntl = None  # type: ignore[assignment]

#: What is appended to the name of a socket for the file that is locked while it is claimed.
CLAIM_SUFFIX = b".claim"


@contextmanager
def claiming(address: Any) -> Iterator[None]:
    """
    Within this context the caller can bind to and listen on a UNIX socket, if no other
    process listens on it: a stale file and a stale lock beside it are removed first.

    Of two processes that claim the same socket at the same time, one is refused.

    @param address: the name of the socket.  An abstract name has no file: it needs nothing.

    @raise CannotListenError: something listens on the socket; the file is no socket; or
        the file can't be replaced or bound to.  It names the file.
    """
    path = os.fsencode(address)
    if not path or path.startswith(b"\0"):
        yield
        return
    try:
        with _locked(path + CLAIM_SUFFIX):
            _removeStale(path)
            yield
    except OSError as error:
        raise CannotListenError(None, path, _explained(error, path)) from error


def _explained(error: OSError, path: bytes) -> OSError:
    """The same error, which names a file beside the socket if that is in the way."""
    name = error.filename
    if name is None or os.fsencode(name) == path or not os.path.lexists(name):
        return error
    why = f"{os.fsdecode(name)} is in the way ({error.strerror}); remove it"
    return OSError(error.errno, why)


@contextmanager
def _locked(path: bytes) -> Iterator[None]:
    """
    Hold the lock of a file that exists only meanwhile.

    The kernel frees the lock of a process that ends, in whatever way.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = os.fstat(descriptor).st_nlink > 0
        except BlockingIOError:
            alone = False
        if not alone:
            raise OSError(errno.EADDRINUSE, "another process opens this socket just now")
        try:
            yield
        finally:
            os.remove(path)
    finally:
        os.close(descriptor)


def _removeStale(path: bytes) -> None:
    try:
        isSocket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        pass
    else:
        if not isSocket:
            raise OSError(errno.EEXIST, "this file exists and is no socket; remove it")
        if _accepts(path):
            raise OSError(errno.EADDRINUSE, "another process listens on this socket")
        os.remove(path)
    # Twisted's lock: a link whose target is the number of a process.
    if os.path.islink(path + b".lock"):
        os.remove(path + b".lock")


def _accepts(path: bytes) -> bool:
    """
    Whether something listens on this socket.

    @raise OSError: that can't be found out, for example without the right to connect.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # It never waits: with a full backlog, connecting fails at once.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except ConnectionRefusedError:
            return False
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:  # A socket of another kind.
                return True
            raise
        return True
