"""Answer all requests with 503 while a file exists: create it, do your work, remove it."""

from pathlib import Path

from attrs import frozen
from zope.interface import implementer

from sitio import IExchange, IRequestPolicy, Response


@implementer(IRequestPolicy)
@frozen
class Maintenance:
    file: Path
    retryAfter: str

    def requestReceived(self, exchange: IExchange) -> Response | None:
        if not self.file.exists():
            return None
        headers = {"Retry-After": self.retryAfter, "Cache-Control": "no-store"}
        return Response(503, text="Under maintenance.\n", headers=headers)


def makePolicy(*, file: str, retryAfter: str = "60") -> Maintenance:
    if not (retryAfter.isascii() and retryAfter.isdecimal()):
        raise ValueError(f"retry-after={retryAfter}: write a whole number of seconds")
    return Maintenance(Path(file), retryAfter)
