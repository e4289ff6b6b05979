"""
Tests of the components in front of a service that knows nothing of sitio.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from e2e import runtime
from e2e.manifests import Document, withFiles
from e2e.pods import ADMIN, PodTests, Response, images, status
from e2e.runtime import Runtime
from sitio.test.helpers.manifests import builtWith

#: The port of sitio in the components, for clients.
SITIO = 9900

#: What C{api.py} says of any other page.
NOT_FOUND = b'{"error": "not found"}'


class Stranger(PodTests):
    """The component in front of an API on port 8080, which has no page C{/}."""

    manifest = "components/container"
    port = SITIO

    form: ClassVar[str] = "container"

    @classmethod
    def documents(cls) -> list[Document]:
        """As docs/kubernetes.md says, with a Deployment that knows nothing of sitio."""
        app = {
            "name": "app",
            "image": "photos:dev",
            "command": ["python", "/srv/api.py"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": 8080}},
            "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
        }
        labels = {"app": "orders"}
        spec = {"containers": [app], "volumes": [{"name": "scratch", "emptyDir": {}}]}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "orders"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        folder = Path(tempfile.mkdtemp(prefix="sitio-e2e-"))
        cls.addClassCleanup(shutil.rmtree, folder)
        built = builtWith(
            folder / "built", [deployment], [cls.form], settings=("TARGET_PORT=8080",)
        )
        return withFiles(built, "app", "/srv", "api.py")

    def test_unchanged(self) -> None:
        """It is ready, and its responses pass unchanged, its 404 too."""
        for path, code, body in (("/orders", 200, b'{"orders": []}'), ("/", 404, NOT_FOUND)):
            came, direct = (
                Response(base + path) for base in (self.base, f"http://{self.pod.address}:8080")
            )
            self.assertEqual((came.status, came.body), (code, body))
            for name in ("Content-Type", "Content-Length", "Server"):
                self.assertEqual(came.headers[name], direct.headers[name])
        self.assertEqual(status(f"{self.admin}/ready"), 200)


class StrangerNative(Stranger):
    """The same with the native component, by a kubelet that knows native sidecars."""

    form = "native"

    @classmethod
    def player(cls) -> Runtime:
        """A runtime that knows native sidecars."""
        return runtime.Plain(images().command)

    def test_elsewhere(self) -> None:
        """From outside the Pod the pages of requests and options are not there."""
        for page in ("exchanges", "config", "stats.json", "policies"):
            self.assertEqual(status(f"{self.probes}/{page}"), 404, page)
            self.assertEqual(status(f"http://{self.pod.address}:{ADMIN}/{page}"), 0, page)
            self.assertEqual(status(f"{self.admin}/{page}"), 200, page)

    def test_zEnds(self) -> None:
        """The service ends first, then sitio by itself."""
        codes = self.runtime.end(self.pod)
        self.assertEqual((list(codes)[-1], codes["sitio"]), ("sitio", 0))
