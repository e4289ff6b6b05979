"""
A service that knows nothing of sitio, for tests of the components and of the check.
"""

from __future__ import annotations

from typing import Any

from sitio.test.helpers.manifests import Document

#: The components for each form.
FORMS = ("container", "native")


def stranger(kind: str = "Deployment", **spec: Any) -> Document:
    """A service of somebody else, which listens on port 3000."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {
                    "containers": [
                        {"name": "app", "image": "shop", "ports": [{"containerPort": 3000}]}
                    ],
                    **spec,
                },
            },
        },
    }


def service(*ports: Document) -> Document:
    """The Service of L{stranger}."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "shop"}, "ports": list(ports)},
    }
