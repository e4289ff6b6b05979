"""
Stored responses, bounded in bytes: L{Store}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from attrs import define, field

from sitio.policies.lastgood.invalidation import Invalidation, normalTarget
from sitio.policies.lastgood.lookup import TARGET, Key, Lookup

#: Responses stored for one target: encodings and a few languages.  A response that varies
#: on a field with many values must not push out all other targets.
MAX_VARIANTS = 8

#: What a response, and each field of its key, costs in memory beside its bytes: the Python
#: objects around them, measured and rounded up.
RESPONSE_COST_BYTES = 1536
LINE_COST_BYTES = 160


@define(eq=False)
class StoredResponse:
    """
    A response.

    @ivar lines: its fields in wire form (L{sitio.http.lines}), as the policies before this
        one left them.
    @ivar said: as the upstream sent them; most often the same.
    @ivar public: whether it may be sent to anyone.
    @ivar varies: the request fields that it varies on, with their values.
    @ivar since: when it was received or confirmed.
    @ivar size: its cost in bytes.
    """

    key: Key
    status: int
    reason: str
    lines: bytes
    said: bytes
    body: bytes
    public: bool
    varies: list[tuple[bytes, bytes | None]]
    since: float
    size: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        _, host, target, keyed = self.key
        pairs = [*self.varies, *keyed]
        # The target is in the index, too.
        data = len(target) + sum([len(name) + len(value or b"") for name, value in pairs])
        data += len(host) + len(target) + len(self.lines) + len(self.body)
        if self.said != self.lines:
            data += len(self.said)
        self.size = RESPONSE_COST_BYTES + LINE_COST_BYTES * len(pairs) + data

    def answers(self, lookup: Lookup) -> bool:
        """Whether it is a response to such a request, going by Vary."""
        if self.status == 206 and lookup.request.method == "HEAD":
            # Range has no meaning in a HEAD request (RFC 9110, section 14.2).
            return False
        return all(lookup.sent(name) == value for name, value in self.varies)


class Store:
    """
    Responses by key, bounded in bytes: the least recently used are dropped first.

    @ivar size: bytes stored.
    """

    def __init__(self, maxBytes: int) -> None:
        self._maxBytes = maxBytes
        self._variants: OrderedDict[Key, list[StoredResponse]] = OrderedDict()
        # Keys by normalized target.
        self._keys: dict[str, set[Key]] = {}
        self.size = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._variants

    def find(self, lookup: Lookup) -> StoredResponse | None:
        """The latest response that may answer a request (RFC 9111, section 4)."""
        for each in reversed(self._variants.get(lookup.key, ())):
            if (each.public or not lookup.personal) and each.answers(lookup):
                return each
        return None

    def touch(self, key: Key) -> None:
        """Make this key the most recently used."""
        self._variants.move_to_end(key)

    def put(self, stored: StoredResponse, replaced: StoredResponse | None) -> None:
        """
        Store a response, and drop what is over the bound.

        @param replaced: what L{find} returned for the same request.
        """
        variants = self._variants.get(stored.key)
        if variants is None:
            variants = self._variants[stored.key] = []
            for target in _targetsOf(stored.key):
                self._keys.setdefault(target, set()).add(stored.key)
        if replaced is not None:
            variants.remove(replaced)
            self.size -= replaced.size
        variants.append(stored)
        self.size += stored.size
        self.touch(stored.key)
        if len(variants) > MAX_VARIANTS:
            self.size -= variants.pop(0).size
        while self.size > self._maxBytes:
            oldest, variants = next(iter(self._variants.items()))
            dropped = variants.pop(0)
            self.size -= dropped.size
            if not variants:
                self._forget(oldest)

    def drop(self, lookup: Lookup) -> None:
        """
        Drop the responses that answer this request.  If it is personal, only those that may be
        sent to anyone.
        """
        variants = self._variants.get(lookup.key, ())
        dropped = [
            each
            for each in variants
            if (each.public or not lookup.personal) and each.answers(lookup)
        ]
        if dropped:
            self._keepOnly(lookup.key, [each for each in variants if each not in dropped])

    def invalidate(self, invalidation: Invalidation) -> None:
        """Drop all responses that an unsafe request has made out of date."""
        for target in invalidation.targets:
            for key in list(self._keys.get(target, ())):
                if invalidation.covers(((b"host", key[1]), *key[3])):
                    self._keepOnly(key, [])

    def _keepOnly(self, key: Key, rest: list[StoredResponse]) -> None:
        self.size -= sum(each.size for each in self._variants[key])
        self.size += sum(each.size for each in rest)
        if rest:
            self._variants[key] = rest
        else:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        del self._variants[key]
        for target in _targetsOf(key):
            keys = self._keys[target]
            keys.discard(key)
            if not keys:
                del self._keys[target]


def _targetsOf(key: Key) -> Iterator[str]:
    """The normalized targets of a key: as sent, and as received if a policy changed it."""
    targets = {normalTarget(key[2])}
    targets.update(normalTarget(v.decode("ascii")) for name, v in key[3] if name == TARGET)
    yield from targets
