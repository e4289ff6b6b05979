"""
Tests of L{sitio.config.environment}.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.config.environment import (
    MAX_SECRET_BYTES,
    MAX_TEXT,
    Substituted,
    plain,
    rawText,
    secretText,
    substituted,
)
from sitio.config.places import Path as Keys

ENVIRON = {"HOST": "photos", "PORT": "8087", "EMPTY": "", "NESTED": "${PORT}"}


def replaced(value: Any) -> tuple[Any, list[tuple[Keys, str]]]:
    """The data with values of the environment, and the mistakes."""
    mistakes: list[tuple[Keys, str]] = []
    return substituted(value, ENVIRON, mistakes), mistakes


class SubstitutedTests(SynchronousTestCase):
    """Environment variables in texts."""

    def test_texts(self) -> None:
        """Each variable in a text is replaced, once; two dollars are one without a variable."""
        for text, expected in (
            ("${PORT}", "8087"),
            ("http://${HOST}:${PORT}", "http://photos:8087"),
            ("a${EMPTY}b", "ab"),
            ("${NESTED}", "${PORT}"),
            ("$${PORT}", "${PORT}"),
            ("$PORT $ {PORT}", "$PORT $ {PORT}"),
            ("plain", "plain"),
        ):
            self.assertEqual(replaced(text), (expected, []), text)

    def test_data(self) -> None:
        """Texts within tables and lists are replaced; keys and other values stay."""
        data = {"${PORT}": ["${PORT}", 5, {"a": "${HOST}"}], "b": True}
        self.assertEqual(replaced(data), ({"${PORT}": ["8087", 5, {"a": "photos"}], "b": True}, []))

    def test_missing(self) -> None:
        """A variable that does not exist is a mistake at its place, and so is a wrong name."""
        data = {"a": ["x", "${NOPE}"], "b": "${a b}", "c": "${}"}
        result, mistakes = replaced(data)
        self.assertEqual(result, data)
        self.assertEqual(
            mistakes,
            [
                (("a", 1), "there is no environment variable NOPE; set it, or write the value"),
                (
                    ("b",),
                    "'${a b}' names no environment variable; write ${NAME}, or $${ for a text",
                ),
                (("c",), "'${}' names no environment variable; write ${NAME}, or $${ for a text"),
            ],
        )

    def test_long(self) -> None:
        """A text that becomes too long is a mistake."""
        _, mistakes = replaced("${PORT}" * (MAX_TEXT // 4 + 1))
        self.assertEqual(len(mistakes), 1)
        self.assertIn(f"more than {MAX_TEXT} characters", mistakes[0][1])

    def test_raw(self) -> None:
        """What stood in the file is known, and can be told apart from what was plain there."""
        result, _ = replaced({"a": ["x", "p=${PORT}"]})
        self.assertIs(type(result["a"][0]), str)
        self.assertIs(type(result["a"][1]), Substituted)
        self.assertEqual(rawText(result), "p=${PORT}")
        self.assertEqual(rawText(["x", 5]), "")
        made = plain(result)
        self.assertEqual(made, {"a": ["x", "p=8087"]})
        self.assertIs(type(made["a"][1]), str)


class SecretTextTests(SynchronousTestCase):
    """Files of secrets."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_text(self) -> None:
        """The text is that of the file, without the end of its line."""
        (self.folder / "token").write_text("geheim\r\n")
        self.assertEqual(secretText("token", str(self.folder)), "geheim")
        self.assertEqual(secretText(str(self.folder.absolute() / "token"), "/etc"), "geheim")

    def test_wrong(self) -> None:
        """What can't be a secret is a mistake that does not show it."""
        for name, content, expected in (
            ("empty", b"\n", "is empty; write the secret to it"),
            ("long", b"x" * (MAX_SECRET_BYTES + 1), f"has more than {MAX_SECRET_BYTES} bytes"),
            ("binary", b"\xffgeheim", "is no text in UTF-8"),
        ):
            (self.folder / name).write_bytes(content)
            error = self.assertRaises(ValueError, secretText, name, str(self.folder))
            self.assertIn(expected, str(error))
            self.assertIn(name, str(error))
            self.assertNotIn("geheim", str(error))

    def test_noFile(self) -> None:
        """What is no file is not opened: a named pipe would block for ever."""
        os.mkfifo(self.folder / "pipe")
        for name in ("pipe", "nope", "."):
            error = self.assertRaises(ValueError, secretText, name, str(self.folder))
            self.assertIn("there is no file", str(error))
