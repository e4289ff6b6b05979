"""Refuses robots, and marks each response."""

from mitmproxy.http import HTTPFlow, Response


def request(flow: HTTPFlow) -> None:
    if "robot" in flow.request.headers.get("User-Agent", ""):
        flow.response = Response.make(403)


def response(flow: HTTPFlow) -> None:
    assert flow.response is not None
    flow.response.headers["X-Passed"] = "policy"
