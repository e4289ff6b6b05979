"""
Makes the policies that an operator's descriptions name: L{loadPolicies}.

A description such as C{error-page:404} names a maker, one such as C{file:mine.py} a
Python file.  L{namedPolicies} also takes the policy objects of a program.  Every mistake
raises C{ValueError} with one sentence for the operator.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sitio.policy.verify import nameOf


def namedPolicies(policies: Any) -> list[tuple[str, Any]]:
    """
    Names and policies of what a program passes.

    @param policies: a policy, a description such as C{error-page:404}, a pair of a name
        and a policy, or an iterable of these.

    @raise ValueError: a description is wrong; see L{loadPolicies}.
    """
    if isinstance(policies, str):
        return loadPolicies(policies)
    if isinstance(policies, tuple) and len(policies) == 2 and isinstance(policies[0], str):
        return [policies]
    if isinstance(policies, Iterable):
        return [each for some in policies for each in namedPolicies(some)]
    return [(nameOf(policies), policies)]


def loadPolicies(description: str) -> list[tuple[str, Any]]:
    """
    Names and policies that a description names.

    @param description: C{name:argument:key=value} for an installed policy, or C{file:path.py}
        for the policies of a Python file: those that its C{makePolicy} makes of the options,
        or else all at its top level, in order.  A backslash before a colon makes it a part of
        an argument.

    @raise ValueError: the operator's mistake, or an exception of the maker or the file.  The
        sentence shows no secrets of the description.
    """
    # A proxy without descriptions does not need what parses them.
    from sitio.policy.sources import policiesOfText

    return policiesOfText(description)
