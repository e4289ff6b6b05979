"""
What is measured: each scenario with its load.

A scenario measures one proxy at a time.  C{measure} gives a dict of figures:

  - C{cpu}: CPU time for each request, in microseconds; C{cpuPerGB}: seconds;
  - C{rate}: requests per second; C{p50} and C{p99}: latency in microseconds;
  - C{busy}: the proxy's share of its cores, 1 for all of the time;
  - C{bad}: replies with a status that isn't the scenario's, and broken ones;
  - C{start}: seconds to the first reply; C{resident}: memory after the start, in
    bytes; C{idle}: bytes for each idle connection.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import Any

from attrs import evolve, field, frozen

from bench.processes import Unusable, output, pause
from bench.proxies import HERE, POLICIES, PROXIES, ROOT, SITIO, Proxy, Sitio, program
from bench.stage import Actor, Stage

Figures = dict[str, float]

#: Idle connections that are opened to see what one takes.
IDLE = 1000

#: Seconds until a proxy that has started or is left alone has settled.
SETTLING = 1.0

#: Requests per second of the load below saturation: a tenth to a quarter of what
#: the proxies that it compares can do, and what the paced load can do well itself.
PACE = 4000


@frozen
class Scenario:
    """
    @ivar name: on the command line and in C{results.json}.
    @ivar title: for readers.
    @ivar proxies: those that it measures; empty for all of L{PROXIES}.
    @ivar without: those of L{PROXIES} that it leaves out.
    @ivar figure: the one that the report compares.
    """

    name: str
    title: str
    proxies: tuple[Proxy, ...] = field(default=(), kw_only=True)
    without: tuple[str, ...] = field(default=(), kw_only=True)
    figure: str = field(default="cpu", kw_only=True)

    def cast(self) -> tuple[Proxy, ...]:
        """The proxies that it measures."""
        return tuple(each for each in self.proxies or PROXIES if each.name not in self.without)

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        """Done once, before the first round."""

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Figures:
        """
        Measure once.

        @raise Unusable: it can't be.
        """
        raise NotImplementedError


@frozen
class Saturation(Scenario):
    """
    As many requests as go through, by wrk.

    @ivar head: one that C{load.lua} knows.
    """

    path: str = "/1k"
    head: str = "bare"
    method: str = "GET"
    body: int = 0
    connections: int = 32
    status: int = 200
    tls: bool = False

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        self._load(stage, stage.actor(proxy, self.tls), proxy.warming)

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Figures:
        actor = stage.actor(proxy, self.tls)
        cores = proxy.workers
        before, since = actor.cpuSeconds(), time.perf_counter()
        told = self._load(stage, actor, seconds)
        cpu, wall = actor.cpuSeconds() - before, time.perf_counter() - since
        actor.checkAlive()
        # wrk counts statuses of 400 and more.
        expected = told["requests"] if self.status >= 400 else 0
        return {
            "cpu": cpu / max(1, told["requests"]) * 1e6,
            "cpuPerGB": cpu / max(1, told["bytes"]) * 1e9,
            "rate": told["requests"] / told["seconds"],
            "p50": told["p50"],
            "p99": told["p99"],
            "busy": cpu / wall / cores,
            "bad": abs(told["statuses"] - expected) + told["broken"],
        }

    def _load(self, stage: Stage, actor: Actor, seconds: int) -> dict[str, float]:
        wrk = [program("wrk", "apt install wrk"), "-t1", f"-c{self.connections}", f"-d{seconds}s"]
        wrk += ["--timeout", "5s", "-s", str(HERE / "load.lua"), actor.origin + self.path]
        wrk += ["--", self.head, self.method, str(self.body)]
        return _json(output(wrk, seconds + 30.0, cores=stage.cores.load), "wrk")


@frozen
class Paced(Scenario):
    """Requests at L{PACE}, whatever the replies do; see C{paced.py}."""

    connections: int = 32

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        self._load(stage, stage.actor(proxy), proxy.warming)

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Figures:
        actor = stage.actor(proxy)
        before, since = actor.cpuSeconds(), time.perf_counter()
        told = self._load(stage, actor, seconds)
        cpu, wall = actor.cpuSeconds() - before, time.perf_counter() - since
        return {
            "cpu": cpu / max(1, told["requests"]) * 1e6,
            "rate": told["requests"] / told["seconds"],
            "p50": told["p50"],
            "p99": told["p99"],
            "busy": cpu / wall,
            "bad": told["missing"],
        }

    def _load(self, stage: Stage, actor: Actor, seconds: int) -> dict[str, float]:
        command = [sys.executable, "-m", "bench.paced", str(actor.place.port), "/1k"]
        command += [str(PACE), str(seconds), str(self.connections)]
        printed = output(command, seconds + 30.0, {"PYTHONPATH": str(ROOT)}, cores=stage.cores.load)
        return _json(printed, "the paced load")


@frozen
class Start(Scenario):
    """A start from nothing: until the first reply, what it then takes, and for idle connections."""

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Figures:
        with stage.starting(proxy) as actor, ExitStack() as stack:
            pause(SETTLING)
            resident = actor.residentBytes()
            # What is allocated at the first requests is no price of a connection.
            opened = 0
            for count in (IDLE // 10, IDLE):
                before = actor.residentBytes()
                for _ in range(count):
                    connection = actor.connection()
                    stack.callback(connection.close)
                    connection.request("GET", "/1k")
                    connection.getresponse().read()
                pause(SETTLING)
                opened = count
            idle = (actor.residentBytes() - before) / opened
            return {"start": actor.started, "resident": resident, "idle": idle}


def _json(printed: str, who: str) -> dict[str, float]:
    lines = printed.strip().splitlines()
    for each in lines:
        if each.startswith("{"):
            return dict(json.loads(each))
    raise Unusable(f"{who} did not do its work; it said: {lines[-1] if lines else 'nothing'}")


def _variant(name: str, title: str, **changes: Any) -> Sitio:
    return evolve(SITIO, name=name, title=title, does="", **changes)


REWRITING = _variant(
    "sitio-rewrite",
    "sitio, rewriting",
    policies=(*POLICIES, f"file:{HERE / 'peers/rewrite.py'}"),
)

TWO_WORKERS = _variant("sitio-workers", "sitio, two workers", options=("--workers", "2"), workers=2)

#: sitio without one of its features, or with one that is off by default.
VARIANTS = (
    _variant("sitio-no-figures", "no line of figures", options=("--stats-interval", "0")),
    _variant("sitio-no-error-page", "no error-page", policies=("last-good",)),
    _variant("sitio-no-last-good", "no last-good", policies=("error-page:404",)),
    _variant("sitio-no-policy", "no policy at all", policies=()),
    _variant("sitio-via", "with --via", options=("--via",)),
    _variant("sitio-epoll", "Twisted's own reactor", reactor="epoll"),
)

#: twisted.web.proxy is too slow to be of interest everywhere, and takes the time of others.
_SLOW = ("twisted.web.proxy",)

SCENARIOS: tuple[Scenario, ...] = (
    Saturation("get-1k", "1 KB GET, bare head"),
    Saturation("browser", "1 KB GET, a browser's head of 700 octets", head="browser"),
    Saturation("unique", "the same, each head another", head="unique", without=_SLOW),
    Saturation("replaced", "404, replaced by the proxy's page", path="/missing", status=404),
    Saturation("post-16k", "16 KB POST", path="/post", method="POST", body=16384),
    Saturation("get-64k", "64 KB GET", path="/64k", without=_SLOW),
    Saturation("get-100m", "100 MB GET", path="/100m", connections=4, figure="cpuPerGB"),
    Saturation("many", "512 connections", connections=512, without=_SLOW),
    Saturation("closing", "a new connection for each request", head="close", without=_SLOW),
    Saturation("tls", "TLS in front", tls=True, without=_SLOW),
    Paced("paced", f"{PACE} requests/s, below saturation", figure="p99", without=_SLOW),
    Saturation("rewrite", "a buffered Python policy", proxies=(SITIO, REWRITING)),
    Saturation("workers", "two workers", connections=128, proxies=(SITIO, TWO_WORKERS)),
    Saturation("features", "what features cost", head="browser", proxies=(SITIO, *VARIANTS)),
    Start("start", "start, memory", figure="start"),
)
