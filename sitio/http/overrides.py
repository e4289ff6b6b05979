"""
Request fields that replace what the request line and Host say, for services that obey them.

A client can send each of them.  So a rule about methods, paths or hosts looks at them too,
and a cache must not keep the response to a request that has one.

The names are folded (L{foldedName}), as CGI and WSGI have one variable for all spellings of
a name: C{X_Original_URL} and C{X-Original-URL} are the same field to a service.
"""

from __future__ import annotations

from collections.abc import Iterable

from sitio.http.grammar import fieldNames
from sitio.http.lines import keyOf

_FOLDED = bytes(each if chr(each).isalnum() else ord("-") for each in range(128)).lower()
_FOLDED += b"-" * 128


def foldedName(name: bytes) -> bytes:
    """
    The name of a field in lower case, with a hyphen for each byte that is no ASCII letter or
    digit.

    CGI and WSGI read names that differ in such bytes only as the same name (RFC 3875, section
    4.1.18; some servers fold more than hyphens).
    """
    return name.translate(_FOLDED)


#: The method.  X-Forwarded-Method is of gateways that ask a service for permission.
METHOD_FIELDS = fieldNames(
    "x-http-method x-http-method-override x-method x-method-override x-original-method"
    " x-forwarded-method x-request-method"
)

#: The path, as a path or as a whole URL.  Destination is the second path of COPY and MOVE
#: (RFC 4918, section 10.3).  Path-Info is the variable of CGI.  Without those that gateways
#: set and no service obeys, such as X-Envoy-Original-Path.
PATH_FIELDS = fieldNames(
    "x-original-uri x-original-url x-original-path x-rewrite-url x-rewrite-uri x-rewrite-path"
    " x-override-url x-forwarded-uri x-forwarded-url x-forwarded-path x-http-path-override"
    " x-http-destinationurl x-request-uri x-request-url x-request-path x-uri x-url x-path"
    " x-proxy-url x-backend-url x-waws-unencoded-url request-uri"
    " path-info x-path-info destination"
)

#: The part of the path that belongs to the place of the service: some services cut it off
#: the path, some put it before the path.
PREFIX_FIELDS = fieldNames(
    "script-name x-script-name x-forwarded-prefix x-forwarded-script-name x-forwarded-context"
    " x-forwarded-root x-ingress-path x-original-prefix x-base-path x-rewrite-prefix x-prefix"
)

#: Scheme, host or port; without Forwarded, X-Forwarded-Host, -Proto and -Port, which most
#: proxies set.
AUTHORITY_FIELDS = fieldNames(
    "x-host x-original-host x-http-host-override x-forwarded-server"
    " x-forwarded-scheme x-forwarded-ssl x-forwarded-protocol x-original-proto x-original-scheme"
    " x-original-port x-scheme x-url-scheme front-end-https x-backend-host x-rewrite-host"
    " x-forwarded-hostname x-proxy-host x-server-name x-real-host"
)

#: All of them.
OVERRIDE_FIELDS = METHOD_FIELDS | PATH_FIELDS | PREFIX_FIELDS | AUTHORITY_FIELDS

_KEYS = frozenset(map(keyOf, OVERRIDE_FIELDS))

#: Fields that a service would obey before it gets trailers, and policies read in the head
#: only; so they are no trailers (RFC 9110, section 6.5.1).  In folded names.
NEVER_TRAILERS = OVERRIDE_FIELDS | fieldNames(
    "authorization proxy-authorization cookie set-cookie range if-match if-none-match"
    " if-modified-since if-unmodified-since if-range max-forwards content-encoding content-type"
    " content-range cache-control"
)


def mayOverride(keys: list[bytes], isPlain: bool) -> bool:
    """
    Whether L{overridesOf} may find one of these fields.  Most requests have none.

    @param keys: those of the lines (L{sitio.http.lines}).
    @param isPlain: whether all names have only letters, digits and hyphens.
    """
    return not (isPlain and _KEYS.isdisjoint(keys))


def overridesOf(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """
    Folded name and value of each of these fields that is in L{OVERRIDE_FIELDS}.

    @param fields: such as C{request.rawFields}.
    """
    return [
        (folded, value)
        for name, value in fields
        if (folded := name.translate(_FOLDED)) in OVERRIDE_FIELDS
    ]
