"""
Runs the proxies and what they need: the service behind them, its files, the
certificate, and the cores for each process.
"""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import signal
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.machine import Ports, cores, cpuSeconds, residentBytes
from bench.processes import START_TIME, Unusable, checkAlive, running
from bench.proxies import Place, Proxy, program
from bench.traffic import FILES, PAGE_LENGTH, document, writeFiles

#: Signals that end the benchmark.
ENDINGS = frozenset((signal.SIGINT, signal.SIGTERM))

#: Seconds between two attempts to connect to a proxy that starts.
GLANCE = 0.001


@frozen
class Cores:
    """
    The cores for each process.

    @ivar proxy: for a proxy with one worker.
    @ivar pair: for a proxy with two workers.
    @ivar load: for the load generator and the service.
    @ivar apart: whether C{pair} and C{load} have no core in common.
    """

    proxy: tuple[int, ...]
    pair: tuple[int, ...]
    load: tuple[int, ...]
    apart: bool

    @classmethod
    def divide(cls, available: list[int]) -> Cores:
        """
        @raise Unusable: there is only one core.
        """
        if len(available) < 2:
            raise Unusable("two cores are needed: one for the proxy, one for the load")
        first, second, *rest = available
        if len(rest) < 2:
            return cls((first,), (first, second), (second,), False)
        return cls((first,), (first, second), tuple(rest[:2]), True)


@define(eq=False)
class RunningProxy:
    """
    A running proxy.

    @ivar cores: the cores that it runs on.
    @ivar started: seconds from its start to its first response.
    @ivar beside: a client that runs with it, and the client's log, if there is one.
    """

    proxy: Proxy
    place: Place
    process: Popen[bytes]
    log: Path
    cores: tuple[int, ...]
    started: float = 0.0
    beside: tuple[Popen[bytes], Path] | None = None

    def cpuSeconds(self) -> dict[int, float]:
        """The CPU time of each of its processes."""
        return cpuSeconds(self.process.pid)

    def residentBytes(self) -> int:
        """The resident memory of its processes."""
        return residentBytes(self.process.pid)

    def checkAlive(self) -> None:
        """
        @raise Unusable: it has ended.
        """
        checkAlive(self.process, self.proxy.name, self.log)
        if self.beside is not None:
            process, log = self.beside
            checkAlive(process, f"what runs beside {self.proxy.name}", log)

    @property
    def origin(self) -> str:
        """Its URL, without a path."""
        return f"{'https' if self.place.certificate else 'http'}://127.0.0.1:{self.place.port}"

    def connection(self, timeout: float = 5.0) -> http.client.HTTPConnection:
        """A new connection, not yet opened."""
        port = self.place.port
        if self.place.certificate:
            context = ssl.create_default_context(cafile=str(self.place.certificate))
            return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, agent: str = "a browser"
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Send a request on a new connection; the status, body and fields of the response."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {"User-Agent": agent})
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def awaitFirstResponse(self, since: float) -> None:
        """
        Wait for its first response and record the time.

        @raise Unusable: there was none in time.
        """
        while time.perf_counter() < since + START_TIME:
            self.checkAlive()
            try:
                status, body, _ = self.ask("/1k")
            except OSError:
                time.sleep(GLANCE)
                continue
            self.started = time.perf_counter() - since
            if (status, len(body)) != (200, FILES["1k"]):
                raise Unusable(f"{self.proxy.name} answers {status} where the service says 200")
            return
        raise Unusable(f"{self.proxy.name} gave no response within {START_TIME:.0f} s")

    def checkBehaviour(self) -> None:
        """
        Check that it does what all proxies must, and what those of its set-up must.

        @raise Unusable: it does not.
        """
        # For a client on loopback, Envoy uses another address of this machine.
        self._check(self.ask("/forwarded")[1].strip() != b"", "did not add X-Forwarded-For")
        self._check(
            self.ask("/post", "POST", bytes(16384))[:2] == (200, b"taken\n"), "did not pass a POST"
        )
        match self.place.setup:
            case "page":
                status, page, _ = self.ask("/missing")
                done = status == 404 and len(page) >= PAGE_LENGTH / 2
                self._check(done, "did not put a page of its own in place of a 404")
            case "acts":
                status, _, fields = self.ask("/1k")
                passed = status == 200 and fields["X-Passed"] == "policy"
                self._check(passed, "did not set a field of a response")
                status, *_ = self.ask("/1k", agent="a robot")
                self._check(status == 403, "did not refuse a request by its User-Agent")
            case "rewrites":
                status, body, fields = self.ask("/json")
                self._check(
                    json.loads(body) == {**json.loads(document()), "passed": True},
                    "did not rewrite a JSON body",
                )
                self._check(fields["ETag"] is None, "kept the ETag of a body that it rewrote")

    def _check(self, good: bool, otherwise: str) -> None:
        if not good:
            raise Unusable(f"{self.proxy.name} {otherwise}")


