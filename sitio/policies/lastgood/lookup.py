"""
Which requests C{last-good} may answer from its store, and by which key: L{Lookup} and
L{LookupRules}.

A request is judged as it B{came}: a policy may have removed what identifies the client, and
sent the upstream its result.  The key is of the request as it was B{sent}: what the upstream
has not seen has not changed its response.  Both differ only if there are request policies,
or if the client itself sent X-Forwarded fields.
"""

from __future__ import annotations

from attrs import define

from sitio.http.caching import (
    MALFORMED,
    PART,
    PUBLIC,
    storageTerms,
)
from sitio.http.headers import Headers
from sitio.http.lines import pairsOf
from sitio.http.message import Request
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

# What is to be done with a request field, by bits.  0: nothing, it identifies nobody.
_PERSONAL = 1
_KEYED = 2
_HOST = 4
#: It may ask for an event stream: a client that wants one must not get a page.
_ACCEPT = 8
#: It may have no-store.
_CONTROL = 16
#: A request that has it is neither kept nor masked.
_UNFIT = 32

_READ = {b"host": _HOST, b"accept": _ACCEPT, b"cache-control": _CONTROL}

_KEPT_METHODS = ("GET", "HEAD")

#: Names of fields of which the use is remembered, and the bytes of the longest one.
MAX_NAMES = 1024
MAX_NAME_BYTES = 64


def _forbids(use: int, value: bytes) -> bool:
    """Whether a request with this field is neither kept nor masked."""
    if use & _ACCEPT:
        return value != b"*/*" and b"event-stream" in value.lower()
    # As text: to parse a long list of directives would cost milliseconds.
    return bool(use & _UNFIT) or (bool(use & _CONTROL) and b"no-store" in value.lower())


