"""Replace 404 responses by a page with a link: `--policy file:examples/friendly.py`."""

from html import escape

from sitio import Exchange, Response, onResponse


@onResponse(404)
def friendly(exchange: Exchange, response: Response) -> Response:
    # The client chose this text: unescaped it could contain a script.
    path = escape(exchange.request.path)
    return Response(404, html=f'<h1>{path} is not here</h1>\n<p><a href="/">Home page</a>\n')
