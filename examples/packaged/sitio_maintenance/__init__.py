"""Answer all requests with 503 while a file exists: create it, do your work, remove it."""

from pathlib import Path
from typing import Annotated

from attrs import frozen

from sitio import Exchange, Response
from sitio.policy.kinds import Duration
from sitio.policy.options import About


@frozen
class Maintenance:
    """Answer 503 while a file exists."""

    file: Annotated[Path, About("the file that closes the service")]
    retryAfter: Annotated[Duration, About("when clients may return", most=86400)] = 60.0

    def requestReceived(self, exchange: Exchange) -> Response | None:
        if not self.file.exists():
            return None
        headers = {"Retry-After": f"{self.retryAfter:.0f}", "Cache-Control": "no-store"}
        return Response(503, text="Under maintenance.\n", headers=headers)


#: The entry point: the fields of the class are its options.
makePolicy = Maintenance