class _Uses(dict[bytes, int]):
    """
    What is to be done with a request field, by its key (L{sitio.http.lines}).

    Clients choose the names, so it is bounded, and emptied as a whole.

    @ivar nothing: keys of which nothing is to be done.
    """

    def __init__(self, impersonal: frozenset[bytes], personal: frozenset[bytes]) -> None:
        """@param impersonal: the operator's names, and C{personal}."""
        self._impersonal = impersonal
        self._personal = personal
        self.nothing: set[bytes] = set()

    def __missing__(self, key: bytes) -> int:
        use = self._use(key[1:-1])
        if len(key) <= MAX_NAME_BYTES:
            if len(self) >= MAX_NAMES:
                self.clear()
                self.nothing.clear()
            self[key] = use
            if not use:
                self.nothing.add(key)
        return use

    def _use(self, name: bytes) -> int:
        folded = foldedName(name)
        if name in self._impersonal:
            # An override that the operator names is a part of the key: whoever sends it chooses
            # what the service answers.
            isKeyed = folded in OVERRIDE_FIELDS or name in KEYED_FIELDS
            use = _KEYED if isKeyed else _READ.get(name, 0)
        elif name in KEYED_FIELDS:
            use = _KEYED
        elif name in IMPERSONAL_FIELDS or name.startswith(IMPERSONAL_PREFIXES):
            use = _READ.get(name, 0)
        elif folded in OVERRIDE_FIELDS or folded != name:
            # The second: CGI and WSGI take it for another field, such as one that Vary names.
            return _UNFIT
        else:
            use = _PERSONAL
        return use | _PERSONAL if name in self._personal else use


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
    _sent: Headers | None = None

    @property
    def request(self) -> Request:
        request: Request = self.exchange.request
        return request

    def sent(self, name: bytes) -> bytes | None:
        """The value of a field of the request as the upstream got it; the name in lower case."""
        if name not in ADDED_FIELDS:
            return self.request.headers.bytesOf(name)
        if self._sent is None:
            self._sent = Headers.fromWire(self.exchange.sentFields)
        return self._sent.bytesOf(name)


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
        self._uses = _Uses(impersonal, personal)

    def lookup(self, exchange: IExchange) -> Lookup | None:
        """
        The lookup of a request.

        @return: L{None} if its response must be neither kept nor used: it is no GET or HEAD,
            has a body, asks for an upgrade, an event stream or C{no-store}, or has a field that
            overrides its method, path or host, or that a service may take for another one.
        """
        request = exchange.request
        line = request.line
        if line.method not in _KEPT_METHODS or request.content != b"":
            return None
        if request.upgrade is not None:
            return None
        headers = request.headers
        came, sent = request.received, headers.lines
        fields = headers if came is sent else Headers.fromLines(came, -1)
        uses = self._uses
        personal = 0
        host = b""
        keyed: tuple[tuple[bytes, bytes], ...] = ()
        # Sorted, as keys with the same fields must be equal.
        for key in sorted(frozenset(fields.lineKeys) - uses.nothing):
            use = uses[key]
            personal |= use & _PERSONAL
            if use > _PERSONAL:
                value = fields.valueOf(key) or b""
                if use & _HOST:
                    host = value.lower()
                elif _forbids(use, value):
                    return None
                elif use & _KEYED:
                    keyed += ((key[1:-1], value),)
        if sent is not came:
            changed = self._keyOf(sent, came, host, keyed)
            if changed is None:
                return None
            host, keyed = changed
        if not host:
            # HTTP/1.0 has none; the upstream gets the configured one.
            host = (Headers.fromWire(exchange.sentFields).bytesOf(b"host") or b"").lower()
        received = request.receivedLine
        if received is not line:
            # A policy may have read from it who asks.
            if received.method not in _KEPT_METHODS:
                return None
            keyed += ((TARGET, received.target.encode("ascii")),)
        return Lookup(exchange, (exchange.secure, host, line.target, keyed), bool(personal))

    def _keyOf(
        self, sent: bytes, came: bytes, host: bytes, keyed: tuple[tuple[bytes, bytes], ...]
    ) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]] | None:
        """
        Host and keyed fields of a request that was changed before it was sent.

        A field that a policy has added is keyed unless it is impersonal: it may be the name of
        the user.

        @param host: that of the request as it came, and C{keyed}.

        @return: L{None} if the response must be neither kept nor used.
        """
        if sent.startswith(came):
            # Most often fields were only added.
            known: list[tuple[bytes, bytes]] = []
            pairs = pairsOf(sent[len(came) - 2 :])
        else:
            host, keyed = b"", ()
            known, pairs = pairsOf(came), pairsOf(sent)
        more: list[tuple[bytes, bytes]] = []
        for name, value in pairs:
            key = name.lower()
            use = self._uses[b"\n%b:" % key]
            if use & _HOST:
                host = value.lower()
            elif use & (_ACCEPT | _CONTROL) and _forbids(use, value):
                return None
            elif use & _KEYED or (use & (_PERSONAL | _UNFIT) and (name, value) not in known):
                more.append((key, value))
        return host, (*keyed, *more)

    def terms(self, lookup: Lookup, said: bytes, headers: Headers, status: int) -> Terms | None:
        """
        The terms on which a response is stored; L{None} if it must not be.

        @param said: its lines as the upstream has sent them, in wire form.
        @param headers: its fields as other policies have left them.  Both count.
        """
        isChanged = said != headers.lines
        words, names = storageTerms(Headers.fromLines(said, -1) if isChanged else headers)
        public = MALFORMED not in words and not PUBLIC.isdisjoint(words)
        if isChanged:
            # What a policy has added may be for this client only.
            public = public and not lookup.personal
            more, others = storageTerms(headers)
            words, names = words | more, tuple(sorted({*names, *others}))
        if not self._notStored.isdisjoint(words) or b"*" in names:
            return None
        if (lookup.personal and not public) or (status == 200 and PART in words):
            return None
        return public, (*names, b"range", b"if-range") if status == 206 else names
