"""
C{token}: adds a token from a file to requests, for a service that asks for one.

An application asks sitio without a token, and sitio asks the service with it::

    token:/run/secrets/api-token                    Authorization: Bearer ...
    token:/run/secrets/api-token:scheme=Token       Authorization: Token ...
    token:/run/secrets/key:name=X-Api-Key:scheme=   X-Api-Key: ...

What the application has sent in this field is replaced, in all its spellings.

The file is read at the start, and again when it has changed, at most once a second: a new token
needs no restart.  While a changed file can't be used, the last token is, and the log says why.

The token itself goes to the upstream and nowhere else: not into the responses of sitio, not into
logs, and not onto the admin pages.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from sitio.http.headers import Headers
from sitio.interfaces import IExchange, IRequestPolicy
from sitio.policy.kinds import secretOf
from sitio.policy.options import About

#: Seconds between two looks at the file.
INTERVAL_SECONDS = 1.0

#: What tells one content of a file from another, without reading it.
_Version = tuple[int, int, int]


@implementer(IRequestPolicy)
@define(eq=False)
class TokenPolicy:
    """
    Adds a token to requests; see the module's docstring.

    @ivar path: the file.
    @ivar name: the field.
    @ivar scheme: stands before the token; empty for none.
    """

    path: Path
    name: str = "Authorization"
    scheme: str = "Bearer"
    _value: str = field(default="", init=False, repr=False)
    _version: _Version | None = field(default=None, init=False)
    _lookAt: float = field(default=float("-inf"), init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="sitio"), init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._version = self._versionNow()
        self._value = self._read()

    def _versionNow(self) -> _Version | None:
        """What the file is now; L{None} if it can't be told."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> str:
        """
        The value of the field.

        @raise ValueError: the file has none.  The message does not have its text.
        """
        value = f"{self.scheme} {secretOf(self.path, str(self.path))}".strip()
        Headers({self.name: value})
        return value

    def _look(self) -> None:
        """Read the file again if it has changed."""
        version = self._versionNow()
        if version == self._version:
            return
        self._version = version
        try:
            self._value = self._read()
        except ValueError as error:
            self._log.error("The last token stays in use: {why}", why=error)
        else:
            self._log.info("The token of {path} has changed", path=self.path)

    def requestReceived(self, exchange: IExchange) -> None:
        """Set the field."""
        now = exchange.now
        if now >= self._lookAt:
            self._lookAt = now + INTERVAL_SECONDS
            self._look()
        exchange.request.headers[self.name] = self._value


def makePolicy(
    file: Annotated[
        Path, About("the file with the token; its line end is no part of that", metavar="FILE")
    ],
    *,
    name: Annotated[str, About("the field", metavar="NAME", shown=True)] = "Authorization",
    scheme: Annotated[
        str, About("stands before the token; empty for none", metavar="SCHEME", shown=True)
    ] = "Bearer",
) -> TokenPolicy:
    """
    Add a token from a file to requests.

    @raise ValueError: there is no token, or it can't be sent in such a field.
    """
    return TokenPolicy(file, name, scheme)
