"""
Tests of the Dockerfiles and the compose file, without a build.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version
from twisted.trial.unittest import SynchronousTestCase

import sitio
from sitio.admin.port import DEFAULT_ENDPOINT
from sitio.config.options import DEFAULT_PORT, Options
from sitio.test.helpers import manifests
from sitio.test.helpers.manifests import ROOT
from sitio.test.helpers.metrics import page, sidecarSnapshot

DOCKER = ROOT / "docker"

with contextlib.suppress(ImportError):
    import yaml

if manifests.missing:
    skip = manifests.missing


class DockerTests(SynchronousTestCase):
    """The image, and the compose file."""

    def setUp(self) -> None:
        self.dockerfile = (DOCKER / "Dockerfile").read_text("utf-8")

    def test_ports(self) -> None:
        """The image exposes sitio's default ports."""
        admin = DEFAULT_ENDPOINT.split(":")[1]
        self.assertIn(f"\nEXPOSE {DEFAULT_PORT} {admin}\n", self.dockerfile)
        self.assertIn(f"('127.0.0.1', {admin}, ", self.dockerfile)

    def test_copied(self) -> None:
        """Each file that a Dockerfile copies exists, and .dockerignore lets it through."""
        ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
        self.assertEqual(ignored[ignored.index("*")], "*")
        for name in ("Dockerfile", "photos.Dockerfile"):
            text = (DOCKER / name).read_text("utf-8")
            for words in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
                for each in words.split():
                    self.assertTrue((ROOT / each).exists(), each)
                    self.assertTrue({f"!{each}", f"!{each.split('/')[0]}"} & set(ignored), each)

    def test_base(self) -> None:
        """The base image is an argument, with one default for both images."""
        for name in ("Dockerfile", "photos.Dockerfile"):
            text = (DOCKER / name).read_text("utf-8")
            (default,) = re.findall(r"^ARG BASE=(.+)$", text, re.MULTILINE)
            self.assertEqual(default, "docker.io/library/python:3.13-slim-trixie", name)
            self.assertEqual(set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)), {"${BASE}"})

    def test_labels(self) -> None:
        """The image's labels have the licence and the version of the project."""
        self.assertIn(f"\nARG VERSION={sitio.__version__}\n", self.dockerfile)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        for name, value in (
            ("title", "sitio"),
            ("description", project["description"]),
            ("licenses", project["license"]),
            ("vendor", project["authors"][0]["name"]),
            ("version", "${VERSION}"),
        ):
            self.assertIn(f'org.opencontainers.image.{name}="{value}"', self.dockerfile)
        self.assertIn("\nCOPY LICENSE /licenses/sitio\n", self.dockerfile)

    def test_hashes(self) -> None:
        """
        Each file that gets into the image has a hash, and comes from no particular host; each
        dependency of the project is there, with a version that fits.
        """
        pinned = {}
        for name in ("requirements.txt", "build-requirements.txt"):
            self.assertRegex(
                self.dockerfile, rf"--require-hashes [^&]*-r {name}", "it is installed by hash"
            )
            text = (DOCKER / name).read_text("utf-8")
            self.assertNotIn("://", text)
            for line in re.sub(r"\\\n", "", text).splitlines():
                if not line.startswith("#"):
                    self.assertRegex(line, r"^[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}$")
                    package, _, rest = line.partition("==")
                    pinned[package] = Version(rest.split()[0])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        for each in map(Requirement, wanted):
            package = each.name.replace(".", "-")
            self.assertIn(package, pinned)
            self.assertIn(pinned[package], each.specifier)

    def test_compose(self) -> None:
        """sitio accepts its options in the compose file, and each mounted file exists."""
        services = yaml.safe_load((DOCKER / "compose.yml").read_text("utf-8"))["services"]
        self.assertEqual(set(services), {"photos", "sitio", "prometheus", "grafana"})
        Options({}).parseOptions(services["sitio"]["command"])
        for each in services.values():
            for mount in each.get("volumes", ()):
                self.assertTrue((DOCKER / mount.split(":")[0]).is_file(), mount)
            if "build" in each:
                context = DOCKER / each["build"]["context"]
                self.assertTrue((context / each["build"]["dockerfile"]).is_file())

    def test_board(self) -> None:
        """Each metric on the dashboard for Grafana is one of sitio's."""
        known = set(re.findall(r"^# TYPE (\S+)", page(sidecarSnapshot()), re.MULTILINE))
        board = json.loads((DOCKER / "grafana/sitio.json").read_text("utf-8"))
        expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        asked = {
            re.sub("_(bucket|count|sum)$", "", name)
            for each in expressions
            for name in re.findall(r"([a-z_]+)\{", each)
        }
        self.assertGreater(len(asked), 10)
        self.assertEqual(asked - known, set())
