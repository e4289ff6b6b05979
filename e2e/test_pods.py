"""
Tests of the image and the manifests, with real Pods.

Each class runs one Pod.  The images are built once, before all tests.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest, TestCase

from e2e import runtime
from e2e.manifests import ROOT, Document, container, podSpec, read
from e2e.prometheus import Prometheus, freePort, tool
from e2e.runtime import Pod, Runtime

PHOTOS = sorted((ROOT / "sitio/demo/site/photos").glob("*.jpg"))

#: Seconds for one request, or for a condition to become true.
WAIT_SECONDS = 30

#: Requests in flight when a Pod is stopped.
MANY = 50

#: Without the HTTP proxy of the environment.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

_running: list[Runtime] = []


def setUpModule() -> None:
    """Build the images."""
    here = runtime.find()
    here.build("sitio:dev", "docker/Dockerfile")
    here.build("photos:dev", "docker/photos.Dockerfile")
    _running.append(here)


class Response:
    """A response, read to its end."""

    def __init__(self, url: str, method: str = "GET") -> None:
        """Send a request; raises C{OSError} or C{HTTPException} without a complete response."""
        asked = urllib.request.Request(url, method=method)
        try:
            answer: Any = _open(asked, timeout=WAIT_SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.status: int = answer.status
            self.headers: Any = answer.headers
            self.body: bytes = answer.read()

    @property
    def text(self) -> str:
        return self.body.decode()


def status(url: str) -> int:
    """The status of a page; 0 if there is no response."""
    try:
        return Response(url).status
    except (OSError, http.client.HTTPException):
        return 0


def photo(base: str, path: Path) -> Response:
    return Response(f"{base}/photos/{path.name}")


class PodTests(TestCase):
    """
    A Pod that runs for all tests of a class.

    @ivar base: the URL of the published port.
    @ivar admin: the URL of the admin port, at the Pod's own address.
    """

    manifest: ClassVar[str] = ""
    anyUser: ClassVar[bool] = False
    pod: ClassVar[Pod]
    runtime: ClassVar[Runtime]
    base: ClassVar[str]
    admin: ClassVar[str]

    @classmethod
    def documents(cls) -> list[Document]:
        """The manifests to run."""
        return read(cls.manifest)

    @classmethod
    def player(cls) -> Runtime:
        """The runtime that runs them."""
        return _running[0]

    @classmethod
    def setUpClass(cls) -> None:
        if not cls.manifest:
            raise SkipTest("this class is the base of others")
        if cls.manifest.startswith("overlays/") and shutil.which("kubectl") is None:
            raise SkipTest("kubectl, which contains kustomize, is not installed")
        cls.runtime = cls.player()
        port = freePort()
        cls.pod = cls.runtime.play(cls.documents(), {port: 8080}, cls.anyUser)
        cls.addClassCleanup(cls.runtime.remove, cls.pod)
        cls.base = f"http://127.0.0.1:{port}"
        cls.admin = f"http://{cls.pod.address}:9901"

    def wait(self, url: str, wanted: int) -> None:
        """Send requests until a page has this status."""
        until = time.monotonic() + WAIT_SECONDS
        while status(url) != wanted:
            self.assertLess(time.monotonic(), until, f"{url} does not answer {wanted}")
            time.sleep(0.2)

    def inside(self, name: str, *command: str) -> str:
        """Run a command within a container; its output."""
        return self.runtime.run("exec", self.pod.container(name), *command)

    def checkPhotos(self) -> None:
        """Through the proxy, each photo has the checksum of its file."""
        for path in PHOTOS:
            came = hashlib.sha256(photo(self.base, path).body).hexdigest()
            self.assertEqual(came, hashlib.sha256(path.read_bytes()).hexdigest(), path.name)


class TwoContainers(PodTests):
    """The Pod of C{manifests/pod.yml}, as clients and operators see it."""

    manifest = "pod.yml"

    def test_photos(self) -> None:
        """Photos pass through the proxy unchanged."""
        self.checkPhotos()

    def test_notFound(self) -> None:
        """sitio's 404 page replaces the service's."""
        response = Response(f"{self.base}/photos/volcano")
        self.assertEqual((response.status, response.headers["Server"]), (404, "Sitio"))
        self.assertIn("<html", response.text)

    def test_lastGood(self) -> None:
        """
        While the service is stopped, a page that was good before is served and marked; a
        page that was never requested is a 502; C{/ready} is 503, with the reason.
        """
        good = photo(self.base, PHOTOS[0])
        web = self.pod.container("web")
        self.runtime.run("stop", "-t", "0", web)
        try:
            kept = photo(self.base, PHOTOS[0])
            self.assertEqual((kept.status, kept.body), (200, good.body))
            self.assertIn("detail=last-good", kept.headers["Cache-Status"])
            self.assertEqual(status(f"{self.base}/never-asked-for"), 502)
            self.wait(f"{self.admin}/ready", 503)
            self.assertIn("refused", Response(f"{self.admin}/ready").text)
            self.assertEqual(status(f"{self.admin}/live"), 200)
        finally:
            self.runtime.run("start", web)
        self.wait(f"{self.admin}/ready", 200)
        self.assertNotIn("Cache-Status", photo(self.base, PHOTOS[0]).headers)

    def test_prometheus(self) -> None:
        """
        A real Prometheus scrapes the Pod; its metrics show the requests, and an outage
        that clients do not see.
        """
        prometheus = Prometheus(f"{self.pod.address}:9901")
        self.addCleanup(prometheus.end)
        self.assertEqual(prometheus.wait('up{job="sitio"}', 1), 1)
        requests = "sum(http_server_request_duration_seconds_count)"
        before = prometheus.value(requests)
        self.checkPhotos()
        self.assertGreaterEqual(
            prometheus.wait(requests, before + len(PHOTOS)), before + len(PHOTOS)
        )
        masked = 'sum(sitio_masked_failures_total{http_response_status_code="502"})'
        failed = 'sum(http_server_request_duration_seconds_count{http_response_status_code="502"})'
        beforeMasked, beforeFailed = prometheus.value(masked), prometheus.value(failed)
        self.runtime.run("stop", "-t", "0", self.pod.container("web"))
        try:
            self.assertEqual(photo(self.base, PHOTOS[0]).status, 200)
            self.assertEqual(prometheus.wait(masked, beforeMasked + 1), beforeMasked + 1)
            self.assertEqual(prometheus.wait(failed, beforeFailed + 1), beforeFailed + 1)
        finally:
            self.runtime.run("start", self.pod.container("web"))
        self.wait(f"{self.admin}/ready", 200)
        self.checkGrafana(prometheus)

    def checkGrafana(self, prometheus: Prometheus) -> None:
        """The query of each panel of the Grafana dashboard has a result."""
        board = json.loads((ROOT / "docker/grafana/sitio.json").read_text("utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"]
                for name, value in (
                    ("$__rate_interval", "1m"),
                    ('"$job"', '"sitio"'),
                    ('"$instance"', '".*"'),
                ):
                    expression = expression.replace(name, value)
                self.assertTrue(prometheus.query(expression), f"{panel['title']}: {expression}")

    def test_dashboard(self) -> None:
        """
        In a real browser the dashboard shows requests, and an outage that clients do not
        see; the browser's log is empty.
        """
        # Imported here, as only this test needs a browser.
        from sitio.test.helpers.browser import browser

        chromium = browser()
        chromium.get(f"{self.admin}/")
        self.untilShown(chromium, "#link-text", "Live")
        self.checkPhotos()
        self.untilShown(chromium, "#endpoints", f"/photos/{PHOTOS[0].name}")
        self.runtime.run("stop", "-t", "0", self.pod.container("web"))
        try:
            for _ in range(MANY):
                self.assertEqual(photo(self.base, PHOTOS[0]).status, 200)
            self.untilShown(chromium, "#summary-title", "Outage, masked")
            self.untilShown(chromium, "#failure-list", "last-good sent 200")
        finally:
            self.runtime.run("start", self.pod.container("web"))
        self.wait(f"{self.admin}/ready", 200)
        self.assertEqual(chromium.get_log("browser"), [])

    def untilShown(self, chromium: Any, selector: str, text: str) -> None:
        """Wait until a part of the page shows a text."""
        until = time.monotonic() + WAIT_SECONDS
        while text not in (
            shown := chromium.find_element("css selector", selector).get_attribute("innerText")
        ):
            self.assertLess(time.monotonic(), until, f"{text} is not in {selector}: {shown}")
            time.sleep(0.2)

    def test_promtool(self) -> None:
        """C{promtool} accepts the page of metrics."""
        page = Response(f"{self.admin}/metrics").body
        checked = subprocess.run(
            [tool("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=60
        )
        self.assertEqual((checked.returncode, checked.stderr), (0, b""), checked.stdout)

    def test_adminFromElsewhere(self) -> None:
        """From outside the Pod, the admin port can be read, but /drain and /quit are refused."""
        for path in ("/drain", "/quit"):
            self.assertEqual(Response(self.admin + path, "POST").status, 403, path)
        self.assertEqual(status(f"{self.admin}/ready"), 200)

    def test_healthCheck(self) -> None:
        """The image's health check, for use without probes, passes."""
        (image,) = json.loads(self.runtime.run("image", "inspect", "sitio:dev"))
        # podman and docker have it in different places.
        test = (image["Config"].get("Healthcheck") or image["Healthcheck"])["Test"]
        self.assertEqual(test.pop(0), "CMD")
        self.inside("proxy", *test)

    def test_nothingWritten(self) -> None:
        """A start needs to write nothing: bytecode and plugin cache are in the image."""
        said = self.runtime.logs(self.pod.container("proxy"))
        self.assertIn("sitio takes requests", said)
        self.assertNotIn("plugin cache", said)
        self.assertNotIn("Traceback", said)


