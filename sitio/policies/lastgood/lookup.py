"""
Which requests C{last-good} may answer from its store, and by which key: L{Lookup} and
L{LookupRules}.

A request is judged as it B{came}: a policy may have removed what identifies the client, and
sent the upstream its result.  The key is of the request as it was B{sent}: what the upstream
has not seen has not changed its response.  Both differ only if there are request policies,
or if the client itself sent X-Forwarded fields.
"""

from __future__ import annotations

from sitio.http.caching import MALFORMED, PART, PUBLIC, storageTerms
from sitio.http.headers import FRAMING_FIELDS, Headers
from sitio.http.lines import keyOf, pairsOf, spansOf
from sitio.http.message import Request
from sitio.http.overrides import OVERRIDE_FIELDS, foldedName
from sitio.interfaces import IExchange
from sitio.policies.lastgood.fields import (
    IMPERSONAL_FIELDS,
    IMPERSONAL_PREFIXES,
    KEYED_FIELDS,
)

#: Names and values of keyed fields.
Keyed = tuple[tuple[bytes, bytes], ...]

#: Scheme (whether it is secure), host, target, and the keyed fields of a request.
Key = tuple[bool, bytes, str, Keyed]

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
#: The first of the bits that few requests have; more than the lines of a head.
_RARE = 1 << 16
_KEYED = _RARE
#: A request that has it is neither kept nor masked.
_UNFIT = _RARE << 1
#: It may have no-store.
_CONTROL = _RARE << 2

_HOST, _ACCEPT = keyOf(b"host"), keyOf(b"accept")

# A client that asks for an event stream must not get a page, nor may a response be kept if the
# request forbids it.  As text: to parse a long list of directives would cost milliseconds.
_STREAM = b"event-stream"
_FORBIDDING = ((_ACCEPT, _STREAM), (keyOf(b"cache-control"), b"no-store"))

# The lines of these are not among those of a request, though their keys may be.
_FRAMING = frozenset(each.encode() for each in FRAMING_FIELDS)

_KEPT_METHODS = ("GET", "HEAD")

#: Names of fields of which the use is remembered, and the bytes of the longest one.
MAX_NAMES = 1024
MAX_NAME_BYTES = 64


def _forbids(lowered: bytes) -> bool:
    """Whether a request with these lines, in lower case, is neither kept nor masked."""
    return any(
        word in lowered[start:end]
        for key, word in _FORBIDDING
        for start, end in spansOf(key, lowered)
    )


class _Uses(dict[bytes, int]):
    """
    What is to be done with a request field, by its key (L{sitio.http.lines}).

    Clients choose the names, so it is bounded, and made anew as a whole.
    """

    def __init__(self, impersonal: frozenset[bytes], personal: frozenset[bytes]) -> None:
        """@param impersonal: the operator's names, and C{personal}."""
        self._impersonal = impersonal
        self._personal = personal
        self._known = {keyOf(each): self._use(each) for each in IMPERSONAL_FIELDS | _FRAMING}
        self.update(self._known)

    def __missing__(self, key: bytes) -> int:
        use = self._use(key[1:-1])
        if len(key) <= MAX_NAME_BYTES:
            if len(self) >= MAX_NAMES:
                self.clear()
                self.update(self._known)
            self[key] = use
        return use

    def _use(self, name: bytes) -> int:
        folded = foldedName(name)
        use = _CONTROL if name == b"cache-control" else 0
        if name in KEYED_FIELDS:
            use = _KEYED
        elif name in self._impersonal:
            # An override that the operator names is a part of the key: whoever sends it chooses
            # what the service answers.
            use = _KEYED if folded in OVERRIDE_FIELDS else use
        elif name in IMPERSONAL_FIELDS or name in _FRAMING or name.startswith(IMPERSONAL_PREFIXES):
            pass
        elif folded in OVERRIDE_FIELDS or folded != name:
            # The second: CGI and WSGI take it for another field, such as one that Vary names.
            return _UNFIT
        else:
            use = _PERSONAL
        return use | _PERSONAL if name in self._personal else use


class Lookup:
    """
    A request as the store sees it.

    @ivar personal: whether the request may identify its client.
    @ivar terms: those of the response at hand, once it is known that it may be stored.
    """

    __slots__ = ("exchange", "key", "personal", "request", "terms")

    def __init__(self, exchange: IExchange, request: Request, key: Key, personal: bool) -> None:
        self.exchange = exchange
        self.request = request
        self.key = key
        self.personal = personal
        self.terms: Terms | None = None

    def sent(self, name: bytes) -> bytes | None:
        """The value of a field of the request as the upstream got it; the name in lower case."""
        if name not in ADDED_FIELDS:
            return self.request.headers.bytesOf(name)
        return _sentBy(self.exchange).bytesOf(name)


