"""Put each visitor into a group: `--policy file:examples/experiment.py:shares=a=90%,b=10%`."""

import random
import re
from typing import Annotated

from attrs import frozen

from sitio import Exchange, Response, SentHead
from sitio.policy.kinds import Duration, Kind
from sitio.policy.options import About


def parseShares(text: str) -> dict[str, int]:
    shares: dict[str, int] = {}
    for each in text.split(","):
        found = re.fullmatch(r"([A-Za-z0-9]{1,20})=([0-9]{1,3})%", each)
        if found is None or found[1] in shares:
            raise ValueError(f"{each!r} is no share of a new group: write a=90%")
        shares[found[1]] = int(found[2])
    if sum(shares.values()) != 100:
        raise ValueError(f"the shares must add up to 100%, not to {sum(shares.values())}%")
    return shares


Shares = Annotated[dict[str, int], Kind("shares", "SHARES", parseShares, example="a=90%,b=10%")]


@frozen(eq=False)  # Of two with equal options each has its own notes.
class Experiment:
    """Put each visitor into a group, by a cookie; the service gets it in X-Group."""

    shares: Annotated[Shares, About("how many visitors come into each group")]
    cookie: Annotated[str, About("the name of the cookie", shown=True)] = "group"
    lifetime: Annotated[Duration, About("how long visitors stay in it", least=1)] = 30 * 86400.0

    def __attrs_post_init__(self) -> None:
        Response(200).setCookie(self.cookie, "")  # A bad name is an error now.

    def requestReceived(self, exchange: Exchange) -> None:
        # Replaces what the client has sent, also as X_Group.
        exchange.request.headers["X-Group"] = self._groupOf(exchange)

    def responseSending(self, exchange: Exchange, response: SentHead) -> None:
        # Nobody knows the cookies of a head that could not be read.
        if exchange.request.method != "-":
            group = self._groupOf(exchange)
            if group != exchange.request.cookies.get(self.cookie):
                response.setCookie(self.cookie, group, maxAge=int(self.lifetime), httpOnly=True)

    def _groupOf(self, exchange: Exchange) -> str:
        if self not in exchange.notes:
            group = exchange.request.cookies.get(self.cookie, "")
            if group not in self.shares:
                [group] = random.choices(list(self.shares), list(self.shares.values()))
            exchange.notes[self] = exchange.labels["group"] = group
        return str(exchange.notes[self])


makePolicy = Experiment