class AnyUser(PodTests):
    """The Pod as OpenShift runs it: a user that is not in the image, in group 0."""

    manifest = "pod.yml"
    anyUser = True

    def test_who(self) -> None:
        """It runs as that user, without capabilities, and can't get any."""
        said = self.inside("proxy", "cat", "/proc/1/status")
        found = dict(
            re.findall(r"^(Uid|Gid|CapEff|CapBnd|NoNewPrivs):\s+(\w+)", said, re.MULTILINE)
        )
        self.assertEqual(
            found,
            {
                "Uid": "1000620000",
                "Gid": "0",
                "CapEff": "0" * 16,
                "CapBnd": "0" * 16,
                "NoNewPrivs": "1",
            },
        )

    def test_readOnly(self) -> None:
        """The file system is read-only, and sitio works."""
        for folder in ("/home", "/etc/sitio", "/opt/sitio"):
            with self.assertRaisesRegex(RuntimeError, "Read-only file system"):
                self.inside("proxy", "touch", f"{folder}/file")
        self.checkPhotos()
        self.assertNotIn("plugin cache", self.runtime.logs(self.pod.container("proxy")))


class Slow(PodTests):
    """A Pod with a service that takes three seconds for a response."""

    manifest = "pod.yml"

    @classmethod
    def documents(cls) -> list[Document]:
        """C{pod.yml} with C{slow.py} instead of the photo site."""
        documents = read(cls.manifest)
        spec = podSpec(documents[0])
        spec["volumes"] = [{"name": "e2e", "configMap": {"name": "e2e"}}]
        web = container(documents, "web")
        web["command"] = ["python", "/srv/slow.py"]
        web["volumeMounts"] = [{"name": "e2e", "mountPath": "/srv"}]
        made = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "e2e"},
            "data": {
                each: (Path(__file__).parent / each).read_text("utf-8")
                for each in ("slow.py", "burst.py")
            },
        }
        return [made, *documents]

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
        page = Response(f"{self.admin}/metrics").text
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


