"""
C{last-good}: masks a failure with the last good response to the same request.

Options, each of them optional::

    max-age=SECONDS     how old a response may be when it masks a failure (300)
    budget=SECONDS      how long failures may prevail until masking stops (600)
    statuses=STATUSES   the statuses that count as failures (5xx)
    max-bytes=N         bytes stored in all; the least recently used go first (16 MiB)
    max-response=N      bytes of one body; longer responses are not stored (256 KiB)
    personal=NAME,...   more request fields that identify the client
    despite=WORD,...    store and send responses in spite of what forbids it: the words of
                        PERSONAL_FIELDS and FORBIDDING

B{What is stored}: the last response of status 200 to a GET.  Scheme, host, target and the
fields that Vary names are the key (RFC 9111, section 4.1), and Accept-Encoding for an
encoded response without Vary.  HEAD is answered from the response to a GET.  A newer
response that must not be stored drops the stored one; so does an unsafe method that
succeeds (section 4.4): a deleted resource is never sent from memory.

B{What is not stored}: a response that is C{private}, C{no-store} or C{no-cache}, sets a
cookie or is partial; and the response to a request that has C{no-store} or a body, or
identifies the client (L{PERSONAL_FIELDS}), unless that response is C{public}.  Even with
C{despite}, a Set-Cookie is never sent again, and a partial response answers only requests
for the same range.

B{For how long}: C{max-age} counts from the time when a response was received or confirmed
by a 304.  It is the operator's permission to send stale responses (section 4.2.4).
C{stale-if-error=N} of the response or of the request (RFC 5861, section 4) shortens this to
N seconds after freshness ended, and never prolongs it.  A response with C{must-revalidate},
C{proxy-revalidate} or C{s-maxage} is not sent once it is stale.  Ages are counted from the
Age field with the clock of this process, as other clocks may differ from it.

B{The budget}: see L{budget<sitio.policies.lastgood.budget>}.

B{What the client gets}: the stored response with Age and C{Cache-Status: sitio; fwd=stale;
fwd-status=503; detail=last-good}.  The request was forwarded, so this is not a C{hit} (RFC
9211, section 2.1); C{fwd-status} is the status of the failure; C{fwd=bypass} says that the
response is still fresh (section 2.2).  If-None-Match and If-Modified-Since get a 304, Range
gets the whole response (RFC 9110, section 14.2).  If-Match gets the failure, as only the
origin can evaluate it (RFC 9111, section 4.3.2).

A response of known length is buffered, so that an incomplete response is masked, too.  Any
other response is copied while it streams, as an endless response must not be delayed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container

from zope.interface import implementer

from sitio.http.caching import (
    BODY_FIELDS,
    NOT_SENT_STALE,
    NOT_STORED,
    PERSONAL_FIELDS,
    ROUTING_FIELDS,
    Fields,
    deltaSeconds,
    directives,
    fieldValue,
    freshness,
    isConfirmed,
    isUnchanged,
    mayBeSent,
    selectingValues,
    storageTerms,
    updatedFields,
)
from sitio.http.dates import formatDate
from sitio.http.grammar import SAFE_METHODS
from sitio.http.headers import FRAMING_FIELDS, MAX_SHARED_BYTES, Headers
from sitio.http.message import Response, parseStatuses, reasonFor
from sitio.interfaces import IExchange, ISelectivePolicy
from sitio.policies.lastgood.budget import WINDOW_SECONDS, Budget
from sitio.policies.lastgood.store import MAX_FINGERPRINTS, Lookup, Store, StoredResponse, Terms

#: The largest values of options, a week and 16 GiB: more is taken for a mistake.
MAX_SECONDS = 7 * 24 * 3600
MAX_BYTES = 16 * 1024 * 1024 * 1024

#: What forbids to store a response, or to send a stale one: directives of its
#: Cache-Control, its Set-Cookie, and C{partial} for the status 206.
FORBIDDING = frozenset(each.decode() for each in NOT_STORED | NOT_SENT_STALE) | {"partial"}

_FRAMING = frozenset(each.encode() for each in FRAMING_FIELDS)
_NOT_SENT = _FRAMING | {b"age", b"set-cookie"}
_NOT_IN_304 = _NOT_SENT | BODY_FIELDS
_NOT_UPDATED = _FRAMING | BODY_FIELDS
_FOR_THE_ORIGIN = frozenset((b"if-match", b"if-unmodified-since"))

# Statuses that say as surely as a 200 that the stored response is out of date.  Others,
# such as 408 and 429, say nothing about the resource.
_SUPERSEDING = frozenset((*range(200, 400), 401, 403, 404, 410, 451))


@implementer(ISelectivePolicy)
class LastGood:
    """
    Masks failures with the last good response; see the module's docstring.

    @ivar statuses: those of responses that are stored, that confirm or drop a stored one,
        and those of failures.
    @ivar seconds: a clock that never goes back.
    """

    buffered = True
    statuses: Container[int]

    def __init__(
        self,
        *,
        maxAge: float = 300,
        budget: float = 600,
        masked: Container[int] = range(500, 600),
        maxBytes: int = 16 * 1024 * 1024,
        maxResponse: int = 256 * 1024,
        personal: frozenset[str] = PERSONAL_FIELDS,
        despite: frozenset[str] = frozenset(),
        seconds: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param maxAge: seconds since a response was received or confirmed.
        @param budget: seconds for which failures may prevail while they are masked.
        @param masked: the statuses of failures, 400 to 599.
        @param maxBytes: bytes of memory for all stored responses.
        @param maxResponse: bytes of the longest body that is stored.
        @param personal: names of request fields, in lower case.
        @param now: returns the wall clock's time, for Date.
        @param despite: words of C{personal} and L{FORBIDDING} that are to have no effect.
        """
        ignored = frozenset(each.encode() for each in despite)
        self._maxAge = maxAge
        self._maxResponse = maxResponse
        self._masked = frozenset(each for each in range(400, 600) if each in masked)
        self.statuses = self._masked | _SUPERSEDING
        self._personal = frozenset(each.encode() for each in personal) - ignored
        self._storesPartial = b"partial" in ignored
        self._notStored = NOT_STORED - ignored
        self._notSentStale = NOT_SENT_STALE - ignored
        self._keyFields = self._personal | ROUTING_FIELDS | {b"host", b"cache-control"}
        self.seconds = seconds
        self._now = now
        self._maxBytes = maxBytes
        self._store = Store(maxBytes)
        self._budget = Budget(budget)

    @property
    def size(self) -> int:
        """Bytes stored."""
        return self._store.size

    def mostMemory(self, connections: int) -> int:
        """
        The most bytes that it keeps: what is stored, the heads of fingerprints, and copies of
        responses that stream.

        @param connections: of the upstream, each of which may have such a response.
        """
        heads = MAX_FINGERPRINTS * 2 * MAX_SHARED_BYTES
        return self._maxBytes + heads + connections * self._maxResponse

    def isInterested(self, exchange: IExchange, response: Response) -> bool:
        """
        Whether the whole response is needed: to store it, or to mask it.

        What its head alone decides is done here, such as dropping the stored response.
        """
        request = exchange.request
        # Most responses are here whole, and equal the stored one.
        stored = self._store.known.get(
            (exchange.secure, request.line, request.lines, response.lines)
        )
        if (
            stored is not None
            and stored.body == response.body
            and stored.status == response.status
            and request.body == b""
            and not response.filters
            and response.failure is None
        ):
            self._renew(stored)
            return False
        lookup = exchange.notes[self] = self._judgeHead(exchange, response)
        return lookup is not None

    def _renew(self, stored: StoredResponse) -> None:
        """A response equal to a stored one was received."""
        now = self.seconds()
        stored.since = now
        self._budget.succeeded(now)
        self._store.touch(stored.key)

    def responseReceived(self, exchange: IExchange, response: Response) -> Response | None:
        """Return a mask for a failure, else L{None}; store a good response."""
        # A caller need not have asked isInterested before.
        noted = self in exchange.notes
        lookup = exchange.notes.pop(self) if noted else self._judgeHead(exchange, response)
        if lookup is None:
            return None
        if response.status in self._masked:
            return self._mask(lookup, response.status)
        if response.status == 304:
            self._confirm(lookup, response.headers.rawFields)
        else:
            self._keep(lookup, response, response.headers, response.body or b"")
        return None

    # --- By the head alone

    def _judgeHead(self, exchange: IExchange, response: Response) -> Lookup | None:
        """The lookup of this request, if the whole response to it is needed."""
        request, status = exchange.request, response.status
        lookup = self._lookup(exchange)
        if lookup is None:
            return None
        if request.method not in ("GET", "HEAD"):
            if request.method not in SAFE_METHODS and status < 400:
                self._store.drop(lookup.key)
            return None
        # The response may depend on a body, which is not in the key.
        if request.body != b"":
            return None
        if status in self._masked or status == 304:
            return lookup if lookup.key in self._store else None
        if status in (200, 206):
            # A response that another policy put in place of a failure is not a good one.
            masked = response.failure is not None
            if masked or request.method == "HEAD" or (status == 206 and not self._storesPartial):
                return None
            if (response.length or 0) <= self._maxResponse:
                lookup.terms = self._terms(response.rawFields, status, lookup.personal)
            if lookup.terms is not None:
                if not response.filters and (response.body, response.length) != (None, None):
                    return lookup
                self._collect(lookup, response)
                return None
        self._supersede(lookup)
        return None

    def _lookup(self, exchange: IExchange) -> Lookup | None:
        """The lookup of a request; L{None} if its client sent C{no-store}."""
        request = exchange.request
        personal = False
        host = b""
        routing: tuple[tuple[bytes, bytes], ...] = ()
        keyFields = self._keyFields
        for line, value in request.rawFields:
            name = line.lower()
            if name in keyFields:
                if name == b"host":
                    host = value.lower()
                elif name in self._personal:
                    personal = True
                elif name in ROUTING_FIELDS:
                    routing += ((name, value),)
                elif b"no-store" in directives(value):
                    return None
        return Lookup(request, (exchange.secure, host, request.target, routing), personal)

    def _terms(self, fields: Fields, status: int, personal: bool) -> Terms | None:
        """The terms on which a response is stored; L{None} if it must not be."""
        words, names = storageTerms(fields)
        public = b"public" in words
        if not self._notStored.isdisjoint(words) or b"*" in names or (personal and not public):
            return None
        return public, (*names, b"range", b"if-range") if status == 206 else names

    # --- Storing

    def _keep(self, lookup: Lookup, response: Response, headers: Headers, body: bytes) -> None:
        """Store a whole response, or renew the stored one if they are equal."""
        stored = self._store.find(lookup)
        if stored is not None and stored.body == body and stored.fields == tuple(headers.rawFields):
            self._renew(stored)
            parts = lookup.request.line, lookup.request.lines, headers.lines
            if all(each is not None and len(each.raw) <= MAX_SHARED_BYTES for each in parts):
                # It will probably be received again, for this client or a similar one.
                self._store.recognize(stored, (lookup.key[0], *parts))
            return
        self._budget.succeeded(self.seconds())
        if len(body) > self._maxResponse:
            self._supersede(lookup)
        else:
            self._put(lookup, stored, response.status, response.reason, headers, body)

    def _collect(self, lookup: Lookup, response: Response) -> None:
        """Store a response when all of it has streamed past."""
        # A copy, as later policies may change the fields.
        headers = response.headers.copy()
        held = bytearray()
        room = self._maxResponse

        def collect(piece: bytes) -> bytes:
            nonlocal room
            room -= len(piece)
            if room < 0:
                held.clear()
            else:
                held.extend(piece)
            if not piece and room < 0:
                self._supersede(lookup)
            elif not piece:
                self._keep(lookup, response, headers, bytes(held))
            return piece

        response.addFilter(collect, keepsLength=True)

    def _put(
        self,
        lookup: Lookup,
        replaced: StoredResponse | None,
        status: int,
        reason: str,
        headers: Headers,
        body: bytes,
    ) -> None:
        terms = lookup.terms or self._terms(headers.rawFields, status, lookup.personal)
        if terms is None:
            self._supersede(lookup)
            return
        public, names = terms
        varies = selectingValues(names, lookup.request.headers.rawFields)
        now = self.seconds()
        fields = tuple(headers.rawFields)
        stored = StoredResponse(lookup.key, status, reason, fields, body, public, varies, now)
        self._store.put(stored, replaced)

    def _supersede(self, lookup: Lookup) -> None:
        """Drop what a newer response, which is not stored, makes out of date."""
        # A response for one client says nothing about the one for all others.
        if not lookup.personal:
            self._store.drop(lookup.key, lookup.request)

    def _confirm(self, lookup: Lookup, fields: Fields) -> None:
        """After a 304: the stored response is good, with newer fields (RFC 9111, section 3.2)."""
        stored = self._store.find(lookup)
        request = lookup.request.headers.rawFields
        if stored is None or not isConfirmed(stored.fields, request, fields):
            return
        self._budget.succeeded(self.seconds())
        headers = Headers.fromWire(updatedFields(stored.fields, fields, _NOT_UPDATED))
        self._put(lookup, stored, stored.status, stored.reason, headers, stored.body)

    # --- Masking

    def _mask(self, lookup: Lookup, status: int) -> Response | None:
        """
        The response that masks a failure, or L{None} if there is none.

        @param status: that of the failure.
        """
        stored = self._store.find(lookup)
        request = lookup.request.headers.rawFields
        if stored is None or any(name.lower() in _FOR_THE_ORIGIN for name, _ in request):
            return None
        now = self.seconds()
        age = now - stored.since
        if age > self._maxAge:
            return None
        said = directives(fieldValue(stored.fields, b"cache-control"))
        age += deltaSeconds(fieldValue(stored.fields, b"age"))
        staleness = age - freshness(stored.fields, said)
        asked = directives(fieldValue(request, b"cache-control"))
        if not mayBeSent(staleness, said, asked, self._notSentStale):
            return None
        if not self._budget.mayMask(now):
            return None
        self._store.touch(lookup.key)
        forwarded = b"stale" if staleness >= 0 else b"bypass"
        cacheStatus = b"sitio; fwd=%b; fwd-status=%d; detail=last-good" % (forwarded, status)
        added = [(b"Age", b"%d" % age), (b"Cache-Status", cacheStatus)]
        if fieldValue(stored.fields, b"date") is None:
            # That of its arrival (RFC 9110, section 6.6.1), not that of this response.
            arrived = formatDate(self._now() - (now - stored.since))
            added.append((b"Date", arrived.encode("ascii")))
        return self._response(stored, request, added)

    def _response(
        self, stored: StoredResponse, request: Fields, added: list[tuple[bytes, bytes]]
    ) -> Response:
        """The stored response, or the 304 that a conditional request gets for it."""
        unchanged = isUnchanged(request, stored.fields)
        without = _NOT_IN_304 if unchanged else _NOT_SENT
        fields = [each for each in stored.fields if each[0].lower() not in without] + added
        if unchanged:
            response = Response.fromWire(304, reasonFor(304), fields)
        else:
            # The length that a HEAD says, too (RFC 9110, section 8.6).
            length = len(stored.body)
            response = Response.fromWire(stored.status, stored.reason, fields, length)
        response.body = b"" if unchanged else stored.body
        return response


