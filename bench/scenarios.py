"""
The scenarios, each with its load.

A scenario measures one proxy at a time.  C{measure} returns a dict of metrics:

  - C{cpu}: CPU time for each request, in microseconds; C{cpuPerGB}: in seconds;
  - C{rate}: requests per second; C{p50} and C{p99}: latency in microseconds;
  - C{busy}: the proxy's share of its cores, 0 to 1; C{others}: the share of other
    processes there, unless the load runs there too;
  - C{largest}: the share of its busiest process in its CPU time;
  - C{bad}: responses that are broken or do not have the scenario's status;
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
from bench.testbed import RunningProxy, TestBed

Metrics = dict[str, float]

#: Idle connections, to measure the memory of one.
IDLE = 1000

#: Seconds until a proxy is idle after its start or after load.
SETTLING = 0.5

#: Requests per second of the load below saturation: a quarter of what the slowest proxy
#: can do, and a rate that the paced load can keep.
PACE = 2000


@frozen
class Scenario:
    """
    One way of measuring proxies.

    @ivar name: the name on the command line and in C{results.json}.
    @ivar title: the name in the report.
    @ivar proxies: the proxies to measure; empty for all of L{PROXIES}.
    @ivar without: names of proxies in L{PROXIES} to leave out.
    @ivar metric: the metric that the report compares.
    """

    name: str
    title: str
    proxies: tuple[Proxy, ...] = field(default=(), kw_only=True)
    without: tuple[str, ...] = field(default=(), kw_only=True)
    metric: str = field(default="cpu", kw_only=True)

    def measured(self) -> tuple[Proxy, ...]:
        """The proxies to measure."""
        return tuple(each for each in self.proxies or PROXIES if each.name not in self.without)

    def prepare(self, bed: TestBed, proxy: Proxy) -> None:
        """Prepare; called once, before the first round."""

    def measure(self, bed: TestBed, proxy: Proxy, seconds: int) -> Metrics:
        """
        Measure once.

        @raise Unusable: the proxy can't be measured.
        """
        raise NotImplementedError


@frozen
class Loaded(Scenario):
    """
    Requests on persistent connections.

    @ivar tls: whether clients use TLS.
    """

    connections: int = 32
    tls: bool = False

    def prepare(self, bed: TestBed, proxy: Proxy) -> None:
        self.load(bed, bed.runningProxy(proxy, self.tls), proxy.warming)

    def load(self, bed: TestBed, target: RunningProxy, seconds: int) -> Metrics:
        """Run the load; its C{requests}, C{bytes}, C{seconds}, C{p50}, C{p99} and C{bad}."""
        raise NotImplementedError

    def measure(self, bed: TestBed, proxy: Proxy, seconds: int) -> Metrics:
        target = bed.runningProxy(proxy, self.tls)
        core, before, since = coreSeconds(target.cores), target.cpuSeconds(), time.perf_counter()
        told = self.load(bed, target, seconds)
        wall = (time.perf_counter() - since) * len(target.cores)
        used = [spent - before.get(pid, 0.0) for pid, spent in target.cpuSeconds().items()]
        core = coreSeconds(target.cores) - core
        target.checkAlive()
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
        if not set(target.cores) & set(bed.cores.load):
            metrics["others"] = max(0.0, core - cpu) / wall
        return metrics


@frozen
class Saturation(Loaded):
    """
    As many requests as possible, by wrk.

    @ivar head: the name of a head in C{load.lua}.
    @ivar body: bytes of each request's body.
    @ivar status: the status that all responses must have.
    """

    path: str = "/1k"
    head: str = "bare"
    method: str = "GET"
    body: int = 0
    status: int = 200

    def load(self, bed: TestBed, target: RunningProxy, seconds: int) -> Metrics:
        wrk = [program("wrk", "apt install wrk"), "-t1", f"-c{self.connections}", f"-d{seconds}s"]
        wrk += ["--timeout", "5s", "-s", str(HERE / "load.lua"), target.origin + self.path]
        wrk += ["--", self.head, self.method, str(self.body)]
        told = _json(output(wrk, seconds + 30.0, cores=bed.cores.load), "wrk")
        # wrk counts statuses of 400 and more as errors.
        expected = told["requests"] if self.status >= 400 else 0
        return {**told, "bad": abs(told["statuses"] - expected) + told["broken"]}


@frozen
class Paced(Loaded):
    """Requests at the rate L{PACE}, independent of the responses; see C{paced.py}."""

    def load(self, bed: TestBed, target: RunningProxy, seconds: int) -> Metrics:
        command = [sys.executable, "-m", "bench.paced", str(target.place.port), "/1k"]
        command += [str(PACE), str(seconds), str(self.connections)]
        environment = {"PYTHONPATH": str(ROOT)}
        printed = output(command, seconds + 30.0, environment, cores=bed.cores.load)
        return _json(printed, "the paced load")


@frozen
class Start(Scenario):
    """A cold start: time to the first response, memory then, and memory per idle connection."""

    def measure(self, bed: TestBed, proxy: Proxy, seconds: int) -> Metrics:
        with bed.starting(proxy) as target, ExitStack() as stack:
            pause(SETTLING)
            metrics = {"start": target.started, "resident": float(target.residentBytes())}
            # The first requests allocate memory that does not belong to connections.
            _open(target, IDLE // 10, stack)
            before = target.residentBytes()
            if _open(target, IDLE, stack):
                metrics["idle"] = (target.residentBytes() - before) / IDLE
            return metrics


def _open(target: RunningProxy, count: int, stack: ExitStack) -> bool:
    """Open connections with one request each; whether they stay open."""
    connections = [target.connection() for _ in range(count)]
    for each in connections:
        stack.callback(each.close)
        each.request("GET", "/1k")
        each.getresponse().read()
    pause(SETTLING)
    # http.client drops a connection whose response has Connection: close.
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
    A feature of sitio, for the table of costs.

    @ivar variant: sitio without the feature, or with it if it is off by default.
    @ivar switch: the option that switches it.
    @ivar benefit: what it is good for.
    """

    title: str
    variant: Sitio
    switch: str
    benefit: str
    default: bool = True


