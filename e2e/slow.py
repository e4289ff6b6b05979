"""
A service that takes its time: half of each response after a while, the rest after
another.  It hears SIGTERM: then it accepts no more, and finishes what it has.
"""

import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds before each half.
PAUSE = 1.5

HALF = b"slow and sure, " * 512


class Slow(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """The halves; at once at C{/}, where probes ask."""
        pause = 0 if self.path == "/" else PAUSE
        time.sleep(pause)
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(HALF)))
        self.end_headers()
        self.wfile.write(HALF)
        self.wfile.flush()
        time.sleep(pause)
        self.wfile.write(HALF)

    def log_message(self, *words):
        """Nothing."""


class Server(ThreadingHTTPServer):
    """All who come at a time find a place, and closing waits for them."""

    daemon_threads = False
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("", 8087), Slow)
    # It must not wait for itself: the signal comes to the thread that serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
