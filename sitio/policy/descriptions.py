"""
A description of a policy, such as C{error-page:404:file=404.html}: L{Description}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from sitio.errors import inOneLine
from sitio.policy.declaration import Declaration
from sitio.policy.located import located
from sitio.policy.makers import FAILURES
from sitio.policy.options import dashed
from sitio.redact import (
    HIDDEN,
    argumentWithoutSecrets,
    messageWithoutSecrets,
    policyWithoutSecrets,
)

# The scheme, the host and the port of a URL.  Within a name there is none: file:// is a path.
_piece = re.compile(
    r"""
    \\.
    | (?<![^:=\s]) [a-z][a-z0-9+.-]*://
      (?: \[[0-9A-Fa-f:.]+\] | [^:/\\\s]* )
      (?: :[0-9]+(?![^:/?\#]) )?
    | .
    """,
    re.DOTALL | re.VERBOSE,
)


def _pieces(text: str) -> list[str]:
    """Characters, escaped characters, and the beginnings of URLs."""
    name = re.match(r"(?:\\.|[^:\\])*:?", text, re.DOTALL)
    start = name.end() if name is not None else 0
    return [*re.findall(r"\\.|.", text[:start], re.DOTALL), *_piece.findall(text, start)]


@frozen
class Description:
    """
    The parts of a description.

    @ivar name: the text before the first colon.
    @ivar path: of C{file:PATH}, the path.
    @ivar arguments: the parts without a name.
    @ivar options: the texts of each option, by the name of its parameter: C{maxAge} for
        C{max-age}.
    """

    name: str
    path: str | None
    arguments: list[str]
    options: dict[str, list[str]]

    @classmethod
    def parse(cls, text: str) -> Description:
        """
        The description that a text is.  Colons separate the parts; a backslash makes the next
        character a part of the value.  In a URL, those of the scheme and of the port separate
        nothing.
        """
        words = [""]
        for part in _pieces(text):
            if part == ":":
                words.append("")
            else:
                words[-1] += part.removeprefix("\\") or part
        arguments: list[str] = []
        options: dict[str, list[str]] = {}
        for word in words[1:]:
            key, equals, value = word.partition("=")
            if equals and re.fullmatch(r"[a-z][a-z0-9-]*", key):
                name = re.sub(r"-(.)", lambda match: match[1].upper(), key)
                options.setdefault(name, []).append(value)
            else:
                arguments.append(word)
        path = arguments.pop(0) if words[0] == "file" and arguments else None
        return cls(words[0], path, arguments, options)

    def shown(self, declaration: Declaration | None) -> str:
        """The description without secrets; without a declaration, no value is shown."""
        parts = [] if self.path is None else [argumentWithoutSecrets(self.path)]
        if declaration is not None:
            parts += declaration.shown(self.arguments, self.options)
        elif self.path is not None:
            parts += [HIDDEN for _ in self.arguments]
            parts += [f"{dashed(each)}={HIDDEN}" for each in self.options]
        elif self.arguments or self.options:
            parts.append(HIDDEN)
        return policyWithoutSecrets(self.name, parts)

    def within(self, declaration: Declaration, folder: Path | None) -> Description:
        """The same description with the paths of files in a folder, if there is one."""
        if folder is None:
            return self
        arguments, options = located(declaration, self.arguments, self.options, folder)
        return evolve(self, arguments=arguments, options=options)

    def make(self, declaration: Declaration, usage: str) -> Any:
        """
        Make the policy.

        @raise ValueError: an option is wrong, or the maker fails.
        """
        try:
            return declaration.fromText(self.arguments, self.options)
        except FAILURES as error:
            why = self.messageWithoutSecrets(_said(error), declaration)
            raise ValueError(f"{self.shown(declaration)!r}: {why}; usage: {usage}") from error

    def makeOf(self, declaration: Declaration, values: Mapping[str, Any]) -> Any:
        """
        Make the policy of plain data, with none of this description's own options.

        @raise ValueError: an option is wrong, or the maker fails.
        """
        try:
            return declaration.fromPlain(values)
        except FAILURES as error:
            why = messageWithoutSecrets(_said(error), declaration.plainSecrets(values))
            raise ValueError(f"{self.shown(declaration)}: {why}") from error

    def messageWithoutSecrets(self, message: str, declaration: Declaration) -> str:
        """What someone says of this description, without the secrets of that."""
        secrets = declaration.secrets(self.arguments, self.options)
        return messageWithoutSecrets(message, secrets)


def _said(error: BaseException) -> str:
    if not isinstance(error, ValueError):
        return inOneLine(error)
    # The validators of attrs add an attribute and more to their sentence.
    return error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
