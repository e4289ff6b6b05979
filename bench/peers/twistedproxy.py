"""twisted.web.proxy as in its documentation, with X-Forwarded-For and an error page."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.python import log
from twisted.web.proxy import ProxyClient, ProxyClientFactory, ReverseProxyResource
from twisted.web.server import Request, Site

port, upstream, page, *pem = sys.argv[1:]
notFound = Path(page).read_bytes()


class Client(ProxyClient):
    """Replaces a 404 by a page."""

    def handleStatus(self, version: bytes, code: bytes, message: bytes) -> None:
        self.replaced = code == b"404"
        ProxyClient.handleStatus(self, version, code, message)

    def handleHeader(self, key: bytes, value: bytes) -> None:
        if not self.replaced:
            ProxyClient.handleHeader(self, key, value)

    def handleEndHeaders(self) -> None:
        if self.replaced:
            self.father.setHeader(b"content-type", b"text/html")
            self.father.setHeader(b"content-length", b"%d" % len(notFound))
            self.father.write(notFound)

    def handleResponsePart(self, buffer: bytes) -> None:
        if not self.replaced:
            ProxyClient.handleResponsePart(self, buffer)


class ClientFactory(ProxyClientFactory):
    noisy = False
    protocol = Client


class Everything(ReverseProxyResource):
    """Passes each path to the service."""

    proxyClientFactoryClass = ClientFactory

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
secure = (
    f"ssl:{port}:interface=127.0.0.1:backlog=1024:certKey={pem[0]}:privateKey={pem[1]}"
    if pem
    else ""
)
plain = f"tcp:{port}:interface=127.0.0.1:backlog=1024"
serverFromString(reactor, secure or plain).listen(QuietSite(root))
reactor.run()
