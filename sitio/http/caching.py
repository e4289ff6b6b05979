"""
Rules of HTTP caching: what may be stored, for whom, and for how long it is fresh.

Pure functions of fields, for a cache that all clients share.

A section without the name of an RFC is one of RFC 9111.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sitio.http.dates import parseDate
from sitio.http.grammar import fieldNames, listMembers
from sitio.http.headers import Headers
from sitio.http.lines import keyOf, pairsOf, spansOf, wireForm

#: Names and values of a Cache-Control; the value of one without is C{b""}.
Directives = Mapping[bytes, bytes]


#: Request fields that are known to identify the client.  The list can't be complete: what
#: it lacks is not impersonal.
PERSONAL_FIELDS = frozenset(
    each.decode()
    for each in fieldNames(
        "authorization cookie proxy-authorization api-key x-api-key x-access-token x-auth-token"
        " client-cert x-client-cert x-forwarded-client-cert remote-user x-remote-user x-user-id"
        " x-forwarded-user x-forwarded-email x-forwarded-access-token x-auth-request-user"
        " x-auth-request-email x-auth-request-access-token x-amzn-oidc-data x-amzn-oidc-identity"
        " x-goog-iap-jwt-assertion x-ms-client-principal cf-access-jwt-assertion"
    )
)

#: Response fields that hand a credential to the client, for it alone: cookies, the fields of
#: RFC 9110, section 11.6.3, RFC 9449 and RFC 8555, and those of services that use no cookies.
CREDENTIAL_FIELDS = fieldNames(
    "set-cookie set-cookie2 authorization authentication-info proxy-authentication-info"
    " dpop-nonce replay-nonce access-token refresh-token id-token x-access-token x-auth-token"
    " x-refresh-token x-id-token x-csrf-token x-xsrf-token x-session-id x-session-token"
    " x-subject-token x-api-key"
)

#: Terms (see L{storageTerms}) of responses that are not stored.  C{no-cache} is one of
#: them, as it allows no use without asking the upstream (section 5.2.2.4).
NOT_STORED = frozenset((b"no-cache", b"no-store", b"private", b"set-cookie"))

#: Directives that allow to send a response to anyone, whoever asked for it (section 3.5).
#: C{must-revalidate} does not: services say it of personal pages, too.
PUBLIC = frozenset((b"public", b"s-maxage"))

#: The term of an event stream: it has no end, and another client's events are of no use.
EVENT_STREAM = b"event-stream"

#: The term of a part of a body, whatever the status says (RFC 9110, section 14.4).
PART = b"content-range"

#: The directive in place of what can't be read in a malformed Cache-Control: no name.
MALFORMED = b""

# The fields that say something of storing by their values, and those that do by being there.
# Content-Type says something in event streams only.
_VALUED = frozenset(map(keyOf, (b"cache-control", b"vary")))
_TERMS = _VALUED | frozenset(map(keyOf, CREDENTIAL_FIELDS | {b"content-encoding", PART}))
_TYPE = keyOf(b"content-type")

#: Directives of responses that are not sent once they are stale (section 4.2.4).
NOT_SENT_STALE = frozenset((b"must-revalidate", b"proxy-revalidate", b"s-maxage"))

#: Headers that describe a body: a 304 has none of them, and updates none of them.
BODY_FIELDS = fieldNames("content-encoding content-language content-range content-type")

_MAX_DELTA_SECONDS = 2**31

_directive = re.compile(rb'([^\s,;="]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;]*)))?').finditer
_tag = re.compile(rb'(?:W/)?("[^"]*")').findall


def directives(value: bytes | None) -> Directives:
    """
    The directives of a Cache-Control, their names in lower case (section 5.2).

    If a directive is repeated, the first counts.  A value that is no list of directives, such as
    C{a;b} or one with a quote too many, has L{MALFORMED} as well: what seems to be a directive
    in it may be a part of another.
    """
    found: dict[bytes, bytes] = {}
    value = value or b""
    end = 0
    isMalformed = False
    for each in _directive(value):
        name, quoted, plain = each.groups(b"")
        between = value[end : each.start()]
        isApart = not end or b"," in between
        if between.strip(b", \t") or not isApart or each[3] == b"" or b'"' in plain:
            isMalformed = True
        found.setdefault(name.lower(), quoted or plain)
        end = each.end()
    if isMalformed or value[end:].strip(b", \t"):
        found[MALFORMED] = b""
    return found


def deltaSeconds(value: bytes | None) -> int:
    """
    A number of seconds (section 1.2.2).

    A value that is not a number is 0, hence stale (section 4.2.1).
    """
    if value is None or not value.isdigit():
        return 0
    return int(value) if len(value) <= 10 else _MAX_DELTA_SECONDS


def _date(value: bytes | None) -> int | None:
    return parseDate((value or b"").decode("latin-1"))


def freshness(fields: Headers, said: Directives) -> int:
    """
    For how many seconds a response is fresh (section 4.2.1).

    Without a date or a directive that says so it is 0: nothing is guessed.

    @param said: the directives of its Cache-Control.
    """
    for name in (b"s-maxage", b"max-age"):
        if name in said:
            return deltaSeconds(said[name])
    expires, date = _date(fields.bytesOf(b"expires")), _date(fields.bytesOf(b"date"))
    return 0 if expires is None or date is None else max(0, expires - date)


def mayBeSent(
    staleness: float, response: Directives, request: Directives, notSentStale: frozenset[bytes]
) -> bool:
    """
    Whether a stored response may be sent in place of an error (section 4.2.4).

    C{stale-if-error=N} of either side limits the staleness to N seconds (RFC 5861,
    section 4).

    @param staleness: seconds since it was fresh; negative while it is.
    @param response: the directives of its Cache-Control.
    @param request: those of the client's.
    @param notSentStale: directives such as L{NOT_SENT_STALE}.
    """
    if staleness >= 0 and not notSentStale.isdisjoint(response):
        return False
    for each in (response, request):
        if b"stale-if-error" in each and staleness > deltaSeconds(each[b"stale-if-error"]):
            return False
    return True


def linesOfStoring(fields: Headers) -> bytes:
    """
    What the fields of a response say of storing, in a form that takes little memory and has no
    cookies: L{storageTerms} reads it.
    """
    lowered = fields.lowered()
    told = b""
    for key in _TERMS.intersection(fields.lineKeys()):
        if key not in _VALUED:
            # Without its value, which may be a cookie.
            told += key
            continue
        for each in lowered.split(key)[1:]:
            told += key + each.partition(b"\r")[0]
    if lowered.find(b"event-stream") >= 0:
        told += b"".join([lowered[start - 1 : end - 2] for start, end in spansOf(_TYPE, lowered)])
    return told


def storageTerms(told: bytes) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    """
    On what terms a response may be stored.

    @param told: its L{linesOfStoring}.

    @return: first the names of its directives, with C{set-cookie} if it hands out a credential
        (L{CREDENTIAL_FIELDS}), L{EVENT_STREAM} if it is one, and L{PART} if it says so; then
        the request fields that it varies on (section 4.1), sorted, in lower case, where C{*} is
        all.  An encoded response always varies on Accept-Encoding, as some services do not say
        so.
    """
    terms: set[bytes] = set()
    names: set[bytes] = set()
    for line in told.split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"cache-control":
            terms.update(directives(value))
        elif name == b"content-type":
            if b"event-stream" in value:
                terms.add(EVENT_STREAM)
        elif name == b"vary":
            names.update(listMembers(value))
        elif name == b"content-encoding":
            names.add(b"accept-encoding")
        else:
            terms.add(PART if name == PART else b"set-cookie")
    return frozenset(terms), tuple(sorted(names - {b""}))


def isUnchanged(request: Headers, stored: Headers) -> bool:
    """
    Whether a conditional request gets a 304, as its client already has the stored response.

    By If-None-Match, compared weakly, else by If-Modified-Since (RFC 9110, section 13.2.2).
    """
    tags = request.bytesOf(b"if-none-match")
    if tags is not None:
        own = _tag(stored.bytesOf(b"etag") or b"")
        return tags == b"*" or bool(own and own[0] in _tag(tags))
    since = _date(request.bytesOf(b"if-modified-since"))
    changed = _date(stored.bytesOf(b"last-modified") or stored.bytesOf(b"date"))
    return since is not None and changed is not None and changed <= since


def isConfirmed(stored: Headers, request: Headers, received: Headers) -> bool:
    """
    Whether a 304 of the upstream is about the stored response (section 4.3.4).

    @param request: the fields that the upstream was sent.
    @param received: the fields of the 304.
    """
    for own, condition in ((b"etag", b"if-none-match"), (b"last-modified", b"if-modified-since")):
        value = stored.bytesOf(own)
        other = received.bytesOf(own) or request.bytesOf(condition)
        if value is not None or other is not None:
            return value == other
    return False


def isOutdated(stored: Headers, request: Headers, received: Headers) -> bool:
    """
    Whether a 304, or the response to a HEAD, shows that there is a newer response than the
    stored one: its validators differ (sections 4.3.4 and 4.3.5).

    @param request: the fields that the upstream was sent; C{()} for a HEAD.
    @param received: the fields of the 304, or of the response to the HEAD.
    """
    own = _tag(stored.bytesOf(b"etag") or b"")
    tags = received.bytesOf(b"etag") or request.bytesOf(b"if-none-match") or b"*"
    if own and tags != b"*":
        return own[0] not in _tag(tags)
    was = stored.bytesOf(b"last-modified")
    now = received.bytesOf(b"last-modified")
    if was is None or now is None or was == now:
        return False
    # An older date is that of a server that lags behind.
    before, after = _date(was), _date(now)
    return before is None or after is None or after > before


def updatedLines(stored: bytes, received: bytes, kept: frozenset[bytes]) -> bytes:
    """
    The lines of a stored response after a 304 confirmed it (section 3.2), all in wire form.

    @param received: those of the 304.
    @param kept: names of fields, in lower case, that it does not update.
    """
    newer = [each for each in pairsOf(received) if each[0].lower() not in kept]
    replaced = {name.lower() for name, _ in newer} | {b"age"}
    return wireForm([each for each in pairsOf(stored) if each[0].lower() not in replaced] + newer)
