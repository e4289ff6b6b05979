"""
Tests of L{sitio.policy.declaration}: options by one declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field as dataclassField
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from attrs import Factory, define, field, frozen
from twisted.trial.unittest import SynchronousTestCase

from sitio import onFinish
from sitio.policy.declaration import Declaration
from sitio.policy.kinds import Duration, Network, Secret, Share, Size, Statuses
from sitio.policy.options import About


def given(*places: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a maker was called with."""
    return places, named


def function(
    url: str,
    word: Annotated[str, About(shown=True)] = "w",
    *more: Annotated[int, About("numbers", most=9)],
    token: Secret = "",
    maxAge: Annotated[Duration, About("age", least=1, most=60)] = 5.0,
    statuses: Statuses = frozenset((503,)),
    file: Annotated[Path, About("a file")] | None = None,
    names: list[str] = [],  # noqa: B006
) -> Any:
    """Make one of each.  Then more."""
    return given(
        url,
        word,
        *more,
        token=token,
        maxAge=maxAge,
        statuses=statuses,
        file=file,
        names=names,
    )


#: What C{function} gets without options.
DEFAULTS = {"token": "", "maxAge": 5.0, "statuses": {503}, "file": None, "names": []}


@dataclass
class DataOptions:
    """A dataclass of options, and more."""

    url: str
    wait: Duration = 1.0
    hosts: list[str] = dataclassField(default_factory=list)
    client: object = None
    known: ClassVar[int] = 1
    _seen: int = 0
    later: int = dataclassField(init=False, default=3)


@dataclass
class NeedsMore:
    """A dataclass with a field that is no option."""

    thing: type


def withData(options: DataOptions) -> DataOptions:
    return options


@frozen
class Options:
    """Options in a class."""

    url: str
    share: Annotated[Share, About("part", most=0.5)] = 0.05
    size: Size = 1024
    hosts: tuple[str, ...] = Factory(tuple)
    client: Any = None
    _seen: int = 0


def bundled(options: Options) -> Options:
    return options


@define
class Policy:
    """A policy that is its own declaration."""

    mode: Literal["on", "off"] = "on"
    at: Network | None = None
    clock: Callable[[], float] = float


class Plain:
    """A class without attrs."""

    def __init__(self, limit: int, *, wait: Duration = 1.0) -> None:
        self.given = (limit, wait)


class Called:
    """An object that is called."""

    def __call__(self, limit: int) -> int:
        return limit


@dataclass
class Data:
    """A data class."""

    limit: int
    wait: Duration = 1.0


