"""
The options of C{twistd sitio}, and the environment variables that replace them.

Limits and timeouts are not listed here: L{sitio.settings} has their names, defaults
and help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from getopt import getopt
from typing import Any, ClassVar, NoReturn, TypeVar

import attrs
from twisted.python import usage

from sitio.config.addresses import adminDescription, connectDescription, listenDescription
from sitio.config.limits import MAY_BE_ZERO, optionName
from sitio.config.loading import Loaded, Policies, load
from sitio.config.merge import PLACES, itemsOf
from sitio.config.model import Config
from sitio.config.optionlist import CHOICES, FLAGS, PARAMETERS
from sitio.config.places import ConfigErrors
from sitio.config.values import (
    accessLogTarget,
    healthPath,
    hostNames,
    isSamePort,
    number,
    oneOf,
    portNumber,
    trustedProxies,
    upstreamHost,
    workerCount,
)
from sitio.errors import CannotStart
from sitio.http.marks import newMark
from sitio.http.routes import Routes
from sitio.policy.loader import loadPolicies
from sitio.settings import Settings

DEFAULT_PORT = "8080"

#: Where the admin pages are without C{--admin}: on this host only.
DEFAULT_ADMIN = "tcp:9901:interface=127.0.0.1"

#: Variables that give the address for C{--fleet}; the first that is set wins.
FLEET_VARIABLES = ("DASHBOARD", "MOTHERSHIP", "DASHBOARD_URL")

_Value = TypeVar("_Value")


def _refuse(sentence: str) -> NoReturn:
    raise CannotStart(f"sitio: {sentence}")


def _parsed(name: str, parser: Callable[..., _Value], text: str, *more: Any) -> _Value:
    """The value that a parser of L{sitio.config.values} makes of a text."""
    try:
        return parser(text, *more)
    except ValueError as error:
        raise usage.UsageError(f"{name} is {error}") from error


def _text(value: Any) -> str:
    return ":".join(filter(None, value)) if isinstance(value, tuple) else str(value)


def _nothing() -> None:
    pass


class Options(usage.Options):
    """
    The options of C{twistd sitio}, and of C{sitio run}.

    Parsing raises L{CannotStart} for a bad value: it ends the process with one
    sentence and status 1.  The items hold, once they are parsed:

      - C{port}: endpoint description; C{admin}: the same, C{""} for no admin
        port, L{None} for the default.
      - C{probes}: endpoint description, L{None} for none.
      - C{upstream}: endpoint description; L{None} if there is none, as with C{demo}.
      - C{fleet}: the text of a URL, L{None} for none; C{fleet-source}: the option
        or variable that it is from.
      - C{access-log}: see L{accessLogTarget}.
      - C{policies}: names and policies, in order; C{descriptions}: their texts;
        C{every-policy}: the policies with those of single routes.
      - C{routes}: L{Routes}.
      - C{settings}: L{Settings}.
      - C{arguments} and C{folder}: the command line and the folder of the
        process, so that worker processes can parse the same.
      - C{mark}: what marks the requests of this sitio, of all its processes.
      - C{stdout}: the file descriptor of standard output.

    @ivar loaded: all of it as one configuration, with what the file of C{--config} says
        (L{Loaded}).  The items above are those of the only listener, and of the first upstream.
    @ivar lowered: names of limits that the limit of file descriptors made smaller.
    @ivar program: the command whose options they are, as sentences name it.
    """

    loaded: Loaded
    program = "twistd sitio"

    synopsis = "[--port PORT] [--upstream ENDPOINT] [--policy DESCRIPTION ...] [options]"
    longdesc = (
        "An HTTP sidecar: takes requests on --port, sends them to --upstream, and lets"
        " each --policy act on requests and responses, in the order in which they are given."
    )

    optParameters: ClassVar = PARAMETERS
    optFlags: ClassVar = FLAGS

    def __init__(
        self,
        environ: dict[str, str] | None = None,
        beforeParsing: Callable[[], Any] = _nothing,
        text: str | None = None,
    ) -> None:
        """
        @param text: of the file of C{--config}; L{None} to read it.
        @param environ: environment variables; L{None} for those of the process.
        @param beforeParsing: called before the first policy is imported.
        """
        usage.Options.__init__(self)
        self._environ = dict(os.environ) if environ is None else environ
        self._beforeParsing = beforeParsing
        self["policies"] = []
        self["descriptions"] = []
        self._made: dict[str, Policies] = {}
        self._parsed: dict[str, Any] = {}
        self["routes"] = Routes()
        self["arguments"] = []
        self["folder"] = os.getcwd()
        self["mark"] = newMark()
        self.lowered: set[str] = set()
        self.text = text
        self._helpsPolicies = False
        self["stdout"] = 1

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse a command line; the process's own if it is L{None}.

        @raise CannotStart: an option is unknown or has a bad value.  In contrast
            to C{usage.Options}, no usage text follows the sentence.
        """
        self._beforeParsing()
        self["arguments"] = list(sys.argv[1:] if options is None else options)
        try:
            usage.Options.parseOptions(self, options)
        except usage.UsageError as error:
            _refuse(f"{error}; {self.program} --help lists the options")

    def opt_policy(self, description: str) -> None:
        """a policy, such as error-page:404 or file:mine.py; repeatable, order matters"""
        try:
            self._made[f"policies[{len(self._made)}]"] = loadPolicies(description)
            self["descriptions"].append(description)
        except ValueError as error:
            _refuse(f"--policy {error}")

    def opt_route(self, template: str) -> None:
        """a template of paths that is one endpoint in metrics and dashboard, such as /users/{id}
        or /files/{path...}; repeatable"""
        try:
            self["routes"] = Routes((*self["routes"].templates, template))
        except ValueError as error:
            _refuse(f"--route {error}")

    def opt_help_policies(self) -> None:
        """list the policies that are installed, or the options of those named after it; exit"""
        # What follows is read later, by parseArgs.
        self._helpsPolicies = True

    def opt_version(self) -> None:
        """print the version of sitio, and exit"""
        from sitio import __version__

        print(f"sitio {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *rest: str) -> None:
        """
        Refuse positional arguments: only C{--help-policies} has some.  One may be a part of a
        secret.
        """
        if self._helpsPolicies:
            _printPolicies(rest)
        if rest:
            place = len(self["arguments"]) - len(rest) + 1
            raise usage.UsageError(
                f"argument {place} after sitio belongs to no option: a value with spaces needs"
                " quotes"
            )

    def postOptions(self) -> None:
        """Parse the values, and read the environment for options that were not given."""
        self["port"] = self._port()
        if self["admin"]:
            self["admin"] = _parsed("--admin", adminDescription, self["admin"])
        self["probes"] = self._probes()
        hosts = self["admin-hosts"]
        if hosts is not None:
            self["admin-hosts"] = ",".join(_parsed("--admin-hosts", hostNames, hosts))
        if self["health-path"] is not None:
            _parsed("--health-path", healthPath, self["health-path"])
        target = self._environ.get("TARGET_PORT")
        if self["demo"]:
            if self["upstream"] is not None:
                raise usage.UsageError("--demo is a service of its own: leave out --upstream")
        elif self["upstream"] is not None:
            self["upstream"] = _parsed("--upstream", connectDescription, self["upstream"])
        elif target:
            self["upstream"] = f"tcp:localhost:{_parsed('TARGET_PORT', portNumber, target)}"
        self["workers"] = _parsed("--workers", workerCount, self["workers"], self._environ)
        self["worker-timeout"] = _parsed("--worker-timeout", number, self["worker-timeout"], float)
        self["stats-interval"] = _parsed("--stats-interval", number, self["stats-interval"], float)
        self["access-log"] = self._accessLog(self["access-log"])
        for name, words in CHOICES.items():
            self[name] = _parsed(f"--{name}", oneOf, self[name], words)
        self["fleet"], self["fleet-source"] = self._fleet()
        if self["upstream-host"] is not None:
            _parsed("--upstream-host", upstreamHost, self["upstream-host"])
        if self["proxy-protocol"] is not None:
            _parsed("--proxy-protocol", oneOf, self["proxy-protocol"], ("v2",))
        if self["trusted"] is not None:
            trusted = _parsed("--trusted", trustedProxies, self["trusted"])
            self["trusted"] = ",".join(trusted)
        self["settings"] = self._settings()
        self._useConfig()
        if self["help-memory"]:
            # Imported only when it is asked for.
            from sitio.config.memory import memoryTable

            print(memoryTable(self))
            raise SystemExit(0)

    def given(self) -> set[str]:
        """The names of the options that were given on the command line."""
        found, _ = getopt(self["arguments"], self.shortOpt, self.longOpt)
        return {self.synonyms[name.lstrip("-")] for name, _ in found}

    def load(self, text: str | None = None) -> Loaded:
        """
        What is configured: the file of C{--config}, with the options, and new policies.

        @param text: of the file; L{None} to read it.
        @raise ConfigErrors: there are mistakes; it has all of them.
        """
        name, given = self["config"], self.given()
        return load(name, self._parsed, given, self._environ, self._made, text)

    def use(self, loaded: Loaded) -> None:
        """Have the items of another configuration."""
        self.loaded = loaded
        self._made = {}
        self.lowered.clear()
        self["policies"] = loaded.policiesOf(loaded.config.policies)
        self["every-policy"] = loaded.everyPolicy
        if self["config"] is not None:
            self.update(itemsOf(loaded.config))

    @property
    def config(self) -> Config:
        """What is configured, with the limits that are in use."""
        return attrs.evolve(self.loaded.config, limits=self["settings"])

    def _useConfig(self) -> None:
        """Read the file, and use what it says for the options that were not given."""
        name = self["config"]
        if name is not None:
            # As twistd changes the folder of a daemon.
            self["config"] = os.path.abspath(name)
        # What was parsed is needed again: another file may say less.
        self._parsed = dict(self)
        try:
            self.use(self.load(self.text))
        except ConfigErrors as error:
            _refuse(str(error) if name is None else f"--config {error.told(name)}")
        if name is not None:
            log = self["access-log"]
            if log is not None and log[1] is None:
                self._checkOutput(self.loaded.config.where("access-log"), log[0])

    def texts(self) -> dict[str, str]:
        """The value of each option as text, defaults included; may contain secrets."""
        names = [name for name, *_ in (*PARAMETERS, *FLAGS) if self[name] is not None]
        return {name: _text(self[name]) for name in names}

    def sources(self) -> dict[str, str]:
        """
        Where the value of each option is from: C{command line}, the name of a variable of the
        C{environment}, file and line, or C{default}; C{file descriptors} where their limit
        made it smaller.
        """
        given, places = self.given(), self.loaded.config.places
        variables = {"port": "PORT", "upstream": "TARGET_PORT", "fleet": self["fleet-source"]}

        def source(name: str) -> str:
            variable = variables.get(name)
            if name in self.lowered:
                return "file descriptors"
            if name in given:
                return "command line"
            line = places.lines.get(PLACES.get(name, ""))
            if line is not None:
                return f"{places.file}:{line}"
            return f"environment: {variable}" if self._environ.get(variable or "") else "default"

        return {name: source(name) for name in self.texts()}

    @property
    def inBackground(self) -> bool:
        """Whether C{twistd} makes a daemon of the process."""
        return self.parent is not None and not self.parent.get("nodaemon", True)

    def _port(self) -> str:
        given: str | None = self["port"]
        port = given or self._environ.get("PORT") or DEFAULT_PORT
        return _parsed("PORT" if given is None else "--port", listenDescription, port)

    def _probes(self) -> str | None:
        """The port for probes; it can't be that of the admin pages."""
        port: str | None = self["probes"] or None
        if port is not None:
            port = _parsed("--probes", listenDescription, port)
        admin = self["admin"]
        if port and admin != "" and isSamePort(port, admin or DEFAULT_ADMIN):
            raise usage.UsageError(
                "--probes and --admin have the same port: write for example --probes tcp:9902"
            )
        return port

    def _fleet(self) -> tuple[str | None, str]:
        given: str | None = self["fleet"]
        if given is not None:
            return given or None, "--fleet"
        name = next((each for each in FLEET_VARIABLES if self._environ.get(each)), "")
        return self._environ.get(name), name

    def _accessLog(self, text: str) -> tuple[str, str | None] | None:
        target = _parsed("--access-log", accessLogTarget, text)
        if target is None:
            return None
        form, path = target
        if path is not None:
            return form, os.path.join(self["folder"], path)
        self._checkOutput("--access-log", form)
        return form, None

    def _checkOutput(self, where: str, form: str) -> None:
        """Refuse an access log on standard output if there will be none."""
        if self.inBackground:
            raise usage.UsageError(
                f"{where} {form} needs twistd -n, as a daemon has no standard output;"
                f" {form}:access.log works without"
            )

    def _settings(self) -> Settings:
        values: dict[str, Any] = {}
        for each in attrs.fields(Settings):
            name = optionName(each.name)
            kind, zero = type(each.default), each.name in MAY_BE_ZERO
            values[each.name] = _parsed(f"--{name}", number, self[name], kind, zero)
        if values["poolUploads"] > values["poolSize"]:
            raise usage.UsageError(
                f"--pool-uploads {values['poolUploads']} is more than --pool-size"
                f" {values['poolSize']}: write at most that, or 0 for three quarters of it"
            )
        return Settings(**values)


def _printPolicies(names: Sequence[str]) -> NoReturn:
    """Print all policies, or the options of some, and end the process."""
    # Imported only when they are asked for.
    from sitio.policy.makers import clashes, makers
    from sitio.policy.sources import helpFor

    try:
        for name in names:
            print(helpFor(name))
    except ValueError as error:
        _refuse(f"--help-policies {error}")
    if not names:
        print("file:PATH  the policies that a file of Python makes with @onRequest, @onResponse")
        for _, maker in sorted(makers().items()):
            print(maker.usage)
    for name, sentence in clashes().items():
        if not names or name in names:
            print(sentence)
    raise SystemExit(0)
