"""
Tests of L{sitio.http.requestids}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.headers import Headers
from sitio.http.message import Request
from sitio.http.requestids import RequestIds

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACED = f"traceparent 00-{TRACE}-{PARENT}-01"

#: Field lines of requests, and the id that they give; None for a new one.
IDS: list[tuple[tuple[str, ...], str | None]] = [
    ((), None),
    (("X-Request-Id 3e1f-Ab/c+d=:@_.9",), "3e1f-Ab/c+d=:@_.9"),
    (("x-REQUEST-id  a ",), "a"),
    (("X-Request-Id " + "a" * 128,), "a" * 128),
    *(((f"X-Request-Id {each}",), None) for each in
      ("", "a b", 'a"b', "a" * 129, "caf\xe9", "a, b", "a\\")),
    (("X-Request-Id a", "X-Request-Id b"), None),
    ((TRACED,), TRACE),
    ((TRACED.replace("-01", "-00").replace("traceparent", "Traceparent"),), TRACE),
    (("X-Request-Id a", TRACED), "a"),
    (("X-Request-Id a b", TRACED), TRACE),
    ((TRACED, TRACED), None),
    ((TRACED.replace("00-", "cc-") + "-what-next",), TRACE),
    ((TRACED.replace("00-", "cc-"),), TRACE),
    *(((each,), None) for each in (
        TRACED + "-more",
        TRACED + "-",
        TRACED.replace("00-", "ff-"),
        TRACED.replace("00-", "0-"),
        TRACED.upper(),
        TRACED.replace(TRACE, "0" * 32),
        TRACED.replace(PARENT, "0" * 16),
        TRACED.replace(TRACE, TRACE[1:]),
        TRACED.replace(PARENT, PARENT + "0"),
        TRACED[:-1],
        TRACED[:-3],
        "traceparent",
    )),
]  # fmt: skip


def requestOf(*fields: str) -> Request:
    """A request with these fields, each a name and a value."""
    pairs = [each.partition(" ") for each in fields]
    wire = [(name.encode(), value.encode("latin-1")) for name, _, value in pairs]
    return Request("GET", "/", Headers.fromWire(wire))


class RequestIdsTests(SynchronousTestCase):
    """A request keeps the id that it brings, so that other logs match; else it gets a new one."""

    def test_given(self) -> None:
        """An id that is well formed is taken; what is empty, too long or ambiguous is not."""
        for fields, id in IDS:
            found = RequestIds().idOf(requestOf(*fields))
            if id is None:
                self.assertRegex(found, "^[0-9a-f]{12}-1$", fields)
            else:
                self.assertEqual(found, id, fields)

    def test_new(self) -> None:
        """Each new id is another one, also for the same lines, and in another process."""
        shared = requestOf("Host a")
        ids, others = RequestIds(), RequestIds()
        made = [each.idOf(shared) for each in (ids, ids, others, ids, others)]
        self.assertEqual(len(set(made)), 5)
        self.assertEqual(ids.idOf(requestOf("X-Request-Id a")), "a")
        self.assertNotIn(ids.idOf(shared), made)
