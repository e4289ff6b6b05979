"""
Promises of L{sitio.telemetry.startline}: one line says what runs.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio import __version__
from sitio.assembly import startLine
from sitio.config.options import Options
from sitio.test.helpers.logs import recorded


class LineTests(SynchronousTestCase):
    """The line for some options."""

    def line(self, *arguments: str) -> str:
        """The only line."""
        options = Options({})
        options.parseOptions(arguments)
        with recorded() as recorder:
            startLine(options).startService()
        (text,) = recorder.texts()
        return text

    def test_defaults(self) -> None:
        """Without options, it has the defaults."""
        self.assertEqual(
            self.line("--upstream=tcp:a:1"),
            f"sitio {__version__} starts: port tcp:8080, admin port"
            " tcp:9901:interface=127.0.0.1, upstream tcp:a:1, policies none",
        )

    def test_all(self) -> None:
        """It has the names of the policies, in order, and no secrets."""
        self.assertEqual(
            self.line(
                "--port=tcp:80:interface=127.0.0.1",
                "--admin=",
                "--probes=9902",
                "--upstream=nope:user:s3cr3t",
                "--policy=headers:set Authorization s3cr3t",
                "--policy=last-good:max-age=60",
            ),
            f"sitio {__version__} starts: port tcp:80:interface=127.0.0.1, admin port none,"
            " probes tcp:9902, upstream nope:***, policies headers, last-good",
        )
