"""
Tests of the components in front of services that know nothing of sitio, and of the check.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers import manifests
from sitio.test.helpers.check import checked, problems
from sitio.test.helpers.manifests import (
    MANIFESTS,
    Document,
    builtWith,
    containers,
    kustomized,
    named,
    podOf,
)
from sitio.test.helpers.strangers import FORMS, service, stranger

with contextlib.suppress(ImportError):
    import yaml

if manifests.missing:
    skip = manifests.missing

#: The patch of the Service, and the same for a port without a name, as its comment says.
SERVICE = MANIFESTS / "components/service/service.yml"
TEST_PORT = """
- op: test
  path: /spec/ports/0/port
  value: 80
- op: add
  path: /spec/ports/0/targetPort
  value: sitio
"""


def rich(kind: str) -> Document:
    """A service that has already what sitio might overwrite."""
    document = stranger(
        kind,
        terminationGracePeriodSeconds=120,
        initContainers=[{"name": "migrate", "image": "shop"}],
        volumes=[{"name": "cache", "emptyDir": {}}],
        securityContext={"runAsUser": 1000},
    )
    pod = podOf(document)
    pod["containers"][0]["ports"] = [{"name": "proxy", "containerPort": 8080}]
    pod["containers"].append({"name": "proxy", "image": "cloud-sql-proxy", "args": ["--port=5432"]})
    document["spec"]["template"]["metadata"]["annotations"] = {
        "prometheus.io/port": "3001",
        "kubectl.kubernetes.io/default-container": "proxy",
    }
    return document


def without(document: Document) -> Document:
    """A document without what is called sitio in its Pods."""
    pod = podOf(document)
    for part in ("containers", "initContainers", "volumes"):
        kept = [each for each in pod.pop(part, ()) if not each["name"].startswith("sitio")]
        if kept:
            pod[part] = kept
    return document


class ComponentTests(SynchronousTestCase):
    """What the components do to a service of somebody else."""

    def built(self, documents: list[Document], *components: str, **more: Any) -> list[Document]:
        return builtWith(Path(self.mktemp()).resolve(), documents, list(components), **more)

    def test_nothingElse(self) -> None:
        """
        A component adds a container and a volume, and changes nothing else: no grace period,
        no annotation, no other container; a Deployment, a StatefulSet or a DaemonSet.
        """
        kinds = ("Deployment", "StatefulSet", "DaemonSet")
        before = [make(kind) for kind in kinds for make in (stranger, rich)]
        for number, each in enumerate(before):
            each["metadata"]["name"] += str(number)
        for form in FORMS:
            after = self.built(before, form)
            for document in before:
                (found,) = (
                    each
                    for each in after
                    if each["metadata"]["name"] == document["metadata"]["name"]
                )
                self.assertEqual(without(found), document, form)

    def test_transparent(self) -> None:
        """sitio has no policies, and asks for no page of the service."""
        for form in FORMS:
            (deployment,) = named(self.built([stranger()], form), "Deployment").values()
            (sitio,) = (each for each in containers(podOf(deployment)) if each["name"] == "sitio")
            options = " ".join(sitio["args"])
            self.assertNotIn("--policy", options)
            self.assertNotIn("--health-path", options)

    def test_firstIsTheirs(self) -> None:
        """The first container stays the first, which C{kubectl logs} shows."""
        for form in FORMS:
            (deployment,) = named(self.built([rich("Deployment")], form), "Deployment").values()
            names = [each["name"] for each in podOf(deployment)["containers"]]
            self.assertEqual([each for each in names if each != "sitio"], ["app", "proxy"])
            self.assertEqual(names[0], "app")

    def test_fits(self) -> None:
        """The check finds nothing in what the components build, also with an app on 8080."""
        for form in FORMS:
            for before in (stranger(), rich("StatefulSet")):
                ports = ({"name": "http", "port": 80, "targetPort": 8080},)
                documents = [before, service(*ports)]
                made = self.built(documents, form, "service", settings=("TARGET_PORT=8080",))
                self.assertEqual(problems(made), [])
                (port,) = named(made, "Service")["shop"]["spec"]["ports"]
                self.assertEqual(port["targetPort"], "sitio")

    def test_otherPorts(self) -> None:
        """
        The Service's other ports stay.  A first port that is not called http is an error of
        kustomize, until the patch names another one, as its comment says.
        """
        grpc = {"name": "grpc", "port": 50051, "targetPort": 3001, "appProtocol": "grpc"}
        http = {"name": "http", "port": 80, "targetPort": 3000}
        made = self.built([stranger(), service(http, grpc)], "container", "service")
        ports = named(made, "Service")["shop"]["spec"]["ports"]
        self.assertEqual([each["targetPort"] for each in ports], ["sitio", 3001])
        for ports, patch, targets in (
            ((grpc, http), SERVICE.read_text("utf-8").replace("/0/", "/1/"), [3001, "sitio"]),
            (({"port": 80},), TEST_PORT, ["sitio"]),
        ):
            folder = Path(self.mktemp()).resolve()
            documents = [stranger(), service(*ports)]
            with self.assertRaisesRegex(AssertionError, "/spec/ports/0/name"):
                builtWith(folder, documents, ["container", "service"])
            path = folder / "sitio/service/service.yml"
            path.write_text(patch, "utf-8")
            made = kustomized(folder)
            changed = named(made, "Service")["shop"]["spec"]["ports"]
            self.assertEqual([each["targetPort"] for each in changed], targets)
            self.assertEqual(problems(made), [])

    def test_clash(self) -> None:
        """
        A container or volume called sitio stays, and sitio's is a second one, which the check
        and the cluster refuse.  After a patch that merges both, the check finds it too.
        """
        mine = {"name": "sitio", "image": "mine", "command": ["mine"]}
        volume = {"name": "sitio-policies", "emptyDir": {}}
        merging = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "any"},
            "spec": {"template": {"spec": {"containers": [{"name": "app", "args": ["-v"]}]}}},
        }
        for form, part in (("container", "containers"), ("native", "initContainers")):
            before = stranger(volumes=[volume])
            podOf(before).setdefault(part, []).append(mine)
            made = self.built([before], form)
            (deployment,) = named(made, "Deployment").values()
            self.assertIn(mine, containers(podOf(deployment)))
            self.assertIn(volume, podOf(deployment)["volumes"])
            said = " ".join(problems(made))
            self.assertIn("two containers are called sitio", said)
            self.assertIn("two volumes are called sitio-policies", said)
            # kustomize merges lists by name.
            made = self.built([before], form, patch=merging)
            (deployment,) = named(made, "Deployment").values()
            said = " ".join(problems(made))
            self.assertIn(mine, containers(podOf(deployment)))
            self.assertRegex(said, "two containers are called sitio|in the place of sitio's")

    def test_taken(self) -> None:
        """In the manifests as they were before, the check finds all names that are sitio's."""
        before = stranger(volumes=[{"name": "sitio-policies", "emptyDir": {}}])
        podOf(before)["containers"] += [
            {"name": "sitio", "image": "mine"},
            {"name": "b", "image": "mine", "ports": [{"name": "sitio-probes", "containerPort": 1}]},
        ]
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump(before), "utf-8")
        made = self.built([stranger()], "container")
        status, said = checked(made, str(path))
        self.assertEqual(status, 1)
        self.assertEqual(
            [each for each in said.splitlines() if not each.startswith("note: ")],
            [
                f"Deployment shop: your {each}, as one of sitio: rename yours"
                for each in (
                    "container is called sitio",
                    "port is called sitio-probes",
                    "volume is called sitio-policies",
                )
            ],
        )

    def test_twice(self) -> None:
        """A component that is listed twice is found."""
        made = self.built([stranger()], "container", "native")
        self.assertIn("list sitio only once", " ".join(problems(made)))

    def test_podMonitor(self) -> None:
        """The PodMonitor selects the port for probes that the components declare."""
        made = self.built([stranger()], "native", "podmonitor")
        (monitor,) = named(made, "PodMonitor").values()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (deployment,) = named(made, "Deployment").values()
        (sitio,) = (each for each in containers(podOf(deployment)) if each["name"] == "sitio")
        self.assertIn({"name": endpoint["port"], "containerPort": 9902}, sitio["ports"])


