"""
Tests of C{bench.soak}: a short soak finds no fault, and notices each fault that there is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

import sitio
from sitio.test.helpers.loopback import LoopbackTestCase, Process

ROOT = Path(sitio.__file__).parent.parent

if not (ROOT / "bench").exists():
    skip = "this is no checkout, and only a checkout has the soak"
elif not sys.platform.startswith("linux"):
    skip = "the soak reads what only Linux tells"
else:
    from bench.soak import checks
    from bench.soak.judge import Unexpected, Verdict
    from bench.soak.plan import Answer, Request, chunks, conversations, sharedBody, sizes
    from bench.soak.wire import Expected, Head, Wire, Wrong, readBody, readHead

SEED = "15389"

MIB = 2**20


class RunTests(LoopbackTestCase):
    """Short soaks of a whole C{twistd sitio}."""

    def soak(self, *arguments: str) -> Process:
        """Start a soak."""
        command = (sys.executable, "-m", "bench.soak", "--seed", SEED, "--requests", "250")
        return self.spawn(*command, "--restart", "150", *arguments, cwd=str(ROOT))

    async def good(self, *arguments: str) -> None:
        """Run a soak that must find no fault."""
        process = self.soak(*arguments)
        self.assertEqual(await process.finish(), 0, process.output())
        found = process.output()
        self.assertIn(f"soak: seed {SEED}, ", found)
        self.assertNotIn("FAULT", found)
        self.assertRegex(found, r"requests +550 in .*, [1-9][0-9]* restarts of the service\n")
        self.assertRegex(found, r"answered by service +[1-9]")
        self.assertRegex(found, r"answered by sitio, 502 +[1-9]")
        self.assertRegex(found, r"left +[1-9]")

    async def test_uv(self) -> None:
        """sitio passes a soak on uvloop, while the service is killed and started again."""
        await self.good("--clients", "20")

    async def test_epoll(self) -> None:
        """sitio passes a soak on Twisted's own reactor."""
        await self.good("--clients", "20", "--reactor", "epoll")

    async def test_tls(self) -> None:
        """sitio passes a soak of clients with TLS."""
        await self.good("--clients", "20", "--tls")

    async def test_faults(self) -> None:
        """A wrong byte, a leak, a traceback and a hang are each noticed; the status is 1."""
        process = self.soak(
            *("--fault", "wrong,leak,log,hang", "--tolerance", "4"),
            *("--clients", "10", "--deadline", "2"),
        )
        self.assertEqual(await process.finish(), 1, process.output())
        found = process.output()
        for check in ("wrong bytes", "hangs", "leaked descriptors", "memory", "errors in the log"):
            self.assertRegex(found, rf"(?m)^{check} +FAULT ")
        self.assertRegex(
            found, r"number [0-9]+: byte [0-9]+ of [0-9]+ is wrong: b'\?'; .*Request\("
        )
        self.assertIn("/dev/null, /dev/null", found)
        self.assertIn("builtins.RuntimeError: as the test wants it", found)

    async def test_unusable(self) -> None:
        """If sitio does not start, the soak says so with sitio's own last line."""
        process = self.soak("--sitio=--fly")
        self.assertEqual(await process.finish(), 1)
        self.assertIn("soak: sitio ended with status 1; it said: sitio: ", process.output())
        self.assertNotIn("Traceback", process.output())


class PlanTests(SynchronousTestCase):
    """L{bench.soak.plan}: what happens is a function of the seed."""

    def test_deterministic(self) -> None:
        """Equal seeds give equal plans, and different ones different plans."""
        first, again, other = (list(conversations(each, 500)) for each in ("1", "1", "2"))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_numbers(self) -> None:
        """Each number is used once, in order, up to the number of requests."""
        for start in (0, 400):
            planned = conversations("1", 777, start=start)
            found = [each.number for talk in planned for each in talk.requests]
            self.assertEqual(found, list(range(start, 777)))

    def test_tls(self) -> None:
        """With TLS there are no half-closes."""
        self.assertIn("half-close", {each.ending for each in conversations("1", 2000)})
        self.assertNotIn("half-close", {each.ending for each in conversations("1", 2000, True)})

    def test_variety(self) -> None:
        """A few thousand requests have every kind, method, framing and course."""
        requests = [each for talk in conversations("1", 20_000) for each in talk.requests]
        answers = [Answer.choose("1", each.number, each.kind, each.method) for each in requests]
        self.assertEqual(len({each.kind for each in requests}), 11)
        self.assertEqual(len({each.method for each in requests}), 7)
        self.assertEqual({each.framing for each in answers}, {"length", "chunked", "close"})
        self.assertEqual(len({each.course for each in answers}), 14)
        for name in ("old", "chunked", "expects", "drips", "reads", "personal"):
            self.assertEqual({bool(getattr(each, name)) for each in requests}, {True, False}, name)

    def test_sizes(self) -> None:
        """Pieces follow each other, none is empty, and together they are the whole."""
        dice = Random(1)
        for length in (0, 1, 2, 7, 1000):
            pieces = list(sizes(dice, length))
            self.assertEqual(sum(end - start for start, end in pieces), length)
            self.assertTrue(all(start < end for start, end in pieces))
            self.assertEqual([start for start, _ in pieces[1:]], [end for _, end in pieces[:-1]])


