"""
What send policies get and may do: L{SentHead}.
"""

from __future__ import annotations

import inspect
from typing import Any

from sitio.http.cookies import CookieSetter
from sitio.http.headers import Headers
from sitio.http.message import Response


class SentHead(CookieSetter):
    """
    The head of a response that is about to be sent, whoever made it.

    Its C{headers} may be changed, and C{setCookie} adds a cookie.  All else is read only: to
    set it raises C{AttributeError}.
    """

    __slots__ = ("_response",)

    _response: Response

    def __init__(self, response: Response) -> None:
        object.__setattr__(self, "_response", response)

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def reason(self) -> str:
        """The reason phrase."""
        return self._response.reason

    @property
    def failure(self) -> Exception | None:
        """The error that the response stands for, or L{None}."""
        return self._response.failure

    @property
    def headers(self) -> Headers:
        """The fields; they may be changed."""
        return self._response.headers

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "headers":
            self._response.headers = value
            return
        raise AttributeError(
            f"a send policy can't set {name}: it may change only the headers of a response; use"
            " @onResponse for its status and its body"
        )

    def __repr__(self) -> str:
        return f"<SentHead {self.status}>"


def checkSent(name: str, answer: Any) -> None:
    """
    Raise if a send policy returned something.

    @param name: of the policy.
    """
    if answer is None:
        return
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError(f"{name} is a coroutine function, and nothing waits for a send policy")
    raise TypeError(f"{name} returned {type(answer).__name__}; a send policy returns None")
