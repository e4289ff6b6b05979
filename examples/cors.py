"""Let pages of one origin read all responses: `file:examples/cors.py:origin=ORIGIN`."""

from typing import Annotated

from attrs import frozen

from sitio import Exchange, Response, SentHead
from sitio.policy.options import About


@frozen
class Cors:
    """Let pages of one origin read all responses, errors too."""

    origin: Annotated[str, About("the origin of the pages", shown=True)]
    methods: Annotated[str, About("the methods that they may use", shown=True)] = "GET,POST"

    def requestReceived(self, exchange: Exchange) -> Response | None:
        fields = exchange.request.headers
        # A question of the browser, before it sends a request that could change something.
        if exchange.request.method == "OPTIONS" and "Access-Control-Request-Method" in fields:
            headers = {
                "Access-Control-Allow-Methods": self.methods,
                "Access-Control-Allow-Headers": "Authorization,Content-Type",
                "Access-Control-Max-Age": "600",
            }
            return Response(204, headers=headers)
        return None

    def responseSending(self, exchange: Exchange, response: SentHead) -> None:
        if exchange.request.headers.get("Origin") == self.origin:
            response.headers["Access-Control-Allow-Origin"] = self.origin
        # A cache must not give the response for one origin to another.
        response.headers.add("Vary", "Origin")


#: The fields are the options.
makePolicy = Cors
