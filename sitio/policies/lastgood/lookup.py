"""
Which requests C{last-good} may answer from its store, and by which key: L{Lookup} and
L{LookupRules}.

A request is judged as it B{came}: a policy may have removed what identifies the client, and
sent the upstream its result.  The key is of the request as it was B{sent}: what the upstream
has not seen has not changed its response.  Both differ only if there are request policies,
or if the client itself sent X-Forwarded fields.
"""

from __future__ import annotations

from typing import cast

from attrs import define

from sitio.http.caching import MALFORMED, PART, PUBLIC, linesOfStoring, storageTerms
from sitio.http.headers import FRAMING_NAMES, Headers
from sitio.http.lines import keyOf, pairsOf, spansOf
from sitio.http.memo import Memo
from sitio.http.message import RequestLine
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

# The lines of the latter are not among those of a request, though their keys may be.
_IMPERSONAL = IMPERSONAL_FIELDS | FRAMING_NAMES

_KEPT_METHODS = ("GET", "HEAD")

#: Requests of which the uses of the fields are remembered, by the names of these, and bytes of the
#: names: clients send the same few lists.  The same for what responses say of storing.
MAX_LISTS = 512
MAX_LIST_BYTES = 1024


def _forbids(lowered: bytes) -> bool:
    """Whether a request with these lines, in lower case, is neither kept nor masked."""
    return any(
        word in lowered[start:end]
        for key, word in _FORBIDDING
        for start, end in spansOf(key, lowered)
    )


class _Uses(Memo[bytes, int]):
    """
    What is to be done with the fields of a request, as the sum of their uses, by the keys of its
    lines (L{sitio.http.lines}) in a row.
    """

    most, longest = MAX_LISTS, MAX_LIST_BYTES

    def __init__(self, impersonal: frozenset[bytes], personal: frozenset[bytes]) -> None:
        """@param impersonal: the operator's names, and C{personal}."""
        self._impersonal = impersonal
        self._personal = personal

    def __missing__(self, keys: bytes) -> int:
        return self.keep(keys, sum([self.of(each[1:]) for each in keys.split(b":")[:-1]]))

    def of(self, name: bytes) -> int:
        """The use of one field; the name in lower case."""
        folded = foldedName(name)
        use = _CONTROL if name == b"cache-control" else 0
        if name in KEYED_FIELDS:
            use = _KEYED
        elif name in self._impersonal:
            # An override that the operator names is a part of the key: whoever sends it chooses
            # what the service answers.
            use = _KEYED if folded in OVERRIDE_FIELDS else use
        elif name in _IMPERSONAL or name.startswith(IMPERSONAL_PREFIXES):
            pass
        elif folded in OVERRIDE_FIELDS or folded != name:
            # The second: CGI and WSGI take it for another field, such as one that Vary names.
            return _UNFIT
        else:
            use = _PERSONAL
        return use | _PERSONAL if name in self._personal else use


class _Judged(Memo[bytes, tuple[bool, bool, bool, tuple[bytes, ...]]]):
    """
    Whether a response may be stored, for anyone, whether it says that it is a part, and what it
    varies on, by its L{linesOfStoring}.
    """

    most, longest = MAX_LISTS, MAX_LIST_BYTES

    def __init__(self, notStored: frozenset[bytes]) -> None:
        self._notStored = notStored

    def __missing__(self, told: bytes) -> tuple[bool, bool, bool, tuple[bytes, ...]]:
        words, names = storageTerms(told)
        isStored = self._notStored.isdisjoint(words) and b"*" not in names
        public = MALFORMED not in words and not PUBLIC.isdisjoint(words)
        return self.keep(told, (isStored, public, PART in words, names))


@define(eq=False, init=False)
class Lookup:
    """
    A request as the store sees it.

    @ivar line: method and target of the request as it was sent.
    @ivar personal: whether the request may identify its client.
    @ivar terms: those of the response at hand; set once it is known that it may be stored.
    """

    exchange: IExchange
    line: RequestLine
    key: Key
    personal: bool
    terms: Terms

    def sent(self, name: bytes) -> bytes | None:
        """The value of a field of the request as the upstream got it; the name in lower case."""
        if name not in ADDED_FIELDS:
            return cast(bytes | None, self.exchange.request.headers.bytesOf(name))
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
        self._judged = _Judged(notStored)
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
        headers = request.fields
        came = request.received
        lowered = headers.lines.lower()
        keyed: Keyed = ()
        # Most requests have no field of a rare use: then the sum tells how many are personal.
        personal = self._uses[b"".join(headers.lineKeys())]
        if personal >= _RARE or came is not headers.lines or lowered.find(_STREAM) >= 0:
            judged = self._judge(Headers.fromLines(came), headers)
            if judged is None:
                return None
            personal, keyed = judged
        received = line.received
        if received is not None:
            # A policy may have read from it who asks.
            if received.method not in _KEPT_METHODS:
                return None
            keyed += ((TARGET, received.target.encode("ascii")),)
        host = lowered.partition(_HOST)[2].partition(b"\r")[0].strip(b" \t")
        if not host:
            # HTTP/1.0 has none; the upstream gets the configured one.
            host = (_sentBy(exchange).bytesOf(b"host") or b"").lower()
        lookup = Lookup()
        lookup.exchange = exchange
        lookup.line = line
        lookup.key = exchange.secure, host, line.target, keyed
        lookup.personal = personal > 0
        return lookup

    def _judge(self, came: Headers, headers: Headers) -> tuple[int, Keyed] | None:
        """
        How many fields of a request are personal, and those that are keyed; L{None} if its response
        must be neither kept nor used.

        @param came: the fields as they came, and C{headers} as they were sent.
        """
        if _forbids(came.lowered()) or _forbids(headers.lowered()):
            return None
        uses = {key: self._uses.of(key[1:-1]) for key in came.lineKeys()}
        if any(use & _UNFIT for use in uses.values()):
            return None
        personal = sum(use & _PERSONAL for use in uses.values())
        # Of one field the order of lines counts.
        names = sorted([key for key, use in uses.items() if use & _KEYED])
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
        for name, value in pairs:
            lowered = name.lower()
            use = self._uses.of(lowered)
            if use & _KEYED or (use & (_PERSONAL | _UNFIT) and (name, value) not in known):
                more.append((lowered, value))
        return (*keyed, *more)

    def terms(self, lookup: Lookup, said: bytes, headers: Headers, status: int) -> Terms | None:
        """
        The terms on which a response is stored; L{None} if it must not be.

        @param said: its lines as the upstream has sent them, in wire form.
        @param headers: its fields as other policies have left them.  Both count.
        """
        isStored, public, isPart, names = self._judged[linesOfStoring(headers)]
        if said != headers.lines:
            found = self._judged[linesOfStoring(Headers.fromLines(said))]
            isStored = isStored and found[0]
            # What a policy has added may be for this client only.
            public = found[1] and not lookup.personal
            isPart = isPart or found[2]
            names = tuple(sorted({*names, *found[3]}))
        if not isStored or (lookup.personal and not public) or (isPart and status == 200):
            return None
        return public, (*names, b"range", b"if-range") if status == 206 else names
