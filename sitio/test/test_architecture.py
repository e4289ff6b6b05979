"""
The rules of the source tree, read from the source with C{ast}.

A I{package} is a folder of C{sitio/}, or one of the modules that lie directly in
it.  L{PACKAGES} says what each may import of sitio; docs/decisions explains the
table.  When a test here fails, the change usually belongs into another package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.modules import SLOW, TESTS, testModules
from sitio.test.onreactor import LEFT_OUT

HOUSE = Path(__file__).parent.parent

#: What each package may import of sitio, beside itself.  An entry is a package or
#: one module of a package.  C{""} is C{sitio/__init__.py}.
PACKAGES: dict[str, set[str]] = {
    "errors": set(),
    "redact": set(),
    "settings": set(),
    "interfaces": set(),
    "demo": set(),
    "http": {"errors"},
    "net": {"errors"},
    "policy": {"http", "interfaces", "errors", "redact"},
    "policies": {"http", "interfaces", "policy.kinds", "policy.options", "redact"},
    "upstream": {"http", "net", "errors", "settings"},
    "proxy": {"http", "net", "policy", "interfaces", "errors", "settings"},
    "telemetry": {"http", "net", "interfaces", "errors"},
    "admin": {"http.grammar", "net", "telemetry", "errors"},
    "fleet": {"http.grammar", "net", "telemetry"},
    "workers": {"net", "telemetry", "errors"},
    "config": {"http", "policy", "settings", "errors", "redact"},
    # The command; it talks to a running sitio over the admin port.
    "cli": {"http", "policy", "config", "settings", "errors"},
    "__main__": {"cli"},
    "": {"interfaces", "http", "policy"},
}

#: Packages that may import all but these.
ALL_BUT: dict[str, set[str]] = {
    "assembly": set(),
    "service": {"assembly"},
    "wiring": {"assembly", "service"},
    "testing": {"assembly", "service", "admin", "workers"},
}

#: Single modules that may import more than their package: other packages, or single modules.
MODULES: dict[str, set[str]] = {
    # A worker process runs the service that its parent describes.
    "workers.worker": {"assembly", "service", "wiring.fitting"},
}

#: Packages whose C{__init__} re-exports names.  Every other holds its docstring only,
#: as start-up time and memory depend on lazy imports.
PUBLIC = {"", "testing"}

#: The only modules that import the reactor of the process; every other is passed
#: its clock, its reactor, its endpoints.
GLOBAL_REACTOR = {"assembly", "net.reactor", "workers.worker"}

#: Modules whose test file has another name than theirs, and why.
TESTED_BY: dict[str, str] = {
    "wiring.adminports": "test_assembly",  # parts of what is assembled
    "wiring.endpoints": "test_assembly",
    "wiring.fitting": "test_assembly",
    "workers.spawning": "workers.test_supervisor",  # processes are started by a supervisor
    "__main__": "system.test_command",  # a process of its own
    "cli.groups": "cli.test_passing",  # the help, which is in groups
    "cli.plugin": "system.test_command",  # what is run is a process of its own
    "cli.run": "system.test_command",
    "cli.check": "system.test_command",
    "cli.control": "cli.test_status",  # commands that ask a running sitio
    "cli.skeleton": "cli.test_newpolicy",  # the files that it writes
    "cli.version": "cli.test_main",  # the smallest of the commands
    "config.keys": "config.test_model",  # keys are tested where they are declared
    "config.limits": "config.test_options",  # the options that are made of them
    "config.listeners": "config.test_model",  # parts of the model
    "config.policies": "config.test_model",
    "config.tables": "config.test_model",
    "config.upstreams": "config.test_model",
    "config.routekinds": "config.test_kinds",  # they differ in their subject only
    "config.structure": "config.test_file",  # the data of files
    "config.loading": "config.test_merge",  # what is merged is loaded
    "config.optionlist": "config.test_options",  # a list of options
    "http.limits": "http.test_codec",
    "http.framing": "http.test_codec",  # tested through the readers that use it
    "http.head": "http.test_codec",  # as the one before
    "http.headers": "http.test_message",  # as a part of messages
    "http.request": "http.test_message",
    "http.bodyfilters": "http.test_message",
    "policy.member": "policy.test_chain",  # the members of a chain
    "policy.sending": "functional.test_sending",  # heads that a client gets
    "proxy.bufferedrequest": "functional.test_requestbodies",  # whole bodies for policies
    "net.reactor": "integration.test_reactor",  # reactors are tested on real sockets
    "net.transport": "integration.test_reactor",  # a connection is seen through its reactor
    "net.threads": "integration.test_threads",  # threads need the reactor of the tests
    "net.consumer": "integration.test_reactor",  # as the one before
    "net.socketoptions": "integration.test_reactor",  # as the one before
    "net.ports": "integration.test_reactor",  # as the one before
    "net.connectors": "integration.test_reactor",  # as the one before
    "net.endpoints": "integration.test_proxy",  # each description listens there
    "net.tlscontexts": "net.test_tlsfiles",  # contexts are made of files
    "net.lastread": "integration.test_early",  # peers that answer early and reset
    "net.httpclient": "admin.test_health",  # tested by a service that uses it
    "policies.headerchanges": "test_redact",  # what is shown of headers
    "policy.maker": "test_packaging",  # the makers that the plugin file lists
    "policy.options": "policy.test_declaration",  # options are parts of declarations
    "policy.verify": "policy.test_loader",  # what is loaded is verified
    "policy.sources": "policy.test_loader",  # as the one before
    "policy.descriptions": "policy.test_loader",  # descriptions are loaded there
    "proxy.buffers": "functional.test_buffers",  # what exchanges and clients hold
    "proxy.unsent": "functional.test_buffers",
    "proxy.connecting": "proxy.test_generation",  # with upstreams of several endpoints
    "proxy.context": "proxy.test_exchange",  # with the exchanges that share one
    "proxy.visible": "proxy.test_exchange",  # the attributes of an exchange
    "proxy.waiting": "proxy.test_exchange",  # what an exchange does with a Deferred
    "proxy.timeouts": "functional.test_waits",  # each wait of an exchange, in each state
    "proxy.download": "proxy.test_exchange",  # responses that stream
    "proxy.filters": "proxy.test_exchange",  # bodies that are changed on their way
    "proxy.upload": "functional.test_waits",  # bodies of requests that stream, and pause
    "proxy.tunnel": "functional.test_endings",  # each way in which a tunnel ends
    "proxy.leaving": "proxy.test_server",  # a part of a client's connection
    "proxy.lingering": "proxy.test_server",  # as the one before
    "proxy.factory": "proxy.test_server",  # the connections of one proxy
    "net.datagrams": "integration.test_discovery",  # ports of a reactor
    "upstream.dnssettings": "upstream.test_discovery",  # settings of what is tested there
    "upstream.splicing": "net.test_splice",  # long bodies, through a whole proxy
    "telemetry.certificatemetrics": "telemetry.test_certificates",  # families of the same rows
    "telemetry.row": "telemetry.test_stats",  # the counters that it fills
    "telemetry.statsline": "telemetry.test_snapshot",  # what it says of a snapshot
    "telemetry.logformat": "telemetry.test_accesslog",  # lines are seen as they are written
    "telemetry.records": "telemetry.test_history",  # records of real exchanges
    "telemetry.sidecar": "test_service",  # with a sidecar that provides it
    "admin.channel": "admin.test_pages",  # pages are asked for on it
    "admin.events": "admin.test_dashboard",  # events are seen as they arrive
    "admin.port": "admin.test_pages",  # what the pages promise begins at the port
    "workers.channel": "workers.test_supervisor",  # both ends of the channel at once
    "workers.heartbeat": "workers.test_supervisor",  # as the one before
    "workers.totals": "workers.test_supervisor",  # totals are seen as the supervisor's
    "workers.sockets": "integration.test_sockets",  # a socket that several listen on
    "testing.network": "testing.test_runner",  # the network of the test kit
    "testing.messages": "testing.test_runner",  # as the network
    "testing.harness": "testing.test_runner",  # the proxy of the test kit
    "testing.pytest": "system.test_examples",  # pytest needs a process of its own
}

#: Modules without tests, and why.
UNTESTED: dict[str, str] = {
    "interfaces": "declarations only; whoever provides one is verified where it is tested",
    "proxy.downstream": "declarations only",
    "proxy.upstream": "declarations only",
    "upstream.fixed": "nothing but attributes",
    "upstream.receivers": "declarations only",
}

#: What may wait by holding up its process, and why.
MAY_SLEEP: dict[str, str] = {
    "cli/status.py": "a command without a reactor: it looks twice, and does nothing meanwhile",
}

#: Lines of a module, a class and a function.
MAX_MODULE = 450
MAX_CLASS = 300
MAX_FUNCTION = 60


def modulesBelow(house: Path) -> dict[str, str]:
    """The source of each module but the tests, by its name below C{sitio}."""
    found = {}
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).with_suffix("").parts
        if parts[0] != "test":
            found[".".join(parts).removesuffix("__init__").rstrip(".")] = path.read_text("utf-8")
    return found


def packageOf(module: str) -> str:
    """The package of a module: C{"http"} of C{"http.codec"}."""
    return module.partition(".")[0]


def mayImport(module: str, other: str) -> bool:
    """Whether the table lets a module import another."""
    package, target = packageOf(module), packageOf(other)
    if target == "test" or other == "":
        return False
    if package == target or not MODULES.get(module, set()).isdisjoint((target, other)):
        return True
    if package in ALL_BUT:
        return target not in ALL_BUT[package]
    allowed = PACKAGES.get(package, set())
    return target in allowed or other in allowed


def _isTypeChecking(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    }


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this node that run with the program: no type-checking code."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        children = node.orelse if _isTypeChecking(node) else ast.iter_child_nodes(node)
        for child in children:
            waiting.append(child)
            if not _isTypeChecking(child):
                yield child


@cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a source; several tests read each."""
    return ast.parse(source)