class WireTests(SynchronousTestCase):
    """L{bench.soak.wire}: its parser of messages."""

    def reading(self, data: bytes, ended: str) -> Any:
        """Read a response that has arrived; fires with its head and body, and its end."""
        wire = Wire()
        wire.data += data
        wire.ended = ended
        got: list[bytes] = []

        async def both() -> tuple[Head | None, bytes, bool]:
            head = await readHead(wire)
            whole = head is not None and await readBody(wire, head, True, got.append)
            return head, b"".join(got), whole

        return ensureDeferred(both())

    def read(self, data: bytes, ended: str = "fin") -> tuple[Head | None, bytes, bool]:
        """The head and the body of a response that has arrived, and whether it is complete."""
        return self.successResultOf(self.reading(data, ended))

    def test_framings(self) -> None:
        """A body ends by its length, by its last chunk, or with the connection."""
        body = b"x" * 500
        chunked = b"".join(chunks(Random(1), body, b"X-Trail: 5\r\n"))
        for head, data, ended in (
            (b"Content-Length: 500", body, "fin"),
            (b"Transfer-Encoding: chunked", chunked, "fin"),
            (b"X: y", body, "fin"),
        ):
            whole = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (head, data)
            found, got, complete = self.read(whole, ended)
            assert found is not None
            self.assertEqual((found.status, got, complete), (200, body, True))
            self.assertFalse(self.read(whole[:-1], "reset")[2])
        found, _, _ = self.read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)
        assert found is not None
        self.assertEqual(found.fields["trailer x-trail"], "5")

    def test_wrong(self) -> None:
        """Broken framing is an error, and not the end of a message."""
        for data in (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        ):
            self.failureResultOf(self.reading(data, "fin"), Wrong)

    def test_expected(self) -> None:
        """Other bytes, too many and too few are wrong, and the first wrong one is named."""
        expected = Expected(b"hello world")
        expected.add(b"hello")
        error = self.assertRaises(Wrong, expected.add, b" wOrld")
        self.assertIn("byte 7 of 11 is wrong: b'Orld'", str(error))
        expected = Expected(b"hello")
        expected.add(b"hello")
        expected.end()
        self.assertRaises(Wrong, expected.add, b"!")
        expected = Expected(b"hello")
        expected.add(b"hell")
        self.assertIn("4 of 5 bytes", str(self.assertRaises(Wrong, expected.end)))


