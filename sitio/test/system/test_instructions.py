"""
What an exchange costs: C{bench.instructions}, and the baseline that it holds.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio

ROOT = Path(sitio.__file__).parent.parent

if not (ROOT / "bench").exists():
    skip = "this is no checkout, and only a checkout has the benchmark"
elif not sys.platform.startswith("linux"):
    skip = "the benchmark is for Linux"
else:
    from bench import instructions, shapes
    from bench.processes import Unusable

#: A shape like C{plain}, but each read of a client's walks the fields twice.
SLOWER = """
import shutil
import sys
sys.path.insert(0, "")
from attrs import evolve
from bench import shapes
from sitio.proxy.server import ProxyServer

received = ProxyServer.dataReceived

def walking(self, data):
    for _ in range(2):
        for line in data.split(b"\\r\\n"):
            line.partition(b":")[0].lower()
    received(self, data)

def slower(player):
    def play(shape):
        if shape is shapes.SHAPES["slower"]:
            ProxyServer.dataReceived = walking
        player(shape)
    return play

shapes.SHAPES["slower"] = evolve(shapes.SHAPES["plain"])
for how, player in shapes.PLAYERS.items():
    shapes.PLAYERS[how] = slower(player)
shapes.main(*sys.argv[1:])
"""


@cache
def counted(how: str) -> dict[str, int]:
    """
    All shapes and the slower one.  They start once for all tests, as that takes the longest.

    @raise Unusable: they can't be counted here.
    """
    with TemporaryDirectory() as folder:
        program = Path(folder) / "slower.py"
        program.write_text(SLOWER)
        return instructions.COUNTERS[how]([*shapes.SHAPES, "slower"], [str(program)])


class HeldTests(SynchronousTestCase):
    """Counts and the baseline."""

    def counted(self, how: str) -> dict[str, int]:
        """As L{counted}; the test is skipped where these can't be counted."""
        try:
            return dict(counted(how))
        except Unusable as error:
            raise SkipTest(str(error)) from None

    def held(self, how: str) -> None:
        """Check a baseline, or skip the test if it is of another Python."""
        try:
            kept = instructions.baseline(how)
        except Unusable as error:
            raise SkipTest(str(error)) from None
        found = self.counted(how)
        del found["slower"]
        self.assertEqual("\n".join(instructions.differences(found, kept, how)), "")

    def caught(self, how: str) -> None:
        """Check that the slower shape is caught."""
        found = self.counted(how)
        slower, plain = {"plain": found["slower"]}, {"plain": found["plain"]}
        self.assertEqual(instructions.differences(plain, plain, how), [])
        (sentence,) = instructions.differences(slower, plain, how)
        self.assertIn(f"{found['slower']:,} {how}", sentence)
        self.assertGreater(found["slower"], found["plain"])

    def test_instructions(self) -> None:
        """No shape takes 3 % more or fewer instructions than the baseline says."""
        self.held("instructions")

    def test_slowerInstructions(self) -> None:
        """A step that walks the fields twice is caught by its instructions."""
        self.caught("instructions")

    def test_calls(self) -> None:
        """No shape makes 3 % more or fewer calls, which can be counted without valgrind."""
        self.held("calls")

    def test_slowerCalls(self) -> None:
        """A step that walks the fields twice is caught by its calls."""
        self.caught("calls")


