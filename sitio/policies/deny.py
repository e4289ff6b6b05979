"""
C{deny}: refuses requests by method and path.

C{deny:METHOD[,METHOD...]:PATTERN[:PATTERN...][:status=403][:case=ignore]}, where C{*} stands
for all methods::

    deny:*:/admin*             /admin, all below it, and /administrator
    deny:*:/admin/*            /admin and all below it
    deny:PUT,DELETE:*          read only
    deny:GET:/*.bak:/.git/*:status=404

Patterns, methods, and the spellings of paths that are tried, are those of
L{RequestPattern<sitio.http.requestpatterns.RequestPattern>}.  If one of them matches, the
request is refused.

B{Unreadable} requests get 400, whatever the patterns are: paths with a NUL, with C{%uXXXX} for
an ASCII character, or with too many readings, and more methods than anyone means.  No service
should decode them, and there is no honest use for them.  Overlong UTF-8 is only one more
reading, as paths in GBK, EUC-KR and Shift JIS have the same bytes.

Only the service knows whether it reads paths in yet other ways: C{/admin.json} or
C{/admin/anything} for C{/admin}, or a method in the body of a form.  There an allow list in the
service is safer than any deny list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from zope.interface import implementer

from sitio.http.grammar import isToken
from sitio.http.message import Response, reasonFor
from sitio.http.paths import UnreadablePath
from sitio.http.requestpatterns import RequestPattern, TooManyMethods, checkPattern
from sitio.interfaces import IExchange, IRequestPolicy
from sitio.policy.kinds import Kind
from sitio.policy.options import About

# Statuses that need a field which only the service knows (RFC 9110, sections 15.5.2, 15.5.6
# and 15.5.8).
_INCOMPLETE = frozenset((401, 405, 407))


@implementer(IRequestPolicy)
class Deny:
    """Refuses requests by method and path; see the module's docstring."""

    def __init__(
        self,
        methods: Iterable[str] | None,
        patterns: Iterable[str],
        status: int = 403,
        ignoreCase: bool = False,
    ) -> None:
        """
        @param methods: the methods, in any case; L{None} for all.
        @param patterns: the patterns, at least one.
        @param status: that of the responses; unreadable paths get 400.
        @param ignoreCase: whether patterns match letters of the other case, too.
        """
        self._refused = RequestPattern(methods, patterns, ignoreCase=ignoreCase)
        self._status = status

    def requestReceived(self, exchange: IExchange) -> Response | None:
        """Return a refusal, or L{None} if no pattern matches."""
        try:
            denied = self._refused.matches(exchange.request)
        except (TooManyMethods, UnreadablePath):
            return _refusal(400)
        return _refusal(self._status) if denied else None


def _refusal(status: int) -> Response:
    return Response(status, text=f"{status} {reasonFor(status)}".strip() + "\n")


def _methodsOf(text: str) -> frozenset[str]:
    named = [each.strip() for each in text.split(",")]
    for each in named:
        if not isToken(each):
            raise ValueError(f"{each!r} is not a method: write GET, or GET,POST, or * for all")
    return frozenset(named)


def _status(text: str) -> int:
    if not re.fullmatch("[45][0-9]{2}", text) or int(text) in _INCOMPLETE:
        raise ValueError("write 400 to 599, except 401, 405 and 407")
    return int(text)


_Methods = Annotated[
    frozenset[str],
    Kind(
        "methods, or * for all",
        "METHODS",
        _methodsOf,
        lambda each: ",".join(sorted(each)),
        many=True,
    ),
    About("the methods to refuse; GET includes HEAD"),
]
_Pattern = Annotated[
    str, Kind("patterns such as /admin/*", "PATTERN", checkPattern), About("the paths to refuse")
]
_Status = Annotated[
    int,
    Kind("400 to 599, except 401, 405 and 407", "STATUS", _status),
    About("the status of the refusal"),
]
_Case = Annotated[
    Literal["exact", "ignore"], About("whether patterns match letters of the other case")
]


def makePolicy(
    methods: _Methods, *patterns: _Pattern, status: _Status = 403, case: _Case = "exact"
) -> Deny:
    """
    Refuse requests by method and path.

    @raise ValueError: there is no pattern.
    """
    if not patterns:
        raise ValueError("deny needs the paths to refuse, such as deny:*:/admin/*")
    return Deny(None if "*" in methods else methods, patterns, status, case == "ignore")
