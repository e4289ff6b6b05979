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
from sitio.config.values import (
    accessLogTarget,
    forwardedMode,
    forwardedStyle,
    healthPath,
    hostNames,
    isSamePort,
    number,
    portNumber,
    trustedProxies,
    workerCount,
)
from sitio.errors import CannotStart
from sitio.http.claims import APPEND, X_FORWARDED
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

_PORT_HELP = (
    "port for clients: a number, on all addresses of IPv4 and IPv6, an address such as"
    " 127.0.0.1:8080, or an endpoint description; default $PORT, else 8080"
)
_UPSTREAM_HELP = (
    "the service behind sitio, such as localhost:8087 or https://api.example, or an endpoint"
    " description; default $TARGET_PORT on localhost, or --demo"
)
_WORKERS_HELP = (
    "number of processes that share the port; auto for one on each core that sitio may use; in"
    " a Pod without a CPU limit that is one"
)
_WORKER_TIMEOUT_HELP = (
    "seconds after which a worker that does not answer is ended and replaced; 0 for never"
)
_STATS_HELP = "seconds between two stats lines in the log; 0 for none"
_ACCESS_HELP = "write a line for each request: json, common or off; json:PATH writes to a file"
_FLEET_HELP = (
    "post metrics to this central dashboard, such as http://dashboard:8080; default"
    " $DASHBOARD, $MOTHERSHIP or $DASHBOARD_URL; empty for none"
)
_KEEP_HELP = (
    "pass request fields that CGI and WSGI take for those of sitio, such as X_Forwarded_For"
)
_FORWARDED_HELP = (
    "what becomes of X-Forwarded fields and the like in requests: append, preserve or replace;"
    " append believes peers in private networks and adds the peer to X-Forwarded-For"
)
_STYLE_HELP = (
    "fields by which the upstream learns who the client is: x-forwarded, forwarded (RFC 7239) or"
    " both"
)
_TRUSTED_HELP = (
    "proxies whose claims are believed, as networks such as 10.0.0.0/8 and unix for UNIX sockets,"
    " separated by commas: the client is then whom they name; default private networks, whose"
    " claims only pass"
)
_QUERY_HELP = "show query strings in the access log; they may hold secrets"
_ADMIN_HELP = (
    "port for the admin pages: a port of this host, an endpoint description, or empty"
    " for none; default tcp:9901:interface=127.0.0.1, or another port if that is taken"
)
_ADMIN_HOSTS_HELP = (
    "names under which the admin pages may be asked for, separated by commas, besides IP"
    " addresses, localhost, names without a dot and names of private domains"
)
_PROBES_HELP = (
    "port for probes and Prometheus with /live, /ready and /metrics only: a number, or an"
    " endpoint description such as tcp:9902; default none"
)
_HEALTH_HELP = (
    "health check of the upstream: a path such as /healthz that sitio requests every two"
    " seconds; sitio is ready while the status is 200 to 399"
)
_MEMORY_HELP = "list the most memory that sitio takes with these options, and exit"
_DEMO_HELP = "serve a small photo site that comes with sitio, instead of an upstream"
_VIA_HELP = "add Via to requests and responses; it makes some services stop compressing"


def _limit(each: attrs.Attribute) -> list[Any]:
    """The option for one of the L{Settings}."""
    default = str(each.default).removesuffix(".0")
    return [optionName(each.name), None, default, each.metadata["help"]]


_PARAMETERS: list[list[Any]] = [
    ["port", "p", None, _PORT_HELP],
    ["upstream", "u", None, _UPSTREAM_HELP],
    ["workers", "w", "1", _WORKERS_HELP],
    ["worker-timeout", None, "10", _WORKER_TIMEOUT_HELP],
    ["stats-interval", None, "2", _STATS_HELP],
    ["access-log", None, "off", _ACCESS_HELP],
    ["admin", None, None, _ADMIN_HELP],
    ["probes", None, None, _PROBES_HELP],
    ["admin-hosts", None, None, _ADMIN_HOSTS_HELP],
    ["health-path", None, None, _HEALTH_HELP],
    ["fleet", None, None, _FLEET_HELP],
    ["forwarded", None, APPEND, _FORWARDED_HELP],
    ["forwarded-style", None, X_FORWARDED, _STYLE_HELP],
    ["trusted", None, None, _TRUSTED_HELP],
    *(_limit(each) for each in attrs.fields(Settings)),
]
_FLAGS = [
    ["demo", None, _DEMO_HELP],
    ["access-log-query", None, _QUERY_HELP],
    ["help-memory", None, _MEMORY_HELP],
    ["keep-underscores", None, _KEEP_HELP],
    ["via", None, _VIA_HELP],
]


