"""What all proxies do."""

from mitmproxy.http import HTTPFlow


def request(flow: HTTPFlow) -> None:
    flow.request.headers["X-Forwarded-For"] = flow.client_conn.peername[0]
