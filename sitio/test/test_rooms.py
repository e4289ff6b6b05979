"""
The rules of the house, read from the source with C{ast}.

A module of sitio is a I{room}: L{ROWS} says what each may import of ours.  When
a test here fails, the change usually belongs into another room; when the
product has outgrown a room, add a room and its row.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

HOUSE = Path(__file__).parent.parent

#: What each room may import of ours.  Rooms are named below C{sitio}: C{""} is
#: C{sitio/__init__.py}; C{policies.*} is each module of that package that has
#: no row of its own.
ROWS: dict[str, set[str]] = {
    "interfaces": set(),
    "fields": set(),
    "message": {"fields"},
    "splice": set(),
    "sweep": set(),
    "states": set(),
    "demo": set(),
    "errors": {"message"},
    "heads": {"errors", "fields", "message"},
    "framing": {"errors", "heads"},
    "wire": {"framing", "heads", "message", "errors"},
    "settings": {"framing"},
    "making": {"interfaces", "message"},
    "policy": {"interfaces", "fields", "message", "errors", "making"},
    "client": {
        "framing",
        "heads",
        "splice",
        "states",
        "wire",
        "message",
        "errors",
        "sweep",
        "settings",
    },
    "pool": {"client", "errors", "figures", "sweep", "settings"},
    "sidecar": {"policy", "errors", "settings"},
    "exchange": {"interfaces", "sidecar", "splice", "message", "errors", "sweep"},
    "server": {
        "framing",
        "wire",
        "exchange",
        "sidecar",
        "message",
        "errors",
        "splice",
        "states",
        "sweep",
        "settings",
    },
    "figures": set(),
    "line": {"figures"},
    "stats": {"figures", "interfaces", "line"},
    "sharing": {"errors"},
    "talk": {"figures"},
    "workers": {"talk", "errors", "figures", "line", "stats"},
    "feed": {"figures"},
    "live": {"feed", "figures"},
    "resources": set(),
    "ledger": {"figures"},
    "address": set(),
    "calling": set(),
    "mothership": {"address", "calling", "figures", "ledger", "resources"},
    "outlet": set(),
    "accesslog": {"errors", "figures", "interfaces", "outlet"},
    "recent": {"errors", "exchange", "figures", "interfaces"},
    "metrics": {"figures"},
    "health": {"calling"},
    "redact": set(),
    "admin": {"figures", "health", "live", "metrics"},
    "adminport": {"errors", "sharing"},
    "memory": {"framing", "wire", "message"},
    "conversation": {
        "memory",
        "exchange",
        "sidecar",
        "making",
        "policy",
        "pool",
        "server",
        "errors",
        "settings",
        "sweep",
    },
    "policies": {"interfaces"},
    "policies.*": {"interfaces", "fields", "message"},
    "process": {"uvreactor"},
    "uvtransport": set(),
    "uvreactor": {"uvtransport"},
    "": {"interfaces", "message", "making"},
}

#: Those that may import every other room but these.
ALL_BUT: dict[str, set[str]] = {
    "service": {"worker"},
    "worker": set(),
    "testing": {"service", "admin", "adminport"},
}

#: Rooms with a row and no module yet.
COMING: set[str] = set()

#: The only rooms that see the one reactor of the process; every other is passed
#: its clock, its reactor, its endpoints.
GLOBAL_REACTOR = {"service", "uvreactor", "worker"}

#: Rooms whose test file has another name than theirs, or that have nothing to
#: test, and why.
TESTED_BY: dict[str, str] = {
    "": "test_packaging",  # names and the version
    "memory": "test_testing",  # the network of the test kit
    "conversation": "test_testing",  # the sidecar of the test kit
    "policies": "test_packaging",  # the makers that the plugin file lists
    "sidecar": "test_exchange",  # with the exchanges that share one
    "framing": "test_wire",  # seen through the readers that are made of it
    "heads": "test_wire",  # as the one before
    "fields": "test_message",  # as a part of messages
    "feed": "test_live",  # what events say is seen as they come
    "line": "test_figures",  # what it says of figures
    "adminport": "test_admin",  # what the pages promise begins at the port
    "calling": "test_health",  # calls are seen by who is called
    "talk": "test_workers",  # what passes between parent and worker
    "worker": "test_workers",  # the other end of the same talk
    "uvtransport": "test_uvreactor",  # a connection is seen through its reactor
}
UNTESTED: dict[str, str] = {
    "interfaces": "declarations only; whoever provides one is verified where it is tested",
}

#: Lines of a module and of a function that ask for a second thought.
MAX_MODULE = 450
MAX_FUNCTION = 60

#: Those that got one: how long they may be instead, and why they stay whole.
LONG: dict[str, tuple[int, str]] = {
    "sitio.service": (660, "the options, and what is made of each, are read side by side"),
    "sitio.figures": (480, "what is told of a sidecar, type by type, and how it adds up"),
    "sitio.accesslog": (470, "a line, what it is made of, and its way to the outlet"),
    "sitio.client": (560, "a table of states and its moves, and two protocols to describe"),
    "sitio.server": (610, "a table of states and its moves, flow control on both sides of it"),
    "sitio.exchange": (850, "one request's whole life is told in one place, from head to end"),
    "sitio.uvreactor": (500, "ports, connectors and the reactor: all that differs from Twisted's"),
    "sitio.uvtransport": (580, "one object is all that Twisted's and uvloop's interfaces ask for"),
    "sitio.policies.lastgood": (740, "what may be kept and used, rule by rule of RFC 9111"),
}


def roomsBelow(house: Path) -> dict[str, str]:
    """The source of each room, by its name."""
    found = {}
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).with_suffix("").parts
        if parts[0] != "test":
            found[".".join(parts).removesuffix("__init__").rstrip(".")] = path.read_text("utf-8")
    return found


def rowFor(room: str) -> str | None:
    """Under which name the tables know this room, or L{None} if they don't."""
    family = room.rpartition(".")[0] + ".*"
    return next((each for each in (room, family) if each in ROWS or each in ALL_BUT), None)


