"""
The pages for probes and Prometheus, on a port of their own (C{--probes}).

Kubelets and Prometheus come from outside a Pod, so their port is open to whoever reaches the
Pod.  It has L{PROBE_PATHS} and nothing else: the other admin pages tell paths of requests and
options, and stay on a port of this host.

Contract: as L{sitio.admin.pages}.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

from sitio.admin.pages import Admin, AdminSite, Branch, Page, PageContent

#: All paths of such a port.
PROBE_PATHS = (b"/live", b"/ready", b"/metrics")

_MISSING = PageContent([b"404 This port has /live, /ready and /metrics only.\n"], 404)


class _Root(Branch):
    """The root of such a port."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Page(lambda _: _MISSING, request.method)


def probeSite(reactor: Any, admin: Admin, hosts: Container[str] = ()) -> AdminSite:
    """
    Make the web site of these pages.

    @param admin: makes their content.
    @param hosts: as L{Admin} takes them.
    """
    root = _Root()
    for path, answer in zip(PROBE_PATHS, (admin.live, admin.ready, admin.metrics)):
        root.putChild(path[1:], Page(answer))
    return AdminSite(reactor, root, lambda: None, hosts)