FEATURES = (
    Feature(
        "the stats line",
        _variant("sitio-no-line", "no stats line", options=("--stats-interval", "0")),
        "`--stats-interval 0`",
        "hits, failures and latencies in the log, every two seconds",
    ),
    Feature(
        "metrics",
        Uncounted("sitio-uncounted", "no metrics", does="", wanted=SITIO.wanted),
        "no option",
        "hits, statuses, bytes and latencies of each endpoint, and the upstream status",
    ),
    Feature(
        "`error-page:404`",
        _variant("sitio-no-error-page", "no error-page", policies=("last-good",), replaces=False),
        "without `--policy error-page:404`",
        "a page of your own for a 404; costs only then",
    ),
    Feature(
        "`last-good`",
        _variant("sitio-no-last-good", "no last-good", policies=("error-page:404",)),
        "without `--policy last-good`",
        "masks failures with the last good response, which it keeps from each GET",
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
        "transports in C",
    ),
    Feature(
        "the admin port",
        _variant("sitio-no-admin", "no admin port", options=("--admin", "")),
        "`--admin=`",
        "health, metrics, the last exchanges and the dashboard; here without clients",
    ),
    Feature(
        "`/metrics`, scraped every second",
        _watched("sitio-metrics", "scraped", "/metrics"),
        "a scraper",
        "all metrics for Prometheus, which usually scrapes every 15 s",
        default=False,
    ),
    Feature(
        "the dashboard, open",
        _watched("sitio-dashboard", "on a dashboard", "/events"),
        "an open page",
        "live metrics and exchanges",
        default=False,
    ),
    Feature(
        "`--via`",
        _variant("sitio-via", "with --via", options=("--via",)),
        "`--via`",
        "shows proxies, and loops of proxies, in requests and responses",
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
        "a line for each request, in a format of other tools",
        default=False,
    ),
)

#: twisted.web.proxy is slow, so it is left out of scenarios that do not need it.
_SLOW = ("twisted.web.proxy",)

SCENARIOS: tuple[Scenario, ...] = (
    Saturation("get-1k", "1 KB GET, bare head"),
    Saturation("browser", "1 KB GET, a browser's head of 700 bytes", head="browser"),
    Saturation(
        "unique",
        "the same, each head of request and response different",
        path="/unique",
        head="unique",
        without=_SLOW,
    ),
    Saturation("replaced", "404, replaced by the proxy's page", path="/missing", status=404),
    Saturation("post-16k", "16 KB POST", path="/post", method="POST", body=16384),
    Saturation("get-64k", "64 KB GET", path="/64k", without=_SLOW),
    Saturation("get-100m", "100 MB GET", path="/100m", connections=4, metric="cpuPerGB"),
    Saturation("many", "512 connections", connections=512, without=_SLOW),
    Saturation("closing", "a new connection for each request", head="close", without=_SLOW),
    Saturation("tls", "TLS in front", tls=True, without=_SLOW),
    Paced("paced", f"{PACE} requests/s, below saturation", metric="p99", without=_SLOW),
    Saturation("rewrite", "a buffered Python policy", proxies=(SITIO, REWRITING)),
    Saturation("workers", "two workers", connections=128, proxies=(SITIO, TWO_WORKERS)),
    Saturation(
        "features",
        "what features cost",
        head="browser",
        proxies=(SITIO, *(each.variant for each in FEATURES)),
    ),
    Start("start", "start, memory", metric="start"),
)
