"""
What happens in the soak: every choice is a function of the seed and the number of a request.

The client chooses a L{Request}; the service chooses an L{Answer}, and the client knows
which, as it can make the same choice.  All bodies are pseudo-random bytes made from the
seed, their direction and the number, so that no two are alike and each byte can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import shake_128
from random import Random

from attrs import frozen

#: Longest body, in bytes.  More than 1 MiB, so that sitio splices it and doesn't buffer it.
LONGEST = 1_500_000

#: Lengths of bodies, and how often each is used.  64 KiB is the limit for replays.
LENGTHS = {0: 6, 1: 6, 100: 20, 3000: 30, 30_000: 15, 65_536: 4, 65_537: 4, 250_000: 6, LONGEST: 1}

#: Number of resources whose response is for all clients, so that C{last-good} may keep it.
SHARED = 64

#: Methods for the kind C{plain}, and how often each is used.
METHODS = {"GET": 50, "HEAD": 8, "POST": 22, "PUT": 12, "DELETE": 3, "OPTIONS": 3, "PATCH": 2}

#: Methods whose requests have a body.
WITH_BODY = frozenset(("POST", "PUT", "PATCH"))

#: Kinds of requests, and how often each is used.  The kind is the first part of the path.
KINDS = {
    "plain": 50,
    "waits": 6,  # a policy waits before it lets the request pass
    "whole": 8,  # a policy gets the whole body, and reverses it
    "filtered": 7,  # a filter changes the body as it streams
    "answered": 5,  # a policy answers
    "denied": 4,  # deny refuses it
    "missing": 6,  # the service answers 404, error-page replaces that
    "shared": 10,  # last-good masks failures
}

#: Kinds after which the connection can't be used.
LAST_KINDS = {"events": 4, "upgrade": 4, "bad": 2, "": 40}

#: How a client leaves, and how often.  It leaves within the last request of a connection.
ENDINGS = {
    "close": 60,  # after the last response
    "in head": 4,
    "in body": 5,
    "waiting": 6,  # after the request, before the response
    "in response": 8,
    "half-close": 5,  # ends its sending half and reads on
}

#: What the service does with a request, and how often.
COURSES = {
    "whole": 100,  # answers in one write
    "pieces": 20,  # in pieces, with pauses, the head too
    "slow": 8,  # reads the body of the request late
    "interim": 8,  # sends 103 first
    "leaving": 8,  # closes its connection after the response
    "early": 8,  # answers 413 at the head, reads the rest, and closes
    "early, closing": 4,  # answers 413 at the head and closes at once
    "close, nothing": 3,
    "reset, nothing": 3,
    "close, head": 2,
    "reset, head": 2,
    "close, body": 5,
    "reset, body": 5,
    "more": 3,  # sends a second response, which nobody has asked for
}

#: The courses that break off before or within the response.
BREAKS = frozenset(each for each in COURSES if each.startswith(("close, ", "reset, ")))

_SWAPPED = bytes(255 - each for each in range(256))

#: Malformed requests: each must get 400 and the end of its connection.
BAD = (
    b"GET /bad/%d HTTP/1.1\r\nHost: soak\r\nHost: soak\r\n\r\n",
    b"GET /bad/%d HTTP/1.1\r\n\r\n",
    b"GET /bad/%d HTTP/1.1\r\nHost : soak\r\n\r\n",
    b"POST /bad/%d HTTP/1.1\r\nHost: soak\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /bad/%d HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /bad/%d HTTP/1.1\r\nHost: soak\r\nX: \0\r\n\r\n",
)


def pick(dice: Random, weights: dict) -> str:
    """One of the keys, by their weights."""
    return dice.choices([*weights], [*weights.values()])[0]


def body(seed: str, name: object, length: int) -> bytes:
    """The bytes of a body; those of a shorter one are the beginning of a longer one's."""
    return shake_128(f"{seed}/{name}".encode()).digest(length)


def swapped(data: bytes) -> bytes:
    """What the policy with a filter makes of a body."""
    return data.translate(_SWAPPED)


