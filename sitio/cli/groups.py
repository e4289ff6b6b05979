"""
The groups in which C{sitio run --help} lists the options: L{grouped}.

The options themselves are those of L{sitio.config.options}; here are only their names.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Names of options by group, in order.
GROUPS: dict[str, tuple[str, ...]] = {
    "What is served": (
        *("config", "port", "upstream", "upstream-host", "proxy-protocol", "demo"),
        *("policy", "route", "no-watch"),
    ),
    "Processes": ("workers", "worker-timeout"),
    "Log": ("log-level", "log-format", "stats-interval", "access-log", "access-log-query"),
    "Admin port": ("admin", "admin-hosts", "probes", "health-path", "fleet"),
    "What requests tell of clients": (
        *("forwarded", "forwarded-style", "trusted", "keep-underscores", "via"),
    ),
}

#: The group of what L{sitio.settings} lists.
LIMITS = "Limits and timeouts"

#: The group of those that print something and exit, and of any other.
OTHER = "Other"


def grouped(names: Iterable[str], limits: Iterable[str]) -> dict[str, list[str]]:
    """
    Names of options by group.

    @param names: of all options.
    @param limits: of those that are limits and timeouts.
    """
    left = list(names)
    found: dict[str, list[str]] = {}
    for title, members in ({**GROUPS, LIMITS: tuple(limits)}).items():
        found[title] = [each for each in members if each in left]
        left = [each for each in left if each not in members]
    return {title: members for title, members in {**found, OTHER: left}.items() if members}