def _sentBy(exchange: IExchange) -> Headers:
    """The fields of a request as the upstream gets them."""
    return Headers.fromWire(exchange.sentFields)


class LookupRules:
    """Makes the L{Lookup} of a request, by the keys of its fields."""

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
        came = request.received
        lowered = headers.lowered
        keyed: Keyed = ()
        # Most requests have no field of a rare use: then the sum tells how many are personal.
        personal = sum(map(self._uses.__getitem__, headers.lineKeys))
        at = lowered.find(_ACCEPT)
        if (
            personal >= _RARE
            or came is not headers.lines
            or (at >= 0 and lowered.find(_STREAM, at) >= 0)
        ):
            judged = self._judge(Headers.fromLines(came, -1), headers)
            if judged is None:
                return None
            personal, keyed = judged
        at = lowered.find(_HOST)
        if at >= 0:
            host = lowered[at + len(_HOST) : lowered.find(b"\r", at)].strip(b" \t")
        else:
            # HTTP/1.0 has none; the upstream gets the configured one.
            host = (_sentBy(exchange).bytesOf(b"host") or b"").lower()
        received = request.receivedLine
        if received is not line:
            # A policy may have read from it who asks.
            if received.method not in _KEPT_METHODS:
                return None
            keyed += ((TARGET, received.target.encode("ascii")),)
        key = exchange.secure, host, line.target, keyed
        return Lookup(exchange, request, key, personal > 0)

    def _judge(self, came: Headers, headers: Headers) -> tuple[int, Keyed] | None:
        """
        How many fields of a request are personal, and those that are keyed; L{None} if its response
        must be neither kept nor used.

        @param came: the fields as they came, and C{headers} as they were sent.
        """
        if _forbids(came.lowered) or _forbids(headers.lowered):
            return None
        uses = self._uses
        keys = frozenset(came.lineKeys)
        if any(uses[each] & _UNFIT for each in keys):
            return None
        personal = sum(uses[each] & _PERSONAL for each in keys)
        # Of one field the order of lines counts.
        names = sorted([each for each in keys if uses[each] & _KEYED])
        keyed = tuple([(key[1:-1], each) for key in names for each in came.valuesOf(key)])
        if came.lines != headers.lines:
            keyed = self._keyedOf(headers.lines, came.lines, keyed)
        return personal, keyed

    def _keyedOf(self, sent: bytes, came: bytes, keyed: Keyed) -> Keyed:
        """
        The keyed fields of a request that was changed before it was sent.

        A field that a policy has added is keyed unless it is impersonal: it may be the name of
        the user.

        @param keyed: those of the request as it came.
        """
        if sent.startswith(came):
            # Most often fields were only added.
            known: list[tuple[bytes, bytes]] = []
            pairs = pairsOf(sent[len(came) - 2 :])
        else:
            keyed = ()
            known, pairs = pairsOf(came), pairsOf(sent)
        more: list[tuple[bytes, bytes]] = []
        uses = self._uses
        for name, value in pairs:
            key = keyOf(name.lower())
            use = uses[key]
            if use & _KEYED or (use & (_PERSONAL | _UNFIT) and (name, value) not in known):
                more.append((key[1:-1], value))
        return (*keyed, *more)

    def terms(self, lookup: Lookup, said: bytes, headers: Headers, status: int) -> Terms | None:
        """
        The terms on which a response is stored; L{None} if it must not be.

        @param said: its lines as the upstream has sent them, in wire form.
        @param headers: its fields as other policies have left them.  Both count.
        """
        if said == headers.lines:
            words, names = storageTerms(headers)
            public = MALFORMED not in words and not PUBLIC.isdisjoint(words)
        else:
            words, names = storageTerms(Headers.fromLines(said, -1))
            # What a policy has added may be for this client only.
            public = MALFORMED not in words and not PUBLIC.isdisjoint(words)
            public = public and not lookup.personal
            more, others = storageTerms(headers)
            words, names = words | more, tuple(sorted({*names, *others}))
        if not self._notStored.isdisjoint(words) or b"*" in names:
            return None
        if (lookup.personal and not public) or (status == 200 and PART in words):
            return None
        return public, (*names, b"range", b"if-range") if status == 206 else names
