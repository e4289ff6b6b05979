"""
The options of a policy for people: L{helpText} on a terminal, L{optionTable} in documents.
"""

from __future__ import annotations

from sitio.policy.declaration import Declaration
from sitio.policy.options import Option


def helpText(usage: str, declaration: Declaration) -> str:
    """
    The usage of a policy, and a line for each of its options.

    @param usage: the line of usage; two spaces separate what the policy does.
    """
    form, _, about = usage.partition("  ")
    lines = [form, *([f"  {about}"] if about else [])]
    rows = [(each.written, _about(each), _default(each)) for each in declaration.options]
    if rows:
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines.append("")
        lines += [
            f"  {written:{widths[0]}}  {text:{widths[1]}}  {default}".rstrip()
            for written, text, default in rows
        ]
    return "\n".join(lines)


def optionTable(declaration: Declaration) -> str:
    """The options as a table in Markdown."""
    rows = [
        " | ".join((f"| `{each.key}`", each.expected, each.shownDefault, f"{each.about.help} |"))
        for each in declaration.options
    ]
    # A cell may contain a bar.
    return "\n".join(("| option | value | default | |", "|---|---|---|---|", *rows))


def _about(option: Option) -> str:
    return f"{option.about.help} ({option.expected})".strip()


def _default(option: Option) -> str:
    default = option.shownDefault
    return f"[{default}]" if default else ""
