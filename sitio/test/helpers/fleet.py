"""
A receiver of what C{twistd sitio --fleet} posts.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

SAVED = b'{"response":"saved"}'


class Receiver(Resource):
    """
    A fleet dashboard.

    @ivar posts: path, fields and content of each post.
    @ivar status: the status of its responses.
    @ivar silent: whether it sends no response.
    """

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.posts: list[tuple[str, dict[str, str], Any]] = []
        self.status = 200
        self.silent = False
        self.body = SAVED

    def render_POST(self, request: Any) -> Any:
        """Record a post."""
        fields = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        content = request.content.read()
        assert int(fields["content-length"]) == len(content)
        self.posts.append((request.path.decode(), fields, json.loads(content)))
        if self.silent:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        return self.body

    def entries(self) -> list[dict[str, Any]]:
        """The entries of all batches, with each batch only once."""
        batches = {
            fields["idempotency-key"]: content["stats"]
            for path, fields, content in self.posts
            if path.endswith("/stats")
        }
        return [entry for batch in batches.values() for entry in batch]

    def count(self, path: str) -> int:
        """The number of posts to this path."""
        return sum(each == path for each, _, _ in self.posts)
