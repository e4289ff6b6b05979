"""
C{headers}: add, set and remove fields of requests and responses.

Each argument is one change, and reads like a sentence::

    headers:set X-Frame-Options DENY:remove Server
    headers:add Link </style.css>; rel=preload:request set X-Team blue

C{set NAME VALUE} replaces every line of that name, C{add NAME VALUE} appends one
more, C{remove NAME} removes every line; C{request} before it means the request on
its way to the upstream, otherwise it's the response on its way to the client.  Changes
are made in this order.  A description with spaces stands in quotes in a shell, and
a colon within a value has a backslash before it: C{'headers:set X-See https\\://a.example'}.

All responses are changed that this policy is shown, those that stand for a failed
attempt too.  Fields of framing and of single connections are sitio's, and refused.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from zope.interface import implementer

from sitio.http.message import Headers, Response
from sitio.interfaces import IExchange, IRequestPolicy, IResponsePolicy

_USAGE = (
    "write set NAME VALUE, add NAME VALUE or remove NAME,"
    " with the word request before it for requests"
)


class Changes:
    """
    Changes to the fields of messages, in the order in which they are told.

    Each raises C{ValueError} for a name or value that can't be sent.
    """

    def __init__(self) -> None:
        self._removed: set[bytes] = set()
        self._added: list[tuple[bytes, bytes]] = []

    def set(self, name: str, value: str) -> None:
        """Replace every line of this name by one."""
        self.remove(name)
        self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Append one line."""
        self._added += Headers([(name, value)]).fields

    def remove(self, name: str) -> None:
        """Remove every line of this name, those added so far too."""
        del Headers()[name]
        key = name.lower().encode("ascii")
        self._removed.add(key)
        self._added = [each for each in self._added if each[0].lower() != key]

    def __bool__(self) -> bool:
        return bool(self._removed or self._added)

    def apply(self, headers: Headers) -> None:
        """Make the changes."""
        left = [each for each in headers.fields if each[0].lower() not in self._removed]
        headers.fields[:] = left + self._added


@implementer(IRequestPolicy, IResponsePolicy)
class FieldPolicy:
    """
    Makes changes to the fields of all requests, and of all responses.

    @ivar statuses: all, unless responses are to stay as they are.
    """

    buffered = False

    def __init__(self, requests: Changes | None = None, responses: Changes | None = None) -> None:
        self._requests = requests or Changes()
        self._responses = responses or Changes()
        self.statuses: Container[int] = range(100, 1000) if self._responses else ()

    def requestReceived(self, exchange: IExchange) -> None:
        """Change the request."""
        if self._requests:
            self._requests.apply(exchange.request.headers)

    def responseReceived(self, exchange: IExchange, response: Response) -> None:
        """Change the response in place."""
        self._responses.apply(response.headers)


def _tell(changes: Changes, words: Iterable[str]) -> None:
    match list(words):
        case ["set", name, value]:
            changes.set(name, value)
        case ["add", name, value]:
            changes.add(name, value)
        case ["remove", name]:
            changes.remove(name)
        case _:
            raise ValueError(_USAGE)


def makePolicy(*changes: str) -> FieldPolicy:
    """
    C{headers:CHANGE[:CHANGE...]}: see the head of this module.

    @raise ValueError: no change, one that is none, or a name or value that
        can't be sent.
    """
    if not changes:
        raise ValueError(f"headers changes nothing: {_USAGE}")
    requests, responses = Changes(), Changes()
    for each in changes:
        try:
            first, _, rest = each.strip().partition(" ")
            if first != "request":
                _tell(responses, each.split(None, 2))
                continue
            words = rest.split(None, 2)
            if words[1:] and words[1].lower() == "host" and words[0] != "set":
                raise ValueError("a request has one Host, which can only be set")
            _tell(requests, words)
        except ValueError as error:
            raise ValueError(f"{each!r}: {error}") from None
    return FieldPolicy(requests, responses)
