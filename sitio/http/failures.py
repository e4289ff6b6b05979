"""
The response that stands for an error: L{asResponse}.
"""

from __future__ import annotations

from sitio.errors import BadMessage, SitioError
from sitio.http.message import Response


def asResponse(error: SitioError) -> Response:
    """
    The response that stands for an error: its status and one sentence.

    L{Response.failure} is set, so that response policies can tell a failed
    attempt from a response of the upstream with the same status.
    """
    summary = error.summary
    if isinstance(error, BadMessage) and error.detail != summary:
        # The detail of a bad request goes to its client; details of the upstream do not.
        summary = f"{summary[:-1]}: {error.detail}."
    response = Response(error.status, text=f"{error.status} {summary}\n")
    if not response.reason:
        response.reason = "Client Closed Request" if error.status == 499 else "Error"
    response.headers.add("Server", "sitio")
    response.failure = error
    return response
