"""
A slow service: it sends half of each response after a pause, and the rest after another.
On SIGTERM it stops accepting connections, and finishes the requests in flight.
"""

import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds before each half.
PAUSE_SECONDS = 1.5

HALF = b"slow and sure, " * 512


class Slow(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """Send both halves; without pauses for C{/}, which probes use."""
        pause = 0 if self.path == "/" else PAUSE_SECONDS
        time.sleep(pause)
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(HALF)))
        self.end_headers()
        self.wfile.write(HALF)
        self.wfile.flush()
        time.sleep(pause)
        self.wfile.write(HALF)

    def log_message(self, *words):
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """A server with a long backlog, which finishes all requests before it closes."""

    daemon_threads = False
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("", 8087), Slow)
    # Not in this thread: it serves, and shutdown() waits for it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
