"""
Tests of the NetworkPolicy that the components offer.
"""

from __future__ import annotations

import contextlib
from copy import deepcopy
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers import manifests
from sitio.test.helpers.check import problems
from sitio.test.helpers.manifests import Document, builtWith, containers, named, podOf

with contextlib.suppress(ImportError):
    from kubernetes_validate import utils as schemas

if manifests.missing:
    skip = manifests.missing

MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
OTHER = {"kubernetes.io/metadata.name": "shop"}


def stranger(kind: str) -> Document:
    """A service of somebody else."""
    labels = {"app": "shop"}
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "shop"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "shop"}]},
            },
        },
    }
    if kind == "StatefulSet":
        document["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
    return document


def isAllowed(policy: Document, labels: dict[str, str], port: int, protocol: str) -> bool:
    """Whether a policy lets Pods of a namespace with these labels reach a port."""
    for rule in policy["spec"]["ingress"]:
        isFrom = "from" not in rule or any(
            each["namespaceSelector"]["matchLabels"].items() <= labels.items()
            for each in rule["from"]
        )
        isTo = any(
            each["protocol"] == protocol
            and each["port"] <= port <= each.get("endPort", each["port"])
            for each in rule["ports"]
        )
        if isFrom and isTo:
            return True
    return False


class PolicyTests(SynchronousTestCase):
    """C{components/networkpolicy}."""

    def built(self, kind: str, *components: str) -> list[Document]:
        """A service with sitio and the policy, as docs/kubernetes.md says."""
        service: Document = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80}]},
        }
        folder = Path(self.mktemp()).resolve()
        return builtWith(folder, [stranger(kind), service], list(components))

    def test_reached(self) -> None:
        """
        The port for probes is reached from the namespace of Prometheus only; each other port
        from everywhere, as before.
        """
        for form in ("container", "native"):
            documents = self.built("Deployment", form, "networkpolicy")
            (policy,) = named(documents, "NetworkPolicy").values()
            (sitio,) = (
                each
                for each in containers(podOf(named(documents, "Deployment")["shop"]))
                if each["name"] == "sitio"
            )
            (probes,) = (
                each["containerPort"] for each in sitio["ports"] if each["name"] == "sitio-probes"
            )
            for protocol in ("TCP", "UDP", "SCTP"):
                for port in range(1, 65536):
                    isProbes = (protocol, port) == ("TCP", probes)
                    self.assertIs(isAllowed(policy, OTHER, port, protocol), not isProbes, port)
            self.assertTrue(isAllowed(policy, MONITORING, probes, "TCP"))

    def test_selected(self) -> None:
        """It selects the Pods of the kustomization, and changes nothing of them but a label."""
        for kind in ("Deployment", "StatefulSet", "DaemonSet"):
            plain = self.built(kind, "container", "service")
            documents = self.built(kind, "container", "service", "networkpolicy")
            (policy,) = named(documents, "NetworkPolicy").values()
            selected = policy["spec"]["podSelector"]["matchLabels"]
            owner = named(documents, kind)["shop"]
            labels = owner["spec"]["template"]["metadata"]["labels"]
            self.assertLessEqual(selected.items(), labels.items())
            self.assertEqual(policy["spec"]["policyTypes"], ["Ingress"])
            specs = [deepcopy(named(each, kind)["shop"]["spec"]) for each in (plain, documents)]
            for each in selected:
                del specs[1]["template"]["metadata"]["labels"][each]
            self.assertEqual(*specs)
            services: list[Any] = [
                named(each, "Service")["shop"]["spec"] for each in (plain, documents)
            ]
            self.assertEqual(*services)

    def test_valid(self) -> None:
        """Kubernetes accepts it."""
        (policy,) = named(self.built("Deployment", "networkpolicy"), "NetworkPolicy").values()
        for version in ("1.29", "1.30"):
            schemas.validate(deepcopy(policy), version, strict=True)

    def test_besideAnother(self) -> None:
        """
        Policies add up, so beside a policy for the same Pods it would open what that closes:
        the check refuses both together, and nothing else.
        """
        alone = self.built("Deployment", "container", "networkpolicy")
        for spec, isRefused in (
            ({"podSelector": {}}, True),
            ({"podSelector": {"matchLabels": {"app": "shop"}}, "policyTypes": ["Ingress"]}, True),
            ({"podSelector": {"matchLabels": {"app": "other"}}}, False),
            ({"podSelector": {}, "policyTypes": ["Egress"]}, False),
        ):
            own = {"kind": "NetworkPolicy", "metadata": {"name": "own"}, "spec": spec}
            said = [each for each in problems([*alone, own]) if "add up" in each]
            self.assertEqual(len(said), isRefused, spec)
            without = [each for each in alone if each["kind"] != "NetworkPolicy"]
            self.assertNotIn("add up", " ".join(problems([*without, own])))
