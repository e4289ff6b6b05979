"""
What an unsafe request makes out of date (RFC 9111, section 4.4): L{Invalidation}.

An unsafe method that succeeds drops all responses stored for its target, and for the
targets that its response names in Location and Content-Location if they are of the same
origin.  Nothing that such a request carries keeps it from that.

A target is compared after normalization (RFC 3986, section 6.2.2), and a host without the
default port.  The scheme does not count: it is often that of another proxy.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from sitio.http.caching import Fields
from sitio.http.grammar import SAFE_METHODS
from sitio.http.message import Request, Response
from sitio.http.overrides import AUTHORITY_FIELDS, METHOD_FIELDS, PATH_FIELDS, overridesOf

_LOCATIONS = (b"location", b"content-location")

_escape = re.compile("%([0-9A-Fa-f]{2})").sub
_unreserved = re.compile(r"[A-Za-z0-9\-._~]").fullmatch
_port = re.compile(rb":(?:80|443)?$").sub
_isOdd = re.compile(r"[%#]|/\.").search


def _normalEscape(found: re.Match[str]) -> str:
    char = chr(int(found[1], 16))
    return char if _unreserved(char) else found[0].upper()


def normalTarget(target: str) -> str:
    """A target in the form in which equal ones are equal text."""
    if _isOdd(target) is None:
        return target
    target = target.partition("#")[0]
    path, mark, query = _escape(_normalEscape, target).partition("?")
    if path[:1] == "/":
        # Two slashes at its beginning would be taken for a host.
        slashes = len(path) - len(path.lstrip("/"))
        path = "/" * (slashes - 1) + urlsplit(urljoin("http://host", path[slashes - 1 :])).path
    return path + mark + query


def _normalHost(host: bytes) -> bytes:
    return _port(b"", host.strip(b" \t").lower())


def hostsOf(fields: Fields) -> frozenset[bytes] | None:
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

    def __init__(self, request: Request, response: Response) -> None:
        """@param response: the successful response of the upstream."""
        fields = (*request.receivedFields, *request.rawFields)
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
        more = [value for name, value in overrides if name in PATH_FIELDS]
        more += [v for name, v in response.receivedFields if name.lower() in _LOCATIONS]
        for each in more:
            self._add(request.target, each.decode("latin-1"))

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

    def covers(self, fields: Fields) -> bool:
        """Whether it is about the host of a stored response, going by the fields of its key."""
        if self.hosts is None:
            return True
        hosts = hostsOf(fields)
        return hosts is None or not hosts.isdisjoint(self.hosts)