def mayImport(room: str, other: str) -> bool:
    """Whether the tables let a room import another."""
    row = rowFor(room)
    if row in ALL_BUT:
        return other.partition(".")[0] not in {*ALL_BUT[row], "test"}
    return row is not None and (other in ROWS[row] or rowFor(other) in ROWS[row])


def _isTypeChecking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    }


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one that take part when the program runs."""
    for child in ast.iter_child_nodes(node):
        if _isTypeChecking(child):
            assert isinstance(child, ast.If)
            for each in child.orelse:
                yield each
                yield from _running(each)
        else:
            yield child
            yield from _running(child)


def imported(source: str) -> Iterator[tuple[str, str]]:
    """
    Module and name of each import that runs, wherever in the file it stands:
    C{("sitio.wire", "feed")}, with C{""} for a module as a whole.
    """
    for node in _running(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Taken as relative to the house: right in its rooms, and what a
            # policy imports from beside itself is no room, so it is refused.
            module = f"sitio.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            yield from ((module, each.name) for each in node.names)


def roomsImported(room: str, rooms: dict[str, str]) -> set[str]:
    """The rooms that a room imports."""
    found = set()
    for module, name in imported(rooms[room]):
        if module.split(".")[0] == "sitio":
            whole = f"{module}.{name}".removeprefix("sitio").strip(".")
            found.add(whole if whole in rooms else module.removeprefix("sitio").strip("."))
    return found - {room}


def badImports(rooms: dict[str, str]) -> list[str]:
    """A sentence for each import that no row allows."""
    return [
        f"sitio.{room} may not import sitio.{other}"
        for room in rooms
        for other in sorted(roomsImported(room, rooms))
        if not mayImport(room, other)
    ]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The rooms of one cycle, in order, or an empty list."""
    done: set[str] = set()

    def walk(room: str, path: list[str]) -> list[str]:
        if room in path:
            return [*path[path.index(room) :], room]
        if room in done:
            return []
        done.add(room)
        return next(filter(None, (walk(each, [*path, room]) for each in sorted(graph[room]))), [])

    return next(filter(None, (walk(each, []) for each in sorted(graph))), [])


