"""
Tests of L{sitio.telemetry.configstate}: what is told of the last reload.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.configstate import ConfigState


class ConfigStateTests(SynchronousTestCase):
    """The state after reloads that are good, and others."""

    def test_first(self) -> None:
        """At the start all is well."""
        state = ConfigState(7.5)
        self.assertEqual(state.snapshot(), {"generation": 1, "successful": True, "since": 7.5})
        self.assertEqual(state.shown(), {"generation": 1, "since": "1970-01-01T00:00:07+00:00"})

    def test_refused(self) -> None:
        """After mistakes the generation is the same; they and their time are told."""
        state = ConfigState(1.0)
        state.adopted(2, 3.0, ["workers"])
        state.refused(["a.toml:1: no"], 5.0)
        self.assertEqual(state.snapshot(), {"generation": 2, "successful": False, "since": 3.0})
        self.assertEqual(
            state.shown(),
            {
                "generation": 2,
                "since": "1970-01-01T00:00:03+00:00",
                "needRestart": ["workers"],
                "refused": {"at": "1970-01-01T00:00:05+00:00", "mistakes": ["a.toml:1: no"]},
            },
        )

    def test_goodAgain(self) -> None:
        """The next good one ends that."""
        state = ConfigState(1.0)
        state.refused(["no"], 2.0)
        state.adopted(2, 3.0)
        self.assertTrue(state.snapshot()["successful"])
        self.assertEqual(state.shown(), {"generation": 2, "since": "1970-01-01T00:00:03+00:00"})
