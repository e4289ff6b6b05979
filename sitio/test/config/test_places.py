"""
Tests of L{sitio.config.places}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.config.places import MAX_SHOWN, ConfigErrors, Mistake, Places, placeOf


class PlaceTests(SynchronousTestCase):
    """Where things stand."""

    def test_text(self) -> None:
        """A path is written as keys with dots; keys that need them have quotes."""
        for path, expected in (
            ((), ""),
            (("routes", 2, "policies", 0), "routes[2].policies[0]"),
            (("listeners", "a.b", "tls"), 'listeners."a.b".tls'),
            (("x", 'a"\\\n'), 'x."a\\"\\\\?"'),
        ):
            self.assertEqual(placeOf(path), expected)

    def test_where(self) -> None:
        """A place has its line, or that of the nearest place around it."""
        places = Places("sitio.toml", {"routes[2]": 17, "routes[2].path": 18})
        for place, expected in (
            ("routes[2].path", "sitio.toml:18: routes[2].path"),
            ("routes[2].policies[0].name", "sitio.toml:17: routes[2].policies[0].name"),
            ("routes[2]", "sitio.toml:17: routes[2]"),
            ("admin.hosts", "sitio.toml: admin.hosts"),
            ("", "sitio.toml"),
        ):
            self.assertEqual(places.where(place), expected)

    def test_given(self) -> None:
        """What an option has given is where that is; without a file, a place is its keys."""
        places = Places("sitio.toml", {"upstream": 3}, {"upstream.address": "--upstream"})
        self.assertEqual(places.where("upstream.address"), "--upstream")
        self.assertEqual(places.where("upstream.tls"), "sitio.toml:3: upstream.tls")
        self.assertEqual(Places().where("admin.hosts"), "admin.hosts")


class ConfigErrorsTests(SynchronousTestCase):
    """Mistakes as a text."""

    def test_text(self) -> None:
        """Each mistake is a line, with file, line and key; they are in the order of the lines."""
        mistakes = [
            Mistake("sitio.toml", 20, "routes[0]", "b"),
            Mistake("sitio.toml", 3, "workers", "a"),
            Mistake("sitio.toml", 0, "", "c"),
            Mistake("", 0, "--port", "d"),
            Mistake("sitio.toml", 3, "workers", "a"),
        ]
        errors = ConfigErrors(mistakes)
        self.assertEqual(
            str(errors).splitlines(),
            [
                "sitio.toml: c",
                "--port: d",
                "sitio.toml:3: workers: a",
                "sitio.toml:20: routes[0]: b",
            ],
        )
        self.assertEqual(len(errors.mistakes), 4)

    def test_many(self) -> None:
        """Of very many mistakes, the first are shown, and how many there are more."""
        errors = ConfigErrors(Mistake("a", at, "", "x") for at in range(1, MAX_SHOWN + 6))
        lines = str(errors).splitlines()
        self.assertEqual(len(lines), MAX_SHOWN + 1)
        self.assertEqual(lines[-1], "and 5 more mistakes")
        self.assertEqual(len(errors.mistakes), MAX_SHOWN + 5)