# --- Options


def _number(option: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"{option}={text}: a whole number from {least} to {most} is expected")
    return int(text)


def _words(text: str) -> frozenset[str]:
    return frozenset(each.strip().lower() for each in text.split(",") if each.strip())


def makePolicy(
    *,
    maxAge: str = "300",
    budget: str = "600",
    statuses: str = "5xx",
    maxBytes: str = str(16 * 1024 * 1024),
    maxResponse: str = str(256 * 1024),
    personal: str = "",
    despite: str = "",
) -> LastGood:
    """
    Make the policy of C{last-good[:max-age=SECONDS][:budget=SECONDS]...}.

    The options are those in the module's docstring.

    @raise ValueError: an option has a wrong value; one sentence says which is expected.
    """
    named = PERSONAL_FIELDS | _words(personal)
    # Raises ValueError for a text that is not the name of a field.
    Headers((each, "") for each in sorted(named))
    for each in sorted(_words(despite) - named - FORBIDDING):
        known = ", ".join(sorted(named | FORBIDDING))
        raise ValueError(f"despite={despite}: {each!r} is none of {known}")
    return LastGood(
        maxAge=_number("max-age", maxAge, 1, MAX_SECONDS),
        # Within one window a single failure can't be told from an outage.
        budget=_number("budget", budget, WINDOW_SECONDS, MAX_SECONDS),
        masked=parseStatuses(statuses),
        maxBytes=_number("max-bytes", maxBytes, 1, MAX_BYTES),
        maxResponse=_number("max-response", maxResponse, 1, MAX_BYTES),
        personal=named,
        despite=_words(despite),
    )
