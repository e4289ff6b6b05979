"""
Tests of the image and the manifests, with real Pods.  Each class runs one Pod.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any
from unittest import TestCase

from e2e import runtime
from e2e.manifests import ROOT, Document, container, read
from e2e.pods import ADMIN, PHOTOS, PROBES, WAIT_SECONDS, PodTests, Response, images, photo, status
from e2e.prometheus import Prometheus, tool
from e2e.runtime import Pod, Runtime

#: Requests while the service is stopped.
MANY = 50

#: The port of sitio in the components, for clients.
SITIO = 9900


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
            self.wait(f"{self.probes}/ready", 503)
            self.assertIn("refused", Response(f"{self.probes}/ready").text)
            self.assertEqual(status(f"{self.probes}/live"), 200)
        finally:
            self.runtime.run("start", web)
        self.wait(f"{self.probes}/ready", 200)
        self.assertNotIn("Cache-Status", photo(self.base, PHOTOS[0]).headers)

    def test_prometheus(self) -> None:
        """
        A real Prometheus scrapes the Pod; its metrics show the requests, and an outage
        that clients do not see.
        """
        prometheus = Prometheus(f"{self.pod.address}:{PROBES}")
        self.addCleanup(prometheus.end)
        self.assertEqual(prometheus.wait('up{job="sitio"}', 1), 1)
        requests = "sum(http_server_request_duration_seconds_count)"
        before = prometheus.value(requests)
        self.checkPhotos()
        self.assertGreaterEqual(
            prometheus.wait(requests, before + len(PHOTOS)), before + len(PHOTOS)
        )
        masked = 'sum(sitio_masked_failures_total{http_response_status_code="502"})'
        # The service answers nothing, and clients get good pages: the first sees only that.
        failed = 'sum(http_client_request_duration_seconds_count{http_response_status_code=""})'
        sent = 'sum(http_server_request_duration_seconds_count{http_response_status_code="502"})'
        beforeMasked, beforeFailed = prometheus.value(masked), prometheus.value(failed)
        beforeSent = prometheus.value(sent)
        self.runtime.run("stop", "-t", "0", self.pod.container("web"))
        try:
            self.assertEqual(photo(self.base, PHOTOS[0]).status, 200)
            self.assertEqual(prometheus.wait(masked, beforeMasked + 1), beforeMasked + 1)
            self.assertGreaterEqual(prometheus.wait(failed, beforeFailed + 1), beforeFailed + 1)
            self.assertEqual(prometheus.value(sent), beforeSent)
            # The board's failures that clients saw need one.
            self.assertEqual(status(f"{self.base}/never-asked-for"), 502)
            self.assertEqual(prometheus.wait(sent, beforeSent + 1), beforeSent + 1)
            prometheus.wait(sent.replace("sum(", "count(rate(").replace("})", "}[1m]))"), 1)
        finally:
            self.runtime.run("start", self.pod.container("web"))
        self.wait(f"{self.probes}/ready", 200)
        self.checkGrafana(prometheus)
        # Paths of photos are no labels, and there are few series.
        self.assertEqual(prometheus.value('count({job="sitio", http_route!=""})'), 0)
        self.assertLess(prometheus.value('count({job="sitio"})'), 500)

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
        self.wait(f"{self.probes}/ready", 200)
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
        page = Response(f"{self.probes}/metrics").body
        checked = subprocess.run(
            [tool("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=60
        )
        self.assertEqual((checked.returncode, checked.stderr), (0, b""), checked.stdout)

    def test_adminFromElsewhere(self) -> None:
        """
        From outside the Pod only the pages for probes can be read: nothing tells of requests
        or options, and /drain and /quit are refused.  Its loopback has all pages.
        """
        pages = ("/", "/events", "/exchanges", "/stats.json", "/config", "/policies", "/help")
        for path in pages:
            self.assertEqual(status(f"{self.probes}{path}"), 404, path)
            self.assertEqual(status(f"http://{self.pod.address}:{ADMIN}{path}"), 0, path)
        for path in ("/drain", "/quit"):
            self.assertEqual(Response(self.probes + path, "POST").status, 403, path)
        for path in ("/live", "/ready", "/metrics"):
            self.assertEqual(status(f"{self.probes}{path}"), 200, path)
        self.assertEqual(status(f"{self.admin}/exchanges"), 200)

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
    port = SITIO

    def test_policies(self) -> None:
        """The policies of the ConfigMap act: its file, and those that sitio.toml names besides."""
        response = photo(self.base, PHOTOS[0])
        self.assertEqual(response.headers["X-Decorated-By"], "sitio")
        self.assertEqual(Response(f"{self.base}/nothing").headers["Server"], "Sitio")
        self.checkPhotos()


class Native(PodTests):
    """The kustomization C{overlays/native-sidecar}."""

    manifest = "overlays/native-sidecar"
    port = SITIO

    @classmethod
    def player(cls) -> Runtime:
        """A runtime that starts the containers after the native sidecars."""
        return runtime.Plain(images().command)

    def test_works(self) -> None:
        """sitio starts before the service, and decorates it."""
        began = [
            self.runtime.run(
                "inspect", "--format", "{{.State.StartedAt}}", self.pod.container(name)
            )
            for name in ("sitio", "web")
        ]
        self.assertLess(*began)
        self.checkPhotos()
        self.assertEqual(photo(self.base, PHOTOS[0]).headers["X-Decorated-By"], "sitio")

    def test_zEnds(self) -> None:
        """The service ends first, then the sidecar by itself."""
        codes = self.runtime.end(self.pod)
        self.assertEqual(codes["sitio"], 0)
        self.assertEqual(list(codes), ["web", "sitio"])


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
        self.runtime = images()

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

    def test_commands(self) -> None:
        """
        Of the commands of Python packages it has only those that sitio needs, and its own, which
        works without a network and a file system to write to.
        """
        said = self.shell("ls /opt/sitio/bin")
        found = {re.sub(r"^python[\d.]*$", "python", each) for each in said.split()}
        self.assertEqual(found, {"python", "sitio", "twistd"})
        # It checks a file before a cluster has it.
        folder = ROOT / "manifests/demo/config"
        said = self.runtime.run(
            "run", "--rm", "--network=none", "--read-only", f"--volume={folder}:/etc/sitio:ro",
            "--env=TARGET_PORT=8087", "--entrypoint=sitio", "sitio:dev",
            "check", "--config=sitio.toml",
        )  # fmt: skip
        self.assertNotIn("Traceback", said)

    def test_licences(self) -> None:
        """It has sitio's licence, and that of each package in it."""
        licence = (ROOT / "LICENSE").read_text("utf-8")
        self.assertEqual(self.shell("cat /licenses/sitio"), licence)
        command = (
            "cd /opt/sitio/lib/python*/site-packages && for each in *.dist-info;"
            " do find $each -iname '*licen*' -type f | grep -q . || echo $each; done"
        )
        self.assertEqual(self.shell(command), "")

    def test_labels(self) -> None:
        """Its labels are those of OCI."""
        (image,) = json.loads(self.runtime.run("image", "inspect", "sitio:dev"))
        prefix = "org.opencontainers.image."
        labels = {
            name.removeprefix(prefix): value
            for name, value in image["Config"]["Labels"].items()
            if name.startswith(prefix)
        }
        self.assertEqual((labels["title"], labels["licenses"]), ("sitio", "MIT"))
        self.assertEqual(labels["base.name"], "docker.io/library/python:3.13-slim-trixie")
        self.assertRegex(labels["version"], r"^\d+\.\d+\.\d+$")

    def shell(self, command: str) -> str:
        """The output of a command of the shell, in a container."""
        return self.runtime.run(
            "run", "--rm", "--network=none", "--entrypoint=sh", "sitio:dev", "-c", command
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
