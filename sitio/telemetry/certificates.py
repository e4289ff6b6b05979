"""
Snapshots of the TLS of ports and upstreams, as plain data: L{TLSMetrics}.

L{sitio.net.tlsfiles} makes them.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, TypeVar

_Value = TypeVar("_Value")


class CertificateMetrics(TypedDict):
    """A certificate: its subject, its serial number, and its end in seconds since 1970."""

    subject: str
    serial: str
    ends: float


class TLSMetrics(TypedDict):
    """
    The TLS of a port or of an upstream.

    C{role} is C{listener} or C{upstream}.  C{problem} is why the files as they are now are not
    used, as a sentence, or empty.  C{warnings} are sentences for an operator.
    """

    role: str
    name: str
    certificates: list[CertificateMetrics]
    problem: str
    warnings: list[str]


def _united(one: list[_Value], two: list[_Value]) -> list[_Value]:
    return [*one, *(each for each in two if each not in one)]


def mergeTLS(one: Iterable[TLSMetrics], two: Iterable[TLSMetrics]) -> list[TLSMetrics]:
    """
    What two processes with the same settings say.  They read files at different moments: so a
    certificate or a problem may be that of one of them.  The arguments stay unchanged.
    """
    found: dict[tuple[str, str], TLSMetrics] = {}
    for each in (*one, *two):
        same = found.get((each["role"], each["name"]))
        if same is None:
            found[each["role"], each["name"]] = {**each}
            continue
        same["certificates"] = _united(same["certificates"], each["certificates"])
        same["warnings"] = _united(same["warnings"], each["warnings"])
        same["problem"] = same["problem"] or each["problem"]
    return list(found.values())


def warningsOf(rows: Iterable[TLSMetrics]) -> list[str]:
    """All that an operator has to know, by processes with the same settings: each once."""
    return [warning for each in mergeTLS(rows, ()) for warning in each["warnings"]]
