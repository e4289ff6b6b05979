"""A policy that rewrites the body of each response."""

from sitio import Exchange, Response, onResponse


@onResponse(200, buffered=True)
def rewrite(exchange: Exchange, response: Response) -> Response:
    assert response.body is not None
    return Response(200, body=response.body.replace(b"service", b"sidecar"))
