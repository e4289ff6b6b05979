"""
Runs the proxies and what they need: the service behind them, its files, the
certificate, and the cores for each process.
"""

from __future__ import annotations

import datetime
import http.client
import ipaddress
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

#: The files of the service, and their sizes in bytes.
FILES = {"1k": 1024, "64k": 64 * 1024, "100m": 100_000_000}

#: Bytes of the error page; sitio's own is about as long.
PAGE_LENGTH = 2151

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

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request on a new connection; the status and body of the response."""
        connection = self.connection()
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
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
                status, body = self.ask("/1k")
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
        Check that it behaves as all proxies must.

        @raise Unusable: it does not.
        """
        name = self.proxy.name
        status, page = self.ask("/missing")
        if self.proxy.replaces and (status != 404 or len(page) < PAGE_LENGTH / 2):
            raise Unusable(f"{name} did not put a page of its own in place of a 404")
        # For a client on loopback, Envoy uses another address of this machine.
        if not self.ask("/forwarded")[1].strip():
            raise Unusable(f"{name} did not add X-Forwarded-For")
        if self.ask("/post", "POST", bytes(16384)) != (200, b"taken\n"):
            raise Unusable(f"{name} did not pass a POST")


@define(eq=False)
class TestBed:
    """
    All running processes.

    @ivar folder: a temporary folder for files, configurations and logs.
    @ivar upstream: the port of the service.
    """

    folder: Path
    cores: Cores
    upstream: int
    ports: Ports
    _running: dict[tuple[str, bool], RunningProxy] = field(factory=dict)
    _stack: ExitStack = field(factory=ExitStack)

    def runningProxy(self, proxy: Proxy, tls: bool = False) -> RunningProxy:
        """
        A proxy that runs until the end; it is started at the first call.

        @raise Unusable: it does not start, or does not behave as all proxies must.
        """
        key = proxy.name, tls
        if key not in self._running:
            target = self._stack.enter_context(self.starting(proxy, tls))
            target.checkBehaviour()
            self._running[key] = target
        self._running[key].checkAlive()
        return self._running[key]

    @contextmanager
    def starting(self, proxy: Proxy, tls: bool = False) -> Iterator[RunningProxy]:
        """Start a proxy and wait for its first response; end it after use."""
        pem = (self.folder / "cert.pem", self.folder / "key.pem") if tls else (None, None)
        page = self.folder / "pages/404.html"
        place = Place(self.folder, self.ports.take(), self.upstream, page, *pem)
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
        _files(folder)
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


def _files(folder: Path) -> None:
    (folder / "www").mkdir()
    (folder / "pages").mkdir()
    for name, length in FILES.items():
        text = b"What the service sends. "
        with (folder / "www" / name).open("wb") as file:
            if length > 1_000_000:
                file.truncate(length)
            else:
                file.write((text * (length // len(text) + 1))[:length])
    page = b"<!DOCTYPE html><title>Not found</title><p>There is no such page here.</p>\n"
    page += b"<!--" + b"-" * (PAGE_LENGTH - len(page) - 7) + b"-->"
    (folder / "pages/404.html").write_bytes(page)


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
