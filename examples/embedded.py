"""A proxy inside another application: `twistd -ny examples/embedded.py`."""

import os
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from sitio import Exchange, Response, onResponse
from sitio.service import SidecarService


@onResponse(404)
def friendly(exchange: Exchange, response: Response) -> Response:
    return Response(404, text="Not here. Try /hello\n")


def makeService(reactor: Any, port: str, socket: str) -> MultiService:
    """A twisted.web service that listens on a UNIX socket, and a proxy before it."""
    services = MultiService()
    root = Resource()
    # Any, as type checkers do not know what implements an interface.
    hello: Any = Data(b"hello\n", "text/plain")
    root.putChild(b"hello", hello)
    site = StreamServerEndpointService(serverFromString(reactor, f"unix:{socket}"), Site(root))
    site.setServiceParent(services)
    listen: Any = serverFromString(reactor, port)
    upstream: Any = clientFromString(reactor, f"unix:{socket}")
    SidecarService(reactor, listen, upstream, [friendly]).setServiceParent(services)
    return services


application = Application("hello")
makeService(reactor, os.environ.get("PORT", "tcp:8080"), "hello.sock").setServiceParent(application)