def imported(source: str, package: str = "") -> Iterator[tuple[str, str]]:
    """
    Module and name of each import that runs, wherever in the file it stands:
    C{("sitio.http.codec", "chunk")}, with C{""} for a module as a whole.

    @param package: the package of the source, which relative imports start from.
    """
    for node in _running(parsed(source)):
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = ["sitio", package] if node.level == 1 else ["sitio"]
            base = ".".join([*parts, node.module or ""] if node.level else [node.module or ""])
            yield from ((base.replace("..", ".").rstrip("."), each.name) for each in node.names)


def modulesImported(module: str, modules: dict[str, str]) -> set[str]:
    """The modules of sitio that a module imports."""
    found = set()
    for base, name in imported(modules[module], packageOf(module)):
        # The version is a constant, and C{sitio} is loaded before any of its modules.
        if base.split(".")[0] == "sitio" and (base, name) != ("sitio", "__version__"):
            whole = f"{base}.{name}".removeprefix("sitio").strip(".")
            found.add(whole if whole in modules else base.removeprefix("sitio").strip("."))
    return found - {module}


def badImports(modules: dict[str, str]) -> list[str]:
    """A sentence for each import that the table does not allow."""
    return [
        f"sitio.{module} may not import sitio.{other}"
        for module in modules
        for other in sorted(modulesImported(module, modules))
        if not mayImport(module, other)
    ]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one cycle, in order, or an empty list."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        done.add(module)
        found = (walk(each, [*path, module]) for each in sorted(graph[module]))
        return next(filter(None, found), [])

    return next(filter(None, (walk(each, []) for each in sorted(graph))), [])


