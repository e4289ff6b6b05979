"""
The most memory that sitio takes with its options: L{memoryParts}, a sum.

It is the worst case: every client sends as much as it can and reads nothing, every upstream
connection has an upload that the service does not read, and all caches are full.  The limit
of a container follows from it (L{memoryLimit}), and C{--help-memory} prints it.
docs/operations.md says what was measured.

Policies that come with sitio are counted.  One that keeps something of its own has
C{mostMemory} for that: called with the number of upstream connections, it returns bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sitio.policy.member import buffersRequests, buffersResponses

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE

#: A process that has started: Python, Twisted, TLS.  Measured 55 MB.
PROCESS_BYTES = 60 * MEBIBYTE

#: The admin pages, Prometheus's library, the HTTP client of health checks, the rows of 512
#: endpoints, the history, and what a scrape makes.  Measured 8 MB.
ADMIN_BYTES = 12 * MEBIBYTE

#: Lines of the access log that wait for its thread.
ACCESS_LOG_BYTES = 4 * MEBIBYTE

#: What one read takes of a socket, at most: that is uvloop's.
READ_BYTES = 250 * KIBIBYTE

#: What a message that streams takes while its receiver reads nothing: the buffer of a
#: transport, one read, the objects of both connections, and what the allocator loses.  Measured
#: 382 KiB, and with TLS on both sides 676 KiB.
STREAM_BYTES = 400 * KIBIBYTE
TLS_STREAM_BYTES = 700 * KIBIBYTE

#: Limits of containers are rounded up to this.
STEP_BYTES = 16 * MEBIBYTE

_tls = re.compile(r"(?:^|:)(?:ssl|tls):").search


class MemoryPart(NamedTuple):
    """What takes memory, and how many bytes at most."""

    size: int
    what: str


def memoryParts(options: Mapping[str, Any]) -> list[MemoryPart]:
    """
    What takes memory in one process of sitio; with workers, in each of them.

    @param options: parsed L{Options<sitio.config.options.Options>}.
    """
    settings = options["settings"]
    clients, connections = settings.maxClients, settings.poolSize
    secure = any(map(_tls, (options["port"], options["upstream"] or "")))
    stream = TLS_STREAM_BYTES if secure else STREAM_BYTES
    perClient = settings.maxHead + READ_BYTES + stream
    perConnection = stream + settings.replayLimit
    parts = [
        MemoryPart(PROCESS_BYTES, "the process: Python, Twisted, TLS"),
        MemoryPart(
            clients * perClient,
            f"{clients} clients: {_kib(settings.maxHead)} of a head, {_kib(READ_BYTES)} of a read,"
            f" {_kib(stream)} of a response",
        ),
        MemoryPart(
            connections * perConnection,
            f"{connections} upstream connections: {_kib(stream)} of a request's body,"
            f" {_kib(settings.replayLimit)} of one to send again",
        ),
    ]
    return [*parts, *_others(options, connections)]


def _others(options: Mapping[str, Any], connections: int) -> Iterator[MemoryPart]:
    """What only some options need."""
    settings = options["settings"]
    policies = options["every-policy"]
    if _hasPages(options) and options["workers"] == 1:
        yield MemoryPart(ADMIN_BYTES, "the admin pages, metrics and the history")
    if options["access-log"] is not None:
        yield MemoryPart(ACCESS_LOG_BYTES, "lines of the access log")
    limits = [settings.bufferLimit for _, policy in policies if buffersResponses(policy)]
    limits += [settings.requestBufferLimit for _, policy in policies if buffersRequests(policy)]
    if limits:
        size = settings.bufferTotal + max(limits)
        yield MemoryPart(size, "messages that policies buffer, and one of them twice")
    for name, policy in policies:
        most = getattr(policy, "mostMemory", None)
        if most is not None:
            yield MemoryPart(most(connections), f"the policy {name}")


def mostMemory(options: Mapping[str, Any]) -> int:
    """The most bytes that all processes of sitio take."""
    size = sum(each.size for each in memoryParts(options))
    workers = options["workers"]
    return size if workers == 1 else workers * size + _parent(options)


def _parent(options: Mapping[str, Any]) -> int:
    return PROCESS_BYTES + (ADMIN_BYTES if _hasPages(options) else 0)


def _hasPages(options: Mapping[str, Any]) -> bool:
    return options["admin"] != "" or bool(options["probes"])


def memoryLimit(options: Mapping[str, Any]) -> int:
    """The limit of a container with these options, in bytes."""
    return -(-mostMemory(options) // STEP_BYTES) * STEP_BYTES


def memoryTable(options: Mapping[str, Any]) -> str:
    """The sum as a text, with a line for each part."""
    lines = [f"{_mib(size):>9} MiB  {what}" for size, what in memoryParts(options)]
    if options["workers"] > 1:
        size = sum(each.size for each in memoryParts(options))
        lines += [
            f"{_mib(size):>9} MiB  in each of {options['workers']} workers",
            f"{_mib(_parent(options)):>9} MiB  their parent",
        ]
    limit = memoryLimit(options) // MEBIBYTE
    lines.append(
        f"{_mib(mostMemory(options)):>9} MiB  at most in all: limit a container to {limit}Mi"
    )
    return "\n".join(lines)


def _mib(size: int) -> str:
    return f"{size / MEBIBYTE:.1f}"


def _kib(size: int) -> str:
    return f"{size / KIBIBYTE:g} KiB"
