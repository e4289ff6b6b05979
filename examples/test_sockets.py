"""A test with sockets: `cd examples; python -m twisted.trial --reactor=asyncio test_sockets`."""

from typing import Any

import treq
from friendly import friendly
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from sitio.service import SidecarService

HERE = "tcp:0:interface=127.0.0.1"


class SocketTests(TestCase):
    """A whole sidecar, between a client and a service."""

    async def test_friendly(self) -> None:
        """The service's page for a missing page is replaced."""
        service: Any = await serverFromString(reactor, HERE).listen(Site(Resource()))
        self.addCleanup(service.stopListening)
        # Any, as type checkers do not know what implements an interface.
        listen: Any = serverFromString(reactor, HERE)
        upstream: Any = clientFromString(reactor, f"tcp:127.0.0.1:{service.getHost().port}")
        sidecar = SidecarService(reactor, listen, upstream, [friendly])
        sidecar.startService()
        self.addCleanup(sidecar.stopService)
        port: Any = sidecar.port
        url = f"http://127.0.0.1:{port.getHost().port}/x"
        # Not persistent: a connection that is kept would stay open after the test.
        answer: Any = await treq.get(url, timeout=5, persistent=False)
        self.assertEqual(answer.code, 404)
        self.assertIn("/x is not here", await answer.text())
