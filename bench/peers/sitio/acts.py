"""Refuses robots, and marks each response."""

from sitio import Exchange, Response, onRequest, onResponse


@onRequest
def refuse(exchange: Exchange) -> Response | None:
    if "robot" in exchange.request.headers.get("User-Agent", ""):
        return Response(403)
    return None


@onResponse()
def mark(exchange: Exchange, response: Response) -> None:
    response.headers["X-Passed"] = "policy"
