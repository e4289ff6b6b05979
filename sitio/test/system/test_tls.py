"""
Tests of TLS in C{twistd sitio}: how it ends.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory

from sitio.test.helpers.certificates import certify
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    Client,
    LoopbackTestCase,
    Upstream,
    reactor,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

#: Seconds from SIGTERM to the end; 3.5 on a quiet machine.
LONGEST = 10.0


class StopTests(LoopbackTestCase):
    """SIGTERM, with a client and a service by TLS that ignore each close_notify."""

    async def test_silent(self) -> None:
        """sitio ends long before its grace of 30 s is over."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        key, certificate = certify(folder)
        secure = f"ssl:0:interface={LOCALHOST}:privateKey={key}:certKey={certificate}"
        upstream = Upstream()
        listening: Any = await serverFromString(reactor, secure).listen(upstream)
        self.addCleanup(listening.stopListening)
        trust = f"trustRoots={certificate.parent}"
        process = self.twistd(
            *("--port", secure, "--upstream"),
            f"tls:localhost:{listening.getHost().port}:{trust}",
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        options: Any = optionsForClientTLS(
            "localhost", Certificate.loadPEM(certificate.read_bytes())
        )
        factory = TLSMemoryBIOFactory(options, True, Factory.forProtocol(Client))
        tls: Any = await TCP4ClientEndpoint(reactor, LOCALHOST, port).connect(factory)
        client: Client = tls.wrappedProtocol
        client.send(REQUEST)
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        asked.send(RESPONSE)
        await client.got.expect(b"hi$")
        # Below TLS, both ignore what comes from now on.
        for each in (tls, asked.transport):
            each.dataReceived = lambda data: None
            each.transport.protocol = each
        began = reactor.seconds()
        process.signal(signal.SIGTERM)
        await process.finish()
        await client.got.waitForEnd()
        self.assertLess(reactor.seconds() - began, LONGEST)
