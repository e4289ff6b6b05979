"""twisted.web.proxy as in its documentation, with X-Forwarded-For."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.python import log
from twisted.web.proxy import ProxyClientFactory, ReverseProxyResource
from twisted.web.server import Request, Site

port, upstream = sys.argv[1:]


class Quiet(ProxyClientFactory):
    noisy = False


class Everything(ReverseProxyResource):
    """Passes each path to the service."""

    proxyClientFactoryClass = Quiet

    def getChild(self, path: bytes, request: Request) -> Everything:
        return Everything(self.host, self.port, b"/".join([self.path, path]), self.reactor)

    def render(self, request: Request) -> int:
        request.requestHeaders.addRawHeader("X-Forwarded-For", request.getClientAddress().host)
        return ReverseProxyResource.render(self, request)


class QuietSite(Site):
    noisy = False

    def log(self, request: object) -> None:
        pass


log.startLogging(sys.stdout)
root = Everything("127.0.0.1", int(upstream), b"", reactor)
where = f"tcp:{port}:interface=127.0.0.1:backlog=1024"
serverFromString(reactor, where).listen(QuietSite(root))
reactor.run()
