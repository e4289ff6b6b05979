"""
C{last-good}: a failure is masked with the last good response to the same request.

Options, each of them optional::

    max-age=SECONDS     how old a response may be when it is used (300)
    budget=SECONDS      how long failures are masked on end (600)
    statuses=STATUSES   the failures that are masked (5xx)
    max-bytes=N         bytes held in all, the least recently used go first (16 MiB)
    max-response=N         bytes of one body; a longer response is not kept (256 KiB)
    personal=NAME,...   more request fields that say who is asking
    despite=WORD,...    keep and use responses despite what forbids it: the names in
                        PERSONAL and FORBIDDING

B{Kept} is the last 200 to a GET: any other status should not outlive its moment.
Scheme, host, target and what Vary names must be the same again (RFC 9111, section
4.1); Accept-Encoding too for an encoded response that forgot to name it.  HEAD is
answered from what a GET brought.  A response that takes its place but can't be kept
removes it, as does an unsafe method that succeeds (section 4.4): what was deleted
does not rise again.

B{Not kept} is a response that is C{private}, C{no-store} or C{no-cache}, sets a
cookie or is partial; nor one to a request with C{no-store}, with a body, or with
a field of L{PERSONAL}, unless the response says C{public}.  RFC 9111 sees no obstacle
in a Cookie, but a service that never expected a cache doesn't say C{private}
either, and the page of one user must not mask another's.  A Set-Cookie is never
sent again, and a partial response serves its own Range only, C{despite} or not.

B{How long}: C{max-age} counts from when a response came or was confirmed by a 304;
it's the operator's permission to send what is stale (section 4.2.4).  A
C{stale-if-error=N}, be it the response's or the request's (RFC 5861, section 4),
shortens that to N seconds past freshness, and never lengthens it.  After
C{must-revalidate}, C{proxy-revalidate} and C{s-maxage} nothing stale is sent.
The age is that of the Age field and the time here: the clocks behind Date differ.

B{The budget} is for a service that fails nearly always, as each response that gets
through begins C{max-age} anew.  Responses that could be kept are weighed against
failures that could be masked, ten seconds at a time; when failures have prevailed
for C{budget} seconds on end, the mask comes off, with a warning, until good
responses prevail again.

B{The client gets} the response as it came with Age and C{Cache-Status: sitio;
fwd=stale; fwd-status=503; detail=last-good}: it went forward, so it's no C{hit}
(RFC 9211, section 2.1), C{fwd-status} is the failure's, and C{fwd=bypass} stands
for a response still fresh (section 2.2).  If-None-Match and If-Modified-Since get
their 304, a Range the whole (RFC 9110, section 14.2).  If-Match is for the origin
to judge (RFC 9111, section 4.3.2) and sees the failure.

A response of announced length is buffered, so that one that breaks off is masked as
well.  Any other is collected as it passes: an endless one must not be held up.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from functools import lru_cache

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from sitio.http.dates import parseDate
from sitio.http.grammar import SAFE_METHODS, listMembers
from sitio.http.headers import FRAMING, MAX_SHARED, Headers, Lines
from sitio.http.message import Request, RequestLine, Response, parseStatuses, reasonFor
from sitio.interfaces import IExchange, ISelectivePolicy


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Responses kept for one target: encodings and a few languages.  A Vary on a field
#: of many values must not push out all other targets.
MAX_VARIANTS = 8

#: Seconds over which good responses and failures are weighed against each other:
#: short beside any budget, long enough for a few requests.
WINDOW = 10

#: The most that options take, a week and 16 GiB: more is a slip of the pen.
MAX_SECONDS = 7 * 24 * 3600
MAX_BYTES = 16 * 1024 * 1024 * 1024

#: Marks, each of which holds on to two heads; readers don't remember more heads either.
MAX_MARKS = 1024

#: What a response and each of its lines cost in memory beside their bytes: the
#: objects of Python around them, measured and rounded up.
RESPONSE_COST = 1024
LINE_COST = 160

#: Request fields that say who is asking: a response to one may be for that one only.
PERSONAL = _names(
    "authorization cookie proxy-authorization api-key x-api-key x-access-token x-auth-token"
    " client-cert x-client-cert x-forwarded-client-cert remote-user x-remote-user x-user-id"
    " x-forwarded-user x-forwarded-email x-forwarded-access-token x-auth-request-user"
    " x-auth-request-email x-auth-request-access-token x-amzn-oidc-data x-amzn-oidc-identity"
    " x-goog-iap-jwt-assertion x-ms-client-principal cf-access-jwt-assertion"
)

#: What forbids to keep a response, or to use it once stale: directives of its
#: Cache-Control, its Set-Cookie, and C{partial} for the status 206.
FORBIDDING = _names(
    "no-cache no-store private set-cookie partial must-revalidate proxy-revalidate s-maxage"
)
_NOT_KEPT = frozenset((b"no-cache", b"no-store", b"private", b"set-cookie"))
_NOT_STALE = frozenset((b"must-revalidate", b"proxy-revalidate", b"s-maxage"))

# Fields that tell a service another host, scheme or path than the request's own.
# Part of the key: what one client made up must not become what another is sent.
_TOLD = frozenset(
    b"forwarded x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-host"
    b" x-http-method-override x-original-url x-rewrite-url".split()
)
_FRAMING = frozenset(each.encode() for each in FRAMING)
_OF_THE_BODY = frozenset(b"content-encoding content-language content-range content-type".split())
_NOT_SENT = _FRAMING | {b"age", b"set-cookie"}
_NOT_IN_304 = _NOT_SENT | _OF_THE_BODY
_NOT_UPDATED = _FRAMING | _OF_THE_BODY
_FOR_THE_ORIGIN = frozenset((b"if-match", b"if-unmodified-since"))

# Statuses that say as surely as a 200 that what was kept is out of date; a 429 or
# a 408, for one, says nothing about the page.
_SUPERSEDING = frozenset((*range(200, 400), 401, 403, 404, 410, 451))

_directive = re.compile(rb'([^\s,;="]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;]*)))?').findall
_tag = re.compile(rb'(?:W/)?("[^"]*")').findall

_Lines = Sequence[tuple[bytes, bytes]]
_Told = tuple[tuple[bytes, bytes], ...]
_Key = tuple[bool, bytes, str, _Told]
_Said = tuple[bool, tuple[bytes, ...]]
# Whether it is secure, the request's line and lines, the response's lines: the objects
# themselves, as what comes again is the same object.
_Mark = tuple[bool, RequestLine, Lines | None, Lines | None]


# --- Reading fields


def _value(fields: _Lines, name: bytes) -> bytes | None:
    """All lines of a field as one value, or L{None} (RFC 9110, section 5.3)."""
    found = [value.strip(b" \t") for each, value in fields if each.lower() == name]
    return b", ".join(found) if found else None


@lru_cache(maxsize=256)
def _directives(value: bytes | None) -> dict[bytes, bytes]:
    """What a Cache-Control says, by name; of a repeated one the first (RFC 9111, section 5.2)."""
    found: dict[bytes, bytes] = {}
    for name, quoted, plain in _directive(value or b""):
        found.setdefault(name.lower(), quoted or plain)
    return found


def _read(fields: _Lines) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    """
    What a response says: the directives, with C{set-cookie} as one more, and the
    request fields that it depends on, where C{*} is all.
    """
    words: set[bytes] = set()
    names: set[bytes] = set()
    for line, value in fields:
        name = line.lower()
        if name == b"cache-control":
            words.update(_directives(value))
        elif name == b"vary":
            names.update(listMembers(value))
        elif name == b"content-encoding":
            names.add(b"accept-encoding")
        elif name == b"set-cookie":
            words.add(name)
    return frozenset(words), tuple(sorted(names - {b""}))


def _seconds(value: bytes | None) -> int:
    """A delta-seconds; what is none is 0, hence stale (RFC 9111, sections 1.2.2 and 4.2.1)."""
    if value is None or not value.isdigit():
        return 0
    return int(value) if len(value) <= 10 else 2**31


def _date(value: bytes | None) -> int | None:
    return parseDate((value or b"").decode("latin-1"))


def _freshness(fields: _Lines, says: dict[bytes, bytes]) -> int:
    """Seconds for which a response is fresh (RFC 9111, section 4.2.1); none are guessed."""
    for name in (b"s-maxage", b"max-age"):
        if name in says:
            return _seconds(says[name])
    expires, date = _date(_value(fields, b"expires")), _date(_value(fields, b"date"))
    return 0 if expires is None or date is None else max(0, expires - date)


def _unchanged(asked: _Lines, fields: _Lines) -> bool:
    """Whether the client has this response already (RFC 9110, section 13.2.2; weakly compared)."""
    tags = _value(asked, b"if-none-match")
    if tags is not None:
        own = _tag(_value(fields, b"etag") or b"")
        return tags == b"*" or bool(own and own[0] in _tag(tags))
    since = _date(_value(asked, b"if-modified-since"))
    changed = _date(_value(fields, b"last-modified") or _value(fields, b"date"))
    return since is not None and changed is not None and changed <= since


# --- What is kept


@define(eq=False)
class _Asked:
    """
    A request, as far as it matters here.

    @ivar personal: whether it says who is asking.
    @ivar said: what the response to it says of itself, once that is known to be kept.
    """

    request: Request
    key: _Key
    personal: bool
    said: _Said | None = None


@define(eq=False)
class _Kept:
    """
    A response, its fields as they came.

    @ivar public: whether it is for anyone who asks.
    @ivar varies: the request fields that it depends on, and what they were.
    @ivar since: when it came, or was confirmed.
    @ivar size: what it costs, in bytes.
    @ivar marks: requests, each with a response to it that would be kept as just this.
    """

    key: _Key
    status: int
    reason: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    public: bool
    varies: list[tuple[bytes, bytes | None]]
    since: float
    size: int = field(init=False)
    marks: list[_Mark] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        _, host, target, told = self.key
        lines = [*self.fields, *self.varies, *told]
        data = sum([len(name) + len(value or b"") for name, value in lines])
        data += len(host) + len(target) + len(self.body)
        self.size = RESPONSE_COST + LINE_COST * len(lines) + data

    def answers(self, request: Request) -> bool:
        """Whether it was given to such a request."""
        if self.status == 206 and request.method == "HEAD":
            # Range is nothing to HEAD (RFC 9110, section 14.2).
            return False
        if not self.varies:
            return True
        fields = request.headers.seen
        return all(_value(fields, name) == value for name, value in self.varies)

    def confirmedBy(self, request: Request, fields: _Lines) -> bool:
        """Whether a 304 with these fields speaks of it (RFC 9111, section 4.3.4)."""
        for own, asked in ((b"etag", b"if-none-match"), (b"last-modified", b"if-modified-since")):
            value = _value(self.fields, own)
            said = _value(fields, own) or _value(request.headers.seen, asked)
            if value is not None or said is not None:
                return value == said
        return False


class _Store:
    """
    Responses by key, bounded in bytes; the least recently used go first.

    @ivar marked: what would be found by a mark, as long as nothing else is kept for its key.
    """

    def __init__(self, maxBytes: int) -> None:
        self._maxBytes = maxBytes
        self._variants: OrderedDict[_Key, list[_Kept]] = OrderedDict()
        self.marked: dict[_Mark, _Kept] = {}
        self.size = 0

    def __contains__(self, key: _Key) -> bool:
        return key in self._variants

    def find(self, asked: _Asked) -> _Kept | None:
        """The latest response that answers a request (RFC 9111, section 4)."""
        for kept in reversed(self._variants.get(asked.key, ())):
            if (kept.public or not asked.personal) and kept.answers(asked.request):
                return kept
        return None

    def mark(self, kept: _Kept, mark: _Mark) -> None:
        """From now on recall this one by this mark as well."""
        if mark in self.marked:
            return
        if len(self.marked) >= MAX_MARKS:
            # Most of them have been of no use for long.
            self._unmark(*self.marked.values())
        kept.marks.append(mark)
        self.marked[mark] = kept

    def _unmark(self, *variants: _Kept) -> None:
        for each in variants:
            for mark in each.marks:
                self.marked.pop(mark, None)
            each.marks.clear()

    def used(self, key: _Key) -> None:
        """What is kept for this key is wanted: it goes last."""
        self._variants.move_to_end(key)

    def put(self, key: _Key, kept: _Kept, instead: _Kept | None) -> None:
        """Keep a response, in place of the one that was found for the same request."""
        variants = self._variants.setdefault(key, [])
        self._unmark(*variants)
        if instead is not None:
            variants.remove(instead)
            self.size -= instead.size
        variants.append(kept)
        self.size += kept.size
        self.used(key)
        if len(variants) > MAX_VARIANTS:
            self.size -= variants.pop(0).size
        while self.size > self._maxBytes:
            oldest, variants = next(iter(self._variants.items()))
            gone = variants.pop(0)
            self._unmark(gone)
            self.size -= gone.size
            if not variants:
                del self._variants[oldest]

    def forget(self, key: _Key, request: Request | None = None) -> None:
        """Drop what would answer this request, or all that is kept of the target."""
        variants = self._variants.pop(key, None)
        if variants is None:
            return
        self._unmark(*variants)
        rest = [each for each in variants if request is not None and not each.answers(request)]
        self.size -= sum(each.size for each in variants) - sum(each.size for each in rest)
        if rest:
            self._variants[key] = rest


class _Budget:
    """Whether failures may still be masked; see the head of this module."""

    log = Logger()

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._began = float("-inf")
        #: Good responses less failures, since then.
        self._balance = 0
        #: When failures began to prevail, or L{None}.
        self._since: float | None = None
        self._warned = False

    def good(self, now: float) -> None:
        """A response came that could be kept."""
        if now - self._began >= WINDOW:
            self._turn(now)
        self._balance += 1

    def failed(self, now: float) -> bool:
        """There is a failure that could be masked; whether it may be."""
        if now - self._began >= WINDOW:
            self._turn(now)
        self._balance -= 1
        if self._since is None:
            self._since = now
        lasted = now - self._since
        if lasted >= self._budget and not self._warned:
            self._warned = True
            self.log.warn(
                "Failures are no longer masked: they have prevailed for {lasted:.0f} seconds",
                lasted=lasted,
            )
        return lasted < self._budget

    def _turn(self, now: float) -> None:
        # Where as many failed, or nothing came, nothing is known to be better.
        if self._balance > 0:
            self._since = None
            self._warned = False
        self._began = now
        self._balance = 0


# --- The policy


@implementer(ISelectivePolicy)
class LastGood:
    """
    Masks failures with the last good response; see the head of this module.

    @ivar statuses: those of responses that are kept, that confirm or remove what
        is kept, and those that are masked.
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
        personal: frozenset[str] = PERSONAL,
        despite: frozenset[str] = frozenset(),
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param masked: the statuses of failures, 400 to 599.
        @param personal: names of fields, in lower case.
        @param despite: of C{personal} and L{FORBIDDING} what forbids nothing here.
        """
        lifted = frozenset(each.encode() for each in despite)
        self._maxAge = maxAge
        self._maxResponse = maxResponse
        self._masked = frozenset(each for each in range(400, 600) if each in masked)
        self.statuses = self._masked | _SUPERSEDING
        self._personal = frozenset(each.encode() for each in personal) - lifted
        self._partial = b"partial" in lifted
        self._notKept = _NOT_KEPT - lifted
        self._notStale = _NOT_STALE - lifted
        self._asking = self._personal | _TOLD | {b"host", b"cache-control"}
        self.seconds = seconds
        self._store = _Store(maxBytes)
        self._budget = _Budget(budget)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._store.size

    def isInterested(self, exchange: IExchange, response: Response) -> bool:
        """
        Whether the whole of a response is needed: to be kept, or masked.

        What the head alone settles is done here: dropping what it supersedes.
        """
        request = exchange.request
        # Mostly a response is here whole, and just what is kept.
        kept = self._store.marked.get(
            (exchange.secure, request.line, request.lines, response.lines)
        )
        if (
            kept is not None
            and kept.body == response.body
            and kept.status == response.status
            and request.body == b""
            and not response.filters
            and response.failure is None
        ):
            self._confirmed(kept)
            return False
        asked = exchange.notes[self] = self._concern(exchange, response)
        return asked is not None

    def _confirmed(self, kept: _Kept) -> None:
        now = self.seconds()
        kept.since = now
        self._budget.good(now)
        self._store.used(kept.key)

    def responseReceived(self, exchange: IExchange, response: Response) -> Response | None:
        """A mask for a failure, else L{None}; a good response is kept."""
        # Without C{wants} before it this works as well.
        noted = self in exchange.notes
        asked = exchange.notes.pop(self) if noted else self._concern(exchange, response)
        if asked is None:
            return None
        if response.status in self._masked:
            return self._mask(asked, response.status)
        if response.status == 304:
            self._confirm(asked, response.headers.seen)
        else:
            self._keep(asked, response, response.headers, response.body or b"")
        return None

    # --- What a head tells

    def _concern(self, exchange: IExchange, response: Response) -> _Asked | None:
        """The request, if the whole of this response to it is needed."""
        request, status = exchange.request, response.status
        asked = self._asked(exchange)
        if asked is None:
            return None
        if request.method not in ("GET", "HEAD"):
            if request.method not in SAFE_METHODS and status < 400:
                self._store.forget(asked.key)
            return None
        # A body might make it another request, and is no part of the key.
        if request.body != b"":
            return None
        if status in self._masked or status == 304:
            return asked if asked.key in self._store else None
        if status in (200, 206):
            # What another policy has put in place of a failure is no good response.
            masked = response.failure is not None
            if masked or request.method == "HEAD" or (status == 206 and not self._partial):
                return None
            within = (response.length or 0) <= self._maxResponse
            if within:
                asked.said = self._said(response.seen, status, asked.personal)
            if asked.said is not None:
                if not response.filters and (response.body, response.length) != (None, None):
                    return asked
                self._collect(asked, response)
                return None
        self._supersede(asked)
        return None

    def _asked(self, exchange: IExchange) -> _Asked | None:
        """Who asks for what; L{None} for a client that wants nothing stored."""
        request = exchange.request
        personal = False
        host = b""
        told: _Told = ()
        asking = self._asking
        for line, value in request.seen:
            name = line.lower()
            if name in asking:
                if name == b"host":
                    host = value.lower()
                elif name in self._personal:
                    personal = True
                elif name in _TOLD:
                    told += ((name, value),)
                elif b"no-store" in _directives(value):
                    return None
        return _Asked(request, (exchange.secure, host, request.target, told), personal)

    def _said(self, seen: _Lines, status: int, personal: bool) -> _Said | None:
        """
        Whether a response is for anyone and the request fields that it depends on;
        L{None} if it must not be kept.
        """
        words, names = _read(seen)
        public = b"public" in words
        if not self._notKept.isdisjoint(words) or b"*" in names or (personal and not public):
            return None
        return public, (*names, b"range", b"if-range") if status == 206 else names

    # --- Keeping

    def _keep(self, asked: _Asked, response: Response, headers: Headers, body: bytes) -> None:
        kept = self._store.find(asked)
        if kept is not None and kept.body == body and kept.fields == tuple(headers.seen):
            self._confirmed(kept)
            parts = asked.request.line, asked.request.lines, headers.lines
            if all(each is not None and len(each.raw) <= MAX_SHARED for each in parts):
                # It will be the same again, from this client or another of its kind.
                self._store.mark(kept, (asked.key[0], *parts))
            return
        self._budget.good(self.seconds())
        if len(body) > self._maxResponse:
            self._supersede(asked)
        else:
            self._put(asked, kept, response.status, response.reason, headers, body)

    def _collect(self, asked: _Asked, response: Response) -> None:
        """Keep a response once it has passed."""
        # As it is now: policies after this one may change it.
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
                self._supersede(asked)
            elif not piece:
                self._keep(asked, response, headers, bytes(held))
            return piece

        response.addFilter(collect, keepsLength=True)

    def _put(
        self,
        asked: _Asked,
        instead: _Kept | None,
        status: int,
        reason: str,
        headers: Headers,
        body: bytes,
    ) -> None:
        said = asked.said or self._said(headers.seen, status, asked.personal)
        if said is None:
            self._supersede(asked)
            return
        public, names = said
        varies = [(each, _value(asked.request.headers.seen, each)) for each in names]
        now = self.seconds()
        fields = tuple(headers.seen)
        kept = _Kept(asked.key, status, reason, fields, body, public, varies, now)
        self._store.put(asked.key, kept, instead)

    def _supersede(self, asked: _Asked) -> None:
        """There is a newer response, which is not kept; one for a single person says nothing."""
        if not asked.personal:
            self._store.forget(asked.key, asked.request)

    def _confirm(self, asked: _Asked, fields: _Lines) -> None:
        """A 304: what is kept is still good, under newer fields (RFC 9111, section 3.2)."""
        kept = self._store.find(asked)
        if kept is None or not kept.confirmedBy(asked.request, fields):
            return
        self._budget.good(self.seconds())
        newer = [each for each in fields if each[0].lower() not in _NOT_UPDATED]
        replaced = {name.lower() for name, _ in newer} | {b"age"}
        older = [each for each in kept.fields if each[0].lower() not in replaced]
        headers = Headers.fromWire(older + newer)
        self._put(asked, kept, kept.status, kept.reason, headers, kept.body)

    # --- Masking

    def _mask(self, asked: _Asked, status: int) -> Response | None:
        """What the client gets in place of a failure with this status, if there is something."""
        kept = self._store.find(asked)
        lines = asked.request.headers.seen
        if kept is None or any(name.lower() in _FOR_THE_ORIGIN for name, _ in lines):
            return None
        now = self.seconds()
        age = now - kept.since
        says = _directives(_value(kept.fields, b"cache-control"))
        if age > self._maxAge:
            return None
        age += _seconds(_value(kept.fields, b"age"))
        staleness = age - _freshness(kept.fields, says)
        if staleness >= 0 and not self._notStale.isdisjoint(says):
            return None
        for each in (says, _directives(_value(lines, b"cache-control"))):
            if b"stale-if-error" in each and staleness > _seconds(each[b"stale-if-error"]):
                return None
        if not self._budget.failed(now):
            return None
        self._store.used(asked.key)
        why = b"stale" if staleness >= 0 else b"bypass"
        told = b"sitio; fwd=%b; fwd-status=%d; detail=last-good" % (why, status)
        return self._answer(kept, lines, [(b"Age", b"%d" % age), (b"Cache-Status", told)])

    def _answer(self, kept: _Kept, asked: _Lines, added: list[tuple[bytes, bytes]]) -> Response:
        unchanged = _unchanged(asked, kept.fields)
        without = _NOT_IN_304 if unchanged else _NOT_SENT
        fields = [each for each in kept.fields if each[0].lower() not in without] + added
        if unchanged:
            answer = Response.fromWire(304, reasonFor(304), fields)
        else:
            answer = Response.fromWire(kept.status, kept.reason, fields)
        answer.body = b"" if unchanged else kept.body
        return answer


# --- Descriptions


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
    C{last-good[:max-age=SECONDS][:budget=SECONDS]...}: see the head of this module.

    @raise ValueError: a value that is none, in one sentence.
    """
    named = PERSONAL | _words(personal)
    # Says what is wrong with a name.
    Headers((each, "") for each in sorted(named))
    for each in sorted(_words(despite) - named - FORBIDDING):
        known = ", ".join(sorted(named | FORBIDDING))
        raise ValueError(f"despite={despite}: {each!r} is none of {known}")
    return LastGood(
        maxAge=_number("max-age", maxAge, 1, MAX_SECONDS),
        # Within one window a failure can't be told from an outage.
        budget=_number("budget", budget, WINDOW, MAX_SECONDS),
        masked=parseStatuses(statuses),
        maxBytes=_number("max-bytes", maxBytes, 1, MAX_BYTES),
        maxResponse=_number("max-response", maxResponse, 1, MAX_BYTES),
        personal=named,
        despite=_words(despite),
    )
