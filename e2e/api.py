"""
An API of somebody else, on port 8080: it has no page C{/}, and its errors are JSON.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Api(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """Only C{/orders} exists."""
        found = self.path == "/orders"
        body = b'{"orders": []}' if found else b'{"error": "not found"}'
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Api).serve_forever()
