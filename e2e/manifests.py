"""
The manifests, to be played as they are or with a change.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
MANIFESTS = ROOT / "manifests"

#: What a Pod or a Service is, as YAML has it.
Document = dict[str, Any]


def read(name: str) -> list[Document]:
    """The documents of a file of C{manifests/}, or of what kustomize makes of a folder."""
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
    """What L{read} has read, as YAML."""
    return str(yaml.safe_dump_all(documents, sort_keys=False))


def podSpec(document: Document) -> Document:
    """The part of a document that is a Pod's C{spec}, or C{{}} for one that has no Pod."""
    spec: Document = document.get("spec", {})
    if document["kind"] == "Pod":
        return spec
    template: Document = spec.get("template", {})
    return template.get("spec", {}) if isinstance(template, dict) else {}


def container(documents: list[Document], name: str) -> Document:
    """The container of that name; a change of it is one of the documents."""
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
