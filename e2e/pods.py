"""
What the tests of Pods share: the images, a response, and a Pod that runs for all tests of
a class.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest, TestCase

from e2e import runtime
from e2e.manifests import ROOT, Document, podSpec, read
from e2e.portforward import PortForward
from e2e.prometheus import freePort
from e2e.runtime import Pod, Runtime

PHOTOS = sorted((ROOT / "sitio/demo/site/photos").glob("*.jpg"))

#: Seconds for one request, or for a condition to become true.
WAIT_SECONDS = 30

#: Ports of sitio in each Pod: the admin pages on its loopback, and those for probes.
ADMIN, PROBES = 9901, 9902

#: Without the HTTP proxy of the environment.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@cache
def images() -> Runtime:
    """Build the images, once; the runtime that has them."""
    here = runtime.find()
    here.build("sitio:dev", "docker/Dockerfile")
    here.build("photos:dev", "docker/photos.Dockerfile")
    return here


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

    @cvar port: the port of sitio, for clients.
    @ivar base: the URL of the published port.
    @ivar probes: the URL of the port for probes, at the Pod's own address.
    @ivar admin: the URL of the admin pages, which are on the Pod's loopback, through a
        L{PortForward}.
    """

    manifest: ClassVar[str] = ""
    port: ClassVar[int] = 8080
    anyUser: ClassVar[bool] = False
    pod: ClassVar[Pod]
    runtime: ClassVar[Runtime]
    base: ClassVar[str]
    probes: ClassVar[str]
    admin: ClassVar[str]

    @classmethod
    def documents(cls) -> list[Document]:
        """The manifests to run."""
        return read(cls.manifest)

    @classmethod
    def player(cls) -> Runtime:
        """The runtime that runs them."""
        return images()

    @classmethod
    def setUpClass(cls) -> None:
        if not cls.manifest:
            raise SkipTest("this class is the base of others")
        if not cls.manifest.endswith(".yml") and shutil.which("kubectl") is None:
            raise SkipTest("kubectl, which contains kustomize, is not installed")
        cls.runtime = cls.player()
        port = freePort()
        cls.pod = cls.runtime.play(cls.documents(), {port: cls.port}, cls.anyUser)
        cls.addClassCleanup(cls.runtime.remove, cls.pod)
        cls.base = f"http://127.0.0.1:{port}"
        cls.probes = f"http://{cls.pod.address}:{PROBES}"
        forward = PortForward(cls.runtime.command, cls.pod.container(cls.sitio()), ADMIN)
        cls.addClassCleanup(forward.end)
        cls.admin = forward.url

    @classmethod
    def sitio(cls) -> str:
        """The name of sitio's container."""
        every = (
            each
            for document in cls.pod.documents
            for part in ("initContainers", "containers")
            for each in podSpec(document).get(part, ())
        )
        return next(str(each["name"]) for each in every if each["image"].startswith("sitio:"))

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
