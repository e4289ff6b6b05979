"""
Reads the manifests, and finds the parts that tests change.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
MANIFESTS = ROOT / "manifests"

#: A document of YAML: a Pod, a Service and so on.
Document = dict[str, Any]


def read(name: str) -> list[Document]:
    """The documents of a file of C{manifests/}, or those that kustomize builds from a folder."""
    path = MANIFESTS / name
    if path.is_dir():
        built = subprocess.run(
            ["kubectl", "kustomize", str(path)], capture_output=True, text=True, timeout=60
        )
        if built.returncode:
            raise RuntimeError(f"kubectl kustomize {path}: {built.stderr}")
        text = built.stdout
    else:
        text = path.read_text("utf-8")
    return [each for each in yaml.safe_load_all(text) if each]


def written(documents: list[Document]) -> str:
    """The documents as YAML."""
    return str(yaml.safe_dump_all(documents, sort_keys=False))


def podSpec(document: Document) -> Document:
    """The Pod's C{spec} in a document, or C{{}} if it has none."""
    spec: Document = document.get("spec", {})
    if document["kind"] == "Pod":
        return spec
    template: Document = spec.get("template", {})
    return template.get("spec", {}) if isinstance(template, dict) else {}


def container(documents: list[Document], name: str) -> Document:
    """The container with a name; a change of it changes the documents."""
    found: list[Document] = [
        each
        for document in documents
        for part in ("initContainers", "containers")
        for each in podSpec(document).get(part, ())
        if each["name"] == name
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found)} containers are named {name}")
    return found[0]


def withFiles(documents: list[Document], name: str, folder: str, *files: str) -> list[Document]:
    """The documents, with files of C{e2e/} in a folder of the container with a name."""
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "e2e"},
        "data": {each: (ROOT / "e2e" / each).read_text("utf-8") for each in files},
    }
    (spec,) = filter(None, map(podSpec, documents))
    spec.setdefault("volumes", []).append({"name": "e2e", "configMap": {"name": "e2e"}})
    mount = {"name": "e2e", "mountPath": folder}
    container(documents, name).setdefault("volumeMounts", []).append(mount)
    return [made, *documents]
