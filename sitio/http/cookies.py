"""
Cookies (RFC 6265bis): L{cookiesOf} reads those of a request, L{CookieSetter} sets those of a
response.

Python's C{http.cookies} drops all cookies of a field if one is malformed, and takes attributes
of old RFCs for cookies.

Contract: pure.  Errors contain no value of a cookie: they are logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Protocol

from sitio.http.grammar import isHostname, isToken

if TYPE_CHECKING:
    from sitio.http.headers import Headers

#: When a browser sends a cookie with requests that other sites cause (section 5.6.7).
SameSite = Literal["Strict", "Lax", "None"]

#: Bytes of the name and the value together, and of the value of an attribute: browsers ignore
#: longer ones (section 5.6).
MAX_PAIR_BYTES = 4096
MAX_ATTRIBUTE_BYTES = 1024

# A value without quotes: no blanks, quotes, commas, semicolons and backslashes (section 4.1.1).
_isCookieValue = re.compile(r"[!#-+\--:<-\[\]-~]*").fullmatch

# The value of Path: visible ASCII and blanks without semicolons.
_isCookiePath = re.compile(r"/[ -:<-~]*").fullmatch


def cookiesOf(lines: Iterable[str]) -> list[tuple[str, str]]:
    """
    Names and values of cookies, in order.  Quotes around a value are removed; else it is as it
    was sent.  What is no cookie, as it has no name or no C{=}, is left out.

    @param lines: the values of all Cookie fields.
    """
    found = []
    for line in lines:
        for each in line.split(";"):
            name, equals, value = each.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if not equals or not name:
                continue
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            found.append((name, value))
    return found


def cookieLine(
    name: str,
    value: str,
    *,
    maxAge: int | None = None,
    domain: str | None = None,
    path: str | None = "/",
    secure: bool = False,
    httpOnly: bool = False,
    sameSite: SameSite | None = "Lax",
    partitioned: bool = False,
) -> str:
    """
    The value of a Set-Cookie field; see L{CookieSetter.setCookie}.

    @raise ValueError: browsers would ignore or misread this cookie.
    """
    if not isToken(name):
        raise ValueError(f"{name[:100]!r} is not the name of a cookie: it must be a token")
    if not _isCookieValue(value):
        raise ValueError(
            f"the value of the cookie {name} has characters that no cookie can hold: encode it,"
            " for example with urllib.parse.quote"
        )
    if len(name) + len(value) > MAX_PAIR_BYTES:
        raise ValueError(f"the cookie {name[:100]} has more than {MAX_PAIR_BYTES} bytes")
    parts = [f"{name}={value}"]
    if maxAge is not None:
        if not isinstance(maxAge, int) or isinstance(maxAge, bool):
            raise ValueError(f"maxAge of the cookie {name} is {maxAge!r}: write whole seconds")
        parts.append(f"Max-Age={maxAge}")
    if domain is not None:
        if not isHostname(domain) or len(domain) > MAX_ATTRIBUTE_BYTES:
            raise ValueError(f"{domain[:100]!r} is not the domain of a cookie: write a host name")
        parts.append(f"Domain={domain}")
    if path is not None:
        if not _isCookiePath(path) or len(path) > MAX_ATTRIBUTE_BYTES:
            raise ValueError(
                f"{path[:100]!r} is not the path of a cookie: it begins with /, and has no"
                " semicolon, in ASCII"
            )
        parts.append(f"Path={path}")
    _checkSecurity(name, domain, path, secure, sameSite, partitioned)
    if secure:
        parts.append("Secure")
    if httpOnly:
        parts.append("HttpOnly")
    if sameSite is not None:
        parts.append(f"SameSite={sameSite}")
    if partitioned:
        parts.append("Partitioned")
    return "; ".join(parts)


def _checkSecurity(
    name: str,
    domain: str | None,
    path: str | None,
    secure: bool,
    sameSite: str | None,
    partitioned: bool,
) -> None:
    """Raise if browsers would ignore the cookie for its prefix, or as it is not secure."""
    lower = name.lower()
    if sameSite not in (None, "Strict", "Lax", "None"):
        raise ValueError(f"sameSite of the cookie {name} is Strict, Lax, None or no text")
    if not secure:
        for why, needs in (
            ("its prefix", lower.startswith(("__secure-", "__host-"))),
            ("sameSite='None'", sameSite == "None"),
            ("partitioned", partitioned),
        ):
            if needs:
                raise ValueError(f"the cookie {name} needs secure=True for {why}")
    if lower.startswith("__host-") and (path != "/" or domain is not None):
        raise ValueError(f"the cookie {name} needs path='/' and no domain for its prefix")


class HasHeaders(Protocol):
    """A message, for L{CookieSetter}."""

    @property
    def headers(self) -> Headers:
        """The fields, which may be changed."""


class CookieSetter:
    """What responses and the heads that send policies get have for cookies."""

    __slots__ = ()

    def setCookie(
        self: HasHeaders,
        name: str,
        value: str,
        *,
        maxAge: int | None = None,
        domain: str | None = None,
        path: str | None = "/",
        secure: bool = False,
        httpOnly: bool = False,
        sameSite: SameSite | None = "Lax",
        partitioned: bool = False,
    ) -> None:
        """
        Add a Set-Cookie field (RFC 6265bis, section 4.1).

        @param value: visible ASCII without quotes, commas, semicolons and backslashes; encode
            others, for example with C{urllib.parse.quote}.
        @param maxAge: seconds; 0 deletes the cookie, and L{None} keeps it for the session.
        @param domain: a host name, whose subdomains get the cookie, too; L{None} for this host.
        @param path: the beginning of the paths that get it; L{None} for that of the request.
        @param sameSite: C{"Strict"}, C{"Lax"} or C{"None"}, which needs C{secure}.

        @raise ValueError: browsers would ignore or misread this cookie.
        """
        line = cookieLine(
            name,
            value,
            maxAge=maxAge,
            domain=domain,
            path=path,
            secure=secure,
            httpOnly=httpOnly,
            sameSite=sameSite,
            partitioned=partitioned,
        )
        self.headers.add("Set-Cookie", line)
