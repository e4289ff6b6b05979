"""
Tests of the PROXY header that sitio writes, with real receivers: HAProxy and nginx.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, clientFromString, serverFromString
from twisted.internet.protocol import Factory

from sitio.config.model import Config, ForwardedConfig
from sitio.config.tables import HealthConfig
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.loopback import (
    LOCALHOST,
    Client,
    LoopbackTestCase,
    Process,
    reactor,
)
from sitio.wiring.plan import Plan

#: They answer with the client that the header has named, and a number: nginx with that of the
#: request on its connection.
HAPROXY = """\
global
    log stdout format raw daemon
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend service
    bind unix@{socket} accept-proxy
    http-request return status 200 content-type text/plain lf-string "[%ci]:%cp 1"
"""
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{}}
http {{
    log_format short '[$proxy_protocol_addr] $status $http_user_agent';
    access_log {folder}/access.log short;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen unix:{socket} proxy_protocol;
        return 200 "[$proxy_protocol_addr]:$proxy_protocol_port $connection_requests";
    }}
}}
"""

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n%b\r\n"


class ReceiverTests(LoopbackTestCase):
    """What real receivers read."""

    def setUp(self) -> None:
        # Paths of UNIX sockets are short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = self.folder / "service"

    async def receiver(self, name: str, config: str, *arguments: str) -> Process:
        """Start HAProxy or nginx, if it is installed."""
        command = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if command is None:
            self.skipTest(f"there is no {name}")
        path = self.folder / "config"
        path.write_text(config.format(socket=self.socket, folder=self.folder))
        process = self.spawn(command, *arguments, str(path))
        await self.until(lambda: self.socket.exists() or process.status is not None)
        self.assertIsNone(process.status, process.output())
        return process

    def sidecar(self, port: str = f"tcp:0:interface={LOCALHOST}", **more: Any) -> Any:
        """A sitio in front of it; its port."""
        upstream = UpstreamConfig(
            "service",
            endpoints=(EndpointConfig(f"unix:{self.socket}"),),
            proxyProtocol="v2",
            **more,
        )
        config = Config(
            upstreams=(upstream,),
            limits=Settings(grace=0),
            forwarded=ForwardedConfig(trusted=(f"{LOCALHOST}/32",)),
        )
        plan = Plan(
            config, reactor, lambda each: lambda address: clientFromString(reactor, address)
        )
        service = SidecarService(
            reactor, serverFromString(reactor, port), plan.make, statsInterval=0
        )
        service.startService()
        self.addCleanup(service.stopService)
        assert service.port is not None
        return service.port.getHost()

    async def client(self, port: int, source: str = LOCALHOST) -> Client:
        """A client from this address."""
        endpoint = TCP4ClientEndpoint(reactor, LOCALHOST, port, bindAddress=(source, 0))
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        self.addCleanup(client.transport.abortConnection)
        found: Client = client
        return found

    async def said(self, client: Client, fields: bytes = b"") -> str:
        """What the receiver answers."""
        client.got.data = b""
        client.send(REQUEST % fields)
        match = await client.got.expect(rb"\[([^\n]*)$")
        return match[0].decode()

    async def check(self, port: int) -> None:
        """Each client has connections of its own, and its requests one after the other."""
        first = await self.client(port)
        second = await self.client(port, "127.0.0.2")
        for client, source in ((first, LOCALHOST), (second, "127.0.0.2")):
            number = client.transport.getHost().port
            for _ in range(2):
                said = await self.said(client)
                self.assertTrue(said.startswith(f"[{source}]:{number} "), said)
        for address in ("2001:db8::7", "198.51.100.7"):
            said = await self.said(first, b"X-Forwarded-For: %b\r\n" % address.encode())
            # The port is unknown: it is 0, for which nginx has no text.
            self.assertIn(said.partition(" ")[0], (f"[{address}]:0", f"[{address}]:"))
        # Whom nobody trusts tells nothing.
        said = await self.said(second, b"X-Forwarded-For: 6.6.6.6\r\n")
        self.assertTrue(said.startswith("[127.0.0.2]:"), said)

    async def test_haproxy(self) -> None:
        """HAProxy takes the header for what it is."""
        await self.receiver("haproxy", HAPROXY, "-db", "-f")
        await self.check(self.sidecar().port)

    async def test_nginx(self) -> None:
        """So does nginx, and it sees that connections are kept."""
        await self.receiver("nginx", NGINX, "-c")
        port = self.sidecar().port
        await self.check(port)
        client = await self.client(port)
        said = [(await self.said(client)).partition(" ")[2] for _ in range(3)]
        self.assertEqual(said, ["1", "2", "3"])

    async def test_healthChecks(self) -> None:
        """Health checks are taken too, and name no client."""
        await self.receiver("nginx", NGINX, "-c")
        self.sidecar(health=HealthConfig(path="/", interval=0.1))
        log = self.folder / "access.log"
        await self.until(lambda: log.read_text().count("\n") >= 3)
        self.assertEqual(set(log.read_text().splitlines()), {"[-] 200 sitio"})

    async def test_unixClient(self) -> None:
        """A client of a UNIX socket has no address; its requests are served."""
        await self.receiver("nginx", NGINX, "-c")
        name = self.sidecar(f"unix:{self.folder}/sitio").name
        endpoint = clientFromString(reactor, f"unix:{name.decode()}")
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        self.addCleanup(client.transport.abortConnection)
        self.assertTrue((await self.said(client)).startswith("[]:"))
