"""
Tests of a Pod that is deleted and replaced behind a balancer, while many clients keep their
connections: no request fails.
"""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy

from e2e import runtime
from e2e.clients import Balancer, Outcome, running
from e2e.manifests import Document, container, podSpec, read
from e2e.pods import WAIT_SECONDS, PodTests, images
from e2e.runtime import Runtime
from e2e.test_ends import withSlow

#: Kept connections.
CLIENTS = 1000

#: Seconds between two requests of a client.
PAUSE_SECONDS = 3.0

#: Seconds until the balancer knows that a Pod ends.
NOTICE_SECONDS = 2.0


class Replaced(PodTests):
    """A Pod and its successor, with a service whose responses take up to three seconds."""

    port = 9900

    @classmethod
    def documents(cls) -> list[Document]:
        """The manifest with C{slow.py}, without policies, and with room for all clients."""
        documents = withSlow(read(cls.manifest))
        sitio = container(documents, "sitio")
        # A policy might mask a failure, and they are in the file.
        left = ("--config=", "--max-clients=")
        kept = [each for each in sitio["args"] if not each.startswith(left)]
        sitio["args"] = [*kept, f"--max-clients={CLIENTS + 100}"]
        return documents

    def replaced(self) -> None:
        """Nothing fails while the Pod is replaced by another of the same kind."""
        outcome = asyncio.run(self._replaced())
        print(outcome, end=" ", flush=True)
        self.assertEqual(dict(outcome.failed), {})
        # Each client has lost its connection once, and sent more than one request.
        self.assertGreaterEqual(outcome.connections, 2 * CLIENTS)
        self.assertGreater(outcome.answered, 3 * CLIENTS)

    async def _replaced(self) -> Outcome:
        outcome, until = Outcome(), asyncio.Event()
        balancer = Balancer([self.pod.address], self.port)
        clients = asyncio.create_task(running(CLIENTS, balancer, outcome, PAUSE_SECONDS, until))
        limit = time.monotonic() + WAIT_SECONDS
        while outcome.connections < CLIENTS:
            self.assertLess(time.monotonic(), limit, f"not all clients connect: {outcome}")
            await asyncio.sleep(0.2)
        documents = deepcopy(self.pod.documents)
        (pod,) = (each for each in documents if podSpec(each))
        pod["metadata"]["name"] += "-next"
        successor = await asyncio.to_thread(self.runtime.play, documents, {})
        self.addCleanup(self.runtime.remove, successor)
        balancer.addresses.append(successor.address)
        ending = asyncio.create_task(asyncio.to_thread(self.runtime.end, self.pod))
        await asyncio.sleep(NOTICE_SECONDS)
        balancer.addresses.remove(self.pod.address)
        codes = await ending
        self.assertEqual(codes["sitio"], 0, codes)
        await asyncio.sleep(PAUSE_SECONDS)
        until.set()
        await clients
        return outcome


class ReplacedPlain(Replaced):
    """sitio as an ordinary container."""

    manifest = "deployment.yml"

    def test_noneFailed(self) -> None:
        """1,000 clients with kept connections see no failure."""
        self.replaced()


class ReplacedNative(Replaced):
    """sitio as a native sidecar."""

    manifest = "overlays/native-sidecar"

    @classmethod
    def player(cls) -> Runtime:
        """A runtime that knows native sidecars."""
        return runtime.Plain(images().command)

    def test_noneFailed(self) -> None:
        """1,000 clients with kept connections see no failure."""
        self.replaced()
