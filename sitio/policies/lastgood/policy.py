"""
C{last-good}: masks a failure with the last good response to the same request.

The options are in L{options<sitio.policies.lastgood.options>}.

B{What is stored}: the last response of status 200 to a GET.  Scheme, host, target, the keyed
fields and the fields that Vary names are the key (RFC 9111, section 4.1), as the upstream got
them; and Accept-Encoding for an encoded response without Vary.  HEAD is answered from the
response to a GET.  A newer response that must not be stored drops the stored one; so does a
304 or a HEAD with another validator (sections 4.3.4 and 4.3.5), and an unsafe method that
succeeds, or of which nobody knows (L{invalidation<sitio.policies.lastgood.invalidation>}): a
deleted resource is never sent from memory.  Nor is the response to a GET stored that was under
way meanwhile.

B{For whom}: a request is impersonal if each of its fields, as it came, is known to be
(L{fields<sitio.policies.lastgood.fields>}).  The response to any other is neither stored nor
sent, unless it has C{public} or C{s-maxage}: such a response may be sent to anyone whose
request has the same key (section 3.5).

B{What is not stored}: a response that is C{private}, C{no-store} or C{no-cache}, sets a
cookie or hands out another credential, is partial, is an event stream, or ends with the
connection, so that nobody can tell whether it is whole; one whose status or body another policy
has changed; and the response to a request that has C{no-store}, a body, an Upgrade, a field that
overrides its method, path or host, or a field that CGI takes for another one.  Even with
C{despite}, a Set-Cookie is never sent again, and a partial response answers only requests for
the same range.

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

A section without the name of an RFC is one of RFC 9111.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from copy import copy

from zope.interface import implementer

from sitio.http.caching import (
    BODY_FIELDS,
    EVENT_STREAM,
    NOT_SENT_STALE,
    NOT_STORED,
    isConfirmed,
    isOutdated,
    updatedLines,
)
from sitio.http.headers import FRAMING_NAMES, Headers
from sitio.http.message import BodyFilter, Response
from sitio.interfaces import IExchange, IExchangeObserver, IHandover, ISelectivePolicy
from sitio.policies.lastgood.budget import Budget
from sitio.policies.lastgood.invalidation import UnsafeRequests
from sitio.policies.lastgood.lookup import Lookup, LookupRules
from sitio.policies.lastgood.mask import Mask
from sitio.policies.lastgood.store import Store

#: What forbids to store a response, or to send a stale one: directives of its
#: Cache-Control, its Set-Cookie, and C{partial} for the status 206.
FORBIDDING = frozenset(each.decode() for each in NOT_STORED | NOT_SENT_STALE) | {"partial"}

_NOT_UPDATED = FRAMING_NAMES | BODY_FIELDS

# Statuses that say as surely as a 200 that the stored response is out of date.  Others,
# such as 408 and 429, say nothing about the resource.
_SUPERSEDING = frozenset((*range(200, 400), 401, 403, 404, 410, 451))

# The same for a request that is personal, and a stored response that is for anyone.
_GONE = frozenset((404, 410, 451))

# With these the resource is as it was, or nearly: if a policy has changed such a response,
# nothing is known of it.
_CONFIRMING = frozenset((200, 206, 304))


def _collector(room: int, ended: Callable[[bytes | None], None]) -> BodyFilter:
    """
    A filter that copies a body.

    @param room: bytes of the longest body.
    @param ended: is called at its end, with L{None} for a longer one.
    """
    held = bytearray()

    def collect(piece: bytes) -> bytes:
        nonlocal room
        room -= len(piece)
        if room < 0:
            held.clear()
        else:
            held.extend(piece)
        if not piece:
            ended(None if room < 0 else bytes(held))
        return piece

    return collect


#: What one policy gives to the next: what its rules were, and all that it remembers.
_State = tuple[object, Store, UnsafeRequests, Budget]


@implementer(ISelectivePolicy, IExchangeObserver, IHandover)
class LastGood:
    """
    Masks failures with the last good response; see the module's docstring.

    @ivar statuses: all, as another policy may have changed the upstream's.
    @ivar seconds: a clock that never goes back.
    """

    buffered = True
    statuses: Container[int] = range(200, 1000)

    def __init__(
        self,
        *,
        maxAge: float = 300,
        budget: float = 600,
        masked: Container[int] = range(500, 600),
        maxBytes: int = 16 * 1024 * 1024,
        maxResponse: int = 256 * 1024,
        impersonal: frozenset[str] = frozenset(),
        personal: frozenset[str] = frozenset(),
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
        @param impersonal: as L{LookupRules} takes it, and C{personal}.
        @param now: returns the wall clock's time, for Date.
        @param despite: words of L{FORBIDDING} that are to have no effect, and names of request
            fields that are impersonal.
        """
        ignored = frozenset(each.encode() for each in despite)
        self._maxAge = maxAge
        self._maxResponse = maxResponse
        self._masked = frozenset(each for each in range(400, 600) if each in masked)
        self._relevant = self._masked | _SUPERSEDING
        self._rules = LookupRules(
            frozenset(each.encode() for each in impersonal) | ignored,
            frozenset(each.encode() for each in personal) - ignored,
            (NOT_STORED - ignored) | {EVENT_STREAM},
        )
        self._storesPartial = b"partial" in ignored
        self._notSentStale = NOT_SENT_STALE - ignored
        self.seconds = seconds
        self._now = now
        self._maxBytes = maxBytes
        self._store = Store(maxBytes)
        self._unsafe = UnsafeRequests(self._store.invalidate)
        self._budget = Budget(budget, maxAge)
        self._budgetSeconds = budget
        # What is stored by other rules must not be sent by these.
        self._stands = impersonal, personal, despite

    @property
    def size(self) -> int:
        """Bytes stored."""
        return self._store.size

    def mostMemory(self, connections: int) -> int:
        """
        The most bytes that it keeps: what is stored, and copies of responses that stream.

        @param connections: of the upstream, each of which may have such a response.
        """
        return self._maxBytes + connections * self._maxResponse

    def giveState(self) -> _State:
        """See L{IHandover}: the next one goes on with what is stored, and with the budget."""
        return self._stands, self._store, self._unsafe, self._budget

    def takeState(self, state: _State) -> None:
        """See L{IHandover}.  What was stored by other rules is not taken."""
        stands, store, unsafe, budget = state
        if stands != self._stands:
            return
        store.bound(self._maxBytes)
        budget.change(self._budgetSeconds, self._maxAge)
        # Shared with the policy before, as long as requests use that.
        self._store, self._unsafe, self._budget = store, unsafe, budget

    def isInterested(self, exchange: IExchange, response: Response) -> bool:
        """
        Whether the whole response is needed: to store it, or to mask it.

        What its head alone decides is done here, such as dropping the stored response.  Most
        bodies have arrived together with their heads; those are stored here, too.
        """
        lookup = self._judge(exchange, response)
        if lookup is None:
            return False
        exchange.notes[self] = lookup
        return True

    def responseReceived(self, exchange: IExchange, response: Response) -> Response | None:
        """Return a mask for a failure, else L{None}; store a good response."""
        # A caller need not have asked isInterested before.
        lookup = exchange.notes.pop(self, None) or self._judge(exchange, response)
        if lookup is None:
            return None
        if response.status in self._masked:
            return self._mask(lookup, response.status)
        if not exchange.isAsReceived(response):
            # A policy has waited for the body and changed it, since the head was judged.
            return None
        if response.status == 304:
            self._confirm(lookup, response)
        else:
            lines, said = response.headers.lines, response.received
            self._keep(lookup, response, lines, said, response.body or b"")
        return None

    # --- By what has arrived

    def _judge(self, exchange: IExchange, response: Response) -> Lookup | None:
        """The lookup of this request, if the whole response to it is needed."""
        status = exchange.upstreamStatus or response.status
        if response.status not in self._relevant and status not in self._relevant:
            return None
        lookup = self._rules.lookup(exchange)
        if lookup is None:
            if status < 400:
                self._unsafe.ended(exchange, response)
            return None
        if response.status in self._masked:
            if status != response.status:
                self._judgeChanged(lookup, status)
            return lookup if exchange.masking and lookup.key in self._store else None
        if response.failure is not None:
            # A policy has put it in place of a failure.
            return None
        if response.filters or not exchange.isAsReceived(response):
            self._judgeChanged(lookup, status)
            return None
        if status == 200 or (status == 206 and self._storesPartial):
            return self._judgeGood(lookup, response)
        if status == 304:
            return lookup if lookup.key in self._store else None
        if status in _SUPERSEDING and status != 206:
            self._supersede(lookup, status)
        return None

    def _judgeChanged(self, lookup: Lookup, status: int) -> None:
        """A policy has changed the upstream's answer, which had this status."""
        if status in _SUPERSEDING and status not in _CONFIRMING:
            self._supersede(lookup, status)

    def _judgeGood(self, lookup: Lookup, response: Response) -> Lookup | None:
        """Store this response if it may be; return the lookup if it has to be buffered first."""
        headers = response.fields
        length = response.length
        isHead = lookup.line.method == "HEAD"
        terms = None
        if isHead or (
            (length is None or length <= self._maxResponse) and not response.isCloseDelimited
        ):
            said = response.received
            terms = self._rules.terms(lookup, said, headers, response.status)
        if terms is None:
            self._supersede(lookup, response.status)
            return None
        lookup.terms = terms
        if isHead:
            self._compare(lookup, response)
            return None
        body = response.body
        if body is None:
            body = getattr(response, "arrived", None)
        if body is not None:
            self._keep(lookup, response, headers.lines, said, body)
            return None
        if length is None:
            self._collect(lookup, response)
            return None
        return lookup

    def exchangeFinished(self, exchange: IExchange) -> None:
        """Drop what a request may have changed of which nobody knows whether it succeeded."""
        isInDoubt = exchange.failure is not None or exchange.attempts > 1
        # No policy gets a 101.
        if (isInDoubt or exchange.upstreamStatus == 101) and exchange.mayHaveArrived:
            self._unsafe.ended(exchange, None)

    # --- Storing

    def _keep(
        self, lookup: Lookup, response: Response, lines: bytes, said: bytes, body: bytes
    ) -> None:
        """
        Store a whole response.

        @param lines: its fields, as the policies before have left them.
        @param said: its fields, as received.
        """
        exchange, unsafe = lookup.exchange, self._unsafe
        if exchange.began <= unsafe.latest and unsafe.overtook(exchange):
            return
        now = self.seconds()
        if self._budget.outages:
            self._budget.succeeded(lookup.line.endpoint, now)
        if len(body) > self._maxResponse:
            self._supersede(lookup, response.status)
            return
        self._store.put(lookup, now, response.status, response.reason, lines, said, body)

    def _collect(self, lookup: Lookup, response: Response) -> None:
        """Store a response when all of it has streamed past."""
        # A copy, as later policies may change it.
        kept = copy(response)
        kept.headers = response.headers.copy()

        def ended(body: bytes | None) -> None:
            if body is None:
                self._supersede(lookup, kept.status)
            else:
                self._keep(lookup, kept, kept.headers.lines, kept.received, body)

        response.addFilter(_collector(self._maxResponse, ended), keepsLength=True)

    def _supersede(self, lookup: Lookup, status: int) -> None:
        """Drop what a newer response, which is not stored, makes out of date."""
        # A response for one client says nothing about the one for all others, except that
        # there is none.
        if not lookup.personal or status in _GONE:
            self._store.drop(lookup)

    def _compare(self, lookup: Lookup, response: Response) -> None:
        """After a HEAD: drop the stored response if there is a newer one."""
        stored = self._store.find(lookup)
        if stored is None:
            return
        if isOutdated(
            Headers.fromLines(stored.said), Headers(), Headers.fromLines(response.received)
        ):
            self._store.drop(lookup)
        else:
            self._budget.succeeded(lookup.line.endpoint, self.seconds())

    def _confirm(self, lookup: Lookup, response: Response) -> None:
        """After a 304: the stored response is good, with newer fields (section 3.2)."""
        stored = self._store.find(lookup)
        if stored is None or self._unsafe.overtook(lookup.exchange):
            return
        said, received = Headers.fromLines(stored.said), Headers.fromLines(response.received)
        sent = lookup.exchange.request.headers
        if not isConfirmed(said, sent, received):
            if isOutdated(said, sent, received):
                self._store.drop(lookup)
            return
        now = self.seconds()
        self._budget.succeeded(lookup.line.endpoint, now)
        newSaid = updatedLines(stored.said, response.received, _NOT_UPDATED)
        lines = updatedLines(stored.lines, response.headers.lines, _NOT_UPDATED)
        terms = self._rules.terms(lookup, newSaid, Headers.fromLines(lines), stored.status)
        if terms is None:
            self._store.drop(lookup)
            return
        lookup.terms = terms
        self._store.put(lookup, now, stored.status, stored.reason, lines, newSaid, stored.body)

    # --- Masking

    def _mask(self, lookup: Lookup, status: int) -> Response | None:
        """
        The response that masks a failure, or L{None} if there is none.

        @param status: that of the failure.
        """
        stored = self._store.find(lookup)
        now = self.seconds()
        if stored is None or not lookup.exchange.masking or now - stored.since > self._maxAge:
            return None
        mask = Mask(stored, lookup.exchange.request.headers, now)
        if not mask.mayBeSent(self._notSentStale):
            return None
        if not self._budget.mayMask(lookup.line.endpoint, now):
            return None
        self._store.touch(lookup.key)
        return mask.response(status, self._now())