@define(eq=False)
class TestBed:
    """
    All running processes.

    @ivar folder: a temporary folder for files, configurations and logs.
    @ivar upstream: the port of the service.
    @ivar saturation: the requests per second that proxies can do, by name.
    """

    folder: Path
    cores: Cores
    upstream: int
    ports: Ports
    saturation: dict[str, float] = field(factory=dict)
    _running: dict[tuple[str, str, bool], RunningProxy] = field(factory=dict)
    _stack: ExitStack = field(factory=ExitStack)

    def runningProxy(self, proxy: Proxy, setup: str, tls: bool = False) -> RunningProxy:
        """
        A proxy that runs until the end; it is started at the first call.

        @raise Unusable: it does not start, or does not behave as all proxies must.
        """
        key = proxy.name, setup, tls
        if key not in self._running:
            target = self._stack.enter_context(self.starting(proxy, setup, tls))
            target.checkBehaviour()
            self._running[key] = target
        self._running[key].checkAlive()
        return self._running[key]

    @contextmanager
    def starting(
        self, proxy: Proxy, setup: str = "plain", tls: bool = False
    ) -> Iterator[RunningProxy]:
        """Start a proxy and wait for its first response; end it after use."""
        certificate = self.folder / "cert.pem" if tls else None
        key = self.folder / "key.pem" if tls else None
        page = self.folder / "pages/404.html"
        place = Place(self.folder, self.ports.take(), self.upstream, page, certificate, key, setup)
        log = self.folder / f"{place.port}.log"
        cores = self.cores.proxy if proxy.workers == 1 else self.cores.pair
        command = proxy.command(place)
        since = time.perf_counter()
        with ExitStack() as stack:
            process = stack.enter_context(running(command, cores, log, proxy.environment()))
            target = RunningProxy(proxy, place, process, log, cores)
            target.awaitFirstResponse(since)
            if beside := proxy.beside(place):
                told = log.with_suffix(".beside")
                target.beside = stack.enter_context(running(beside, self.cores.load, told)), told
            yield target


@contextmanager
def testBed() -> Iterator[TestBed]:
    """
    Run the service; at the end, end all processes.

    @raise Unusable: a program that all scenarios need is missing.
    """
    nginx = program("nginx", "apt install nginx-light")
    with tempfile.TemporaryDirectory(prefix="sitio-bench-") as name, ExitStack() as stack:
        stack.callback(signal.pthread_sigmask, signal.SIG_UNBLOCK, ENDINGS)
        folder = Path(name)
        # If root starts nginx, it reads its files as another user.
        folder.chmod(0o755)
        writeFiles(folder)
        writeCertificate(folder)
        ports = Ports()
        bed = TestBed(folder, Cores.divide(cores()), ports.take(), ports)
        stack.push(bed._stack)
        place = Place(folder, bed.upstream, bed.upstream, folder / "pages/404.html")
        configuration = str(place.configuration("upstream.conf"))
        log = folder / "upstream.log"
        command = [nginx, "-e", "stderr", "-c", configuration]
        process = stack.enter_context(running(command, bed.cores.load, log))
        service = RunningProxy(
            Proxy("upstream", "the service"), place, process, log, bed.cores.load
        )
        service.awaitFirstResponse(time.perf_counter())
        # A second Ctrl-C waits until all processes have ended.
        stack.callback(signal.pthread_sigmask, signal.SIG_BLOCK, ENDINGS)
        yield bed


def writeCertificate(folder: Path) -> None:
    """Write C{cert.pem} and C{key.pem} for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
