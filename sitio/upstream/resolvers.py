"""
The name servers and the search list of this machine: L{SystemResolver}.

C{twisted.names} asks name servers without the calls of the C library, which block, and it tells
how long an answer is valid, which these don't.  But it knows no search list (resolv.conf(5)),
without which a name such as C{photos.default.svc} is unknown in a Pod.

Contract: the reactor is passed in; reads two small files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.names.client import Resolver
from twisted.names.dns import PORT, DomainError
from twisted.names.error import DNSNameError
from twisted.names.hosts import Resolver as HostsResolver

from sitio.net.datagrams import QuietDatagrams

#: Seconds for which each name server is waited for, in the first round and in the second.
ROUNDS_SECONDS = (1, 2)

#: Name servers that are asked, as of the C library.
MAX_SERVERS = 3

#: Names that are tried for one, as of the C library of old.
MAX_SEARCH = 6

#: Seconds for which an entry of /etc/hosts is valid: its file is read anew then.
HOSTS_SECONDS = 5

#: A lookup's result: three lists of records, of which the second is of no use here.
Sections = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]

_dots = re.compile(r"ndots:(\d+)").fullmatch


class NameResolver(Protocol):
    """
    Asks name servers.  A failure of C{DNSNameError} says that there is no such name; any other
    says nothing about the name.
    """

    def candidates(self, name: str) -> Sequence[str]:
        """The names, in order, that this one may stand for."""

    def lookupAddress(self, name: str) -> Deferred[Sections]:
        """The records A of a name."""

    def lookupIPV6Address(self, name: str) -> Deferred[Sections]:
        """The records AAAA of a name."""

    def lookupService(self, name: str) -> Deferred[Sections]:
        """The records SRV of a name."""

    def stop(self) -> None:
        """Close what is open.  Questions without an answer get none."""


@frozen
class ResolvConf:
    """
    What resolv.conf(5) says.

    @ivar servers: addresses of name servers.
    @ivar search: suffixes for names.
    @ivar dots: names with so many dots are tried without a suffix first.
    """

    servers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    dots: int = 1

    @classmethod
    def parse(cls, text: str) -> ResolvConf:
        """Read the text of the file.  What is not understood is left out."""
        servers: list[str] = []
        search: tuple[str, ...] = ()
        dots = 1
        for line in text.splitlines():
            key, *words = line.split() or [""]
            if key == "nameserver" and words:
                servers.append(words[0])
            elif key in ("search", "domain"):
                search = tuple(each.strip(".") for each in words if each.strip("."))
            elif key == "options":
                for found in filter(None, map(_dots, words)):
                    dots = int(found[1])
        return cls(tuple(servers[:MAX_SERVERS]) or ("127.0.0.1",), search[:MAX_SEARCH], dots)

    def candidates(self, name: str) -> list[str]:
        """The names, in order, that this one may stand for."""
        if name.endswith("."):
            return [name.rstrip(".")]
        longer = [f"{name}.{each}" for each in self.search]
        return [name, *longer] if name.count(".") >= self.dots else [*longer, name]


def serverAddress(text: str) -> tuple[str, int]:
    """
    Address and port of a name server that an operator has named: C{10.0.0.10},
    C{10.0.0.10:5353}, C{[fd00::a]:53}.
    """
    found = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?", text)
    if found is None:
        return text, PORT
    return found[1] or found[3], int(found[2] or found[4] or PORT)


class SystemResolver:
    """
    Asks the name servers of /etc/resolv.conf, or others; /etc/hosts goes first.

    Both files are read for each lookup: container runtimes change them.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Iterable[str] = (),
        resolvConf: Path = Path("/etc/resolv.conf"),
        hosts: Path = Path("/etc/hosts"),
    ) -> None:
        """@param servers: those to ask in place of the file's: C{ADDRESS} or C{ADDRESS:PORT}."""
        self._reactor = QuietDatagrams(reactor)
        self._servers = [serverAddress(each) for each in servers]
        self._path = resolvConf
        self._hosts = HostsResolver(bytes(hosts), HOSTS_SECONDS)
        self._asked: list[tuple[str, int]] = []
        self._client: Any = None

    def _read(self) -> ResolvConf:
        try:
            return ResolvConf.parse(self._path.read_text("utf-8", "replace"))
        except OSError:
            return ResolvConf()

    def candidates(self, name: str) -> Sequence[str]:
        """See L{NameResolver}."""
        return self._read().candidates(name)

    def lookupAddress(self, name: str) -> Deferred[Sections]:
        """See L{NameResolver}."""
        return self._known("lookupAddress", name)

    def lookupIPV6Address(self, name: str) -> Deferred[Sections]:
        """See L{NameResolver}."""
        return self._known("lookupIPV6Address", name)

    def lookupService(self, name: str) -> Deferred[Sections]:
        """See L{NameResolver}."""
        return self._ask("lookupService", name)

    def _known(self, method: str, name: str) -> Deferred[Sections]:
        found: Deferred[Sections] = getattr(self._hosts, method)(name)

        def unknown(failure: Any) -> Deferred[Sections]:
            failure.trap(DomainError)
            return self._ask(method, name)

        return found.addErrback(unknown)

    def _ask(self, method: str, name: str) -> Deferred[Sections]:
        servers = self._servers or [(each, PORT) for each in self._read().servers]
        if self._client is None or servers != self._asked:
            self._drop()
            self._asked = servers
            self._client = Resolver(servers=list(servers), reactor=self._reactor)
        try:
            asking: Deferred[Sections] = getattr(self._client, method)(name, ROUNDS_SECONDS)
        except Exception:
            # It could not open a port.  It has taken the question for asked, and would never
            # ask it again.
            self._drop()
            raise
        return asking.addErrback(self._failed)

    def _failed(self, failure: Any) -> Any:
        if not failure.check(DNSNameError):
            # Its connections may be at fault.
            self._drop()
        return failure

    def stop(self) -> None:
        """See L{NameResolver}."""
        self._drop()
        for port in self._reactor.ports:
            # The client has no way to end them.
            for _, timeout in port.protocol.liveMessages.values():
                if timeout.active():
                    timeout.cancel()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            for each in client.connections:
                each.transport.abortConnection()
