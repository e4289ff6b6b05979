"""
The options of a policy, by one declaration: L{Declaration}.

The declaration is the function or class that makes the policy.  Its parameters are the
options: their names, their types (L{sitio.policy.kinds}), their defaults.  L{About} adds help
and bounds::

    def makePolicy(url: str, *, timeout: Annotated[Duration, About("per call", most=30)] = 5.0):

Parameters that may be given by place are arguments, C{name:URL:timeout=2s}; the others need
their names.  A maker with many options takes them as one class of attrs, or a dataclass::

    @frozen
    class Options:
        url: Secret
        timeout: Annotated[Duration, About("per call", most=30)] = 5.0

    def makePolicy(options: Options): ...

The class may also be the maker itself.  In a class all options need their names; fields of
other types, and those that begin with C{_}, are no options and need a default.

From the declaration come parsing, error messages, help, tables, and what is shown of secrets.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter, Signature, isclass, signature
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from attrs import NOTHING, Factory, fields_dict, frozen, has

from sitio.policy.kinds import TEXT, HiddenText, kindOf, nearest
from sitio.policy.options import NO_ABOUT, About, Option, dashed
from sitio.policy.verify import isPolicy
from sitio.redact import HIDDEN, argumentWithoutSecrets


@frozen
class Declaration:
    """
    The options of a policy, and what makes the policy of them.

    @ivar make: the function or class.
    @ivar options: in order; arguments first.
    @ivar bundle: the class that C{make} takes in place of single options, or L{None}.
    @ivar isOpen: whether C{make} takes any option, as text.  Then nothing of them is shown.
    @ivar isOurs: whether it is one of sitio's own policies.
    """

    make: Callable[..., Any]
    options: tuple[Option, ...]
    bundle: type | None = None
    isOpen: bool = False
    isOurs: bool = False

    @classmethod
    def of(cls, make: Callable[..., Any]) -> Declaration:
        """
        Read the declaration of a function, or of a class of attrs or a dataclass.

        @raise ValueError: it is a policy itself; or a parameter has a type that is none of an
            option, or an annotation that can't be resolved.
        """
        if isPolicy(make):
            raise ValueError("what should make policies is one: write a function that returns it")
        isOurs = (getattr(make, "__module__", None) or "").startswith("sitio.policies.")
        if _isBundle(make):
            return cls(make, tuple(_ofClass(make)), isOurs=isOurs)
        hints = _hints(make)
        takes = _signature(make).parameters
        if len(takes) == 1:
            [only] = takes
            bundle = hints.get(only)
            if _isBundle(bundle):
                return cls(make, tuple(_ofClass(bundle)), bundle, isOurs=isOurs)
        options = [
            _option(each.name, hints.get(each.name, each.annotation), each.default, each.kind)
            for each in takes.values()
            if each.kind is not Parameter.VAR_KEYWORD
        ]
        isOpen = any(each.kind is Parameter.VAR_KEYWORD for each in takes.values())
        return cls(make, tuple(options), isOpen=isOpen, isOurs=isOurs)

    @property
    def usage(self) -> str:
        """The options in the form of a description, without the name of the policy."""
        return "".join(each.usage for each in self.options) + "[:NAME=VALUE...]" * self.isOpen

    @property
    def about(self) -> str:
        """The first sentence of the docstring of the maker, or of its class of options."""
        for each in (self.make, self.bundle):
            text = (getattr(each, "__doc__", None) or "").strip()
            # attrs writes none, but a frozen builtin such as functools.partial has one.
            if text and getattr(each, "__module__", "functools") != "functools":
                return " ".join(re.split(r"\n\s*\n|\.\s", text)[0].split()).rstrip(".")
        return ""

    def fromText(self, arguments: Sequence[str], options: Mapping[str, Sequence[str]]) -> Any:
        """
        Make the policy of a description.

        @param options: the texts of each option, by the names of parameters: C{maxAge}.

        @raise ValueError: an option is unknown, missing, given twice or wrong.
        """
        places = [each for each in self.options if not each.isNamed]
        single = [each for each in places if not each.isRest]
        if len(arguments) > len(single) and len(single) == len(places):
            raise ValueError(
                "there are more parts than it takes; options are written NAME=VALUE"
                + self._meant(arguments[len(single) :])
            )
        given = {each.name: [text] for each, text in zip(single, arguments, strict=False)}
        for name, texts in options.items():
            option = self._named(name)
            name = option.name if option else name
            if name in given or (len(texts) > 1 and not (option and option.kind.many)):
                raise ValueError(f"{dashed(name)} is given twice")
            given[name] = list(texts)
        values = {
            name: option.parse(",".join(texts)) if (option := self._named(name)) else texts[0]
            for name, texts in given.items()
        }
        rest = [
            each.parse(text) for each in places if each.isRest for text in arguments[len(single) :]
        ]
        return self._made(values, rest)

    def fromPlain(self, mapping: Mapping[str, Any]) -> Any:
        """
        Make the policy of plain data, such as a configuration file holds.

        @param mapping: the values by the names of options: C{max-age}.  Those that are given
            by place on the command line have the names of their parameters.

        @raise ValueError: as L{fromText} does.
        """
        values: dict[str, Any] = {}
        rest: list[Any] = []
        names = {each.key: each for each in self.options}
        for key, value in mapping.items():
            option = names.get(key)
            if option is None:
                raise _unknown(key, list(names))
            if option.isRest:
                listed = value if isinstance(value, list | tuple) else [value]
                rest = [option.plain(each) for each in listed]
            else:
                values[option.name] = option.plain(value)
        return self._made(values, rest)

    def plainSecrets(self, mapping: Mapping[str, Any]) -> list[str]:
        """The texts of plain data that messages must not show."""
        named = {each.key: each for each in self.options}
        found = []
        for key, value in mapping.items():
            option = named.get(key)
            for each in value if isinstance(value, list | tuple) else [value]:
                found += [str(each)] if option is None else option.secrets(str(each))
        return found

    def _meant(self, extra: Sequence[str]) -> str:
        """The option that one of these parts may be a misspelling of: C{maxAge=5}."""
        for each in extra:
            name, equals, _ = each.partition("=")
            if equals:
                return nearest(dashed(name), [each.key for each in self.options if each.isNamed])
        return "; a colon in a value is written \\:"

    def _named(self, name: str) -> Option | None:
        """The option of this name, or L{None} if any is taken."""
        for each in self.options:
            if each.key == dashed(name) and not each.isRest:
                return each
        if self.isOpen:
            return None
        raise _unknown(dashed(name), [each.key for each in self.options if not each.isRest])

    def _made(self, values: dict[str, Any], rest: list[Any]) -> Any:
        places = []
        for each in self.options:
            if each.name not in values and not each.isRest and each.default is NOTHING:
                wanted = f"{each.key}={each.metavar}" if each.isNamed else each.metavar
                raise ValueError(f"{each.key} is missing: write {wanted}")
            if not each.isNamed and not each.isRest and (each.name in values or rest):
                places.append(values.pop(each.name, each.default))
        if self.bundle is not None:
            return self.make(self.bundle(**values))
        return self.make(*places, *rest, **values)

    def shown(self, arguments: Sequence[str], options: Mapping[str, Sequence[str]]) -> list[str]:
        """The parts of a description, without secrets."""
        if self.isOpen:
            return [HIDDEN] if arguments or options else []
        parts = [self._shownArgument(*each) for each in self._placed(arguments)]
        named = {each.key: each for each in self.options if each.isNamed}
        for name, texts in options.items():
            option = named.get(dashed(name))
            for text in texts:
                if option is not None:
                    parts.append(f"{option.key}={option.shown(text)}")
                else:
                    # A token that ends with "=" looks like an option without a value.
                    parts.append(f"{dashed(name)}={HIDDEN}" if text and named else HIDDEN)
        return parts

    def secrets(self, arguments: Sequence[str], options: Mapping[str, Sequence[str]]) -> list[str]:
        """The texts of a description that messages must not show."""
        found = []
        for option, text in self._placed(arguments):
            if option is not None and option.kind.secrets is not None:
                found += option.kind.secrets(text)
            elif self._shownArgument(option, text) != text:
                found.append(text)
        named = {each.key: each for each in self.options if each.isNamed}
        for name, texts in options.items():
            known = None if self.isOpen else named.get(dashed(name))
            for text in texts:
                found += known.secrets(text) if known else [text or dashed(name)]
        return found

    def _placed(self, arguments: Sequence[str]) -> Iterable[tuple[Option | None, str]]:
        """Arguments with their options; L{None} for those that are too many."""
        places: list[Option | None] = [each for each in self.options if not each.isNamed]
        last = places[-1] if places else None
        rest = last if last is not None and last.isRest else None
        for index, text in enumerate(arguments):
            yield (places[index] if index < len(places) else rest), text

    def _shownArgument(self, option: Option | None, text: str) -> str:
        if self.isOpen:
            return HIDDEN
        if self.isOurs:
            return argumentWithoutSecrets(text if option is None else option.shown(text))
        if option is None:
            return HIDDEN
        try:
            # What is in the wrong place may be anything.
            option.parse(text)
        except ValueError:
            return HIDDEN
        return option.shown(text)


def _unknown(key: str, known: list[str]) -> ValueError:
    hint = nearest(key, known) or f"; there is {', '.join(known) or 'none'}"
    return ValueError(f"there is no option {key}{hint}")


def _signature(make: Callable[..., Any]) -> Signature:
    try:
        return signature(make)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its maker has no signature: {error}") from None


def _hints(make: Any) -> dict[str, Any]:
    """The annotations of a function, or of what is called like one; resolved."""
    if isinstance(make, partial):
        return _hints(make.func)
    if isclass(make):
        make = make if _isBundle(make) else make.__init__
    elif not hasattr(make, "__annotations__"):
        make = type(make).__call__
    try:
        return get_type_hints(make, include_extras=True)
    except NameError as error:
        raise ValueError(
            f"an annotation of {getattr(make, '__qualname__', make)} can't be resolved: {error};"
            " import the name at run time"
        ) from None
    except TypeError:
        # Something of C.
        return {}


def _option(name: str, hint: Any, default: Any, place: Any) -> Option:
    # Without an annotation that says more, it is a text.
    kind = TEXT if hint in (Parameter.empty, Any, object) else kindOf(hint)
    if kind is None:
        raise ValueError(
            f"{name} has a type that is none of an option: write str, int, float, bool, Path,"
            " Literal, list[...], or a type of sitio.policy.kinds"
        )
    if place is Parameter.POSITIONAL_ONLY:
        place = Parameter.POSITIONAL_OR_KEYWORD
    default = NOTHING if default is Parameter.empty else default
    if kind.shown is None and isinstance(default, str) and kind is not TEXT:
        default = HiddenText(default)
    return Option(name, kind, default, _aboutOf(hint), place)


def _aboutOf(hint: Any) -> About:
    if get_origin(hint) is Annotated:
        found = [each for each in get_args(hint)[1:] if isinstance(each, About)]
        return found[-1] if found else _aboutOf(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        found = [_aboutOf(each) for each in get_args(hint)]
        return next((each for each in found if each is not NO_ABOUT), NO_ABOUT)
    return NO_ABOUT


def _isBundle(found: Any) -> bool:
    """Whether it is a class whose fields are options: one of attrs, or a dataclass."""
    return isclass(found) and (has(found) or hasattr(found, "__dataclass_fields__"))


def _ofClass(made: Any) -> Iterable[Option]:
    hints = _hints(made)
    for name, each in (fields_dict(made) if has(made) else made.__dataclass_fields__).items():
        hint = hints.get(name, Any)
        if ClassVar in (hint, get_origin(hint)):
            continue
        default = _defaultOf(each)
        if not each.init or name.startswith("_") or kindOf(hint) is None:
            if each.init and default is NOTHING:
                why = "it begins with _" if name.startswith("_") else "its type is none of one"
                raise ValueError(f"{name} is no option, as {why}: give it a default")
            continue
        if isinstance(default, Factory):  # type: ignore[arg-type]
            # Of one that needs the object there is nothing to show.
            default = None if default.takes_self else default.factory()
        yield _option(getattr(each, "alias", name), hint, default, Parameter.KEYWORD_ONLY)


def _defaultOf(member: Any) -> Any:
    """The default of a field of attrs, or the same of one of a dataclass."""
    if not hasattr(member, "default_factory"):
        return member.default
    # Imported only for them, as it takes time.
    from dataclasses import MISSING

    if member.default_factory is not MISSING:
        return Factory(member.default_factory)
    return NOTHING if member.default is MISSING else member.default
