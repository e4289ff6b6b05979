"""
The files of a new policy: L{files}.

Contract: pure.
"""

from __future__ import annotations

import re

#: How a policy may be called: as the built-in ones are.
isName = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*").fullmatch

#: Characters of a name.
MAX_NAME = 40

_POLICY = '''\
"""
The policy {name}: adds a field to responses.

    sitio run --upstream localhost:8087 --policy {name}:value=hello
"""

from typing import Annotated

from sitio import Exchange, Response, onResponse
from sitio.policy.options import About


def makePolicy(*, value: Annotated[str, About("the value of the field")] = "yes") -> object:
    """Add a field to each response; the parameters are the options of the policy."""

    @onResponse
    def add(exchange: Exchange, response: Response) -> None:
        response.headers["{field}"] = value

    return add
'''

_TEST = '''\
"""Tests of the policy {name}: python -m twisted.trial test_{module}, or pytest."""

from unittest import TestCase

import {module}
from sitio.testing import connectionRefused, request, response, runPolicy


class {title}Tests(TestCase):
    """Each test runs the policy on a request and a response, without sockets."""

    def test_field(self) -> None:
        """A response gets the field."""
        policy = {module}.makePolicy(value="hello")
        outcome = runPolicy(policy, request("/"), response(200, text="all is well"))
        outcome.assertResponse(200, text="all is well", headers={{"{field}": "hello"}})

    def test_failure(self) -> None:
        """So does the error that sitio sends if the service can't be reached."""
        outcome = runPolicy({module}.makePolicy(), request("/"), connectionRefused())
        outcome.assertResponse(502, headers={{"{field}": "yes"}})
'''

_PROJECT = """\
# `pip install .` installs the policy beside sitio; `sitio policies` lists it then.

[build-system]
requires = ["setuptools>=65"]
build-backend = "setuptools.build_meta"

[project]
name = "sitio-{name}"
version = "1.0"
description = "The policy {name} for sitio"
requires-python = ">=3.11"
dependencies = ["sitio-sidecar"]

[project.entry-points."sitio.policies"]
{name} = "{module}:makePolicy"

[tool.setuptools]
py-modules = ["{module}"]
"""


def files(name: str) -> dict[str, str]:
    """
    The files of a project with a policy, by their names.

    @param name: that of the policy.

    @raise ValueError: it can't be the name of a policy.
    """
    if len(name) > MAX_NAME or not isName(name):
        raise ValueError(
            f"{name!r} can't be the name of a policy: write small letters, digits and dashes, such"
            " as check-token"
        )
    words = name.split("-")
    module = "_".join(("sitio", *words))
    texts = {f"{module}.py": _POLICY, f"test_{module}.py": _TEST, "pyproject.toml": _PROJECT}
    values = {
        "name": name,
        "module": module,
        "title": "".join(map(str.capitalize, words)),
        "field": "-".join(("X", *map(str.capitalize, words))),
    }
    return {path: text.format_map(values) for path, text in texts.items()}
