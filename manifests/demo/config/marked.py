"""Adds a field to every response, to show that it came through sitio."""

from sitio import onResponse


@onResponse()
def marked(exchange, response):
    response.headers["X-Decorated-By"] = "sitio"