def seesGlobalReactor(source: str) -> bool:
    """Whether a source imports the reactor of the process, in any spelling."""
    return any(
        f"{module}.{name}".rstrip(".") == "twisted.internet.reactor"
        for module, name in imported(source)
    ) or any(
        isinstance(node, ast.Attribute)
        and node.attr == "reactor"
        and ast.unparse(node) == "twisted.internet.reactor"
        for node in ast.walk(parsed(source))
    )


#: What brings the installed reactor into a test.
ON_REACTOR = {
    ("twisted.internet", "reactor"),
    ("twisted.trial.unittest", "TestCase"),
    *(("sitio.test.helpers", each) for each in ("browser", "loopback", "processes", "streams")),
}


def usesInstalledReactor(source: str) -> bool:
    """Whether a test imports what brings the installed reactor with it."""
    return any(
        (module, name) in ON_REACTOR or tuple(module.rpartition(".")[::2]) in ON_REACTOR
        for module, name in imported(source)
    )


def sleeps(source: str) -> bool:
    """Whether a source mentions C{time.sleep}, in any spelling."""
    if "sleep" not in source:
        return False
    return ("time", "sleep") in imported(source) or any(
        isinstance(node, ast.Attribute)
        and node.attr == "sleep"
        and ast.unparse(node) == "time.sleep"
        for node in ast.walk(parsed(source))
    )


