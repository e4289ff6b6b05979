"""
Counts the instructions of one exchange in memory, in eight shapes:
C{python -m bench.instructions}.

Unlike times, counts hardly depend on what else the machine does: CI holds each shape to
C{instructions.json}, so a feature that costs something says so.  callgrind counts.  Where it
is missing, the calls of functions are counted, of Python's and of C's; they miss what a call
costs, and are the same wherever Python is.

The collector of garbage is off while it counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import Unusable
from bench.shapes import COUNTED, MARK, ROOT, SHAPES, TITLES

BASELINE = Path(__file__).with_suffix(".json")

#: The share by which a count may differ from its baseline.
MARGIN = 0.03

#: Functions in a profile.
DEAREST = 40

#: Seconds for all shapes.
TIMEOUT = 300.0

_WRITE = "python -m bench.instructions --write"
_WANTED = "install valgrind (on Debian: apt install valgrind)"

#: The program that plays shapes.
PROGRAM = ("-m", "bench.shapes")

Counts = dict[str, int]
Program = Sequence[str]


def pythonOf(how: str) -> str:
    """The Python whose counts can be compared with those of this one."""
    name = platform.python_implementation()
    if how == "calls":
        return f"{name} {'.'.join(platform.python_version_tuple()[:2])}"
    return f"{name} {platform.python_version()}, {platform.python_compiler()}, {platform.machine()}"


def instructions(names: Iterable[str] = SHAPES, program: Program = PROGRAM) -> Counts:
    """
    Instructions of one exchange, by shape.

    @raise Unusable: callgrind is not installed.
    """
    with TemporaryDirectory() as folder:
        return {
            name: int(_found(r"^summary: (\d+)", file.read_text())) // COUNTED
            for name, file in _callgrind(names, Path(folder), program).items()
        }


def calls(names: Iterable[str] = SHAPES, program: Program = PROGRAM) -> Counts:
    """Calls of functions in one exchange, by shape."""
    found = callsByFunction(names, program)
    return {name: round(sum(each.values())) for name, each in found.items()}


def callsByFunction(
    names: Iterable[str], program: Program = PROGRAM
) -> dict[str, dict[str, float]]:
    """Calls of each function in one exchange, by shape."""
    names = list(names)
    lines = _run([], "calls", names, program).splitlines()[::2]
    return {
        name: {function: count / COUNTED for function, count in json.loads(line).items()}
        for name, line in zip(names, lines)
    }


def _callgrind(names: Iterable[str], folder: Path, program: Program = PROGRAM) -> dict[str, Path]:
    """Run shapes; the files that callgrind has written, by shape."""
    names = list(names)
    if shutil.which("valgrind") is None:
        raise Unusable(f"valgrind is missing: {_WANTED}")
    command = [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        f"--dump-before={MARK}",
        f"--callgrind-out-file={folder}/%p",
    ]
    # The second dump of a process has what lies between the two marks.
    pids = _run(command, "instructions", names, program).split()
    return {name: folder / f"{pid}.2" for name, pid in zip(names, pids)}


def _run(command: list[str], how: str, names: list[str], program: Program) -> str:
    # A hash depends on nothing, and a variable more moves the stack.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0"}
    ran = subprocess.run(
        [*command, sys.executable, *program, how, *names],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if ran.returncode:
        raise Unusable(f"the shapes can't be counted: {ran.stderr.strip()[-2000:]}")
    return ran.stdout


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, f"callgrind's file has no {pattern}"
    return match[1]


COUNTERS = {"instructions": instructions, "calls": calls}


def baseline(how: str) -> Counts:
    """
    The counts that are held.

    @raise Unusable: they are of another Python.
    """
    kept = json.loads(BASELINE.read_text("utf-8"))[how]
    if kept["python"] != pythonOf(how):
        raise Unusable(f"the baseline is of {kept['python']}, and this is {pythonOf(how)}")
    return dict(kept["shapes"])


def differences(found: Mapping[str, int], kept: Mapping[str, int], how: str) -> list[str]:
    """One sentence for each shape that is not within L{MARGIN} of its baseline."""
    sentences = []
    for name in found.keys() | kept.keys():
        old, new = kept.get(name), found.get(name)
        if old and new and abs(new - old) <= MARGIN * old:
            continue
        sentences.append(
            f"{name} ({TITLES.get(name, 'no shape')}): {_shown(new, 'no')} {how} for an exchange,"
            f" {_shown(old, 'none')} in the baseline"
            + (f" ({(new - old) / old:+.1%}; {MARGIN:.0%} may be)" if old and new else "")
            + f"; mend it, or write the baseline anew with `{_WRITE}` and commit it"
        )
    return sorted(sentences)


def _shown(count: int | None, nothing: str) -> str:
    return nothing if count is None else f"{count:,}"


def write() -> None:
    """Write the baseline anew."""
    kept = {how: {"python": pythonOf(how), "shapes": count()} for how, count in COUNTERS.items()}
    BASELINE.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def profile(name: str) -> str:
    """The L{DEAREST} functions of C by their own instructions, and of Python and C by calls."""
    called = sorted(callsByFunction([name])[name].items(), key=lambda each: -each[1])
    lines = [f"{'calls':>12}  function; {sum(count for _, count in called):,.1f} calls in all"]
    lines += [f"{count:12,.2f}  {function}" for function, count in called[:DEAREST]]
    with TemporaryDirectory() as folder:
        own = _ownByFunction(_callgrind([name], Path(folder))[name].read_text())
    whole = sum(own.values())
    lines += ["", f"{'instructions':>12}  {'share':>6}  function of C; {whole // COUNTED:,} in all"]
    for function, count in own.most_common(DEAREST):
        lines.append(f"{count / COUNTED:12,.0f}  {count / whole:6.1%}  {function}")
    return "\n".join(lines)


def _ownByFunction(text: str) -> Counter[str]:
    """
    The own instructions of each function in a file of callgrind's.

    callgrind_annotate counts the functions that are running at a mark with all they call.
    """
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    function, isCall = "", False
    for line in text.splitlines():
        # A name follows its number once, and then is left out.
        if line.startswith("fn="):
            number, _, name = line[3:].partition(" ")
            function = names.setdefault(number, name)
        elif line.startswith("cfn="):
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            # The next line has what they cost.
            isCall = True
        elif re.match(r"[-+*\d]", line):
            if not isCall:
                counts[function] += int(line.split()[1])
            isCall = False
    return counts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.instructions",
        description="Counts the instructions of one exchange, in eight shapes: "
        + "; ".join(f"{name}: {title}" for name, title in TITLES.items())
        + ".",
    )
    parser.add_argument("shape", nargs="*", choices=[*SHAPES, []], help="these shapes only")
    parser.add_argument("--calls", action="store_true", help="count calls of functions")
    parser.add_argument("--profile", choices=SHAPES, help="print the dearest functions of a shape")
    parser.add_argument("--write", action="store_true", help=f"write {BASELINE.name} anew")
    told = parser.parse_args()
    how = "calls" if told.calls else "instructions"
    try:
        if told.profile:
            print(profile(told.profile))
        elif told.write:
            write()
        else:
            print(_table(COUNTERS[how](told.shape or SHAPES), how))
    except Unusable as error:
        raise SystemExit(f"bench.instructions: {error}") from None


def _table(found: Counts, how: str) -> str:
    try:
        kept, note = baseline(how), ""
    except (Unusable, OSError) as error:
        kept, note = {}, f"\n{error}"
    lines = [f"{how:>12}  {'baseline':>8}  exchange"]
    for name, count in found.items():
        old = kept.get(name)
        change = f"{count / old - 1:+.1%}" if old else ""
        lines.append(f"{count:12,}  {change:>8}  {name}: {TITLES[name]}")
    return "\n".join(lines) + note


if __name__ == "__main__":
    main()
