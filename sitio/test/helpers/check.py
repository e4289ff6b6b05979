"""
Runs C{manifests/components/check.py}: as a module, and as the command that it is.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from sitio.test.helpers.manifests import MANIFESTS, Document

with contextlib.suppress(ImportError):
    import yaml

CHECK = MANIFESTS / "components/check.py"


def loaded() -> Any:
    """The check, as a module."""
    spec = spec_from_file_location("check", CHECK)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problems(documents: list[Document]) -> list[str]:
    """The result of the check."""
    found: list[str] = loaded().problems(documents)
    return found


def checked(documents: list[Document], *arguments: str) -> tuple[int, str]:
    """The exit status and the output of the check, as a command."""
    return checkedText(yaml.safe_dump_all(documents), *arguments)


def checkedText(text: str, *arguments: str) -> tuple[int, str]:
    """The same for documents in YAML."""
    ran = subprocess.run(
        [sys.executable, str(CHECK), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not ran.stderr, ran.stderr
    return ran.returncode, ran.stdout
