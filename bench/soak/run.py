"""
Runs the soak: sitio, the service, which is killed and started again, and the clients.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import define, field

from bench.machine import Ports, cores
from bench.processes import START_TIME, Unusable, checkAlive, running
from bench.proxies import ROOT, TWISTD
from bench.soak.checks import (
    Memory,
    Tally,
    added,
    descriptors,
    errors,
    inFlight,
    residentBytes,
    waitUntil,
)
from bench.soak.clients import Clients
from bench.soak.order import Order
from bench.soak.plan import conversations
from bench.testbed import writeCertificate

#: Every policy.  The file is last among those that see a response as the service sent it.
POLICIES = (
    "deny:*:/denied/*",
    "headers:set X-Soak passed:request set X-Soak yes",
    f"file:{Path(__file__).parent / 'policy.py'}",
    "retry",
    # So small that it is full before the memory is compared.
    "last-good:max-bytes=2000000:impersonal=X-Number,X-Length",
    "error-page:404",
)

#: Looks between two equal lists of descriptors at the start.
SETTLED = 5

#: Requests that are under way, or begin, when sitio is told to stop; and the seconds after
#: the first of them at which that happens.
LAST = 300
STOP_SECONDS = 0.15

#: Seconds between two samples of memory.
SAMPLE_SECONDS = 0.05


@define(eq=False)
class Result:
    """
    What a run has shown.

    @ivar began: the number of requests that clients have begun.
    @ivar seconds: the duration.
    @ivar restarts: how often the service was killed.
    @ivar before: the descriptors before the first request; C{left}: those that are open at
        the end in addition.
    @ivar drain: seconds from SIGTERM to the end of sitio.
    """

    order: Order
    tally: Tally
    memory: Memory
    began: int = 0
    seconds: float = 0.0
    restarts: int = 0
    before: list[str] = field(factory=list)
    left: list[str] = field(factory=list)
    drain: float = 0.0

    @property
    def good(self) -> bool:
        """Whether there was no fault."""
        return not self.tally.faults


class Soak:
    """One run."""

    def __init__(self, order: Order, folder: Path, tell: Callable[[str], None]) -> None:
        self._order = order
        self._folder = folder
        self._tell = tell
        ports = Ports()
        self._port, self._admin, self._upstream = (ports.take() for _ in range(3))
        self._tally = Tally()
        self._result = Result(order, self._tally, Memory(order.tolerance))

    def run(self) -> Result:
        """
        Run all of it.

        @raise Unusable: a process does not start, or ends before its time.
        """
        result, tally = self._result, self._tally
        start = time.monotonic()
        for name in ("sitio.log", "service.log", "access.log"):
            (self._folder / name).unlink(missing_ok=True)
        with ExitStack() as stack:
            self._service = stack.enter_context(self._serving())
            sidecar = stack.enter_context(self._sidecar())
            result.before = self._settled(sidecar)
            asyncio.run(self._load(sidecar))
            self._afterLoad(sidecar)
            asyncio.run(self._stop(sidecar))
        for each in errors(self._folder / "sitio.log"):
            tally.fault("errors in the log", each)
        for line in (self._folder / "service.log").read_text("utf-8", "replace").splitlines():
            if line.startswith("WRONG "):
                tally.fault("wrong bytes", f"the service: {line[6:]}")
            elif "Error" in line or "Traceback" in line:
                tally.fault("errors in the log", f"the service: {line}")
        result.seconds = time.monotonic() - start
        return result

    # --- Processes

    @contextmanager
    def _sidecar(self) -> Iterator[subprocess.Popen[bytes]]:
        order, port = self._order, f"{self._port}:interface=127.0.0.1"
        if order.tls:
            writeCertificate(self._folder)
            key, certificate = self._folder / "key.pem", self._folder / "cert.pem"
            endpoint = f"ssl:{port}:privateKey={key}:certKey={certificate}"
        else:
            endpoint = f"tcp:{port}"
        command = [
            *(*TWISTD, f"--reactor={order.reactor}", "-n", "--pidfile=", "sitio"),
            *("--port", f"{endpoint}:backlog=1024", "--admin", str(self._admin), "--via"),
            *("--upstream", f"tcp:127.0.0.1:{self._upstream}", "--upstream-idle-timeout=2"),
            *("--access-log", f"json:{self._folder / 'access.log'}", "--pool-timeout=15"),
        ]
        for each in POLICIES:
            command += ["--policy", each]
        if order.halfClose:
            command += ["--half-close", str(order.halfClose)]
        log = self._folder / "sitio.log"
        environment = {"PYTHONPATH": str(ROOT), "SITIO_SOAK_FAULT": order.fault}
        with running([*command, *order.more], cores(), log, environment) as process:
            self._awaitPort(self._admin, process, "sitio", log)
            self._awaitPort(self._port, process, "sitio", log)
            yield process

    @contextmanager
    def _serving(self) -> Iterator[ExitStack]:
        """The service; the stack ends the one that runs when it is closed."""
        with ExitStack() as stack:
            self._startService(stack)
            yield stack

    def _startService(self, stack: ExitStack) -> None:
        log = self._folder / "service.log"
        port, seed = str(self._upstream), self._order.seed
        command = [sys.executable, "-m", "bench.soak.service", port, seed]
        environment = {"PYTHONPATH": str(ROOT)}
        process = stack.enter_context(running(command, cores(), log, environment))
        self._awaitPort(self._upstream, process, "the service", log)

    def _restartService(self) -> None:
        self._service.close()
        self._startService(self._service)

    def _awaitPort(self, port: int, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        def opens() -> bool:
            checkAlive(process, name, log)
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
            return True

        if waitUntil(opens, START_TIME) >= START_TIME:
            raise Unusable(f"{name} opened no port within {START_TIME:.0f} s")

    def _settled(self, sidecar: subprocess.Popen[bytes]) -> list[str]:
        """The descriptors of sitio once it has started and they don't change."""
        inFlight(self._admin)
        seen: list[list[str]] = []

        def settled() -> bool:
            seen.append(descriptors(sidecar.pid))
            return len(seen) > SETTLED and seen[-1] == seen[-1 - SETTLED]

        waitUntil(settled, START_TIME)
        return seen[-1]

    # --- The load

    def _clients(self) -> Clients:
        context = None
        if self._order.tls:
            context = ssl.create_default_context(cafile=str(self._folder / "cert.pem"))
        return Clients(self._order, self._port, self._tally, context)

    async def _load(self, sidecar: subprocess.Popen[bytes]) -> None:
        order, result = self._order, self._result
        clients = self._clients()
        watch = asyncio.create_task(self._watch(sidecar, clients))
        planned = conversations(order.seed, order.requests, order.tls)
        running = asyncio.create_task(clients.run(planned, order.clients))
        try:
            await asyncio.wait({watch, running}, return_when=asyncio.FIRST_COMPLETED)
            # Whatever the watch has raised ends the run.
            await (watch if watch.done() else running)
        finally:
            watch.cancel()
            running.cancel()
        result.began = clients.done

    async def _watch(self, sidecar: subprocess.Popen[bytes], clients: Clients) -> None:
        """Take samples of memory, and restart the service now and then."""
        order, result = self._order, self._result
        told = 0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            checkAlive(sidecar, "sitio", self._folder / "sitio.log")
            share = clients.done / order.requests
            result.memory.add(share, residentBytes(sidecar.pid))
            if clients.done >= (result.restarts + 1) * order.restart:
                result.restarts += 1
                self._tally.outages.append((time.monotonic(), float("inf")))
                since, _ = self._tally.outages[-1]
                await loop.run_in_executor(None, self._restartService)
                self._tally.outages[-1] = since, time.monotonic()
            if int(share * 10) > told:
                told = int(share * 10)
                faults = sum(self._tally.faults.values())
                self._tell(f"{clients.done:,} requests, {faults} faults")

    def _afterLoad(self, sidecar: subprocess.Popen[bytes]) -> None:
        """Nothing may be left of the clients."""
        result, tally = self._result, self._tally
        waitUntil(lambda: not inFlight(self._admin), self._order.deadline)
        if many := inFlight(self._admin):
            tally.fault("in flight at the end", f"{many} exchanges have not ended")
        waitUntil(lambda: not added(result.before, descriptors(sidecar.pid)), self._order.deadline)
        result.left = added(result.before, descriptors(sidecar.pid))
        if result.left:
            tally.fault("leaked descriptors", ", ".join(result.left[:10]))
        if not result.memory.level:
            grown = (result.memory.after - result.memory.before) / 2**20
            tally.fault("memory", f"it has grown by {grown:.1f} MiB after the first quarter")

    async def _stop(self, sidecar: subprocess.Popen[bytes]) -> None:
        """Stop sitio under load: what it has accepted must end well, and it must end in time."""
        order, result = self._order, self._result
        clients = self._clients()
        planned = conversations(order.seed, order.requests + LAST, order.tls, order.requests)
        load = asyncio.create_task(clients.run(planned, order.clients))
        await asyncio.sleep(STOP_SECONDS)
        clients.stopping = True
        os.kill(sidecar.pid, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        ended = (lambda: sidecar.poll() is not None), order.deadline
        result.drain = await loop.run_in_executor(None, waitUntil, *ended)
        await load
        result.began += clients.done
        # twistd ends by the signal that it got.
        if sidecar.poll() not in (0, -signal.SIGTERM):
            sentence = f"status {sidecar.poll()}, {result.drain:.1f} s after SIGTERM"
            self._tally.fault("end", sentence)
