"""Show people who follow a dead link the way home: `--policy file:examples/friendly.py`."""

from html import escape

from sitio import IExchange, Response, onResponse


@onResponse(404)
def friendly(exchange: IExchange, response: Response) -> Response:
    # What the client wrote is shown to the client: escaped, or it could be a script.
    path = escape(exchange.request.path)
    return Response(404, html=f'<h1>{path} is not here</h1>\n<p><a href="/">The way home</a>\n')
