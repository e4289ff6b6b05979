"""
Tests of C{manifests/} and C{docker/} that need no cluster: Kubernetes and
OpenShift know each field, each reference has its target, and sitio accepts the
options in them.

C{make e2e} runs the manifests.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio
from sitio.admin.port import DEFAULT_ENDPOINT
from sitio.config.options import DEFAULT_PORT, Options
from sitio.policy.loader import loadPolicies
from sitio.test.helpers.metrics import page, sidecarSnapshot
from sitio.testing import request, response, runPolicy

ROOT = Path(sitio.__file__).parent.parent
MANIFESTS = ROOT / "manifests"
DOCKER = ROOT / "docker"

try:
    import yaml
    from kubernetes_validate import utils as schemas
except ImportError:
    skip = "kubernetes-validate and PyYAML are not installed"

if not MANIFESTS.exists():
    skip = "this is no checkout, and only a checkout has the manifests"

#: The oldest Kubernetes that enables native sidecars by default.
OLDEST = "1.29"

#: How many of the newest versions are checked as well.
NEWEST = 3

Document = dict[str, Any]

#: The fields that our manifests use of OpenShift's own kinds, from OpenShift's reference: a
#: type allows any value of it, a set allows its members, a mapping has the fields below.
OPENSHIFT: dict[str, Any] = {
    "ImageStream": {
        "apiVersion": {"image.openshift.io/v1"},
        "spec": {"lookupPolicy": {"local": bool}},
    },
    "BuildConfig": {
        "apiVersion": {"build.openshift.io/v1"},
        "spec": {
            "source": {"type": {"Binary"}, "binary": {}},
            "strategy": {"type": {"Docker"}, "dockerStrategy": {"dockerfilePath": str}},
            "output": {"to": {"kind": {"ImageStreamTag"}, "name": str}},
            "resources": {"limits": {"memory": str}},
        },
    },
    "Route": {
        "apiVersion": {"route.openshift.io/v1"},
        "spec": {
            "to": {"kind": {"Service"}, "name": str},
            "port": {"targetPort": str},
            "tls": {
                "termination": {"edge", "passthrough", "reencrypt"},
                "insecureEdgeTerminationPolicy": {"None", "Allow", "Redirect"},
            },
        },
    },
}


@cache
def _kustomized(folder: Path) -> str:
    if shutil.which("kubectl") is None:
        raise SkipTest("kubectl, which contains kustomize, is not installed")
    built = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    if built.returncode or built.stderr:
        raise AssertionError(f"kubectl kustomize {folder}: {built.stderr}")
    return built.stdout


def kustomized(folder: Path) -> list[Document]:
    """The documents that kustomize builds from a folder."""
    return list(yaml.safe_load_all(_kustomized(folder)))


def files() -> Iterator[Path]:
    """The manifests that are applied as they are."""
    return MANIFESTS.glob("*.yml")


def folders() -> Iterator[Path]:
    """The kustomizations that are applied as they are."""
    yield MANIFESTS / "base"
    yield from (MANIFESTS / "overlays").iterdir()


def everything() -> Iterator[tuple[str, list[Document]]]:
    """Each set of documents that is applied together, with its name."""
    for each in files():
        yield each.name, list(yaml.safe_load_all(each.read_text("utf-8")))
    if shutil.which("kubectl") is not None:
        for each in folders():
            yield each.name, kustomized(each)


def podOf(document: Document) -> Document:
    """The Pod spec in a document, or C{{}}."""
    spec: Document = document.get("spec") or {}
    return spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec", {})


def pods() -> Iterator[tuple[str, Document, list[Document]]]:
    """Each Pod spec, with a name and the set of documents that it belongs to."""
    for name, documents in everything():
        for each in documents:
            if podOf(each):
                yield f"{name}: {each['metadata']['name']}", podOf(each), documents


def containers(pod: Document) -> list[Document]:
    """All containers of a Pod, in the order of their start."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def isSitio(container: Document) -> bool:
    """Whether a container runs sitio's image."""
    return bool(container["image"].startswith("sitio:"))


def named(documents: list[Document], kind: str) -> dict[str, Document]:
    """The documents of a kind, by name."""
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


