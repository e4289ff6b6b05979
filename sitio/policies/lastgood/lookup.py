"""
Which requests C{last-good} may answer from its store, and by which key: L{Lookup} and
L{LookupRules}.

A request is judged as it B{came}: a policy may have removed what identifies the client, and
sent the upstream its result.  The key is of the request as it was B{sent}: what the upstream
has not seen has not changed its response.  Both differ only if there are request policies,
or if the client itself sent X-Forwarded fields.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from sitio.http.caching import PUBLIC, Fields, directives, storageTerms
from sitio.http.message import Request, Response
from sitio.http.overrides import OVERRIDE_FIELDS, foldedName
from sitio.interfaces import IExchange
from sitio.policies.lastgood.fields import (
    IMPERSONAL_FIELDS,
    IMPERSONAL_PREFIXES,
    KEYED_FIELDS,
)

#: Scheme (whether it is secure), host, target, and the keyed fields of a request.
Key = tuple[bool, bytes, str, tuple[tuple[bytes, bytes], ...]]

#: Whether a response may be sent to anyone, and the request fields that it varies on.
Terms = tuple[bool, tuple[bytes, ...]]

#: Fields that sitio adds after the request policies; it may add them to the bytes only.
ADDED_FIELDS = frozenset(
    (b"host", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
)

#: Stands among the keyed fields for the target that a policy has replaced; no token, so
#: that it can't be a field.
TARGET = b":target"

# Fields that may ask for what is neither stored nor masked.
_FORBIDDING = frozenset((b"accept", b"cache-control"))

# Fields of which the rules read the value.
_READ = _FORBIDDING | {b"host"}

_KEPT_METHODS = ("GET", "HEAD")


def _forbids(name: bytes, value: bytes) -> bool:
    """Whether a request with this field, its name in lower case, is neither kept nor masked."""
    if name == b"accept":
        # A client that wants an event stream must not get a page.
        return b"event-stream" in value.lower()
    return name == b"cache-control" and b"no-store" in directives(value)


@define(eq=False)
class Lookup:
    """
    A request as the store sees it.

    @ivar personal: whether the request may identify its client.
    @ivar terms: those of the response at hand, once it is known that it may be stored.
    """

    exchange: IExchange
    key: Key
    personal: bool
    terms: Terms | None = None
    _sent: Fields | None = None

    @property
    def request(self) -> Request:
        request: Request = self.exchange.request
        return request

    @property
    def sent(self) -> Fields:
        """The fields of the request as the upstream got them."""
        if self._sent is None:
            self._sent = self.exchange.sentFields
        return self._sent


class LookupRules:
    """Makes the L{Lookup} of a request, in one pass over its fields."""

    def __init__(
        self,
        impersonal: frozenset[bytes],
        personal: frozenset[bytes],
        notStored: frozenset[bytes],
    ) -> None:
        """
        @param impersonal: the operator's names of fields that identify nobody, in lower case.
        @param personal: those of fields that do, whatever else is said of them.
        @param notStored: the terms (see L{storageTerms}) of responses that are not stored.
        """
        self._notStored = notStored
        self._personal = personal
        # An override that the operator names is a part of the key: whoever sends it chooses
        # what the service answers.
        overrides = {each for each in impersonal if foldedName(each) in OVERRIDE_FIELDS}
        self._keyed = (KEYED_FIELDS | overrides) - personal
        self._plain = (IMPERSONAL_FIELDS | impersonal) - self._keyed - _READ - personal

    def lookup(self, exchange: IExchange) -> Lookup | None:
        """
        The lookup of a request.

        @return: L{None} if its response must be neither kept nor used: it is no GET or HEAD,
            has a body, asks for an upgrade, an event stream or C{no-store}, or has a field that
            overrides its method, path or host.
        """
        request = exchange.request
        line = request.line
        if line.method not in _KEPT_METHODS or request.body != b"" or request.upgrade is not None:
            return None
        came = request.receivedFields
        plain = self._plain
        personal = False
        host = b""
        keyed: tuple[tuple[bytes, bytes], ...] = ()
        for name, value in came:
            name = name.lower()
            if name in plain:
                continue
            if name == b"host":
                host = value.lower()
            elif name in self._personal:
                personal = True
            elif name == b"accept" and value == b"*/*":
                continue
            elif name in _FORBIDDING:
                if _forbids(name, value):
                    return None
            elif name in self._keyed:
                keyed += ((name, value),)
            elif foldedName(name) in OVERRIDE_FIELDS:
                return None
            elif not name.startswith(IMPERSONAL_PREFIXES):
                personal = True
        sent = request.rawFields
        if sent is not came:
            if any(_forbids(name.lower(), value) for name, value in sent):
                return None
            host, keyed = self._keyOf(sent, came)
        received = request.receivedLine
        if received is not line:
            # A policy may have read from it who asks.
            if received.method not in _KEPT_METHODS:
                return None
            keyed += ((TARGET, received.target.encode("ascii")),)
        return Lookup(exchange, (exchange.secure, host, line.target, keyed), personal)

    def _keyOf(
        self, sent: Fields, came: Sequence[tuple[bytes, bytes]]
    ) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        """
        Host and keyed fields of a request that was changed before it was sent.

        A field that a policy has added is keyed unless it is impersonal: it may be the name of
        the user.
        """
        host = b""
        keyed: list[tuple[bytes, bytes]] = []
        known = self._plain | _READ
        for name, value in sent:
            lower = name.lower()
            if lower == b"host":
                host = value.lower()
            elif lower in self._keyed or (
                lower not in known
                and (name, value) not in came
                and not lower.startswith(IMPERSONAL_PREFIXES)
            ):
                keyed.append((lower, value))
        return host, tuple(keyed)

    def terms(self, lookup: Lookup, response: Response, status: int) -> Terms | None:
        """
        The terms on which a response is stored; L{None} if it must not be.

        Both count: what the upstream has said, and what other policies have made of it.
        """
        said = response.receivedFields
        words, names = storageTerms(said)
        public = not PUBLIC.isdisjoint(words)
        fields = response.rawFields
        if fields is not said and tuple(fields) != tuple(said):
            # What a policy has added may be for this client only.
            public = public and not lookup.personal
            more, others = storageTerms(fields)
            words, names = words | more, tuple(sorted({*names, *others}))
        if not self._notStored.isdisjoint(words) or b"*" in names:
            return None
        if lookup.personal and not public:
            return None
        return public, (*names, b"range", b"if-range") if status == 206 else names
