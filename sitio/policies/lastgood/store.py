"""
Stored responses, bounded in bytes: L{Store}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from attrs import define

from sitio.policies.lastgood.invalidation import Invalidation, normalTarget
from sitio.policies.lastgood.lookup import TARGET, Key, Lookup

#: Responses stored for one target: encodings and a few languages.  A response that varies
#: on a field with many values must not push out all other targets.
MAX_VARIANTS = 8

#: What a response, and each field of its key, costs in memory beside its bytes: the Python
#: objects around them, measured and rounded up.
RESPONSE_COST_BYTES = 1536
LINE_COST_BYTES = 160


@define(eq=False, init=False)
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

    status: int
    reason: str
    lines: bytes
    said: bytes
    body: bytes
    public: bool
    varies: list[tuple[bytes, bytes | None]]
    since: float
    size: int

    def answers(self, lookup: Lookup) -> bool:
        """Whether it is a response to such a request, going by Vary."""
        if self.status == 206 and lookup.line.method == "HEAD":
            # Range has no meaning in a HEAD request (RFC 9110, section 14.2).
            return False
        return not self.varies or all(lookup.sent(name) == value for name, value in self.varies)


class Store:
    """
    Responses by key, bounded in bytes: the least recently used are dropped first.

    @ivar size: bytes stored.
    """

    def __init__(self, maxBytes: int) -> None:
        self._maxBytes = maxBytes
        self._variants: OrderedDict[Key, list[StoredResponse]] = OrderedDict()
        # The key of a normalized target; most have one.
        self._keys: dict[str, Key | set[Key]] = {}
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

    def put(
        self,
        lookup: Lookup,
        since: float,
        status: int,
        reason: str,
        lines: bytes,
        said: bytes,
        body: bytes,
    ) -> None:
        """
        Store the response to a request in place of what L{find} returns for it, and drop what is
        over the bound.

        @param lookup: has its C{terms}.
        """
        key = lookup.key
        variants = self._variants.get(key)
        if variants is None:
            self._variants[key] = variants = [stored := StoredResponse()]
            self._index(key)
        else:
            found = self.find(lookup)
            if found is None:
                variants.append(stored := StoredResponse())
            else:
                stored = found
                self.size -= stored.size
                if len(variants) > 1:
                    variants.remove(stored)
                    variants.append(stored)
            self.touch(key)
        stored.public, names = lookup.terms
        stored.varies = [(each, lookup.sent(each)) for each in names] if names else []
        stored.since = since
        stored.status = status
        stored.reason = reason
        stored.lines = lines
        stored.said = said
        stored.body = body
        _, host, target, keyed = key
        # The target is in the index, too.
        size = RESPONSE_COST_BYTES + len(host) + 2 * len(target) + len(lines) + len(body)
        if said is not lines and said != lines:
            size += len(said)
        if keyed or names:
            for name, value in (*stored.varies, *keyed):
                size += LINE_COST_BYTES + len(name) + len(value or b"")
        stored.size = size
        self.size += size
        if len(variants) > MAX_VARIANTS:
            self.size -= variants.pop(0).size
        while self.size > self._maxBytes:
            self._dropOldest()

    def bound(self, maxBytes: int) -> None:
        """Have another bound from now on."""
        self._maxBytes = maxBytes
        while self.size > maxBytes:
            self._dropOldest()

    def _dropOldest(self) -> None:
        oldest, variants = self._variants.popitem(last=False)
        self.size -= variants.pop(0).size
        if variants:
            self._variants[oldest] = variants
            self._variants.move_to_end(oldest, last=False)
        else:
            self._unindex(oldest)

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
            found = self._keys.get(target, set())
            for key in list(found) if isinstance(found, set) else [found]:
                if invalidation.covers(((b"host", key[1]), *key[3])):
                    self._keepOnly(key, [])

    def _keepOnly(self, key: Key, rest: list[StoredResponse]) -> None:
        self.size -= sum(each.size for each in self._variants[key])
        self.size += sum(each.size for each in rest)
        if rest:
            self._variants[key] = rest
        else:
            del self._variants[key]
            self._unindex(key)

    def _index(self, key: Key) -> None:
        index = self._keys
        for target in _targetsOf(key):
            found = index.setdefault(target, key)
            if found is not key:
                if not isinstance(found, set):
                    found = index[target] = {found}
                found.add(key)

    def _unindex(self, key: Key) -> None:
        index = self._keys
        if not key[3] and index.get(key[2]) == key:
            # Most have one target, and are the only ones that have it.
            del index[key[2]]
            return
        for target in _targetsOf(key):
            found = index[target]
            if isinstance(found, set) and len(found) > 1:
                found.discard(key)
            else:
                del index[target]


def _targetsOf(key: Key) -> Iterable[str]:
    """The normalized targets of a key: as sent, and as received if a policy changed it."""
    target = key[2]
    if not key[3]:
        return (normalTarget(target),)
    changed = (normalTarget(v.decode("ascii")) for name, v in key[3] if name == TARGET)
    return {normalTarget(target), *changed}
