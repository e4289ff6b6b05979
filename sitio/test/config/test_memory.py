"""
Tests of L{sitio.config.memory}.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import sitio
from sitio.config.memory import (
    ADMIN_BYTES,
    KIBIBYTE,
    MEBIBYTE,
    PROCESS_BYTES,
    STEP_BYTES,
    memoryLimit,
    memoryParts,
    memoryTable,
    mostMemory,
)
from sitio.config.options import Options
from sitio.test.helpers.rows import Row, eachRow

OPERATIONS = Path(sitio.__file__).parent.parent / "docs/operations.md"

#: Options with round sums.
SMALL = ("--max-clients=100", "--pool-size=10", "--max-head=1024", "--replay-limit=0")

#: More options than C{SMALL}, and how much more memory they take, in KiB.
MORE: list[Row] = [
    ("A client takes a head, a read and a response", ("--max-clients=101",), 1 + 250 + 400),
    ("A larger head is taken by each client", ("--max-head=2048",), 100),
    ("A connection takes what its service does not read", ("--pool-size=11",), 400),
    ("So is what may be sent again", ("--replay-limit=2048",), 20),
    ("TLS takes more of each client and connection", ("--port=ssl:1:privateKey=k",), 110 * 300),
    ("TLS of the service too", ("--upstream=tls:a:443",), 110 * 300),
    ("TLS below a PROXY header too", ("--port=haproxy:ssl:1",), 110 * 300),
    ("Buffers take nothing without a policy that buffers", ("--buffer-total=1",), 0),
    ("A policy that does not buffer takes nothing", ("--policy=error-page:404",), 0),
    ("No admin port takes less", ("--admin=",), -12 * 1024),
    ("A port for probes alone takes what the pages take", ("--admin=", "--probes=9902"), 0),
    ("Beside the admin port it takes no more", ("--probes=9902",), 0),
    ("The access log keeps lines", ("--access-log=json:a.log",), 4 * 1024),
    ("last-good buffers, and stores",
     ("--policy=last-good:max-bytes=2097152:max-response=1024", "--buffer-total=1048576",
      "--buffer-limit=1024"), 1024 + 1 + 2048 + 10),
    ("Twice it stores twice",
     (*["--policy=last-good:max-bytes=2097152:max-response=1024"] * 2, "--buffer-total=1048576",
      "--buffer-limit=1024"), 1024 + 1 + 2 * (2048 + 10)),
]  # fmt: skip


def parsed(*arguments: str) -> Options:
    """The options for these arguments."""
    options = Options({})
    options.parseOptions(arguments)
    return options


@eachRow(MORE)
class PartTests(SynchronousTestCase):
    """What an option adds to the sum."""

    def check(self, arguments: tuple[str, ...], expected: int) -> None:
        """Beside C{SMALL}."""
        more = mostMemory(parsed(*SMALL, *arguments)) - mostMemory(parsed(*SMALL))
        self.assertEqual(more / KIBIBYTE, expected)


class SumTests(SynchronousTestCase):
    """The whole sum."""

    def test_workers(self) -> None:
        """Each worker takes all but the admin pages; these are their parent's."""
        alone = mostMemory(parsed(*SMALL))
        three = mostMemory(parsed(*SMALL, "--workers=3"))
        self.assertEqual(three, 3 * (alone - ADMIN_BYTES) + PROCESS_BYTES + ADMIN_BYTES)

    def test_limit(self) -> None:
        """A container's limit is the sum, rounded up."""
        for arguments in ((), SMALL, (*SMALL, "--workers=2"), (*SMALL, "--policy=last-good")):
            options = parsed(*arguments)
            limit = memoryLimit(options)
            self.assertEqual(limit % STEP_BYTES, 0)
            self.assertTrue(0 <= limit - mostMemory(options) < STEP_BYTES)

    def test_table(self) -> None:
        """The lines of the table add up to its last one."""
        for arguments in ((), SMALL, (*SMALL, "--policy=last-good", "--admin=")):
            options = parsed(*arguments)
            *sizes, total = re.findall(r"^ *([0-9.]+) MiB", memoryTable(options), re.MULTILINE)
            self.assertEqual(len(sizes), len(memoryParts(options)))
            self.assertAlmostEqual(sum(map(float, sizes)), float(total), delta=0.5)
            self.assertIn(f"to {memoryLimit(options) // MEBIBYTE}Mi", memoryTable(options))

    def test_printed(self) -> None:
        """C{--help-memory} prints it and exits with 0, in any place of the command line."""
        for arguments in (("--help-memory", *SMALL), (*SMALL, "--help-memory")):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                end = self.assertRaises(SystemExit, parsed, *arguments)
            self.assertEqual(end.code, 0)
            self.assertEqual(out.getvalue(), memoryTable(parsed(*SMALL)) + "\n")

    def test_documented(self) -> None:
        """The tables in docs/operations.md are those that sitio prints."""
        if not OPERATIONS.is_file():
            return
        found = re.findall(
            r"^    \$ twistd sitio --help-memory (.+)\n((?:     .+\n)+)",
            OPERATIONS.read_text("utf-8"),
            re.MULTILINE,
        )
        self.assertEqual(len(found), 1)
        for arguments, table in found:
            expected = memoryTable(parsed(*arguments.split()))
            self.assertEqual(re.sub("^    ", "", table, flags=re.MULTILINE), expected + "\n")
