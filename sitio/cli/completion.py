"""
What a shell completes in the values of options: names of policies, and files.

bash takes a colon for the end of a word: it completes C{file:mi} as three words, of which the last
is C{mi}.  L{descriptionAt} puts them together again.

Contract: looks at folders and at installed policies; no other I/O.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

from click.shell_completion import CompletionItem

#: Values of options that may be words, beside L{sitio.config.optionlist.CHOICES}.
WORDS: dict[str, tuple[str, ...]] = {
    "access-log": ("json", "common", "off"),
    "workers": ("auto",),
}

#: Where bash splits words.
SEPARATORS = (":", "=")

#: Files that are offered at most: a shell shows no more of them.
MAX_FILES = 200


def valueItems(name: str, begun: str) -> list[CompletionItem]:
    """
    What the value of an option may be.

    @param name: without dashes.
    @param begun: what has been typed.
    """
    if name == "policy":
        return policyItems(begun)
    if name == "config":
        return [CompletionItem(begun, type="file")]
    from sitio.config.optionlist import CHOICES

    words = {**WORDS, **CHOICES}.get(name, ())
    return [CompletionItem(each) for each in words if each.startswith(begun)]


def policyItems(begun: str) -> list[CompletionItem]:
    """Descriptions of policies that begin so: names, options of a policy, files of Python."""
    name, colon, rest = begun.partition(":")
    if not colon:
        return policyNames(begun, ("file:",))
    if name == "file":
        return [CompletionItem(f"file:{each}") for each in _pythonFiles(rest)]
    from sitio.policy.makers import FAILURES, declarationOf, findMaker

    try:
        maker = findMaker(name)
        options = [] if maker is None else declarationOf(maker).options
    except FAILURES:
        return []
    before, _, word = begun.rpartition(":")
    return [
        CompletionItem(f"{before}:{each.key}=", help=each.about.help)
        for each in options
        if each.key.startswith(word)
    ]


def policyNames(begun: str, more: Sequence[str] = ()) -> list[CompletionItem]:
    """Names of installed policies that begin so."""
    from sitio.policy.makers import makers

    return [CompletionItem(each) for each in (*sorted(makers()), *more) if each.startswith(begun)]


def _pythonFiles(begun: str) -> list[str]:
    """Files of Python, and folders, whose paths begin so; hidden ones only if that is asked for."""
    folder, start = os.path.split(begun)
    try:
        entries = sorted(os.scandir(folder or os.curdir), key=lambda each: each.name)
    except OSError:
        return []
    found = []
    for each in entries:
        if not each.name.startswith(start) or (each.name[0] == "." and not start):
            continue
        if each.is_dir() or each.name.endswith(".py"):
            found.append(os.path.join(folder, each.name) + ("/" if each.is_dir() else ""))
    return found[:MAX_FILES]


def descriptionAt(words: Sequence[str], begun: str) -> tuple[str, str] | None:
    """
    The description of a policy that bash has split at its colons and equals signs.

    @param words: the words before the one that is completed.
    @param begun: that word.

    @return: what stands before the word that bash completes, and that word; L{None} if these are
        no such parts.
    """
    typed = [*words, begun]
    if "--policy" not in typed:
        return None
    parts = typed[len(typed) - typed[::-1].index("--policy") :]
    if parts[:1] == ["="]:
        parts = parts[1:]
    isOne = all(one in SEPARATORS or two in SEPARATORS for one, two in pairwise(parts))
    if ":" not in parts or not isOne:
        return None
    if begun in SEPARATORS:
        parts.append("")
    return "".join(parts[:-1]), parts[-1]
