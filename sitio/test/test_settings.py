"""
Tests of L{sitio.settings}.
"""

from __future__ import annotations

from attrs import evolve, exceptions, fields
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.limits import Limits
from sitio.settings import BYTES, COUNT, SECONDS, Settings


class SettingsTests(SynchronousTestCase):
    """Each limit has one name, one default and one explanation."""

    def test_explained(self) -> None:
        """Each field has a unit, and a line of help that contains it."""
        for each in fields(Settings):
            self.assertIn(each.metadata["unit"], (SECONDS, BYTES, COUNT), each.name)
            help = each.metadata["help"]
            self.assertIn(each.metadata["unit"], help)
            self.assertTrue(help and "\n" not in help and not help.endswith("."), each.name)
            self.assertEqual(help, help.strip(), each.name)

    def test_defaults(self) -> None:
        """
        Each default has the type of its unit and is a limit; only a request body has none,
        half-closed clients get no time, and one limit follows from another.
        """
        for each in fields(Settings):
            kind = float if each.metadata["unit"] == SECONDS else int
            self.assertIs(type(each.default), kind, each.name)
            if each.name not in ("maxBody", "halfClose", "poolUploads"):
                assert each.default is not None
                self.assertTrue(0 < each.default < float("inf"), each.name)

    def test_waitsOfTheIssue(self) -> None:
        """The defaults that the documents promise."""
        settings = Settings()
        self.assertEqual(
            (
                settings.connectTimeout,
                settings.headTimeout,
                settings.responseTimeout,
                settings.stallTimeout,
                settings.idleTimeout,
                settings.poolTimeout,
                settings.grace,
                settings.bufferLimit,
            ),
            (5, 10, 60, 60, 75, 5, 30, 1024 * 1024),
        )

    def test_timeoutNames(self) -> None:
        """Fields that end in Timeout are in seconds, fields that end in Limit in bytes."""
        for each in fields(Settings):
            if each.name.endswith("Timeout"):
                self.assertEqual(each.metadata["unit"], SECONDS, each.name)
            elif each.name.endswith("Limit"):
                self.assertEqual(each.metadata["unit"], BYTES, each.name)

    def test_noLimitOfBody(self) -> None:
        """By default, request bodies have no limit."""
        self.assertEqual(Settings().maxBody, 0)

    def test_readersDefaults(self) -> None:
        """The defaults of L{Settings} and of L{Limits} are the same."""
        settings = Settings()
        self.assertEqual(Limits(settings.maxHead, settings.maxFields), Limits())

    def test_frozen(self) -> None:
        """Settings are immutable; C{evolve} makes changed copies."""
        settings = Settings()
        self.assertRaises(exceptions.FrozenInstanceError, setattr, settings, "grace", 1.0)
        self.assertEqual(evolve(settings, grace=1.0).grace, 1.0)