class Workers(PodTests):
    """Several processes in one container; the parent is process 1."""

    manifest = "pod.yml"

    @classmethod
    def documents(cls) -> list[Document]:
        """C{pod.yml}, with C{--workers 2}."""
        documents = read(cls.manifest)
        container(documents, "proxy")["args"].append("--workers=2")
        return documents

    def test_reaped(self) -> None:
        """A killed worker leaves no zombie, and is replaced."""
        before = self.workers()
        self.assertEqual(len(before), 2)
        self.inside("proxy", "python", "-c", f"import os; os.kill({before[0]}, 9)")
        until = time.monotonic() + WAIT_SECONDS
        while len(now := self.workers()) < 2 or before[0] in now:
            self.assertLess(time.monotonic(), until, "the worker is not replaced")
            time.sleep(0.2)
        states = self.inside("proxy", "sh", "-c", "cat /proc/[0-9]*/stat")
        self.assertNotIn(") Z ", states)
        self.checkPhotos()

    def workers(self) -> list[int]:
        found = json.loads(Response(f"{self.admin}/stats.json").text)["workers"]
        return sorted(each["pid"] for each in found)


class Plain(PodTests):
    """C{deployment.yml}, which is the kustomization C{overlays/plain}."""

    manifest = "deployment.yml"

    def test_policies(self) -> None:
        """The policy of the ConfigMap acts, and those of the arguments too."""
        response = photo(self.base, PHOTOS[0])
        self.assertEqual(response.headers["X-Decorated-By"], "sitio")
        self.assertEqual(Response(f"{self.base}/nothing").headers["Server"], "Sitio")
        self.checkPhotos()


