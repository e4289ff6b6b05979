"""
What is measured: each scenario with its load.

A scenario measures one proxy at a time.  C{measure} gives a dict of metrics:

  - C{cpu}: CPU time for each request, in microseconds; C{cpuPerGB}: seconds;
  - C{rate}: requests per second; C{p50} and C{p99}: latency in microseconds;
  - C{busy}: the proxy's share of its cores, 1 for all of the time, C{others} that
    of whatever else ran there, unless the load did;
  - C{largest}: the share of its busiest process in its CPU time;
  - C{bad}: responses with a status that isn't the scenario's, and broken ones;
  - C{start}: seconds to the first response; C{resident}: memory after the start, in
    bytes; C{idle}: bytes for each idle connection.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import Any

from attrs import evolve, field, frozen

from bench.machine import coreSeconds
from bench.processes import Unusable, output, pause
from bench.proxies import (
    HERE,
    PEERS,
    POLICIES,
    PROXIES,
    ROOT,
    SITIO,
    Proxy,
    Sitio,
    Uncounted,
    Watched,
    program,
)
from bench.stage import Actor, Stage

Metrics = dict[str, float]

#: Idle connections that are opened to see what one takes.
IDLE = 1000

#: Seconds until a proxy that has started or is left alone has settled.
SETTLING = 0.5

#: Requests per second of the load below saturation: a quarter of what the slowest
#: that it measures can do, and what the paced load can do well itself.
PACE = 2000


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

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Metrics:
        """
        Measure once.

        @raise Unusable: it can't be.
        """
        raise NotImplementedError


@frozen
class Loaded(Scenario):
    """
    Requests on connections that are kept.

    @ivar tls: whether to the proxy's TLS.
    """

    connections: int = 32
    tls: bool = False

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        self.load(stage, stage.actor(proxy, self.tls), proxy.warming)

    def load(self, stage: Stage, actor: Actor, seconds: int) -> Metrics:
        """Make the load; gives C{requests}, C{bytes}, C{seconds}, C{p50}, C{p99} and C{bad}."""
        raise NotImplementedError

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Metrics:
        actor = stage.actor(proxy, self.tls)
        core, before, since = coreSeconds(actor.cores), actor.cpuSeconds(), time.perf_counter()
        told = self.load(stage, actor, seconds)
        wall = (time.perf_counter() - since) * len(actor.cores)
        used = [spent - before.get(pid, 0.0) for pid, spent in actor.cpuSeconds().items()]
        core = coreSeconds(actor.cores) - core
        actor.checkAlive()
        cpu = sum(used)
        metrics = {
            "cpu": cpu / max(1, told["requests"]) * 1e6,
            "cpuPerGB": cpu / max(1, told["bytes"]) * 1e9,
            "rate": told["requests"] / told["seconds"],
            "p50": told["p50"],
            "p99": told["p99"],
            "busy": cpu / wall,
            "largest": max(used) / cpu,
            "bad": told["bad"],
        }
        if not set(actor.cores) & set(stage.cores.load):
            metrics["others"] = max(0.0, core - cpu) / wall
        return metrics


@frozen
class Saturation(Loaded):
    """
    As many requests as go through, by wrk.

    @ivar head: one that C{load.lua} knows.
    @ivar body: bytes of the requests' bodies.
    @ivar status: of all responses.
    """

    path: str = "/1k"
    head: str = "bare"
    method: str = "GET"
    body: int = 0
    status: int = 200

    def load(self, stage: Stage, actor: Actor, seconds: int) -> Metrics:
        wrk = [program("wrk", "apt install wrk"), "-t1", f"-c{self.connections}", f"-d{seconds}s"]
        wrk += ["--timeout", "5s", "-s", str(HERE / "load.lua"), actor.origin + self.path]
        wrk += ["--", self.head, self.method, str(self.body)]
        told = _json(output(wrk, seconds + 30.0, cores=stage.cores.load), "wrk")
        # wrk counts statuses of 400 and more.
        expected = told["requests"] if self.status >= 400 else 0
        return {**told, "bad": abs(told["statuses"] - expected) + told["broken"]}


@frozen
class Paced(Loaded):
    """Requests at L{PACE}, whatever the responses do; see C{paced.py}."""

    def load(self, stage: Stage, actor: Actor, seconds: int) -> Metrics:
        command = [sys.executable, "-m", "bench.paced", str(actor.place.port), "/1k"]
        command += [str(PACE), str(seconds), str(self.connections)]
        environment = {"PYTHONPATH": str(ROOT)}
        printed = output(command, seconds + 30.0, environment, cores=stage.cores.load)
        return _json(printed, "the paced load")


@frozen
class Start(Scenario):
    """A cold start: time to the first response, memory then, and memory per idle connection."""

    def measure(self, stage: Stage, proxy: Proxy, seconds: int) -> Metrics:
        with stage.starting(proxy) as actor, ExitStack() as stack:
            pause(SETTLING)
            metrics = {"start": actor.started, "resident": float(actor.residentBytes())}
            # What is allocated at the first requests is no price of a connection.
            _open(actor, IDLE // 10, stack)
            before = actor.residentBytes()
            if _open(actor, IDLE, stack):
                metrics["idle"] = (actor.residentBytes() - before) / IDLE
            return metrics


def _open(actor: Actor, count: int, stack: ExitStack) -> bool:
    """Make connections with one request each; gives whether they stay open."""
    connections = [actor.connection() for _ in range(count)]
    for each in connections:
        stack.callback(each.close)
        each.request("GET", "/1k")
        each.getresponse().read()
    pause(SETTLING)
    # http.client lets go of one whose response says that it will close.
    return all(each.sock is not None for each in connections)


def _json(printed: str, who: str) -> dict[str, float]:
    lines = printed.strip().splitlines()
    for each in lines:
        if each.startswith("{"):
            return dict(json.loads(each))
    raise Unusable(f"{who} did not do its work; it said: {lines[-1] if lines else 'nothing'}")


def _variant(name: str, title: str, **changes: Any) -> Sitio:
    return evolve(SITIO, name=name, title=title, does="", **changes)


def _watched(name: str, title: str, page: str) -> Watched:
    return Watched(name, title, SITIO.wanted, page=page)


REWRITING = _variant(
    "sitio-rewrite",
    "sitio, rewriting",
    policies=(*POLICIES, f"file:{PEERS / 'rewrite.py'}"),
)

TWO_WORKERS = _variant("sitio-workers", "sitio, two workers", options=("--workers", "2"), workers=2)


@frozen
class Feature:
    """
    What sitio does that costs something.

    @ivar variant: sitio without it, or, if it is off by default, with it.
    @ivar switch: how to have it otherwise.
    @ivar benefit: what one gets for it.
    """

    title: str
    variant: Sitio
    switch: str
    benefit: str
    default: bool = True


FEATURES = (
    Feature(
        "the line of metrics",
        _variant("sitio-no-line", "no line of metrics", options=("--stats-interval", "0")),
        "`--stats-interval 0`",
        "what happens, in the log, every two seconds in which anything does",
    ),
    Feature(
        "metrics at all",
        Uncounted("sitio-uncounted", "no metrics", does="", wanted=SITIO.wanted),
        "no option; the chain without its observer",
        "hits, statuses, bytes and latencies of each endpoint, the true status of what is masked",
    ),
    Feature(
        "`error-page:404`",
        _variant("sitio-no-error-page", "no error-page", policies=("last-good",), replaces=False),
        "without `--policy error-page:404`",
        "a page of one's own for a 404; costs when there is one",
    ),
    Feature(
        "`last-good`",
        _variant("sitio-no-last-good", "no last-good", policies=("error-page:404",)),
        "without `--policy last-good`",
        "failures masked with the last good response, which is kept from each GET",
    ),
    Feature(
        "both policies",
        _variant("sitio-no-policy", "no policy", policies=(), replaces=False),
        "without `--policy`",
        "the two above",
    ),
    Feature(
        "uvloop",
        _variant("sitio-epoll", "Twisted's own reactor", reactor="epoll"),
        "`twistd --reactor epoll`",
        "transports in C, with TLS and all endpoints as in Twisted's own reactor",
    ),
    Feature(
        "the admin port",
        _variant("sitio-no-admin", "no admin port", options=("--admin", "")),
        "`--admin=`",
        "health, metrics, the last exchanges and the dashboard, for who asks; here nobody does",
    ),
    Feature(
        "`/metrics`, asked every second",
        _watched("sitio-metrics", "scraped", "/metrics"),
        "somebody asks",
        "all metrics, for Prometheus, which asks every 15 s or more seldom",
        default=False,
    ),
    Feature(
        "the dashboard, open",
        _watched("sitio-dashboard", "on a dashboard", "/events"),
        "somebody looks",
        "what passes, while it passes",
        default=False,
    ),
    Feature(
        "`--via`",
        _variant("sitio-via", "with --via", options=("--via",)),
        "`--via`",
        "loops and ways can be seen in requests and responses",
        default=False,
    ),
    Feature(
        "`--access-log json`",
        _variant("sitio-log-json", "an access log", options=("--access-log", "json:/dev/null")),
        "`--access-log json`",
        "a line for each request: both statuses, who made the response, and why",
        default=False,
    ),
    Feature(
        "`--access-log common`",
        _variant("sitio-log-common", "a common log", options=("--access-log", "common:/dev/null")),
        "`--access-log common`",
        "a line for each request, as other tools read it",
        default=False,
    ),
)

#: twisted.web.proxy is too slow to be of interest everywhere, and takes the time of others.
_SLOW = ("twisted.web.proxy",)

SCENARIOS: tuple[Scenario, ...] = (
    Saturation("get-1k", "1 KB GET, bare head"),
    Saturation("browser", "1 KB GET, a browser's head of 700 bytes", head="browser"),
    Saturation(
        "unique",
        "the same, no head like one before, of request or response",
        path="/unique",
        head="unique",
        without=_SLOW,
    ),
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
    Saturation(
        "features",
        "what features cost",
        head="browser",
        proxies=(SITIO, *(each.variant for each in FEATURES)),
    ),
    Start("start", "start, memory", figure="start"),
)
