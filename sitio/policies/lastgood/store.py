"""
Stored responses, bounded in bytes: L{Store}.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from sitio.http.caching import fieldValue
from sitio.http.headers import FieldLines
from sitio.http.message import Request, RequestLine

#: Responses stored for one target: encodings and a few languages.  A response that varies
#: on a field with many values must not push out all other targets.
MAX_VARIANTS = 8

#: Fingerprints, each of which keeps two heads in memory.  The head parser does not remember
#: more heads either.
MAX_FINGERPRINTS = 1024

#: What a response, and each of its lines, costs in memory beside its bytes: the Python
#: objects around them, measured and rounded up.
RESPONSE_COST_BYTES = 1024
LINE_COST_BYTES = 160

#: Scheme (whether it is secure), host, target, and the routing fields of a request.
Key = tuple[bool, bytes, str, tuple[tuple[bytes, bytes], ...]]

#: Whether a response may be sent to anyone, and the request fields that it varies on.
Terms = tuple[bool, tuple[bytes, ...]]

#: Identifies a request and a response to it: whether it is secure, the request's line and
#: fields, the response's fields.  The head parser returns the same object for the same
#: bytes, so comparing these is comparing identities.
Fingerprint = tuple[bool, RequestLine, FieldLines | None, FieldLines | None]


@define(eq=False)
class Lookup:
    """
    A request as the store sees it.

    @ivar personal: whether the request identifies its client.
    @ivar terms: those of the response at hand, once it is known that it may be stored.
    """

    request: Request
    key: Key
    personal: bool
    terms: Terms | None = None


@define(eq=False)
class StoredResponse:
    """
    A response, its fields as received.

    @ivar public: whether it may be sent to anyone.
    @ivar varies: the request fields that it varies on, with their values.
    @ivar since: when it was received or confirmed.
    @ivar size: its cost in bytes.
    @ivar fingerprints: exchanges whose response is known to equal this one.
    """

    key: Key
    status: int
    reason: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    public: bool
    varies: list[tuple[bytes, bytes | None]]
    since: float
    size: int = field(init=False)
    fingerprints: list[Fingerprint] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        _, host, target, routing = self.key
        lines = [*self.fields, *self.varies, *routing]
        data = sum([len(name) + len(value or b"") for name, value in lines])
        data += len(host) + len(target) + len(self.body)
        self.size = RESPONSE_COST_BYTES + LINE_COST_BYTES * len(lines) + data

    def answers(self, request: Request) -> bool:
        """Whether it is a response to such a request, going by Vary."""
        if self.status == 206 and request.method == "HEAD":
            # Range has no meaning in a HEAD request (RFC 9110, section 14.2).
            return False
        if not self.varies:
            return True
        fields = request.headers.rawFields
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
        self.known: dict[Fingerprint, StoredResponse] = {}
        self.size = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._variants

    def find(self, lookup: Lookup) -> StoredResponse | None:
        """The latest response that may answer a request (RFC 9111, section 4)."""
        for each in reversed(self._variants.get(lookup.key, ())):
            if (each.public or not lookup.personal) and each.answers(lookup.request):
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
        variants = self._variants.setdefault(stored.key, [])
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
                del self._variants[oldest]

    def drop(self, key: Key, request: Request | None = None) -> None:
        """Drop the responses that answer this request; without one, all of the key."""
        variants = self._variants.pop(key, None)
        if variants is None:
            return
        self._dropFingerprints(*variants)
        rest = [each for each in variants if request is not None and not each.answers(request)]
        self.size -= sum(each.size for each in variants) - sum(each.size for each in rest)
        if rest:
            self._variants[key] = rest