def seesGlobalReactor(source: str) -> bool:
    """Whether a source imports the one reactor of the process, in any spelling."""
    return any(
        f"{module}.{name}".rstrip(".") == "twisted.internet.reactor"
        for module, name in imported(source)
    ) or any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "twisted.internet.reactor"
        for node in ast.walk(ast.parse(source))
    )


def sleeps(source: str) -> bool:
    """Whether a source mentions C{time.sleep}, in any spelling."""
    return ("time", "sleep") in imported(source) or any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep"
        for node in ast.walk(ast.parse(source))
    )


def lengths(room: str, source: str) -> Iterator[tuple[str, int, int]]:
    """Name, lines and limit of a room and of each function in it."""

    def walk(node: ast.AST, path: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            inner = path
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{path}.{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield inner, (child.end_lineno or 0) - child.lineno + 1, MAX_FUNCTION
            yield from walk(child, inner)

    name = f"sitio.{room}".rstrip(".")
    yield name, len(source.splitlines()), MAX_MODULE
    yield from walk(ast.parse(source), name)


def tooLong(room: str, source: str) -> list[str]:
    """What of a room is longer than the limit, or than what it was granted."""
    return [
        f"{name}: {lines} lines"
        for name, lines, limit in lengths(room, source)
        if lines > LONG.get(name, (limit, ""))[0]
    ]


class RoomTests(SynchronousTestCase):
    """The rooms as they are keep to the tables."""

    def setUp(self) -> None:
        self.rooms = roomsBelow(HOUSE)

    def test_rows(self) -> None:
        """Each room has a row, and each row has a room or is known to be coming."""
        self.assertEqual([each for each in self.rooms if rowFor(each) is None], [])
        rows = {*ROWS, *ALL_BUT}
        self.assertEqual({each for each in rows if "*" not in each} - set(self.rooms), COMING)

    def test_imports(self) -> None:
        """Each room imports of ours only what its row allows, inside functions as well."""
        self.assertEqual(badImports(self.rooms), [])

    def test_noCycles(self) -> None:
        """No room imports itself by way of others."""
        graph = {each: roomsImported(each, self.rooms) & set(self.rooms) for each in self.rooms}
        self.assertEqual(cycle(graph), [])

    def test_testFiles(self) -> None:
        """Each room has a test file of its name, or is listed with the one it has."""
        present = {path.stem for path in (HOUSE / "test").glob("test_*.py")}
        wanted = {
            TESTED_BY.get(each, f"test_{each.rpartition('.')[2]}")
            for each in self.rooms
            if each not in UNTESTED
        }
        self.assertEqual(sorted(wanted - present), [])

    def test_globalReactor(self) -> None:
        """Only the listed rooms import the reactor of the process, even in a function."""
        seen = {each for each, source in self.rooms.items() if seesGlobalReactor(source)}
        self.assertEqual(sorted(seen - GLOBAL_REACTOR), [])

    def test_length(self) -> None:
        """No module and no function is overlong, unless it is listed with a reason."""
        found = [line for room, source in self.rooms.items() for line in tooLong(room, source)]
        self.assertEqual(found, [])

    def test_lengthStillNeeded(self) -> None:
        """Nothing is listed as long that is not, or not any more."""
        long = {
            name
            for room, source in self.rooms.items()
            for name, lines, limit in lengths(room, source)
            if lines > limit
        }
        self.assertEqual(set(LONG) - long, set())

    def test_noSleep(self) -> None:
        """Nothing waits by holding up the process, tests included."""
        self.assertEqual(
            [str(each) for each in sorted(HOUSE.rglob("*.py")) if sleeps(each.read_text("utf-8"))],
            [],
        )


class RuleTests(SynchronousTestCase):
    """The rules notice what they forbid."""

    def test_forbiddenImport(self) -> None:
        """An import upwards is named, in each spelling and inside a function."""
        for source in (
            "import sitio.server",
            "from sitio import server",
            "from sitio.server import ProxyServer",
            "from . import server",
            "from .server import ProxyServer",
            "def later():\n    from sitio import server",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import sitio.server",
            "if not TYPE_CHECKING:\n    import sitio.server",
        ):
            self.assertEqual(
                badImports({"wire": source, "server": ""}),
                ["sitio.wire may not import sitio.server"],
                source,
            )

    def test_allowedImport(self) -> None:
        """What a row allows is not named, nor is an import for type checkers only."""
        self.assertEqual(
            badImports(
                {
                    "wire": "from sitio import errors\nfrom sitio.message import Request\n"
                    "if TYPE_CHECKING:\n    from sitio.server import ProxyServer",
                    "policies.deny": "from ..message import Response\nimport twisted",
                    "policies": "from ..interfaces import IPolicyMaker",
                    "service": "from sitio.policies import deny\nimport sitio.server",
                    "server": "",
                    "errors": "",
                }
            ),
            [],
        )

    def test_publicNames(self) -> None:
        """The package itself is a room: those below can't import its public names."""
        self.assertEqual(
            badImports({"message": "from sitio import onReply", "": ""}),
            ["sitio.message may not import sitio."],
        )

    def test_testsStayOut(self) -> None:
        """Not even a room that may import all imports the tests."""
        self.assertEqual(
            badImports({"service": "from sitio.test import test_wire"}),
            ["sitio.service may not import sitio.test"],
        )

    def test_withoutRow(self) -> None:
        """A room without a row has no name in the tables; a policy has its family's."""
        self.assertIsNone(rowFor("hall"))
        self.assertEqual(rowFor("policies.any"), "policies.*")

    def test_cycle(self) -> None:
        """A cycle is found, and shown in order."""
        self.assertEqual(cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}), ["b", "c", "b"])
        self.assertEqual(cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}), [])

    def test_reactorSpellings(self) -> None:
        """The reactor of the process is seen in each spelling, its interfaces are not."""
        for source in (
            "from twisted.internet import defer, reactor",
            "from twisted.internet import reactor as clock",
            "import twisted.internet.reactor",
            "def run():\n    from twisted.internet import reactor",
            "import twisted.internet\ntwisted.internet.reactor.run()",
        ):
            self.assertTrue(seesGlobalReactor(source), source)
        self.assertFalse(seesGlobalReactor("from twisted.internet.interfaces import IReactorTime"))

    def test_sleepSpellings(self) -> None:
        """A wait that blocks is seen in each spelling; a clock's own is no such wait."""
        self.assertTrue(sleeps("import time\ntime.sleep(1)"))
        self.assertTrue(sleeps("from time import monotonic, sleep"))
        self.assertFalse(sleeps("from twisted.internet.task import deferLater\nclock.sleep(1)"))

    def test_lengths(self) -> None:
        """A module and a method beyond their limits are named, those within are not."""
        body = "        pass\n" * (MAX_FUNCTION - 1)
        source = f"class A:\n    def b(self):\n{body}"
        self.assertEqual(tooLong("hall", source), [])
        self.assertEqual(
            tooLong("hall", f"{source}        pass\n"),
            [f"sitio.hall.A.b: {MAX_FUNCTION + 1} lines"],
        )
        self.assertEqual(
            tooLong("hall", "\n" * (MAX_MODULE + 1)), [f"sitio.hall: {MAX_MODULE + 1} lines"]
        )