def sizes(dice: Random, length: int, most: int = 6) -> Iterator[tuple[int, int]]:
    """Cut a length at random places: the start and the end of each piece."""
    count = min(length, dice.randint(1, most))
    cuts = sorted(dice.sample(range(1, length), count - 1)) if length > 1 else []
    if length:
        yield from zip([0, *cuts], [*cuts, length])


def chunks(dice: Random, data: bytes, trailer: bytes = b"") -> Iterator[bytes]:
    """Encode a body in chunks of random lengths."""
    for start, end in sizes(dice, len(data)):
        yield b"%x\r\n%b\r\n" % (end - start, data[start:end])
    yield b"0\r\n%b\r\n" % trailer


@frozen
class Request:
    """
    A request of a client.

    @ivar old: whether it uses HTTP/1.0.
    @ivar length: of its body, in bytes, or of what it sends through a tunnel.
    @ivar chunked: whether the body is sent in chunks.
    @ivar expects: whether it waits for 100 (Continue) before its body.
    @ivar drips: whether C{head} or C{body} is sent in small pieces with pauses.
    @ivar reads: whether the response is read C{slowly}.
    @ivar personal: whether it has a cookie.
    """

    number: int
    kind: str
    method: str
    old: bool
    length: int
    chunked: bool
    expects: bool
    drips: str
    reads: str
    personal: bool

    @classmethod
    def choose(cls, seed: str, number: int, last: bool) -> Request:
        """
        The request with this number.

        @param last: whether it is the last on its connection.
        """
        dice = Random(f"{seed}/request/{number}")
        kind = (last and pick(dice, LAST_KINDS)) or pick(dice, KINDS)
        if kind == "plain":
            method = pick(dice, METHODS)
        elif kind in ("waits", "whole", "filtered"):
            method = dice.choice(("GET", "GET", "POST"))
        else:
            method = "GET"
        length = 0
        if method in WITH_BODY or kind == "upgrade":
            length = dice.choices([*LENGTHS], [*LENGTHS.values()])[0]
        old = last and kind not in ("upgrade", "bad") and dice.random() < 0.2
        withBody = method in WITH_BODY
        return cls(
            number,
            kind,
            method,
            old,
            length,
            withBody and not old and dice.random() < 0.5,
            withBody and not old and length > 0 and dice.random() < 0.1,
            pick(dice, {"": 90, "head": 3, "body": 4}),
            pick(dice, {"": 95, "slowly": 4}),
            kind == "shared" and dice.random() < 0.2,
        )

    @property
    def path(self) -> str:
        """Its target."""
        return f"/{self.kind}/{self.number % SHARED if self.kind == 'shared' else self.number}"

    def head(self, halves: bool = True) -> bytes:
        """
        Its head, or all of it if it is malformed.

        @param halves: whether the client can end its sending half.
        """
        if self.kind == "bad":
            return BAD[self.number % len(BAD)] % self.number
        version = "1.0" if self.old else "1.1"
        lines = [
            f"{self.method} {self.path} HTTP/{version}",
            "Host: soak",
            f"X-Number: {self.number}",
            f"X-Length: {self.length}",
        ]
        if self.kind == "upgrade":
            lines += ["Connection: Upgrade", "Upgrade: soak", f"X-Halves: {int(halves)}"]
        elif self.method in WITH_BODY:
            framing = "Transfer-Encoding: chunked"
            lines.append(framing if self.chunked else f"Content-Length: {self.length}")
        if self.expects:
            lines.append("Expect: 100-continue")
        if self.personal:
            lines.append(f"Cookie: number={self.number}")
        return "\r\n".join([*lines, "", ""]).encode()

    def payload(self, seed: str) -> bytes:
        """Its body as it is sent, or the bytes for the tunnel."""
        data = body(seed, f"request/{self.number}", self.length)
        if self.chunked:
            return b"".join(chunks(Random(self.number), data))
        return data


