"""
Tests of the references between manifests, and of what kustomize builds.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers import manifests
from sitio.test.helpers.check import loaded
from sitio.test.helpers.manifests import (
    MANIFESTS,
    ROOT,
    containers,
    everything,
    files,
    folders,
    kustomized,
    named,
    podOf,
    pods,
    valueOf,
)

with contextlib.suppress(ImportError):
    import yaml

if manifests.missing:
    skip = manifests.missing


class ReferenceTests(SynchronousTestCase):
    """References between documents and files."""

    def test_services(self) -> None:
        """A Service selects a Pod of its set, and its target port is a port of that Pod."""
        for name, documents in everything():
            for service in named(documents, "Service").values():
                selected = [
                    each
                    for each in documents
                    if service["spec"]["selector"].items()
                    <= each.get("spec", {})
                    .get("template", {})
                    .get("metadata", {"labels": {}})["labels"]
                    .items()
                ]
                self.assertEqual(len(selected), 1, name)
                ports = [
                    port["name"]
                    for each in containers(podOf(selected[0]))
                    for port in each.get("ports", ())
                ]
                for port in service["spec"]["ports"]:
                    self.assertIn(port["targetPort"], ports, name)

    def test_proxied(self) -> None:
        """The Service's target port is sitio's where the Pod has sitio, else the service's."""
        owners = {}
        for folder in folders():
            documents = kustomized(folder)
            target = named(documents, "Service")["photos"]["spec"]["ports"][0]["targetPort"]
            pod = podOf(named(documents, "Deployment")["photos"])
            (owner,) = (
                each["image"].partition(":")[0]
                for each in containers(pod)
                if target in [port["name"] for port in each["ports"]]
            )
            owners[folder.name] = owner
        self.assertEqual(
            owners,
            {"base": "photos", "plain": "sitio", "native-sidecar": "sitio", "openshift": "sitio"},
        )

    def test_ports(self) -> None:
        """A probe uses a port of its container; names of ports are unique in a Pod."""
        for name, pod, _ in pods():
            names = [port["name"] for each in containers(pod) for port in each.get("ports", ())]
            self.assertEqual(len(names), len(set(names)), name)
            for each in containers(pod):
                for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                    if kind in each:
                        own = [port["name"] for port in each["ports"]]
                        self.assertIn(each[kind]["httpGet"]["port"], own, name)

    def test_volumes(self) -> None:
        """Each mount has a volume, each volume has a mount and a ConfigMap."""
        for name, pod, documents in pods():
            volumes = {each["name"]: each for each in pod.get("volumes", ())}
            mounts = {
                mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", ())
            }
            self.assertEqual(mounts, set(volumes), name)
            for each in volumes.values():
                self.assertIn(each["configMap"]["name"], named(documents, "ConfigMap"), name)

    def test_openshift(self) -> None:
        """
        Each build has its Dockerfile and its image stream; each trigger sets the image of a
        container; the Route's target port is a port of the Service.
        """
        documents = kustomized(MANIFESTS / "overlays/openshift")
        streams = named(documents, "ImageStream")
        builds = named(documents, "BuildConfig")
        self.assertEqual(set(builds), set(streams))
        for name, build in builds.items():
            self.assertEqual(build["spec"]["output"]["to"]["name"], f"{name}:latest")
            path = build["spec"]["strategy"]["dockerStrategy"]["dockerfilePath"]
            self.assertTrue((ROOT / path).is_file(), path)
        deployment = named(documents, "Deployment")["photos"]
        images = {
            f'spec.template.spec.containers[?(@.name=="{each["name"]}")].image': each["image"]
            for each in podOf(deployment)["containers"]
        }
        triggers = json.loads(deployment["metadata"]["annotations"]["image.openshift.io/triggers"])
        self.assertEqual({each["fieldPath"]: each["from"]["name"] for each in triggers}, images)
        self.assertEqual({each["from"]["kind"] for each in triggers}, {"ImageStreamTag"})
        route = named(documents, "Route")["photos"]["spec"]
        service = named(documents, "Service")[route["to"]["name"]]
        self.assertIn(
            route["port"]["targetPort"], [port["name"] for port in service["spec"]["ports"]]
        )

    def test_files(self) -> None:
        """
        Each file below C{manifests/} is used by a kustomization, or applied as it is, or is
        the check.
        """
        used = {*files(), MANIFESTS / "components/check.py"}
        for each in MANIFESTS.rglob("kustomization.yml"):
            used.add(each)
            said = yaml.safe_load(each.read_text("utf-8"))
            listed = [
                *said.get("resources", ()),
                *said.get("components", ()),
                *(patch["path"] for patch in said.get("patches", ())),
                *(
                    name
                    for made in said.get("configMapGenerator", ())
                    for name in made.get("files", ())
                ),
            ]
            for name in listed:
                path = (each.parent / name).resolve()
                self.assertTrue(path.exists(), f"{each}: {name}")
                used.add(path)
        there = {each.resolve() for each in MANIFESTS.rglob("*") if each.is_file()}
        self.assertEqual({each for each in there - used if each.suffix != ".pyc"}, set())

    def test_documented(self) -> None:
        """
        The kustomization in docs/kubernetes.md, with the names and the port of a service,
        adds sitio to it, lets it stay until sitio has ended, and leaves nothing to say.
        """
        text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
        written, *_ = re.findall("^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for name, own in (
            ("3000", "8087"),
            ("name: my-service", "name: photos"),
            ("my-container", "web"),
        ):
            self.assertEqual(written.count(name), 1, name)
            written = written.replace(name, own)
        for said, target in ((written, "web"), (written.replace("# - ", "- "), "sitio")):
            folder = Path(self.mktemp()).resolve()
            shutil.copytree(MANIFESTS / "components", folder / "sitio")
            before = list(yaml.safe_load_all((MANIFESTS / "base/photos.yml").read_text("utf-8")))
            # The patch is for a container without a preStop.
            del podOf(named(before, "Deployment")["photos"])["containers"][0]["lifecycle"]
            (folder / "my-service.yml").write_text(yaml.safe_dump_all(before), "utf-8")
            (folder / "kustomization.yml").write_text(said, "utf-8")
            documents = kustomized(folder)
            (port,) = named(documents, "Service")["photos"]["spec"]["ports"]
            self.assertEqual(port["targetPort"], target)
            pod = podOf(named(documents, "Deployment")["photos"])
            (sitio,) = (each for each in containers(pod) if each["name"] == "sitio")
            self.assertEqual(sitio["image"], "registry.example/team/sitio:1.0")
            self.assertEqual(valueOf(sitio, "TARGET_PORT", documents), "8087")
            self.assertEqual(
                pod["containers"][0]["lifecycle"]["preStop"], {"sleep": {"seconds": 15}}
            )
            self.assertEqual(loaded().problems(documents) + loaded().notes(documents), [])

    def test_forwarded(self) -> None:
        """
        Each C{port-forward} to the photo site in the documents names ports on which sitio
        listens in that manifest.
        """
        ports = {}
        for name in ("pod", "deployment"):
            (document,) = (
                each
                for each in yaml.safe_load_all((MANIFESTS / f"{name}.yml").read_text("utf-8"))
                if each["kind"] in ("Pod", "Deployment")
            )
            options = [each for one in containers(podOf(document)) for each in one.get("args", ())]
            ports[name] = set(re.findall(r"--(?:port|admin)=(\d+)", " ".join(options)))
        pattern = r"(?:kubectl|oc) port-forward (?:(pod|deployment)/)?photos((?: [\d:]+)+)"
        found = 0
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            for kind, numbers in re.findall(pattern, path.read_text("utf-8")):
                wanted = {each.rpartition(":")[2] for each in numbers.split()}
                self.assertLessEqual(wanted, ports[kind or "pod"], f"{path.name}: {numbers}")
                found += 1
        self.assertGreaterEqual(found, 5)

    def test_deployment(self) -> None:
        """C{deployment.yml} is up to date with C{overlays/plain}: C{make manifests} writes it."""
        there = list(yaml.safe_load_all((MANIFESTS / "deployment.yml").read_text("utf-8")))
        self.assertEqual(there, kustomized(MANIFESTS / "overlays/plain"))