#: A change of a Pod or a Service, and a part of the check's sentence for it.
WRONG: list[tuple[str, Callable[[Document, Document, Document], object], str]] = [
    (
        "the application listens on sitio's port",
        lambda pod, sitio, service: pod["containers"][0].update(ports=[{"containerPort": 9900}]),
        "app listens on port 9900, and sitio too",
    ),
    (
        "the application listens on sitio's admin port",
        lambda pod, sitio, service: pod["containers"][0].update(ports=[{"containerPort": 9901}]),
        "app listens on port 9901, and sitio too",
    ),
    (
        "the application listens on sitio's port for probes",
        lambda pod, sitio, service: pod["containers"][0].update(ports=[{"containerPort": 9902}]),
        "app listens on port 9902, and sitio too",
    ),
    (
        "a port of sitio that is only in its arguments",
        lambda pod, sitio, service: (
            sitio["args"].insert(0, "--port=tcp:3001:interface=0.0.0.0"),
            pod["containers"][0].update(ports=[{"containerPort": 3001}]),
        ),
        "app listens on port 3001, and sitio too",
    ),
    (
        "sitio is its own upstream",
        lambda pod, sitio, service: sitio["env"][0].update(value="9900"),
        "which is sitio's own port",
    ),
    (
        "the port of the service is no port",
        lambda pod, sitio, service: sitio["env"][0].update(value="70000"),
        "must be the number",
    ),
    (
        "the port of the service is a name",
        lambda pod, sitio, service: sitio["env"][0].update(value="http"),
        "must be the number",
    ),
    (
        "nothing says the port of the service",
        lambda pod, sitio, service: sitio["env"][0]["valueFrom"].clear(),
        "add a configMapGenerator",
    ),
    (
        "another port has the name of sitio's",
        lambda pod, sitio, service: pod["containers"][0].update(
            ports=[{"name": "sitio", "containerPort": 3000}]
        ),
        "two ports are called sitio",
    ),
    (
        "the ConfigMap lacks the file of --config",
        lambda pod, sitio, service: (
            sitio["args"].append("--config=/etc/sitio/sitio.toml"),
            pod["volumes"][0]["configMap"].update(
                name=sitio["env"][0]["valueFrom"]["configMapKeyRef"]["name"]
            ),
        ),
        "has no sitio.toml: add it to its files",
    ),
    (
        "the grace period is short",
        lambda pod, sitio, service: pod.update(terminationGracePeriodSeconds=10),
        "the Pod ends after 10 s",
    ),
    (
        "a patch has added a second preStop",
        lambda pod, sitio, service: pod["containers"][0].update(
            lifecycle={"preStop": {"exec": {"command": ["bye"]}, "sleep": {"seconds": 15}}}
        ),
        "app has a preStop of exec and sleep",
    ),
    (
        "the Pod runs as user 0",
        lambda pod, sitio, service: pod.update(securityContext={"runAsUser": 0}),
        "would run as user 0",
    ),
    (
        "a gRPC port leads to sitio, by its protocol",
        lambda pod, sitio, service: service["spec"]["ports"][0].update(appProtocol="grpc"),
        "which is for HTTP/1",
    ),
    (
        "a gRPC port leads to sitio, by its name",
        lambda pod, sitio, service: service["spec"]["ports"][0].update(name="grpc"),
        "which is for HTTP/1",
    ),
]

