"""Removes secrets from JSON; a response that it could not judge is replaced by a 502."""

from typing import Any

from sitio import Exchange, Response, onRequest, onResponse

SECRETS = {"password", "token"}


def without(value: Any) -> Any:
    """A value of JSON without the secrets in it."""
    if isinstance(value, dict):
        return {name: without(each) for name, each in value.items() if name not in SECRETS}
    if isinstance(value, list):
        return [without(each) for each in value]
    return value


@onRequest
def whole(exchange: Exchange) -> None:
    # A part of JSON is no JSON: a client could ask for a secret alone, or for several parts.
    del exchange.request.headers["Range"]


@onResponse(buffered=True, failOpen=False)
def redact(exchange: Exchange, response: Response) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.body and (kind == "application/json" or kind.endswith("+json")):
        response.json = without(response.json())