class SchemaTests(SynchronousTestCase):
    """The manifests against the schemas of Kubernetes and OpenShift."""

    def test_kubernetes(self) -> None:
        """
        The oldest supported and the newest versions of Kubernetes accept each document.
        """
        versions = sorted(
            {schemas.major_minor(each) for each in schemas.all_versions()},
            key=lambda each: [int(part) for part in each.split(".")],
        )
        count = 0
        for name, documents in everything():
            for each in documents:
                if each["kind"] in OPENSHIFT:
                    continue
                for version in (OLDEST, *versions[-NEWEST:]):
                    try:
                        schemas.validate(deepcopy(each), version, strict=True)
                    except Exception as error:
                        self.fail(f"{name}: {each['kind']}: Kubernetes {version}: {error}")
                    count += 1
        self.assertGreater(count, 12)

    def test_mistaken(self) -> None:
        """The check finds an unknown field, and a value of the wrong type."""
        (pod,) = yaml.safe_load_all((MANIFESTS / "pod.yml").read_text("utf-8"))
        for change in ({"grace": 1}, {"terminationGracePeriodSeconds": "40 s"}):
            wrong = deepcopy(pod)
            wrong["spec"].update(change)
            with self.assertRaises(Exception):  # noqa: B017  (each version has its own)
                schemas.validate(wrong, OLDEST, strict=True)

    def test_openshift(self) -> None:
        """Documents of OpenShift's kinds have exactly the fields of L{OPENSHIFT}."""
        documents = kustomized(MANIFESTS / "overlays/openshift")
        found = [each for each in documents if each["kind"] in OPENSHIFT]
        self.assertEqual({each["kind"] for each in found}, set(OPENSHIFT))
        for each in found:
            where = f"{each['kind']} {each['metadata']['name']}"
            said = {key: value for key, value in each.items() if key not in ("kind", "metadata")}
            self.checkAgainst(where, said, OPENSHIFT[each["kind"]])

    def checkAgainst(self, where: str, said: Any, known: Any) -> None:
        """Compare a value with its part of L{OPENSHIFT}."""
        if isinstance(known, dict):
            self.assertEqual(set(said), set(known), where)
            for key, value in said.items():
                self.checkAgainst(f"{where}: {key}", value, known[key])
        elif isinstance(known, set):
            self.assertIn(said, known, where)
        else:
            self.assertIsInstance(said, known, where)


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
        """Each file below C{manifests/} is used by a kustomization, or applied as it is."""
        used = set(files())
        for each in MANIFESTS.rglob("kustomization.yml"):
            used.add(each)
            said = yaml.safe_load(each.read_text("utf-8"))
            listed = [
                *said.get("resources", ()),
                *said.get("components", ()),
                *(patch["path"] for patch in said.get("patches", ())),
                *(name for made in said.get("configMapGenerator", ()) for name in made["files"]),
            ]
            for name in listed:
                path = (each.parent / name).resolve()
                self.assertTrue(path.exists(), f"{each}: {name}")
                used.add(path)
        there = {each.resolve() for each in MANIFESTS.rglob("*") if each.is_file()}
        self.assertEqual({each for each in there - used if each.suffix != ".pyc"}, set())

    def test_documented(self) -> None:
        """The kustomization in docs/kubernetes.md adds sitio to another service."""
        text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
        (written,) = re.findall("^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        folder = Path(self.mktemp()).resolve()
        shutil.copytree(MANIFESTS / "components", folder / "sitio")
        shutil.copy(MANIFESTS / "base/photos.yml", folder / "my-service.yml")
        path = folder / "kustomization.yml"
        for said, target in ((written, "web"), (written.replace("# - ", "- "), "proxy")):
            path.write_text(said, "utf-8")
            _kustomized.cache_clear()
            documents = kustomized(folder)
            (port,) = named(documents, "Service")["photos"]["spec"]["ports"]
            self.assertEqual(port["targetPort"], target)
            pod = podOf(named(documents, "Deployment")["photos"])
            (proxy,) = (each for each in containers(pod) if each["name"] == "proxy")
            self.assertEqual(proxy["image"], "registry.example/team/sitio:1.0")
            self.assertIn({"name": "TARGET_PORT", "value": "3000"}, proxy["env"])

    def test_deployment(self) -> None:
        """C{deployment.yml} is up to date with C{overlays/plain}: C{make manifests} writes it."""
        there = list(yaml.safe_load_all((MANIFESTS / "deployment.yml").read_text("utf-8")))
        self.assertEqual(there, kustomized(MANIFESTS / "overlays/plain"))


class PodTests(SynchronousTestCase):
    """Rules for each Pod."""

    def test_restricted(self) -> None:
        """
        Each Pod satisfies Pod Security's level I{restricted} and OpenShift's
        I{restricted-v2}, and all file systems are read-only.
        """
        for name, pod, _ in pods():
            self.assertEqual(
                pod["securityContext"],
                {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                name,
            )
            self.assertIs(pod["automountServiceAccountToken"], False, name)
            self.assertEqual([key for key in pod if key.startswith("host")], [], name)
            for each in containers(pod):
                self.assertEqual(
                    each["securityContext"],
                    {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    name,
                )
                self.assertNotIn("hostPort", str(each.get("ports")), name)

    def test_resources(self) -> None:
        """Each container requests CPU and memory, and limits its memory."""
        for name, pod, _ in pods():
            for each in containers(pod):
                resources = each["resources"]
                self.assertEqual(set(resources["requests"]), {"cpu", "memory"}, name)
                self.assertIn("memory", resources["limits"], name)

    def test_options(self) -> None:
        """sitio accepts the arguments and policies of each of its containers."""
        count = 0
        for name, pod, documents in pods():
            for each in filter(isSitio, containers(pod)):
                options = self.options(each, documents)
                if "readinessProbe" in each:
                    self.assertEqual(options["health-path"], "/", name)
                    self.assertEqual(options["admin"], "tcp:9901", name)
                count += 1
        self.assertGreaterEqual(count, 3)

    def options(self, container: Document, documents: list[Document]) -> Options:
        """The options of a container, from its arguments and environment."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for made in named(documents, "ConfigMap").values():
            for name, text in made["data"].items():
                (folder / name).write_text(text, "utf-8")
        options = Options({each["name"]: each["value"] for each in container.get("env", ())})
        options.parseOptions(
            [each.replace("/etc/sitio/", f"{folder}/") for each in container["args"]]
        )
        return options

    def test_grace(self) -> None:
        """A Pod's grace period is longer than its preStop and sitio's C{--grace} together."""
        count = 0
        for name, pod, documents in pods():
            for each in filter(isSitio, pod["containers"]):
                if "lifecycle" not in each:
                    continue  # a Job's, which has no clients outside its Pod
                command, seconds = each["lifecycle"]["preStop"]["exec"]["command"]
                self.assertEqual(command, "sleep", name)
                grace = self.options(each, documents)["settings"].grace
                self.assertGreater(pod["terminationGracePeriodSeconds"], int(seconds) + grace, name)
                count += 1
        self.assertGreaterEqual(count, 1)

    def test_native(self) -> None:
        """
        An init container has C{restartPolicy: Always}, which makes it a native sidecar; its
        startup probe is C{/live}, as C{/ready} waits for containers that start after it.
        """
        count = 0
        for name, pod, _ in pods():
            for each in pod.get("initContainers", ()):
                self.assertEqual(each["restartPolicy"], "Always", name)
                self.assertEqual(each["startupProbe"]["httpGet"]["path"], "/live", name)
                count += 1
        self.assertGreaterEqual(count, 1)

    def test_sameProxy(self) -> None:
        """Both forms run the same sitio: they differ in its start and its end only."""
        proxies = []
        for form in ("container", "native"):
            patch = yaml.safe_load((MANIFESTS / f"components/{form}/proxy.yml").read_text("utf-8"))
            (proxy,) = (
                each
                for part in ("containers", "initContainers")
                for each in podOf(patch).get(part, ())
            )
            own = {"lifecycle", "restartPolicy", "startupProbe"}
            proxies.append({key: value for key, value in proxy.items() if key not in own})
        self.assertEqual(*proxies)

    def test_jobs(self) -> None:
        """The sidecar of a Job ends: it is native, or the work sends POST /quit."""
        count = 0
        for name, pod, _ in pods():
            if pod.get("restartPolicy") == "Never":
                if any(map(isSitio, pod["containers"])):
                    self.assertRegex(str(pod["containers"][0]["command"]), "/quit.*POST", name)
                count += 1
        self.assertGreaterEqual(count, 2)

    def test_policy(self) -> None:
        """The policy in the ConfigMap adds its field."""
        path = MANIFESTS / "components/common/policies/marked.py"
        ((_, policy),) = loadPolicies(f"file:{path}")
        outcome = runPolicy(policy, request("/"), response(200, text="hello"))
        self.assertEqual(outcome.headers["X-Decorated-By"], "sitio")


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
                    self.assertIn(f"!{each.split('/')[0]}", ignored)

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
