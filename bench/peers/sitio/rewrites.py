"""Rewrites the JSON of each response."""

from sitio import Exchange, Response, onResponse


@onResponse(200, buffered=True)
def rewrite(exchange: Exchange, response: Response) -> None:
    if response.headers.get("Content-Type") == "application/json":
        document = response.json()
        document["passed"] = True
        response.json = document
