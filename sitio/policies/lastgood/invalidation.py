"""
What an unsafe request makes out of date (RFC 9111, section 4.4): L{Invalidation}, and
L{UnsafeRequests}.

An unsafe method that succeeds drops all responses stored for its target, and for the
targets that its response names in Location and Content-Location if they are of the same
origin.  Nothing that such a request carries keeps it from that.  So does one of which nobody
knows whether it succeeded, as its response has not come.

A target is compared after normalization (RFC 3986, section 6.2.2), and a host without the
default port.  The scheme does not count: it is often that of another proxy.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from urllib.parse import urljoin, urlsplit

from sitio.http.grammar import SAFE_METHODS
from sitio.http.message import Response
from sitio.http.overrides import AUTHORITY_FIELDS, METHOD_FIELDS, PATH_FIELDS, overridesOf
from sitio.interfaces import IExchange

#: Targets of which L{UnsafeRequests} remembers when they were changed.
MAX_CHANGED = 1024

_LOCATIONS = (b"location", b"content-location")

_escape = re.compile("%([0-9A-Fa-f]{2})").sub
_unreserved = re.compile(r"[A-Za-z0-9\-._~]").fullmatch
# The default port, and the dot of the root before the port or the end.
_rest = re.compile(rb"\.?:(?:80|443)?$|\.(?=:[0-9]+$|$)").sub


def _normalEscape(found: re.Match[str]) -> str:
    char = chr(int(found[1], 16))
    return char if _unreserved(char) else found[0].upper()


def normalTarget(target: str) -> str:
    """A target in the form in which equal ones are equal text."""
    if "%" not in target and "/." not in target and "#" not in target:
        return target
    target = target.partition("#")[0]
    path, mark, query = _escape(_normalEscape, target).partition("?")
    if path[:1] == "/":
        # Two slashes at its beginning would be taken for a host.
        slashes = len(path) - len(path.lstrip("/"))
        path = "/" * (slashes - 1) + urlsplit(urljoin("http://host", path[slashes - 1 :])).path
    return path + mark + query


def _normalHost(host: bytes) -> bytes:
    return _rest(b"", host.strip(b" \t").lower())


def hostsOf(fields: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes] | None:
    """The hosts for which a service may take a request; L{None} if it may be any."""
    hosts: set[bytes] = set()
    for name, value in fields:
        name = name.lower()
        if name == b"forwarded":
            return None
        if name == b"host":
            hosts.add(_normalHost(value))
        elif name == b"x-forwarded-host":
            hosts.update(map(_normalHost, value.split(b",")))
    return frozenset(hosts)


class Invalidation:
    """
    What one exchange makes out of date.

    @ivar targets: the normalized targets; none if its request is safe.
    @ivar hosts: the hosts they are of; L{None} for all.
    """

    def __init__(self, exchange: IExchange, response: Response | None) -> None:
        """@param response: the successful response of the upstream, if it has come."""
        request = exchange.request
        # With the Host that sitio gives a request of HTTP/1.0.
        fields = (*request.receivedFields, *exchange.sentFields)
        overrides = list(overridesOf(fields))
        lines = (request.line, request.receivedLine)
        methods = {each.method for each in lines}
        methods.update(
            value.strip(b" \t").upper().decode("latin-1")
            for name, value in overrides
            if name in METHOD_FIELDS
        )
        self.targets: set[str] = set()
        self.hosts: frozenset[bytes] | None = None
        if SAFE_METHODS.issuperset(methods):
            return
        self.targets.update(normalTarget(each.target) for each in lines)
        if not any(name in AUTHORITY_FIELDS for name, _ in overrides):
            self.hosts = hostsOf(fields)
        more = {value for name, value in overrides if name in PATH_FIELDS}
        if response is not None:
            told = (*response.receivedFields, *response.rawFields)
            more.update(value for name, value in told if name.lower() in _LOCATIONS)
        for each in more:
            for line in set(lines):
                self._add(line.target, each.decode("latin-1"))

    def _add(self, base: str, reference: str) -> None:
        """Add a target, if it is of the request's host: others could drop what is not theirs."""
        try:
            scheme, authority, *_ = urlsplit(reference)
            parts = urlsplit(urljoin("http://host" + base, reference))
        except ValueError:
            return  # Not a URI, so that no client can follow it.
        if authority:
            host = _normalHost(authority.rpartition("@")[2].encode("latin-1", "replace"))
            if self.hosts is not None and host not in self.hosts:
                return
        elif scheme not in ("", "http", "https"):
            return
        query = f"?{parts.query}" if parts.query else ""
        self.targets.add(normalTarget(f"{parts.path or '/'}{query}"))

    def covers(self, fields: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether it is about the host of a stored response, going by the fields of its key."""
        if self.hosts is None:
            return True
        hosts = hostsOf(fields)
        return hosts is None or not hosts.isdisjoint(self.hosts)


class UnsafeRequests:
    """
    The unsafe requests that have ended, and those that they have overtaken: requests that
    began before such an end, and end after it.  Their response may be of the time before.

    It remembers the latest L{MAX_CHANGED} targets, by their hash, and what no longer fits as
    one time for all targets.  So it is right or too careful: if an unsafe request ends in the
    very moment in which another begins, the other counts as overtaken, too.

    @ivar latest: when the last one ended, on the clock of C{exchange.began}.
    """

    def __init__(self, invalidate: Callable[[Invalidation], None]) -> None:
        """@param invalidate: drops stored responses."""
        self._invalidate = invalidate
        self._times: OrderedDict[int, float] = OrderedDict()
        self._ofAll = float("-inf")
        self.latest = float("-inf")

    def ended(self, exchange: IExchange, response: Response | None) -> None:
        """
        A request has ended that is perhaps unsafe: drop what it may have changed.

        @param response: its success, if it has come.
        """
        invalidation = Invalidation(exchange, response)
        if not invalidation.targets:
            return
        self._invalidate(invalidation)
        self.latest = now = exchange.now
        for each in invalidation.targets:
            key = hash(each)
            self._times[key] = now
            self._times.move_to_end(key)
        while len(self._times) > MAX_CHANGED:
            self._ofAll = max(self._ofAll, self._times.popitem(last=False)[1])

    def overtook(self, exchange: IExchange) -> bool:
        """Whether one has overtaken an exchange that ends now."""
        began: float = exchange.began
        if began > self.latest:
            return False
        if began <= self._ofAll:
            return True
        request = exchange.request
        return any(
            began <= self._times.get(hash(normalTarget(each.target)), float("-inf"))
            for each in (request.line, request.receivedLine)
        )
