"""Every reply says that it came through sitio."""

from sitio import onReply


@onReply()
def marked(exchange, response):
    response.headers["X-Decorated-By"] = "sitio"