class TextTests(SynchronousTestCase):
    """Options of a description."""

    def make(self, make: Callable[..., Any], *arguments: str, **options: str | list[str]) -> Any:
        """Make a policy of texts."""
        texts = {name: [each] if isinstance(each, str) else each for name, each in options.items()}
        return Declaration.of(make).fromText(arguments, texts)

    def test_function(self) -> None:
        """Parameters are options: by place, the rest, and by name."""
        for arguments, options, expected in (
            (("u",), {}, ("u", "w")),
            ((), {"url": "u"}, ("u", "w")),
            (("u", "v", "1", "2"), {}, ("u", "v", 1, 2)),
            (("u",), {"word": "v"}, ("u", "v")),
        ):
            self.assertEqual(self.make(function, *arguments, **options), (expected, DEFAULTS))
        _, named = self.make(
            function,
            "u",
            token="t",
            maxAge="1m",
            statuses=["404", "5xx"],
            file="a",
            names=["a,b", "c"],
        )
        self.assertEqual(named["statuses"], {404, *range(500, 600)})
        del named["statuses"]
        self.assertEqual(
            named, {"token": "t", "maxAge": 60.0, "file": Path("a"), "names": ["a", "b", "c"]}
        )

    def test_class(self) -> None:
        """An attrs class declares options, as the parameter of a maker or as the maker."""
        self.assertEqual(self.make(bundled, url="u"), Options("u"))
        self.assertEqual(
            self.make(bundled, url="u", share="20%", size="1MiB", hosts="a,b"),
            Options("u", 0.2, 2**20, ("a", "b")),
        )
        self.assertEqual(self.make(Policy, mode="off"), Policy("off"))

    def test_dataclass(self) -> None:
        """So does a dataclass.  Its other fields need defaults, and are no options."""
        made = self.make(withData, url="u", wait="1m", hosts="a,b")
        self.assertEqual(made, DataOptions("u", 60.0, ["a", "b"]))
        self.assertEqual(self.make(DataOptions, url="u"), DataOptions("u"))
        self.assertEqual(
            Declaration.of(withData).usage, ":url=TEXT[:wait=DURATION][:hosts=TEXT,...]"
        )
        error = self.assertRaises(ValueError, Declaration.of, NeedsMore)
        self.assertIn("thing is no option, as its type is none of one", str(error))

    def test_others(self) -> None:
        """So does whatever else can be called: a class, a method, an object, a partial."""
        self.assertEqual(self.make(Plain, "1", wait="1m").given, (1, 60.0))
        self.assertEqual(self.make(Data, limit="1", wait="1m"), Data(1, 60.0))
        self.assertEqual(self.make(Called(), "1"), 1)
        self.assertEqual(self.make(Called().__call__, limit="1"), 1)
        self.assertEqual(self.make(partial(function, "u"), "v")[0], ("u", "v"))

    def test_spellings(self) -> None:
        """However a parameter is spelled, its option is in small letters, with hyphens."""

        def spelled(*, max_age: int = 1, from_: str = "", URL: str = "", httpPort: int = 1) -> Any:
            return max_age, from_, URL, httpPort

        declaration = Declaration.of(spelled)
        self.assertEqual(declaration.usage, "[:max-age=N][:from=TEXT][:u-r-l=TEXT][:http-port=N]")
        options = {"maxAge": ["5"], "from": ["a"], "uRL": ["b"], "httpPort": ["6"]}
        self.assertEqual(declaration.fromText((), options), (5, "a", "b", 6))
        self.assertEqual(
            declaration.shown((), options), ["max-age=5", "from=***", "u-r-l=***", "http-port=6"]
        )
        self.assertEqual(declaration.secrets((), options), ["a", "b"])
        plain = {"max-age": 5, "from": "a", "u-r-l": "b", "http-port": 6}
        self.assertEqual(declaration.fromPlain(plain), (5, "a", "b", 6))

    def test_boundsOfSeveral(self) -> None:
        """Bounds hold for each of several values."""

        def bounded(*, ports: Annotated[list[int], About(least=1, most=9)] = []) -> Any:  # noqa: B006
            return ports

        self.assertEqual(self.make(bounded, ports="1,9"), [1, 9])
        error = self.assertRaises(ValueError, self.make, bounded, ports="1,10")
        self.assertIn("from 1 to 9 is expected", str(error))

    def test_ownDefault(self) -> None:
        """A default that needs the object is neither made nor shown."""

        @frozen
        class Pair:
            first: int = 1
            both: list[int] = field(default=Factory(lambda self: [self.first], takes_self=True))

        self.assertEqual(self.make(Pair, first="3").both, [3])
        self.assertEqual([each.shownDefault for each in Declaration.of(Pair).options], ["1", ""])

    def test_untyped(self) -> None:
        """Without annotations all is text; a maker may take any options."""
        self.assertEqual(self.make(given, "a", b="c"), (("a",), {"b": "c"}))
        self.assertEqual(self.make(lambda a, *, b="x": (a, b), "1", b="2"), ("1", "2"))

    def test_refused(self) -> None:
        """An error names the option, and says what would be right."""
        for make, arguments, options, sentence in (
            (function, (), {}, "url is missing: write URL"),
            (bundled, (), {}, "url is missing: write url=TEXT"),
            (function, ("a", "b", "c"), {}, "more=c: a whole number up to 9 is expected"),
            (function, ("a", "b", "10"), {}, "more=10: a whole number up to 9 is expected"),
            (
                function,
                ("a",),
                {"maxAge": "2m"},
                "max-age=2m: a duration from 1s to 1m is expected",
            ),
            (function, ("a",), {"maxAge": "old"}, "max-age=old: a duration from 1s to 1m is"),
            (function, ("a",), {"maxAge": ["1", "2"]}, "max-age is given twice"),
            (function, ("a",), {"url": "b"}, "url is given twice"),
            (
                function,
                ("a",),
                {"maxAgee": "1"},
                "there is no option max-agee; did you mean max-age?",
            ),
            (
                function,
                ("a",),
                {"zork": "1"},
                "there is no option zork; there is url, word, token, max-age, statuses, file",
            ),
            (function, ("a",), {"more": "1"}, "there is no option more; "),
            (function, ("a",), {"file": ""}, "file=: a path is expected"),
            (
                bundled,
                ("a:b",),
                {},
                "there are more parts than it takes; options are written NAME=VALUE; a colon in a"
                " value is written \\:",
            ),
            (
                bundled,
                ("a", "Url=b"),
                {},
                "there are more parts than it takes; options are written NAME=VALUE; did you mean"
                " url?",
            ),
            (bundled, (), {"url": "u", "share": "60%"}, "share=60%: a share up to 50% is expected"),
            (
                bundled,
                (),
                {"url": "u", "size": "16m"},
                "size=16m: a size is expected, such as 4096, 64KiB or 1MiB",
            ),
            (bundled, (), {"url": "u", "client": "x"}, "there is no option client; "),
            (bundled, (), {"url": "u", "seen": "1"}, "there is no option seen; "),
            (Policy, (), {"mode": "of"}, "mode=of: write on or off; did you mean off?"),
            (lambda: None, (), {"a": "b"}, "there is no option a; there is none"),
        ):
            error = self.assertRaises(ValueError, self.make, make, *arguments, **options)
            self.assertTrue(str(error).startswith(sentence), str(error))

    def test_bounds(self) -> None:
        """Whatever bounds there are, the expected value is said in words."""
        for about, words in (
            (About(), "a duration is expected, such as 250ms, 5s or 10m"),
            (About(least=1), "a duration of 1s or more is expected"),
            (About(most=60), "a duration up to 1m is expected"),
            (About(least=1, most=60), "a duration from 1s to 1m is expected"),
        ):

            def make(*, wait: float = 5.0) -> float:
                return wait

            make.__annotations__["wait"] = Annotated[Duration, about]
            self.assertEqual(self.make(make, wait="5s"), 5.0)
            for wrong in ("5 days", "x", "-1s"):
                error = self.assertRaises(ValueError, self.make, make, wait=wrong)
                self.assertEqual(str(error), f"wait={wrong}: {words}")

    def test_noDeclaration(self) -> None:
        """A declaration that says too little is refused with the name of the option."""

        @frozen
        class Lacks:
            client: Any

        def unknown(a: dict[str, str]) -> None: ...

        def unresolved(a: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821

        @frozen
        class Hides:
            _client: str

        for make, sentence in (
            (Hides, "_client is no option, as it begins with _: give it a default"),
            (onFinish(print), "what should make policies is one"),
            (Lacks, "client is no option, as its type is none of one: give it a default"),
            (unknown, "a has a type that is none of an option: write str, int, "),
            (unresolved, "name 'Missing' is not defined; import the name at run time"),
        ):
            error = self.assertRaises(ValueError, Declaration.of, make)
            self.assertIn(sentence, str(error))


class PlainTests(SynchronousTestCase):
    """Options of plain data, as of a configuration file."""

    def test_values(self) -> None:
        """Numbers, texts, booleans and lists give the same as a description."""
        for make, plain, arguments, options in (
            (function, {"url": "u"}, ("u",), {}),
            (
                function,
                {"url": "u", "word": "v", "more": [1, "2"], "max-age": 2.5, "names": ["a", "b"]},
                ("u", "v", "1", "2"),
                {"maxAge": ["2.5"], "names": ["a,b"]},
            ),
            (
                function,
                {"url": "u", "statuses": [404, "5xx"], "max-age": 60},
                ("u",),
                {"statuses": ["404", "5xx"], "maxAge": ["60"]},
            ),
            (
                bundled,
                {"url": "u", "share": 0.25, "size": 1000, "hosts": "a"},
                (),
                {"url": ["u"], "share": ["25%"], "size": ["1000B"], "hosts": ["a"]},
            ),
        ):
            declaration = Declaration.of(make)
            self.assertEqual(declaration.fromPlain(plain), declaration.fromText(arguments, options))
        self.assertEqual(Declaration.of(lambda *, a=False: a).fromPlain({"a": "x"}), "x")

    def test_refused(self) -> None:
        """An error names the option, and says what would be right."""
        for make, plain, sentence in (
            (function, {}, "url is missing"),
            (function, {"url": "u", "max-age": [1, 2]}, "max-age: one value is expected, not a"),
            (function, {"url": "u", "max-age": {"a": 1}}, "max-age: a text, a number or a boolean"),
            (function, {"url": "u", "max-age": None}, "max-age: a text, a number or a boolean"),
            (function, {"url": "u", "max-age": float("nan")}, "max-age=nan: a duration from"),
            (function, {"url": "u", "max-age": True}, "max-age=true: a duration from"),
            (
                function,
                {"url": "u", "maxAge": 1},
                "there is no option maxAge; did you mean max-age",
            ),
            (function, {"url": "u", "word": "v", "more": [10]}, "more=10: a whole number up to 9"),
        ):
            error = self.assertRaises(ValueError, Declaration.of(make).fromPlain, plain)
            self.assertTrue(str(error).startswith(sentence), str(error))


class ShownTests(SynchronousTestCase):
    """What is shown of options, by their types."""

    def test_shown(self) -> None:
        """Numbers, paths and the like are shown; secrets and texts are not."""
        declaration = Declaration.of(function)
        options = {
            "token": ["s3cret"],
            "maxAge": ["1"],
            "statuses": ["404", "5xx"],
            "file": ["a"],
            "names": ["s3cret"],
            "tokn": ["s3cret"],
            "s3cret": [""],
        }
        self.assertEqual(
            declaration.shown(["s3cret", "word", "1", "s3cret", "11"], options),
            [
                *("***", "word", "1", "***", "***"),
                *("token=***", "max-age=1", "statuses=404", "statuses=5xx"),
                *("file=a", "names=***", "tokn=***", "***"),
            ],
        )
        self.assertEqual(
            sorted(declaration.secrets(["s3cret", "word", "1", "bad"], options)),
            ["bad", *["s3cret"] * 5],
        )
        self.assertEqual(
            declaration.plainSecrets({"token": "a", "max-age": 1, "x": [2]}), ["a", "2"]
        )

    def test_shownTexts(self) -> None:
        """Texts that hold no secrets are shown, in collections too; secrets never are."""

        @frozen
        class Shown:
            word: Annotated[str, About(shown=True)]
            words: Annotated[list[str], About(shown=True)]
            more: Annotated[frozenset[str] | None, About(shown=True)]
            hidden: frozenset[str]
            key: Annotated[Secret, About(shown=True)]
            keys: Annotated[tuple[Secret, ...], About(shown=True)]

        options = {name: ["a,b"] for name in ("word", "words", "more", "hidden", "key", "keys")}
        self.assertEqual(
            Declaration.of(Shown).shown([], options),
            ["word=a,b", "words=a,b", "more=a,b", "hidden=***", "key=***", "keys=***"],
        )

    def test_open(self) -> None:
        """Of a maker that takes any option, nothing is shown."""
        declaration = Declaration.of(given)
        self.assertEqual(declaration.shown(["a"], {"b": ["c"]}), ["***"])
        self.assertEqual(declaration.shown([], {}), [])
        self.assertEqual(declaration.secrets(["a"], {"b": ["c"], "d": [""]}), ["a", "c", "d"])


class UsageTests(SynchronousTestCase):
    """What a declaration says of itself."""

    def test_usage(self) -> None:
        """The usage has each option, optional ones in brackets."""
        for make, usage in (
            (
                function,
                ":URL[:WORD]:N[:N...][:token=SECRET][:max-age=DURATION][:statuses=STATUSES]"
                "[:file=PATH][:names=TEXT,...]",
            ),
            (bundled, ":url=TEXT[:share=SHARE][:size=SIZE][:hosts=TEXT,...]"),
            (Policy, "[:mode=on|off][:at=NETWORK]"),
            (given, ":PLACES[:PLACES...][:NAME=VALUE...]"),
        ):
            self.assertEqual(Declaration.of(make).usage, usage)

    def test_about(self) -> None:
        """It tells the first sentence of the docstring: of the maker, or of its options."""
        for make, about in (
            (function, "Make one of each"),
            (bundled, "Options in a class"),
            (Policy, "A policy that is its own declaration"),
            (lambda: None, ""),
        ):
            self.assertEqual(Declaration.of(make).about, about)