class VerdictTests(SynchronousTestCase):
    """L{bench.soak.judge}: which responses have a reason."""

    def verdict(self, kind: str = "plain", excused: bool = False, **changes: Any) -> Verdict:
        """A verdict on request 7, which the service answers with 200 and ten bytes."""
        course = changes.pop("course", "whole")
        request = Request(7, kind, "GET", False, 0, False, False, "", "", False)
        verdict = Verdict("1", evolve(request, **changes), lambda: excused)
        verdict.answer = Answer(200, 10, "length", course, False, 0.5)
        return verdict

    def head(self, status: int = 200, **fields: str) -> Head:
        """The head of a response."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        named.setdefault("date", "Sat, 01 Jan 2000 00:00:00 GMT")
        return Head(f"HTTP/1.1 {status} Soaked", named)

    def test_service(self) -> None:
        """The response of the service must have the number, the status and the bytes."""
        verdict = self.verdict()
        body = verdict.begin(self.head(x_number="7", x_soak="passed"))
        body.add(verdict.answer.body("1", 7, False))
        verdict.end(self.head())
        self.assertEqual(verdict.by, "service")
        for wrong in ({"x_number": "8"}, {"x_key": "7"}, {"x_number": "7", "status": 201}):
            self.assertRaises(Wrong, self.verdict().begin, self.head(**wrong))
        trailer = Head("", {"trailer x-trail": "8"})
        self.assertRaises(Wrong, verdict.end, trailer)

    def test_policies(self) -> None:
        """What a policy has to do must be done, and must not be done to other responses."""
        good = self.head(x_number="7", x_soak="passed")
        reversed = self.head(x_number="7", x_soak="passed", x_changed="reversed")
        self.assertRaises(Unexpected, self.verdict().begin, self.head(x_number="7"))
        self.assertRaises(Unexpected, self.verdict("whole").begin, good)
        self.assertRaises(Unexpected, self.verdict().begin, reversed)
        verdict = self.verdict("whole")
        verdict.begin(reversed).add(verdict.answer.body("1", 7, False)[::-1])
        shared = self.verdict("shared").begin(self.head(x_key="7", x_soak="passed"))
        shared.add(sharedBody("1", 7))

    def test_sitio(self) -> None:
        """The table of statuses that sitio may make for which request."""
        for kind, status, changes, good in (
            ("denied", 403, {}, True),
            ("plain", 403, {}, False),
            ("denied", 502, {}, False),
            ("bad", 400, {}, True),
            ("plain", 400, {}, False),
            ("answered", 200, {}, True),
            ("missing", 404, {}, True),
            ("plain", 404, {}, False),
            ("plain", 500, {}, False),
            ("plain", 502, {}, False),
            ("plain", 504, {}, False),
            ("plain", 502, {"excused": True}, True),
            ("plain", 500, {"excused": True}, False),
            ("plain", 502, {"method": "POST"}, False),
            ("plain", 502, {"course": "reset, head"}, True),
            ("plain", 504, {"course": "reset, head"}, False),
            ("plain", 502, {"course": "early", "method": "POST"}, False),
        ):
            verdict = self.verdict(kind, **changes)
            if good:
                verdict.begin(self.head(status))
                self.assertEqual(verdict.by, "sitio")
            else:
                self.assertRaises(Unexpected, verdict.begin, self.head(status))

    def test_page(self) -> None:
        """A page must name the path of its own request."""
        for path, good in ((b"/missing/7", True), (b"/missing/8", False)):
            verdict = self.verdict("missing")
            verdict.begin(self.head(404)).add(b"no page " + path)
            if good:
                verdict.end(self.head(404))
            else:
                self.assertRaises(Wrong, verdict.end, self.head(404))

    def test_old(self) -> None:
        """A client with HTTP/1.0 gets no chunks."""
        head = self.head(x_number="7", x_soak="passed", transfer_encoding="chunked")
        self.assertRaises(Wrong, self.verdict(old=True).begin, head)

    def test_date(self) -> None:
        """Each response has a date, whoever made it."""
        for fields in ({"x-number": "7", "x-soak": "passed"}, {}):
            head = Head("HTTP/1.1 502 Soaked", fields)
            error = self.assertRaises(Unexpected, self.verdict(excused=True).begin, head)
            self.assertIn("without a date", str(error))

    def test_broken(self) -> None:
        """A connection may break only if the service breaks, or for a reason elsewhere."""
        self.assertRaises(Unexpected, self.verdict().broken, "reset")
        self.assertRaises(Unexpected, self.verdict(course="close, nothing").broken, "reset")
        self.verdict(course="close, body").broken("reset")
        self.verdict(excused=True).broken("reset")


class CheckTests(SynchronousTestCase):
    """L{bench.soak.checks}."""

    def test_memory(self) -> None:
        """Memory may grow in the first quarter, and by the tolerance after it."""
        for last, level in ((80, True), (83, True), (85, False)):
            memory = checks.Memory(4 * MIB)
            for each in range(101):
                size = 20 + 3 * min(each, 20) if each < 90 else last
                memory.add(each / 100, size * MIB)
            self.assertEqual((memory.before, memory.level), (80 * MIB, level))
        self.assertTrue(checks.Memory(0).level)
        # Where there are few samples, the nearest count.
        memory = checks.Memory(4 * MIB, [(0.1, 50 * MIB), (0.4, 60 * MIB), (0.8, 70 * MIB)])
        self.assertEqual((memory.before, memory.after), (50 * MIB, 70 * MIB))

    def test_added(self) -> None:
        """A descriptor more is found by its kind; another number is no difference."""
        before = ["/dev/null", "socket:[1]", "socket:[2]"]
        self.assertEqual(checks.added(before, ["/dev/null", "socket:[8]", "socket:[9]"]), [])
        self.assertEqual(
            checks.added(before, [*before, "socket:[3]", "pipe:[4]"]), ["pipe", "socket"]
        )
        self.assertEqual(checks.added(before, ["/dev/null"]), [])

    def test_errors(self) -> None:
        """Each traceback and each critical entry of a log is one line; nothing else is."""
        log = Path(self.mktemp())
        log.write_text(
            "2026-01-01T00:00:00+0000 [sitio#info] all is well\n"
            "2026-01-01T00:00:01+0000 [sitio#critical] it fails\n"
            "\tTraceback (most recent call last):\n"
            "\t  File\n"
            "\tbuiltins.ValueError: no\n"
            "\t\n"
            "2026-01-01T00:00:02+0000 [sitio#critical] it fails again\n"
            "2026-01-01T00:00:03+0000 [sitio#warn] an exchange failed\n"
        )
        first, second = checks.errors(log)
        self.assertTrue(re.search(r"it fails \.\.\. builtins\.ValueError: no$", first), first)
        self.assertTrue(second.endswith("it fails again"), second)

    def test_outage(self) -> None:
        """A failure is excused if the service was away after its request began."""
        tally = checks.Tally()
        self.assertFalse(tally.outage(5.0))
        tally.outages.append((10.0, float("inf")))
        self.assertTrue(tally.outage(5.0))
        tally.outages[-1] = (10.0, 12.0)
        self.assertTrue(tally.outage(12.5))
        self.assertFalse(tally.outage(13.5))

    def test_sentences(self) -> None:
        """All faults are counted, and the first are kept."""
        tally = checks.Tally()
        for each in range(100):
            tally.fault("hangs", f"number {each}")
        self.assertEqual(tally.faults["hangs"], 100)
        self.assertEqual(len(tally.sentences["hangs"]), checks.MOST_SENTENCES)