@frozen
class Answer:
    """
    What the service does with a request.

    @ivar length: of the body, in bytes, or of what it sends through a tunnel.
    @ivar framing: C{length}, C{chunked} or C{close}.
    @ivar course: one of L{COURSES}.
    @ivar once: whether it breaks off only at the first attempt.
    @ivar share: where it breaks off, as a share of the response.
    """

    status: int
    length: int
    framing: str
    course: str
    once: bool
    share: float

    @classmethod
    def choose(cls, seed: str, number: int, kind: str, method: str) -> Answer:
        """The answer to the request with this number."""
        dice = Random(f"{seed}/answer/{number}")
        statuses = {"plain": (200,) * 12 + (201, 204, 301, 400, 410, 500, 503)}.get(kind, (200,))
        status = dice.choice(statuses)
        if kind == "plain" and method in ("GET", "HEAD") and dice.random() < 0.05:
            status = 304
        length = dice.choices([*LENGTHS], [*LENGTHS.values()])[0]
        framing = pick(dice, {"length": 5, "chunked": 4, "close": 1})
        course = pick(dice, COURSES)
        if kind == "missing":
            status = 404
        elif kind == "shared":
            status, length = dice.choice((200, 200, 200, 500)), min(length, 3000)
        elif kind == "events":
            framing, length, course = "chunked", min(length, 3000), "pieces"
        elif kind == "upgrade":
            status = 101
            if course not in BREAKS:
                course = "whole"
        if kind in ("whole", "shared") and framing == "close":
            # A part of it, when the service is killed, could not be told from wrong bytes:
            # reversed, or kept by last-good for others.
            framing = "length"
        if course.startswith("early") and method not in WITH_BODY:
            course = "whole"
        if course.startswith("early"):
            status, length = 413, min(length, 30_000)
            # The kernel resets a connection with unread bytes: a body without a length breaks.
            framing = "length" if framing == "close" else framing
        if framing == "close" and course == "close, body":
            # That would be a whole response.
            course = "reset, body"
        if course == "more" and (framing == "close" or length > 3000):
            # What comes later than the response can't be told from the next response.
            course = "whole"
        return cls(status, length, framing, course, dice.random() < 0.5, dice.random())

    @property
    def resets(self) -> bool:
        """Whether the client may see a reset for it: the response breaks off after its head."""
        return self.course in BREAKS and (self.course.endswith("body") or self.status == 101)

    def body(self, seed: str, number: int, shared: bool) -> bytes:
        """
        The bytes of the body, before a policy has changed it.

        @param shared: whether the resource is for all clients.
        """
        if shared and self.status == 200:
            return sharedBody(seed, number % SHARED)
        return body(seed, f"answer/{number}", self.length)


def sharedBody(seed: str, key: int) -> bytes:
    """The body of a resource that is for all clients."""
    return body(seed, f"shared/{key}", key * 100)


@frozen
class Conversation:
    """
    The requests on one connection of a client.

    @ivar pipelined: whether they are sent without waiting for responses.
    @ivar ending: one of L{ENDINGS}.
    @ivar resets: whether the client leaves with a reset.
    @ivar share: where it leaves, as a share of what it leaves within.
    """

    requests: tuple[Request, ...]
    pipelined: bool
    ending: str
    resets: bool
    share: float


def conversations(seed: str, end: int, tls: bool = False, start: int = 0) -> Iterator[Conversation]:
    """
    All connections for the requests with these numbers.

    @param tls: there are no half-closes.
    """
    dice = Random(f"{seed}/conversations/{start}")
    number = start
    while number < end:
        many = min(end - number, dice.choice((1, 1, 2, 3, 5, 8)))
        requests = tuple(
            Request.choose(seed, each, each == number + many - 1)
            for each in range(number, number + many)
        )
        ending = pick(dice, ENDINGS)
        if tls and ending == "half-close":
            ending = "close"
        if requests[-1].kind == "events":
            # It never ends.
            ending = "in response"
        pipelined, resets = dice.random() < 0.3, dice.random() < 0.5
        yield Conversation(requests, pipelined, ending, resets, dice.random())
        number += many