def lengths(module: str, source: str) -> Iterator[tuple[str, int, int]]:
    """Name, lines and limit of a module, and of each class and function in it."""

    def walk(node: ast.AST, path: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            inner = path
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{path}.{child.name}"
                limit = MAX_CLASS if isinstance(child, ast.ClassDef) else MAX_FUNCTION
                yield inner, (child.end_lineno or 0) - child.lineno + 1, limit
            yield from walk(child, inner)

    name = f"sitio.{module}".rstrip(".")
    yield name, len(source.splitlines()), MAX_MODULE
    yield from walk(parsed(source), name)


def tooLong(module: str, source: str) -> list[str]:
    """What of a module is longer than its limit."""
    return [
        f"{name}: {lines} lines" for name, lines, limit in lengths(module, source) if lines > limit
    ]


def unlisted(docstring: str, modules: set[str]) -> set[str]:
    """The modules that a package's docstring does not name as C{C{name}}."""
    return {each for each in modules if f"C{{{each}}}" not in docstring}


def isTest(module: str) -> bool:
    """Whether a dotted name is a test file's."""
    return module.rpartition(".")[2].startswith("test_")


class TreeTests(SynchronousTestCase):
    """The source tree keeps to the table."""

    def setUp(self) -> None:
        self.modules = modulesBelow(HOUSE)
        self.packages = {each for each in self.modules if f"{each}." in " ".join(self.modules)}

    def test_rows(self) -> None:
        """Each package has a row, and each row has a package."""
        rows = {*PACKAGES, *ALL_BUT}
        self.assertEqual({packageOf(each) for each in self.modules}, rows)
        self.assertEqual(set(MODULES) - set(self.modules), set())

    def test_imports(self) -> None:
        """Each module imports of sitio only what its row allows, inside functions as well."""
        self.assertEqual(badImports(self.modules), [])

    def test_noCycles(self) -> None:
        """No module imports itself by way of others, within a package or beyond."""
        known = set(self.modules)
        graph = {each: modulesImported(each, self.modules) & known for each in self.modules}
        self.assertEqual(cycle(graph), [])

    def test_packages(self) -> None:
        """A package's C{__init__} is its docstring, which lists the modules in it."""
        for name in sorted(each for each in self.packages if each not in {"", "demo"}):
            source = ast.parse(self.modules[name])
            docstring = ast.get_docstring(source) or ""
            inside = {
                each.rpartition(".")[2]
                for each in self.modules
                if each.rpartition(".")[0] == name and each != name
            }
            if name not in PUBLIC:
                self.assertEqual(len(source.body), 1, f"sitio/{name}/__init__.py does more")
            self.assertEqual(unlisted(docstring, inside), set(), name)

    def test_testFiles(self) -> None:
        """Each module has a test file at its place in the mirror, or is listed with another."""
        tests = HOUSE / "test"
        present = {
            ".".join(path.relative_to(tests).with_suffix("").parts)
            for path in tests.rglob("test_*.py")
        }

        def wanted(module: str) -> str:
            package, _, name = module.rpartition(".")
            return TESTED_BY.get(module, f"{package}.test_{name}".lstrip("."))

        modules = {each for each in self.modules if each not in self.packages - {"demo"}}
        missing = {wanted(each) for each in modules if each not in UNTESTED} - present
        self.assertEqual(sorted(missing), [])
        self.assertEqual({*TESTED_BY, *UNTESTED} - set(self.modules), set())

    def test_testsShareByHelpers(self) -> None:
        """No test file imports another: what tests share is in C{sitio/test/helpers}."""
        found = []
        for path in sorted((HOUSE / "test").rglob("*.py")):
            for module, name in imported(path.read_text("utf-8")):
                if isTest(module) or (module.startswith("sitio.test") and isTest(name)):
                    found.append(f"{path.relative_to(HOUSE)} imports {module}")
        self.assertEqual(found, [])

    def test_fastTests(self) -> None:
        """
        Only the tests in C{integration} and C{system} use the installed reactor, and by
        it sockets and processes: L{sitio.test.fast} leaves those folders out, and
        L{sitio.test.onreactor} takes no other.
        """
        tests = {each: (TESTS / f"{each.replace('.', '/')}.py") for each in testModules()}
        found = [
            name
            for name, path in tests.items()
            if name.partition(".")[0] not in SLOW and usesInstalledReactor(path.read_text("utf-8"))
        ]
        self.assertEqual(found, [])
        self.assertEqual(set(LEFT_OUT) - set(tests), set())

    def test_globalReactor(self) -> None:
        """Only the listed modules import the reactor of the process, even in a function."""
        seen = {each for each, source in self.modules.items() if seesGlobalReactor(source)}
        self.assertEqual(sorted(seen - GLOBAL_REACTOR), [])

    def test_length(self) -> None:
        """No module, no class and no function is too long; there are no exemptions."""
        found = [line for name, source in self.modules.items() for line in tooLong(name, source)]
        self.assertEqual(found, [])

    def test_noSleep(self) -> None:
        """Nothing waits by holding up the process, tests included."""
        self.assertEqual(
            [
                name
                for each in sorted(HOUSE.rglob("*.py"))
                if (name := str(each.relative_to(HOUSE))) not in MAY_SLEEP
                and sleeps(each.read_text("utf-8"))
            ],
            [],
        )


class RuleTests(SynchronousTestCase):
    """The rules notice what they forbid."""

    def test_forbiddenImport(self) -> None:
        """An import upwards is named, in each spelling and inside a function."""
        for source in (
            "import sitio.proxy.server",
            "from sitio.proxy import server",
            "from sitio.proxy.server import ProxyServer",
            "from ..proxy import server",
            "from ..proxy.server import ProxyServer",
            "def later():\n    from sitio.proxy import server",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import sitio.proxy.server",
            "if not TYPE_CHECKING:\n    import sitio.proxy.server",
        ):
            self.assertEqual(
                badImports({"http.codec": source, "proxy": "", "proxy.server": ""}),
                ["sitio.http.codec may not import sitio.proxy.server"],
                source,
            )

    def test_allowedImport(self) -> None:
        """What a row allows is not named, nor is an import for type checkers only."""
        self.assertEqual(
            badImports(
                {
                    "http.codec": "from sitio import errors\nfrom . import message\n"
                    "from .head import Head\nif TYPE_CHECKING:\n    import sitio.proxy.server",
                    "http.head": "from sitio.http.message import Request",
                    "http.message": "",
                    "policies.deny": "from ..http.message import Response\nimport twisted",
                    "service": "from sitio.policies import deny\nimport sitio.proxy.server",
                    "workers.worker": "from sitio.service import SidecarService",
                    "proxy.server": "",
                    "errors": "",
                }
            ),
            [],
        )

    def test_singleModule(self) -> None:
        """Where a row names one module of a package, the others are forbidden."""
        modules = {"admin.port": "from sitio.http import grammar", "http.grammar": ""}
        self.assertEqual(badImports(modules), [])
        modules = {"admin.port": "from sitio.http import codec", "http.codec": ""}
        self.assertEqual(badImports(modules), ["sitio.admin.port may not import sitio.http.codec"])

    def test_publicNames(self) -> None:
        """C{sitio} itself stands above all packages: they can't import its public names."""
        self.assertEqual(
            badImports({"http.message": "from sitio import onResponse", "": ""}),
            ["sitio.http.message may not import sitio."],
        )

    def test_testsStayOut(self) -> None:
        """Not even a package that may import all imports the tests."""
        self.assertEqual(
            badImports({"service": "from sitio.test.http import test_codec"}),
            ["sitio.service may not import sitio.test.http"],
        )

    def test_withoutRow(self) -> None:
        """A package without a row may import nothing."""
        self.assertEqual(
            badImports({"hall.door": "import sitio.errors", "errors": ""}),
            ["sitio.hall.door may not import sitio.errors"],
        )

    def test_cycle(self) -> None:
        """A cycle is found, and shown in order."""
        self.assertEqual(cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}), ["b", "c", "b"])
        self.assertEqual(cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}), [])

    def test_unlisted(self) -> None:
        """A module that a package's docstring leaves out is found."""
        self.assertEqual(unlisted("In order: C{pool}, C{client}.", {"pool", "client"}), set())
        self.assertEqual(unlisted("In order: C{pool}.", {"pool", "client"}), {"client"})

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

    def test_installedReactor(self) -> None:
        """A test that imports the installed reactor is found, directly or by a helper."""
        for source in (
            "from twisted.internet import defer, reactor",
            "import twisted.internet.reactor",
            "from sitio.test.helpers.loopback import LIMIT",
            "from sitio.test.helpers import processes",
            "from twisted.trial.unittest import SynchronousTestCase, TestCase",
        ):
            self.assertTrue(usesInstalledReactor(source), source)
        self.assertFalse(usesInstalledReactor("from sitio.test.helpers.rows import eachRow"))
        self.assertFalse(
            usesInstalledReactor("from twisted.trial.unittest import SynchronousTestCase")
        )

    def test_sleepSpellings(self) -> None:
        """A blocking wait is seen in each spelling; a clock's own method is none."""
        self.assertTrue(sleeps("import time\ntime.sleep(1)"))
        self.assertTrue(sleeps("from time import monotonic, sleep"))
        self.assertFalse(sleeps("from twisted.internet.task import deferLater\nclock.sleep(1)"))

    def test_lengths(self) -> None:
        """A module, a class and a method beyond their limits are named, others are not."""
        body = "        pass\n" * (MAX_FUNCTION - 1)
        source = f"class A:\n    def b(self):\n{body}"
        self.assertEqual(tooLong("hall", source), [])
        self.assertEqual(
            tooLong("hall", f"{source}        pass\n"),
            [f"sitio.hall.A.b: {MAX_FUNCTION + 1} lines"],
        )
        self.assertEqual(
            tooLong("hall", "class A:\n" + "    x = 1\n" * MAX_CLASS),
            [f"sitio.hall.A: {MAX_CLASS + 1} lines"],
        )
        self.assertEqual(
            tooLong("hall", "\n" * (MAX_MODULE + 1)), [f"sitio.hall: {MAX_MODULE + 1} lines"]
        )
