"""
C{kubectl port-forward}, for Pods of this machine: L{PortForward}.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from typing import IO

#: Runs within the container: passes bytes between its standard streams and a port of loopback.
_RELAY = """
import os, socket, sys, threading
there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def receive():
    while data := there.recv(65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    os._exit(0)
threading.Thread(target=receive, daemon=True).start()
while data := os.read(0, 65536):
    there.sendall(data)
"""


class PortForward:
    """
    A port of this machine that leads to one of a Pod's loopback, which nothing else reaches.

    @ivar url: its URL.
    """

    def __init__(self, command: str, container: str, port: int) -> None:
        """
        @param command: C{podman} or C{docker}.
        @param container: one of the Pod, with Python in it.
        """
        self._relay = (command, "exec", "-i", container, "python", "-Ic", _RELAY, str(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def end(self) -> None:
        """Accept no more.  Connections end with their clients, or with the container."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                threading.Thread(target=self._forward, args=(here,), daemon=True).start()

    def _forward(self, here: socket.socket) -> None:
        pipe = subprocess.PIPE
        relay = subprocess.Popen(self._relay, stdin=pipe, stdout=pipe, stderr=sys.stderr, bufsize=0)
        assert relay.stdin is not None and relay.stdout is not None
        back = threading.Thread(target=self._return, args=(relay.stdout, here), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                relay.stdin.write(data)
        # The client has gone.
        with contextlib.suppress(OSError):
            relay.stdin.close()
        relay.kill()
        back.join()
        relay.wait()
        relay.stdout.close()
        here.close()

    def _return(self, there: IO[bytes], here: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := there.read(65536):
                here.sendall(data)
            here.shutdown(socket.SHUT_RDWR)