def _refuse(sentence: str) -> NoReturn:
    raise CannotStart(f"sitio: {sentence}")


def _parsed(name: str, parser: Callable[..., _Value], text: str, *more: Any) -> _Value:
    """The value that a parser of L{sitio.config.values} makes of a text."""
    try:
        return parser(text, *more)
    except ValueError as error:
        raise usage.UsageError(f"{name} is {error}") from error


def _nothing() -> None:
    pass


class Options(usage.Options):
    """
    The options of C{twistd sitio}.

    Parsing raises L{CannotStart} for a bad value: it ends the process with one
    sentence and status 1.  The items hold, once they are parsed:

      - C{port}: endpoint description; C{admin}: the same, C{""} for no admin
        port, L{None} for the default.
      - C{probes}: endpoint description, L{None} for none.
      - C{upstream}: endpoint description; L{None} if there is none, as with C{demo}.
      - C{fleet}: the text of a URL, L{None} for none; C{fleet-source}: the option
        or variable that it is from.
      - C{access-log}: see L{accessLogTarget}.
      - C{policies}: names and policies, in order; C{descriptions}: their texts.
      - C{routes}: L{Routes}.
      - C{settings}: L{Settings}.
      - C{arguments} and C{folder}: the command line and the folder of the
        process, so that worker processes can parse the same.
      - C{mark}: what marks the requests of this sitio, of all its processes.
      - C{stdout}: the file descriptor of standard output.
    """

    synopsis = "[--port PORT] [--upstream ENDPOINT] [--policy DESCRIPTION ...] [options]"
    longdesc = (
        "An HTTP sidecar: takes requests on --port, sends them to --upstream, and lets"
        " each --policy act on requests and responses, in the order in which they are given."
    )

    optParameters: ClassVar = _PARAMETERS
    optFlags: ClassVar = _FLAGS

    def __init__(
        self,
        environ: dict[str, str] | None = None,
        beforeParsing: Callable[[], Any] = _nothing,
    ) -> None:
        """
        @param environ: environment variables; L{None} for those of the process.
        @param beforeParsing: called before the first option is parsed, and so
            before the first policy is imported.
        """
        usage.Options.__init__(self)
        self._environ = dict(os.environ) if environ is None else environ
        self._beforeParsing = beforeParsing
        self["policies"] = []
        self["descriptions"] = []
        self["routes"] = Routes()
        self["arguments"] = []
        self["folder"] = os.getcwd()
        self["mark"] = newMark()
        self.lowered: set[str] = set()
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
            _refuse(f"{error}; twistd sitio --help lists the options")

    def opt_policy(self, description: str) -> None:
        """a policy, such as error-page:404 or file:mine.py; repeatable, order matters"""
        try:
            self["policies"] += loadPolicies(description)
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
        self["fleet"], self["fleet-source"] = self._fleet()
        self["forwarded"] = _parsed("--forwarded", forwardedMode, self["forwarded"])
        style = self["forwarded-style"]
        self["forwarded-style"] = _parsed("--forwarded-style", forwardedStyle, style)
        if self["trusted"] is not None:
            trusted = _parsed("--trusted", trustedProxies, self["trusted"])
            self["trusted"] = ",".join(trusted)
        self["settings"] = self._settings()
        if self["help-memory"]:
            # Imported only when it is asked for.
            from sitio.config.memory import memoryTable

            print(memoryTable(self))
            raise SystemExit(0)

    def texts(self) -> dict[str, str]:
        """The value of each option as text, defaults included; may contain secrets."""
        names = [name for name, *_ in (*_PARAMETERS, *_FLAGS) if self[name] is not None]
        return {name: self._text(self[name]) for name in names}

    def sources(self) -> dict[str, str]:
        """
        Where the value of each option is from: C{command line}, the name of a variable of the
        C{environment}, or C{default}; C{file descriptors} where their limit made it smaller.
        """
        found, _ = getopt(self["arguments"], self.shortOpt, self.longOpt)
        given = {self.synonyms[name.lstrip("-")] for name, _ in found}
        variables = {"port": "PORT", "upstream": "TARGET_PORT", "fleet": self["fleet-source"]}

        def source(name: str) -> str:
            variable = variables.get(name)
            if name in self.lowered:
                return "file descriptors"
            if name in given:
                return "command line"
            return f"environment: {variable}" if self._environ.get(variable or "") else "default"

        return {name: source(name) for name in self.texts()}

    @staticmethod
    def _text(value: Any) -> str:
        return ":".join(filter(None, value)) if isinstance(value, tuple) else str(value)

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
        if self.inBackground:
            raise usage.UsageError(
                f"--access-log {form} needs twistd -n, as a daemon has no standard output;"
                f" {form}:access.log works without"
            )
        return form, None

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
