"""
Tests of L{sitio.policy.kinds}.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES
from ipaddress import ip_network
from os import strerror
from pathlib import Path
from typing import Annotated, Any, Literal

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.kinds import (
    MAX_SECRET_BYTES,
    Duration,
    HiddenText,
    Kind,
    Network,
    Secret,
    Share,
    Size,
    Statuses,
    choice,
    kindOf,
    writeDuration,
    writeSize,
    writeStatuses,
)

#: The value of each text, by the type of the option.
VALUES: list[tuple[Any, dict[str, Any]]] = [
    (int, {"0": 0, "-3": -3, "12": 12}),
    (float, {"0": 0.0, "-0.5": -0.5, "12.25": 12.25}),
    (bool, {"true": True, "yes": True, "false": False, "no": False}),
    (str, {"": "", "a b": "a b"}),
    (Path, {"a/b": Path("a/b"), "/": Path("/")}),
    (Literal["a", "b"], {"a": "a", "b": "b"}),
    (
        Duration,
        {
            "0": 0.0,
            "0.1": 0.1,
            "60": 60.0,
            "250ms": 0.25,
            "5s": 5.0,
            "1.5s": 1.5,
            "10m": 600.0,
            "2h": 7200.0,
            "7d": 604800.0,
            " 5s ": 5.0,
        },
    ),
    (
        Size,
        {
            "0": 0,
            "4096": 4096,
            "1B": 1,
            "1kB": 1000,
            "2MB": 2000000,
            "1GB": 10**9,
            "64KiB": 65536,
            "1MiB": 1048576,
            "1.5KiB": 1536,
            "1GiB": 2**30,
            "1TiB": 2**40,
            "1TB": 10**12,
        },
    ),
    (Share, {"5%": 0.05, "0.05": 0.05, "0": 0.0, "1": 1.0, "100%": 1.0, "0.5%": 0.005}),
    (Statuses, {"404": {404}, "404,500-502": {404, 500, 501, 502}, "4xx": set(range(400, 500))}),
    (
        Network,
        {
            "10.0.0.0/8": ip_network("10.0.0.0/8"),
            "192.0.2.1": ip_network("192.0.2.1/32"),
            "::1": ip_network("::1/128"),
        },
    ),
    (Secret, {"a b": "a b"}),
    (list[int], {"": [], "1": [1], "1, 2,3": [1, 2, 3]}),
    (tuple[str, ...], {"a,b": ("a", "b")}),
    (frozenset[Duration], {"1s,2s": {1.0, 2.0}}),
    (int | None, {"1": 1}),
]

#: Texts that are no value.
WRONG: list[tuple[Any, list[str]]] = [
    (int, ["", "1.5", "1e3", "x", " ", "9" * 5000, "٣"]),
    (float, ["", "nan", "inf", "1e3", "1.", "x"]),
    (bool, ["", "1", "on", "x"]),
    (Path, ["", "a\0b"]),
    (Literal["a", "b"], ["", "c"]),
    (Duration, ["", "-1s", "5 s", "5S", "5sec", "1m30s", "1e3", "nan", "s"]),
    (Size, ["", "-1", "16M", "1mib", "0.3", "1.0001KiB", "5%"]),
    (Share, ["", "-5%", "101%", "5", "5s", "1.01"]),
    (Statuses, ["", "200", "4x", "504-500"]),
    (Network, ["", "10.0.0.0/33", "10.0.0", "localhost"]),
    (list[int], ["1,x"]),
]


class KindTests(SynchronousTestCase):
    """Texts become values of a type, or raise C{ValueError}."""

    def kind(self, annotation: Any) -> Kind:
        """The kind of an annotation, which has one."""
        kind = kindOf(annotation)
        assert kind is not None, annotation
        return kind

    def test_values(self) -> None:
        """Each text gives a value of its type."""
        for annotation, values in VALUES:
            for text, value in values.items():
                parsed = self.kind(annotation).parse(text)
                self.assertEqual((parsed, type(parsed)), (value, self.typeOf(annotation, value)))

    def typeOf(self, annotation: Any, value: Any) -> type:
        """The type of a value: sets are written as such here."""
        if annotation is Secret:
            return HiddenText
        return frozenset if isinstance(value, set) else type(value)

    def test_wrong(self) -> None:
        """A text that is none raises."""
        for annotation, texts in WRONG:
            for text in texts:
                self.assertRaises(ValueError, self.kind(annotation).parse, text)

    def test_written(self) -> None:
        """What is written of a value is what gives this value again."""
        for annotation, values in VALUES:
            kind = self.kind(annotation)
            for text, value in values.items():
                if annotation is not Secret:
                    self.assertEqual(kind.parse(kind.write(kind.parse(text))), value, text)

    def test_short(self) -> None:
        """Values are written with the unit that fits."""
        tables: list[tuple[Callable[[Any], str], dict[Any, str]]] = [
            (writeDuration, {300.0: "5m", 0.1: "100ms", 1.5: "1500ms", 0: "0s", 604800: "7d"}),
            (writeDuration, {0.01: "10ms", 0.0005: "0.0005s", 86400.04: "86400040ms"}),
            (writeSize, {2**24: "16MiB", 1000: "1000B", 0: "0B", 1536: "1536B"}),
            (
                writeStatuses,
                {
                    frozenset((502, 503, 504)): "502-504",
                    frozenset((404, *range(500, 600))): "5xx,404",
                    frozenset((404, 410)): "404,410",
                },
            ),
        ]
        for write, values in tables:
            for value, text in values.items():
                self.assertEqual(write(value), text)

    def test_network(self) -> None:
        """An address with bits of a host is refused, and the network is named."""
        error = self.assertRaises(ValueError, self.kind(Network).parse, "10.1.2.3/8")
        self.assertIn("is 10.0.0.0/8: write that", str(error))

    def test_nearMiss(self) -> None:
        """A word that is nearly one of the choices is told."""
        error = self.assertRaises(ValueError, choice("replace", "pass").parse, "replase")
        self.assertEqual(str(error), "write replace or pass; did you mean replace?")

    def test_twoSizes(self) -> None:
        """C{16M} may be either of two sizes, which are told."""
        for text, words in (("16M", "16MiB or 16MB"), ("64k", "64KiB or 64kB"), ("1.5G", "1.5GiB")):
            error = self.assertRaises(ValueError, self.kind(Size).parse, text)
            self.assertIn(f"write {words}", str(error))

    def test_secret(self) -> None:
        """The C{repr} of a secret does not show it; the text is there."""
        secret = self.kind(Secret).parse("s3cret")
        self.assertEqual((repr(secret), f"{secret}"), ("'***'", "s3cret"))
        self.assertNotIn("s3cret", repr([secret]))

    def test_emptySecret(self) -> None:
        """An empty secret is refused: perhaps a variable of the shell is not set."""
        kind = self.kind(Secret)
        path = Path(self.mktemp())
        path.write_text("\n", "utf-8")
        for text, sentence in (("", "it is empty"), (f"@{path}", "the file after @ is empty")):
            error = self.assertRaises(ValueError, kind.parse, text)
            self.assertEqual(str(error), sentence)

    def test_secretInFile(self) -> None:
        """C{@PATH} is what a file contains; the text is not shown."""
        kind = self.kind(Secret)
        path = Path(self.mktemp())
        path.write_text("s3cret \n", "utf-8")
        self.assertEqual(kind.parse(f"@{path}"), "s3cret ")
        assert kind.secrets is not None
        self.assertEqual(kind.secrets(f"@{path}"), ["s3cret "])
        path.write_bytes(b"x" * MAX_SECRET_BYTES)
        self.assertEqual(len(kind.parse(f"@{path}")), MAX_SECRET_BYTES)
        for wrong, sentence in (
            (b"x" * (MAX_SECRET_BYTES + 1), "the file after @ has more than 64KiB"),
            (b"\xff", "the file after @ is no text in UTF-8"),
        ):
            path.write_bytes(wrong)
            self.refusesSecret(f"@{path}", sentence, [])
        self.refusesSecret("@", "the file after @ is not there, or is no file", [])
        for text in ("@/", f"@{path}.missing", "@a\0b"):
            self.refusesSecret(text, "the file after @ is not there, or is no file", [text])
        self.patch(Path, "read_text", self.forbidden)
        path.write_bytes(b"s3cret")
        self.refusesSecret(f"@{path}", "the file after @ can't be read: Permission denied", [])

    def forbidden(self, encoding: str) -> str:
        """What the kernel says to users who may not read a file."""
        raise PermissionError(EACCES, strerror(EACCES))

    def refusesSecret(self, text: str, sentence: str, hidden: list[str]) -> None:
        """The file of this text is none; a text that names no file may be the secret itself."""
        kind = self.kind(Secret)
        error = self.assertRaises(ValueError, kind.parse, text)
        self.assertEqual(str(error), sentence)
        assert kind.secrets is not None
        self.assertEqual(kind.secrets(text), hidden)

    def test_own(self) -> None:
        """A policy may bring a kind of its own; the innermost types are found in it."""
        own = Kind("a color", "COLOR", str.upper)
        self.assertIs(kindOf(Annotated[str, own]), own)
        self.assertIs(kindOf(Annotated[Duration, own]), own)
        self.assertEqual(self.kind(list[Annotated[str, own]]).parse("a,b"), ["A", "B"])

    def test_none(self) -> None:
        """Other types are none of an option."""
        for annotation in (
            *(Any, object, None, dict, list, dict[str, str], int | str, Literal[1]),
            *(tuple[int, str], Callable[..., Any], list[list[int]]),
        ):
            self.assertIsNone(kindOf(annotation), annotation)