class DifferencesTests(SynchronousTestCase):
    """L{bench.instructions.differences}."""

    def differ(self, found: dict[str, int], kept: dict[str, int]) -> list[str]:
        """The sentences about instructions."""
        return instructions.differences(found, kept, "instructions")

    def test_within(self) -> None:
        """Up to 3 % more or fewer is no difference."""
        for count in (97_000, 100_000, 103_000):
            self.assertEqual(self.differ({"plain": count}, {"plain": 100_000}), [], count)

    def test_beyond(self) -> None:
        """One sentence names the shape, both counts, and the command that writes the baseline."""
        self.assertEqual(
            self.differ({"plain": 103_001, "post": 5}, {"plain": 100_000, "post": 5}),
            [
                "plain (no policy, 1 KB): 103,001 instructions for an exchange, 100,000 in the"
                " baseline (+3.0%; 3% may be); mend it, or write the baseline anew with `python -m"
                " bench.instructions --write` and commit it"
            ],
        )

    def test_better(self) -> None:
        """An improvement must be written down as well, or the next loss would hide in it."""
        (sentence,) = self.differ({"plain": 90_000}, {"plain": 100_000})
        self.assertIn(
            "90,000 instructions for an exchange, 100,000 in the baseline (-10.0%", sentence
        )

    def test_missing(self) -> None:
        """So must a shape that is new, or is no more."""
        (new,) = self.differ({"plain": 9}, {})
        self.assertIn("plain (no policy, 1 KB): 9 instructions for an exchange, none in the", new)
        (old,) = self.differ({}, {"gone": 9})
        self.assertIn("gone (no shape): no instructions for an exchange, 9 in the", old)


class BaselineTests(SynchronousTestCase):
    """L{bench.instructions.baseline}."""

    def test_complete(self) -> None:
        """The committed baseline has each shape, counted in both ways."""
        kept = json.loads(instructions.BASELINE.read_text("utf-8"))
        self.assertEqual(list(kept), list(instructions.COUNTERS))
        for how, each in kept.items():
            self.assertEqual(list(each["shapes"]), list(shapes.SHAPES), how)

    def test_otherPython(self) -> None:
        """The baseline of another Python can't be compared, and the error names both."""
        file = Path(self.mktemp())
        file.write_text('{"calls": {"python": "CPython 2.7", "shapes": {}}}')
        self.patch(instructions, "BASELINE", file)
        error = self.assertRaises(Unusable, instructions.baseline, "calls")
        self.assertEqual(
            str(error),
            f"the baseline is of CPython 2.7, and this is {instructions.pythonOf('calls')}",
        )

    def test_noValgrind(self) -> None:
        """Without valgrind, the error says what to install."""
        self.patch(shutil, "which", lambda name: None)
        error = self.assertRaises(Unusable, instructions.instructions, ["plain"])
        self.assertIn("apt install valgrind", str(error))


class ShapesTests(SynchronousTestCase):
    """L{bench.shapes}."""

    def test_varied(self) -> None:
        """No request and no response is like another, and all of a shape have one length."""
        for name, shape in shapes.SHAPES.items():
            made = shapes.messages(shape, 0, shapes.WARMING + shapes.COUNTED)
            heads, responses = {each[0][0] for each in made}, {each[1] for each in made}
            for found in (heads, responses):
                self.assertEqual(len(found), len(made), name)
                self.assertEqual(len({len(each) for each in found}), 1, name)

    def test_plays(self) -> None:
        """Each shape plays, and what counts lies between its marks."""
        marks: list[str] = []
        for shape in shapes.SHAPES.values():
            shapes.play(shape, partial(marks.append, "from"), partial(marks.append, "to"))
        self.assertEqual(marks, ["from", "to"] * len(shapes.SHAPES))

    def test_wrong(self) -> None:
        """A shape that does not do what it should fails, and is not counted."""
        side = shapes.Side(shapes.SHAPES["plain"])
        side.play(shapes.messages(shapes.SHAPES["replaced-404"], 0, 1))
        self.assertRaises(AssertionError, side.check, 1)


class ProfileTests(SynchronousTestCase):
    """C{--profile}."""

    def test_own(self) -> None:
        """A function's own instructions are those of its lines, without what it calls."""
        text = "\n".join(
            (
                "fn=(1) outer",
                "10 5",
                "cfn=(2) inner",
                "calls=1 20",
                "11 700",
                "+1 3",
                "fn=(2)",
                "20 400",
                "fi=(9) other.c",
                "* 300",
                "fn=(1)",
                "-2 1",
            )
        )
        self.assertEqual(instructions._ownByFunction(text), {"outer": 9, "inner": 700})
