"""
Promises of L{sitio.cli.status} and L{sitio.cli.control}, with a sitio that a test plays.
"""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.client import Address, AdminClient, Answer
from sitio.cli.main import commands
from sitio.cli.status import statusOf
from sitio.test.helpers.snapshots import workerSnapshot


class PlayedTests(SynchronousTestCase):
    """Commands that ask a running sitio."""

    def setUp(self) -> None:
        self.asked: list[tuple[str, str, float]] = []
        self.answers: dict[str, Answer] = {
            "/stats.json": self.json(workerSnapshot(8)),
            "/config": self.json({"sitio": "1.2.3", "options": {"port": "tcp:8080"}}),
            "/ready": Answer(503, "text/plain", b"sitio is draining\n"),
        }

        def request(client: Any, method: str, path: str) -> Answer:
            self.asked.append((method, path, client._timeout))
            return self.answers[path]

        self.patch(AdminClient, "request", request)

    def json(self, data: Any) -> Answer:
        return Answer(200, "application/json", json.dumps(data).encode())

    def sitio(self, *arguments: str) -> Result:
        return CliRunner().invoke(commands, arguments)

    def test_status(self) -> None:
        """Not to be ready is no error of the command."""
        result = self.sitio("status", "--interval", "0", "--timeout", "3")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(result.output.startswith("sitio 1.2.3   draining   up 0 s\n"))
        self.assertEqual({each for _, _, each in self.asked}, {3.0})

    def test_twice(self) -> None:
        """For rates it asks twice, with a pause."""
        pauses: list[float] = []
        found = statusOf(AdminClient(Address.parse("1")), 2.0, pauses.append)
        self.assertEqual(pauses, [2.0])
        self.assertEqual([path for _, path, _ in self.asked].count("/stats.json"), 2)
        self.assertIsNotNone(found.before)

    def test_json(self) -> None:
        """C{--json} has the content of the pages, and asks for each once."""
        data = json.loads(self.sitio("status", "--json").output)
        self.assertEqual((data["ready"], data["state"]), (False, "sitio is draining"))
        self.assertEqual(data["stats"], json.loads(json.dumps(workerSnapshot(8))))
        self.assertEqual(len(self.asked), 3)

    def test_control(self) -> None:
        """C{reload} and C{drain} print what sitio says; what it refuses is an error."""
        for name in ("reload", "drain"):
            for status, exit in ((200, 0), (422, 1), (403, 1)):
                self.answers[f"/{name}"] = Answer(
                    status, "text/plain", b"a.toml:1: b\na.toml:2: c\n"
                )
                result = self.sitio(name)
                self.assertEqual(result.exit_code, exit)
                self.assertEqual(result.output, "a.toml:1: b\na.toml:2: c\n")
                self.assertEqual(self.asked.pop()[:2], ("POST", f"/{name}"))

    def test_older(self) -> None:
        """A page that a sitio does not have is told in a sentence."""
        self.answers["/reload"] = Answer(404, "text/plain", b"404 There is no such page")
        result = self.sitio("reload", "--admin", "localhost:1")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("localhost:1 has no page /reload", result.output)

    def test_address(self) -> None:
        """A wrong address is an error of usage."""
        result = self.sitio("status", "--admin", "localhost")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("'localhost' is no address: write for example", result.output)