class Native(PodTests):
    """The kustomization C{overlays/native-sidecar}."""

    manifest = "overlays/native-sidecar"

    @classmethod
    def player(cls) -> Runtime:
        """A runtime that starts the containers after the native sidecars."""
        return runtime.Plain(_running[0].command)

    def test_works(self) -> None:
        """sitio starts before the service, and decorates it."""
        began = [
            self.runtime.run(
                "inspect", "--format", "{{.State.StartedAt}}", self.pod.container(name)
            )
            for name in ("proxy", "web")
        ]
        self.assertLess(*began)
        self.checkPhotos()
        self.assertEqual(photo(self.base, PHOTOS[0]).headers["X-Decorated-By"], "sitio")

    def test_zEnds(self) -> None:
        """The service ends first, then the sidecar by itself."""
        codes = self.runtime.end(self.pod)
        self.assertEqual(codes["proxy"], 0)
        self.assertEqual(list(codes), ["web", "proxy"])


class Jobs(PodTests):
    """The Job of C{manifests/job.yml}, with the photo Pod as its service."""

    manifest = "pod.yml"

    def test_ends(self) -> None:
        """It downloads through its sidecar; then both containers end."""
        documents = read("job.yml")
        arguments = container(documents, "proxy")["args"]
        # There are no Services, so no names of Services.
        arguments[arguments.index("--upstream=tcp:photos:80")] = (
            f"--upstream=tcp:{self.pod.address}:8080"
        )
        job = self.runtime.play(documents, {})
        self.addCleanup(self.runtime.remove, job)
        until = time.monotonic() + WAIT_SECONDS
        for name in ("work", "proxy"):
            while self.state(job, name) != "exited":
                self.assertLess(time.monotonic(), until, f"{name} does not end")
                time.sleep(0.2)
            self.assertEqual(self.runtime.exitCode(job.container(name)), 0, name)
        said = self.runtime.logs(job.container("work"))
        for name in ("lake", "dunes", "forest"):
            size = (ROOT / f"sitio/demo/site/photos/{name}.jpg").stat().st_size
            self.assertIn(f"{name} {size}\n", said)

    def state(self, job: Pod, name: str) -> str:
        return self.runtime.run(
            "inspect", "--format", "{{.State.Status}}", job.container(name)
        ).strip()


class Image(TestCase):
    """The image itself."""

    def setUp(self) -> None:
        self.runtime = _running[0]

    def test_flags(self) -> None:
        """Arguments of the container are options of sitio."""
        said = self.runtime.run("run", "--rm", "--network=none", "sitio:dev", "--version")
        self.assertRegex(said, r"^sitio \d")

    def test_lean(self) -> None:
        """It contains no compiler, no pip cache and no tests of other packages."""
        command = (
            "! command -v cc gcc; ! ls -d /root/.cache /tmp/* /wheels /src;"
            " find / -xdev -type d -name 'test*' -path '*/site-packages/*'"
            " ! -path '*/sitio/testing'"
        )
        self.assertEqual(
            self.runtime.run(
                "run",
                "--rm",
                "--network=none",
                "--user=0",
                "--entrypoint=sh",
                "sitio:dev",
                "-c",
                f"({command}) 2>/dev/null",
            ),
            "",
        )

    def test_environment(self) -> None:
        """PORT and TARGET_PORT work."""
        name = "sitio-e2e-environment"
        self.runtime.run(
            "run", "-d", "--rm", "--name", name, "--read-only", "--cap-drop=ALL",
            "--env=PORT=8088", "--env=TARGET_PORT=9", "sitio:dev",
        )  # fmt: skip
        self.addCleanup(self.runtime.run, "stop", "-t", "20", name)
        ask = (
            "from urllib.request import urlopen\n"
            "import time\n"
            "for each in range(100):\n"
            "    try: urlopen('http://127.0.0.1:8088/'); break\n"
            "    except OSError as error:\n"
            "        if hasattr(error, 'status'): print(error.status); break\n"
            "        time.sleep(.1)\n"
        )
        # Nothing listens on port 9.
        self.assertEqual(self.runtime.run("exec", name, "python", "-c", ask), "502\n")
