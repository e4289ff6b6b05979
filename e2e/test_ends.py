"""
Tests of the end of a Pod: no request is lost.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor

from e2e.manifests import Document, container, podSpec, read, withFiles
from e2e.pods import WAIT_SECONDS, PodTests, Response

#: Requests in flight when a Pod is stopped.
MANY = 50


def withSlow(documents: list[Document]) -> list[Document]:
    """The documents, with C{slow.py} as the service."""
    web = container(documents, "web")
    web["command"] = ["python", "/srv/slow.py"]
    return withFiles(documents, "web", "/srv", "slow.py", "burst.py")


class Slow(PodTests):
    """A Pod with a service that takes three seconds for a response."""

    manifest = "pod.yml"

    @classmethod
    def documents(cls) -> list[Document]:
        """C{pod.yml} with C{slow.py} instead of the photo site."""
        return withSlow(read(cls.manifest))

    def ask(self, threads: ThreadPoolExecutor) -> list[Future[Response]]:
        """Send many requests, and wait until all are in flight."""
        asked = [threads.submit(Response, f"{self.base}/{each}") for each in range(MANY)]
        self.waitForMany()
        return asked

    def waitForMany(self) -> None:
        """Wait until that many requests are in flight."""
        until = time.monotonic() + WAIT_SECONDS
        while self.inFlight() < MANY:
            self.assertLess(time.monotonic(), until, "not all requests arrive")
            time.sleep(0.05)

    def inFlight(self) -> int:
        page = Response(f"{self.probes}/metrics").text
        found = re.search(r"^http_server_active_requests (\d+)", page, re.MULTILINE)
        assert found is not None, page
        return int(found[1])

    def checkWhole(self, asked: list[Future[Response]]) -> None:
        """All responses are complete."""
        from e2e.slow import HALF

        came = [each.result() for each in asked]
        self.assertEqual([each.status for each in came], [200] * MANY)
        self.assertEqual({each.body for each in came}, {2 * HALF})


class Stopped(Slow):
    """All containers get SIGTERM."""

    def test_noneLost(self) -> None:
        """50 slow requests in flight are all answered."""
        with ThreadPoolExecutor(MANY) as threads:
            asked = self.ask(threads)
            self.runtime.stop(self.pod, grace=40)
            self.checkWhole(asked)
        self.assertEqual(self.runtime.exitCode(self.pod.container("proxy")), 0)


class PodStopped(Slow):
    """
    The Pod is stopped by C{podman pod stop}.

    The clients are in the Pod: podman 4.3 disconnects the Pod's network at that moment,
    where a kubelet waits for the containers.
    """

    @classmethod
    def documents(cls) -> list[Document]:
        """Those of L{Slow}, with C{burst.py} as a third container."""
        documents = super().documents()
        web = container(documents, "web")
        burst = {
            "name": "burst",
            **{key: web[key] for key in ("image", "volumeMounts", "securityContext")},
            "command": ["python", "/srv/burst.py", str(MANY)],
        }
        podSpec(documents[-1])["containers"].append(burst)
        return documents

    def test_noneLost(self) -> None:
        """50 slow requests in flight are all answered."""
        burst = self.pod.container("burst")
        self.runtime.run("kill", "--signal=USR1", burst)
        self.waitForMany()
        self.runtime.stopPod(self.pod, grace=40)
        self.assertEqual(self.runtime.logs(burst), f"{MANY} whole\n")
        self.assertEqual(self.runtime.exitCode(self.pod.container("proxy")), 0)


class Deleted(Slow):
    """The Pod is deleted as in a cluster: preStop, SIGTERM, grace period."""

    def test_noneLost(self) -> None:
        """
        Requests in flight are answered, and so are those that arrive during the preStop;
        then both containers end by themselves.
        """
        with ThreadPoolExecutor(MANY + 1) as threads:
            asked = self.ask(threads)
            ended = threads.submit(self.runtime.end, self.pod)
            time.sleep(2)
            late = [threads.submit(Response, f"{self.base}/late/{each}") for each in range(MANY)]
            self.checkWhole(asked)
            self.checkWhole(late)
            codes = ended.result()
        self.assertEqual(codes["proxy"], 0)
        self.assertNotEqual(codes["web"], 137, "web was killed")