#: Changes that the check has nothing to say about.
RIGHT: list[tuple[str, Callable[[Document, Document, Document], object]]] = [
    (
        "an upstream in the arguments",
        lambda pod, sitio, service: (
            sitio["args"].append("--upstream=unix:/run/app.sock"),
            sitio["env"].clear(),
        ),
    ),
    (
        "an upstream in the file of --config",
        lambda pod, sitio, service: (
            sitio["args"].append("--config=/etc/sitio/sitio.toml"),
            sitio["env"].clear(),
        ),
    ),
    (
        "a user of sitio's own",
        lambda pod, sitio, service: (
            pod.update(securityContext={"runAsUser": 0}),
            sitio["securityContext"].update(runAsUser=65532),
        ),
    ),
    (
        "a protocol that says HTTP/1 for any name",
        lambda pod, sitio, service: service["spec"]["ports"][0].update(
            name="api", appProtocol="http"
        ),
    ),
    (
        "a long grace period",
        lambda pod, sitio, service: pod.update(terminationGracePeriodSeconds=3600),
    ),
]


class CheckTests(SynchronousTestCase):
    """C{check.py}: each problem has a sentence, and what is right has none."""

    #: What kustomize has built: it is slow, and each test changes a copy.
    built: ClassVar[list[Document]] = []

    def setUp(self) -> None:
        if not self.built:
            documents = [stranger(), service({"name": "http", "port": 80})]
            folder = Path(self.mktemp()).resolve()
            self.built.extend(builtWith(folder, documents, ["container", "service"]))
        self.documents = deepcopy(self.built)

    def after(self, change: Callable[[Document, Document, Document], object]) -> list[str]:
        """The problems after a change."""
        documents = deepcopy(self.documents)
        pod = podOf(named(documents, "Deployment")["shop"])
        (sitio,) = (each for each in containers(pod) if each["name"] == "sitio")
        change(pod, sitio, named(documents, "Service")["shop"])
        return problems(documents)

    def test_wrong(self) -> None:
        """Each wrong document has one problem, which is the one that was made."""
        for name, change, sentence in WRONG:
            found = self.after(change)
            self.assertEqual(len(found), 1, f"{name}: {found}")
            self.assertIn(sentence, found[0], name)

    def test_right(self) -> None:
        """Right documents have no problem."""
        for name, change in RIGHT:
            self.assertEqual(self.after(change), [], name)

    def test_default(self) -> None:
        """C{kubectl logs} must not show sitio: by the order, or by the annotation."""
        self.assertIn(
            "`kubectl logs` shows sitio",
            self.after(lambda pod, sitio, service: pod["containers"].reverse())[0],
        )

    def test_noSitio(self) -> None:
        """A Service that leads to sitio needs Pods with sitio."""
        found = self.after(lambda pod, sitio, service: pod["containers"].remove(sitio))
        self.assertEqual(found, ["Service shop: it leads to sitio, and shop has no sitio"], found)

    def test_ours(self) -> None:
        """The manifests of the photo site have no problem."""
        for name, documents in manifests.everything():
            self.assertEqual(problems(documents), [], name)

    def test_command(self) -> None:
        """As a command it reads YAML, prints a line for each problem, and fails if there is one."""
        for change, status, said in (
            ({}, 0, "3 documents: no problem found"),
            ({"terminationGracePeriodSeconds": 5}, 1, "Deployment shop: the Pod ends after 5 s"),
        ):
            documents = deepcopy(self.documents)
            podOf(named(documents, "Deployment")["shop"]).update(change)
            found, lines = checked(documents)
            self.assertEqual(found, status)
            self.assertIn(said, lines)
            self.assertEqual([each[:5] for each in lines.splitlines()].count("note:"), 1)
            self.assertEqual(lines.count("\n"), 2)
