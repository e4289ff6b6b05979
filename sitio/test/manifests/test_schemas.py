"""
Tests of the manifests against the schemas of Kubernetes and OpenShift.
"""

from __future__ import annotations

import contextlib
import re
from copy import deepcopy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers import manifests
from sitio.test.helpers.manifests import MANIFESTS, ROOT, everything, kustomized

with contextlib.suppress(ImportError):
    import yaml
    from kubernetes_validate import utils as schemas

if manifests.missing:
    skip = manifests.missing

#: The oldest Kubernetes that enables native sidecars by default.
OLDEST = "1.29"

#: How many of the newest versions are checked as well.
NEWEST = 3

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

    def test_documented(self) -> None:
        """The newest version of Kubernetes accepts the examples in docs/kubernetes.md."""
        text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
        found = re.findall("^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        kinds = []
        for each in map(yaml.safe_load, found):
            if not each["apiVersion"].startswith("kustomize."):
                schemas.validate(each, schemas.latest_version(), strict=True)
                kinds.append(each["kind"])
        self.assertEqual(kinds, ["HorizontalPodAutoscaler", "PodDisruptionBudget"])

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
