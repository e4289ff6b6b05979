"""
Reads C{manifests/}: files, and what kustomize builds.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

import sitio

ROOT = Path(sitio.__file__).parent.parent
MANIFESTS = ROOT / "manifests"

try:
    import kubernetes_validate  # noqa: F401
    import yaml

    #: Why the tests of manifests are skipped, or C{""}.
    missing = ""
except ImportError:
    missing = "kubernetes-validate and PyYAML are not installed"

if not MANIFESTS.exists():
    missing = "this is no checkout, and only a checkout has the manifests"

Document = dict[str, Any]


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


def builtWith(
    folder: Path,
    documents: list[Document],
    components: list[str],
    patch: Document | None = None,
    settings: tuple[str, ...] = ("TARGET_PORT=3000",),
) -> list[Document]:
    """
    What kustomize builds of documents and components, as docs/kubernetes.md says.

    @param folder: a folder to make.
    @param patch: a patch of the Deployments, as a user writes it.
    @param settings: the literals of the ConfigMap C{sitio}.
    """
    shutil.copytree(MANIFESTS / "components", folder / "sitio")
    (folder / "service.yml").write_text(yaml.safe_dump_all(documents), "utf-8")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["service.yml"],
        "configMapGenerator": [{"name": "sitio", "literals": list(settings)}] if settings else [],
        "components": [f"sitio/{each}" for each in components],
        "patches": [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(patch)}]
        if patch
        else [],
    }
    (folder / "kustomization.yml").write_text(yaml.safe_dump(kustomization), "utf-8")
    return kustomized(folder)


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


def valueOf(container: Document, name: str, documents: list[Document]) -> str:
    """The value of an environment variable of a container: its own, or a ConfigMap's."""
    (variable,) = (each for each in container["env"] if each["name"] == name)
    if "value" in variable:
        return str(variable["value"])
    asked = variable["valueFrom"]["configMapKeyRef"]
    return str(named(documents, "ConfigMap")[asked["name"]]["data"][asked["key"]])
