"""
Tests of the advice of C{check.py}: lines that begin with C{note:}, and change no status.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers import manifests
from sitio.test.helpers.check import checked, checkedText, loaded
from sitio.test.helpers.manifests import Document, builtWith, named, podOf
from sitio.test.helpers.strangers import FORMS, service, stranger

if manifests.missing:
    skip = manifests.missing

#: A preStop of the service: then there is no advice for its end.
STAYS = {"preStop": {"sleep": {"seconds": 15}}}

GRPC = {"name": "grpc", "port": 50051, "targetPort": 50051, "appProtocol": "kubernetes.io/h2c"}

#: Ports of the Service in front of port 3000, and the advice for C{service/service.yml}.
PORTS: list[tuple[list[Document], list[str]]] = [
    ([{"name": "http", "port": 80, "targetPort": 3000}], []),
    ([{"name": "http", "port": 80, "targetPort": "api"}, GRPC], []),
    ([{"name": "http", "port": 3000}], []),
    (
        [GRPC, {"name": "http", "port": 80, "targetPort": "api"}],
        ["write /spec/ports/1/ instead of /spec/ports/0/, and the name http"],
    ),
    (
        [{"name": "web", "port": 80, "targetPort": 3000}],
        ["write the name web"],
    ),
    ([{"port": 80, "targetPort": 3000}], ["port 80 has no name", "test /spec/ports/0/port for 80"]),
    ([GRPC], ["no port leads to TARGET_PORT"]),
    (
        [
            {"name": "http", "port": 80, "targetPort": 3000},
            {"name": "http-alt", "port": 81, "targetPort": 3000},
        ],
        ["more than one port leads to TARGET_PORT"],
    ),
    (
        [{"name": "grpc", "port": 50051, "targetPort": 3000}],
        ["port grpc leads to TARGET_PORT, and is not HTTP/1"],
    ),
    ([], []),
]


class NoteTests(SynchronousTestCase):
    """What the check advises, for what kustomize has built."""

    #: What kustomize has built, for each form: it is slow, and each test changes a copy.
    built: ClassVar[dict[str, list[Document]]] = {}

    def setUp(self) -> None:
        for form in FORMS:
            if form not in self.built:
                before = [stranger(), service({"name": "http", "port": 80, "targetPort": 3000})]
                (app,) = podOf(before[0])["containers"]
                app["lifecycle"] = STAYS
                app["ports"] = [{"name": "api", "containerPort": 3000}]
                self.built[form] = builtWith(Path(self.mktemp()).resolve(), before, [form])

    def documents(self, form: str = "container") -> tuple[list[Document], Document]:
        """Documents of the first step, and the Pod in them."""
        documents = deepcopy(self.built[form])
        return documents, podOf(named(documents, "Deployment")["shop"])

    def test_none(self) -> None:
        """A service that waits for sitio, with a port called http, needs no advice."""
        for form in FORMS:
            self.assertEqual(loaded().notes(self.documents(form)[0]), [], form)

    def test_ports(self) -> None:
        """
        Before the second step it says what to write into C{service/service.yml} for the port
        that leads to the service, by number or by name; nothing if it is the first, called
        http, or if there is none.
        """
        for ports, wanted in PORTS:
            documents, _ = self.documents()
            named(documents, "Service")["shop"]["spec"]["ports"] = ports
            found = loaded().notes(documents)
            self.assertEqual(len(found), bool(wanted), found)
            for each in wanted:
                self.assertIn(each, found[0])

    def test_written(self) -> None:
        """What it says about a second port is what kustomize needs."""
        before = [stranger(), service(GRPC, {"name": "http", "port": 80, "targetPort": 3000})]
        folder = Path(self.mktemp()).resolve()
        (said,) = loaded().serviceNotes(builtWith(folder, before, ["container"]))
        self.assertIn("/spec/ports/1/", said)

    def test_services(self) -> None:
        """With several Services, one has to be named."""
        documents, _ = self.documents()
        other = service({"name": "http", "port": 80, "targetPort": 3000})
        other["metadata"]["name"] = "other"
        (said,) = loaded().notes([*documents, other])
        self.assertIn("name one in the target of sitio/service/kustomization.yml", said)

    def test_ends(self) -> None:
        """A service without preStop loses requests at each restart; each form has its reason."""
        for form, reason in (
            ("container", "it ends while sitio still needs it"),
            ("native", "clients may get 502 from its end until all nodes know"),
        ):
            documents, pod = self.documents(form)
            del pod["containers"][0]["lifecycle"]
            # Which one serves is known by its port.
            pod["containers"].append({"name": "other", "image": "other"})
            (said,) = loaded().notes(documents)
            self.assertTrue(said.startswith("Deployment shop: app has no preStop"), said)
            self.assertIn(reason, said)

    def test_otherPort(self) -> None:
        """A C{TARGET_PORT} that no container declares is likely a mistake."""
        for changed in ([{"containerPort": 8080}], [{"containerPort": 81}, {"containerPort": 82}]):
            documents, pod = self.documents()
            pod["containers"][0]["ports"] = changed
            said = " ".join(loaded().notes(documents))
            self.assertIn("TARGET_PORT is 3000, and your containers declare other ports", said)
        documents, pod = self.documents()
        del pod["containers"][0]["ports"]
        self.assertEqual(loaded().notes(documents), [])

    def test_config(self) -> None:
        """
        A file of C{--config} does not follow its ConfigMap if it is mounted by subPath; and the
        ConfigMap of somebody else must have it.
        """
        for change, sentence in (
            (
                {"mountPath": "/etc/sitio/sitio.toml", "subPath": "sitio.toml"},
                "/etc/sitio/sitio.toml is mounted by subPath",
            ),
            ({}, "the ConfigMap with sitio.toml is not here"),
        ):
            documents, pod = self.documents()
            (sitio,) = (each for each in pod["containers"] if each["name"] == "sitio")
            sitio["args"].append("--config=/etc/sitio/sitio.toml")
            sitio["volumeMounts"][0].update(change)
            (said,) = loaded().notes(documents)
            self.assertIn(sentence, said)

    def test_hostNetwork(self) -> None:
        """In the network of the node, sitio's ports are the node's."""
        documents, pod = self.documents()
        pod["hostNetwork"] = True
        (said,) = loaded().notes(documents)
        self.assertIn("sitio's ports must be free there", said)

    def test_ours(self) -> None:
        """There is no advice for the manifests of the photo site."""
        for name, documents in manifests.everything():
            self.assertEqual(loaded().notes(documents), [], name)


class CommandTests(SynchronousTestCase):
    """The check as a command."""

    def test_nothingBuilt(self) -> None:
        """
        After an error of kustomize there is nothing to check, which is no success: a script
        that looks at the last status of a pipe would go on.
        """
        for text in ("", "---\n"):
            status, said = checkedText(text)
            self.assertEqual(status, 1)
            self.assertIn("nothing to check", said)

    def test_noSuchFile(self) -> None:
        """A file that is not there is one line."""
        status, said = checked([stranger()], "no-such.yml")
        self.assertEqual(status, 1)
        self.assertIn("no-such.yml: No such file or directory", said)

    def test_status(self) -> None:
        """Advice changes no status, and comes before the result."""
        target: dict[str, Any] = {"name": "TARGET_PORT", "value": "3000"}
        sitio = {
            "name": "sitio",
            "args": ["--grace=20"],
            "env": [target],
            "ports": [{"name": "sitio-probes", "containerPort": 9902}],
        }
        documents = [stranger()]
        podOf(documents[0])["containers"].append(sitio)
        status, said = checked(documents)
        first, last = said.splitlines()
        self.assertEqual(status, 0)
        self.assertTrue(first.startswith("note: Deployment shop: app has no preStop"), said)
        self.assertEqual(last, "1 documents: no problem found")
