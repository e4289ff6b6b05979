"""
Stored responses, bounded in bytes: L{Store}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from attrs import define, field

from sitio.http.caching import Fields, fieldValue
from sitio.http.headers import FieldLines
from sitio.http.message import RequestLine
from sitio.policies.lastgood.invalidation import Invalidation, normalTarget
from sitio.policies.lastgood.lookup import ADDED_FIELDS, TARGET, Key, Lookup

#: Responses stored for one target: encodings and a few languages.  A response that varies
#: on a field with many values must not push out all other targets.
MAX_VARIANTS = 8

#: Fingerprints, each of which keeps two heads in memory.  The head parser does not remember
#: more heads either.
MAX_FINGERPRINTS = 1024

#: What a response, and each of its lines, costs in memory beside its bytes: the Python
#: objects around them, measured and rounded up.
RESPONSE_COST_BYTES = 1536
LINE_COST_BYTES = 160

#: Identifies a request and a response to it: whether it is secure, the request's line and
#: fields, the response's fields.  The head parser returns the same object for the same
#: bytes, so comparing these is comparing identities.
Fingerprint = tuple[bool, RequestLine, FieldLines | None, FieldLines | None]


@define(eq=False)
class StoredResponse:
    """
    A response.

    @ivar fields: as the policies before this one left them.
    @ivar said: as the upstream sent them; most often the same.
    @ivar public: whether it may be sent to anyone.
    @ivar varies: the request fields that it varies on, with their values.
    @ivar since: when it was received or confirmed.
    @ivar size: its cost in bytes.
    @ivar isOfTheHead: whether it depends on nothing but the request's head as received.
    @ivar fingerprints: exchanges whose response is known to equal this one.
    """

    key: Key
    status: int
    reason: str
    fields: Fields
    said: Fields
    body: bytes
    public: bool
    varies: list[tuple[bytes, bytes | None]]
    since: float
    size: int = field(init=False)
    fingerprints: list[Fingerprint] = field(factory=list, init=False)
    isOfTheHead: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.isOfTheHead = all(name not in ADDED_FIELDS for name, _ in self.varies)
        _, host, target, keyed = self.key
        lines = [*self.fields, *self.varies, *keyed]
        if self.said != self.fields:
            lines += self.said
        # The target is in the index, too.
        data = len(target) + sum([len(name) + len(value or b"") for name, value in lines])
        data += len(host) + len(target) + len(self.body)
        self.size = RESPONSE_COST_BYTES + LINE_COST_BYTES * len(lines) + data

    def answers(self, lookup: Lookup) -> bool:
        """Whether it is a response to such a request, going by Vary."""
        if self.status == 206 and lookup.request.method == "HEAD":
            # Range has no meaning in a HEAD request (RFC 9110, section 14.2).
            return False
        if not self.varies:
            return True
        fields = lookup.sent
        return all(fieldValue(fields, name) == value for name, value in self.varies)


class Store:
    """
    Responses by key, bounded in bytes: the least recently used are dropped first.

    @ivar size: bytes stored.
    @ivar known: responses by fingerprint, as long as no other response is stored for their
        key.
    """

    def __init__(self, maxBytes: int) -> None:
        self._maxBytes = maxBytes
        self._variants: OrderedDict[Key, list[StoredResponse]] = OrderedDict()
        # Keys by normalized target.
        self._keys: dict[str, set[Key]] = {}
        self.known: dict[Fingerprint, StoredResponse] = {}
        self.size = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._variants

    def find(self, lookup: Lookup) -> StoredResponse | None:
        """The latest response that may answer a request (RFC 9111, section 4)."""
        for each in reversed(self._variants.get(lookup.key, ())):
            if (each.public or not lookup.personal) and each.answers(lookup):
                return each
        return None

    def recognize(self, stored: StoredResponse, fingerprint: Fingerprint) -> None:
        """From now on C{known} has this response under this fingerprint."""
        if fingerprint in self.known:
            return
        if len(self.known) >= MAX_FINGERPRINTS:
            # Most of them have not been of use for long.
            self._dropFingerprints(*self.known.values())
        stored.fingerprints.append(fingerprint)
        self.known[fingerprint] = stored

    def _dropFingerprints(self, *variants: StoredResponse) -> None:
        for each in variants:
            for fingerprint in each.fingerprints:
                self.known.pop(fingerprint, None)
            each.fingerprints.clear()

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
        self._dropFingerprints(*variants)
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
            self._dropFingerprints(dropped)
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
            # A fingerprint does not say which of the variants answers.
            self._dropFingerprints(*variants)
            self._keepOnly(lookup.key, [each for each in variants if each not in dropped])

    def invalidate(self, invalidation: Invalidation) -> None:
        """Drop all responses that an unsafe request has made out of date."""
        for target in invalidation.targets:
            for key in list(self._keys.get(target, ())):
                if invalidation.covers(((b"host", key[1]), *key[3])):
                    self._dropFingerprints(*self._variants[key])
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
