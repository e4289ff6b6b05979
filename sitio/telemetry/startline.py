"""
The log line at the start, which says what runs: L{StartLine}.

Contract: no I/O but the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.service import Service
from twisted.logger import Logger


class StartLine(Service):
    """Logs one line when it starts."""

    log = Logger(namespace="sitio")

    def __init__(
        self,
        version: str,
        port: str,
        admin: str,
        probes: str,
        upstream: str,
        policies: Sequence[str],
    ) -> None:
        """
        All of it without secrets.

        @param port: the endpoint description of the port for clients.
        @param admin: that of the admin port; empty for none.
        @param probes: that of the port for probes; empty for none.
        @param upstream: that of the upstream.
        @param policies: the names of the policies, in order.
        """
        self._fields = {
            "version": version,
            "port": port,
            "admin": admin or "none",
            "probes": f", probes {probes}" if probes else "",
            "upstream": upstream,
            "policies": ", ".join(policies) or "none",
        }

    def startService(self) -> None:
        """Log the line."""
        Service.startService(self)
        self.log.info(
            "sitio {version} starts: port {port}, admin port {admin}{probes}, upstream {upstream},"
            " policies {policies}",
            **self._fields,
        )
