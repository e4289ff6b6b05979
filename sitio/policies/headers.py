"""
C{headers}: adds, sets and removes fields of requests and responses.

Each argument is one change::

    headers:set X-Frame-Options DENY:remove Server
    headers:add Link </style.css>; rel=preload:request set X-Team blue

C{set NAME VALUE} replaces all lines of this name, C{add NAME VALUE} appends one line, and
C{remove NAME} removes all lines.  In requests, C{set} and C{remove} also remove the spellings
of a name that CGI and WSGI take for it, such as C{X_Team} for C{X-Team}; a name with another
mark than hyphens is taken as written.  A change with C{request} before it applies to the request
for the upstream, any other to the response for the client.  Changes are made in this order.
In a shell, quote a description with spaces.  In a value, write a backslash before each colon,
unless it is one of a URL's scheme or port: C{'headers:set X-At 12\\:30'}.

The policy changes all responses that clients get, whoever made them: the service, another
policy or sitio itself.  It is a send policy
(L{ISendPolicy<sitio.interfaces.ISendPolicy>}): it changes a response when all response
policies have run.  Fields of framing and of connections can't be changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Any

from zope.interface import directlyProvides

from sitio.http.headers import Headers
from sitio.http.lines import keyOf
from sitio.http.overrides import foldedName
from sitio.interfaces import IExchange, IRequestPolicy, ISendPolicy
from sitio.policies.headerchanges import CHANGE
from sitio.policy.options import About

_USAGE = (
    "write set NAME VALUE, add NAME VALUE or remove NAME,"
    " with the word request before it for requests"
)


class Changes:
    """
    A list of changes to the fields of messages.

    The methods that add a change raise C{ValueError} for a name or a value that can't be
    sent.
    """

    def __init__(self, ofRequests: bool = False) -> None:
        """
        @param ofRequests: whether other spellings of a name are removed with it: a service
            behind CGI or WSGI reads C{X_Team} as C{X-Team} (L{foldedName}).
        """
        self._folds = ofRequests
        self._removed: set[bytes] = set()
        self._added = Headers()

    def set(self, name: str, value: str) -> None:
        """Replace all lines of this name by one."""
        self.remove(name)
        self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Append one line."""
        self._added.add(name, value)

    def remove(self, name: str) -> None:
        """Remove all lines of this name, and those added before."""
        del Headers()[name]
        key = keyOf(name.lower().encode("ascii"))
        self._removed.add(key)
        self._cut(self._added, {key})

    def __bool__(self) -> bool:
        return bool(self._removed or self._added)

    def _cut(self, headers: Headers, removed: Collection[bytes]) -> None:
        for key in removed:
            headers.replace(key, b"")
        if self._folds:
            for key in frozenset(headers.lineKeys()):
                if keyOf(foldedName(key[1:-1])) in removed:
                    headers.replace(key, b"")

    def apply(self, headers: Headers) -> None:
        """Make the changes, in order."""
        self._cut(headers, self._removed)
        headers.append(self._added.lines[2:], self._added.isPlain)


class FieldPolicy:
    """
    Changes the fields of all requests, all responses, or both.

    It provides only what it has changes for, so that the others cost nothing.
    """

    def __init__(self, requests: Changes | None = None, responses: Changes | None = None) -> None:
        self._requests = requests or Changes()
        self._responses = responses or Changes()
        provided = [(IRequestPolicy, self._requests), (ISendPolicy, self._responses)]
        directlyProvides(self, *(interface for interface, changes in provided if changes))

    def requestReceived(self, exchange: IExchange) -> None:
        """Change the request."""
        self._requests.apply(exchange.request.headers)

    def responseSending(self, exchange: IExchange, response: Any) -> None:
        """Change the response in place."""
        self._responses.apply(response.headers)


def _addChange(changes: Changes, words: Iterable[str]) -> None:
    match list(words):
        case ["set", name, value]:
            changes.set(name, value)
        case ["add", name, value]:
            changes.add(name, value)
        case ["remove", name]:
            changes.remove(name)
        case _:
            raise ValueError(_USAGE)


def makePolicy(
    *changes: Annotated[str, CHANGE, About("a change, of responses or of requests; in order")],
) -> FieldPolicy:
    """
    Change fields of requests and responses.

    @raise ValueError: there are no changes, one is malformed, or a name or a value can't be
        sent.
    """
    if not changes:
        raise ValueError(f"headers needs a change: {_USAGE}")
    requests, responses = Changes(ofRequests=True), Changes()
    for each in changes:
        try:
            first, _, rest = each.strip().partition(" ")
            if first != "request":
                _addChange(responses, each.split(None, 2))
                continue
            words = rest.split(None, 2)
            if words[1:] and words[1].lower() == "host" and words[0] != "set":
                raise ValueError("the Host of a request can only be set")
            _addChange(requests, words)
        except ValueError as error:
            raise ValueError(f"{each!r}: {error}") from None
    return FieldPolicy(requests, responses)
