"""
The scenarios, each with its load.

A scenario measures one proxy at a time.  C{measure} returns a dict of metrics:

  - C{cpu}: CPU time for each request, in microseconds; C{cpuPerGB}: in seconds;
  - C{rate}: requests per second; C{p50}, C{p99} and C{p999}: latency in microseconds;
  - C{busy}: the proxy's share of its cores, 0 to 1; C{others}: the share of other
    processes in all cores;
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

from bench.machine import othersSeconds
from bench.processes import Unusable, output, pause
from bench.proxies import (
    ENVOY,
    EXTPROC,
    HAPROXY,
    HERE,
    MITMPROXY,
    NGINX,
    NJS,
    PEERS,
    ROOT,
    SITIO,
    TWISTED,
    WITH_POLICIES,
    Proxy,
    Sitio,
    Uncounted,
    Watched,
    program,
)
from bench.testbed import RunningProxy, TestBed
from bench.traffic import PAGES, template

Metrics = dict[str, float]

#: Idle connections, to measure the memory of one.
IDLE = 1000

#: Seconds until a proxy is idle after its start or after load.
SETTLING = 0.5

#: The proxies of most scenarios.
USUAL = (SITIO, ENVOY, HAPROXY, NGINX)


@frozen
class Scenario:
    """
    One way of measuring proxies.

    @ivar name: the name on the command line and in C{results.json}.
    @ivar title: the name in the report.
    @ivar proxies: the proxies to measure.
    @ivar metric: the metric that the report compares.
    """

    name: str
    title: str
    proxies: tuple[Proxy, ...] = field(default=USUAL, kw_only=True)
    metric: str = field(default="cpu", kw_only=True)

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

    @ivar setup: what the proxies do; see L{bench.proxies}.
    @ivar tls: whether clients use TLS.
    """

    connections: int = 32
    setup: str = "plain"
    tls: bool = False

    def prepare(self, bed: TestBed, proxy: Proxy) -> None:
        self.load(bed, bed.runningProxy(proxy, self.setup, self.tls), 1)

    def load(self, bed: TestBed, target: RunningProxy, seconds: int) -> Metrics:
        """Run the load; its C{requests}, C{bytes}, C{seconds}, C{p50}, C{p99} and C{bad}."""
        raise NotImplementedError

    def measure(self, bed: TestBed, proxy: Proxy, seconds: int) -> Metrics:
        target = bed.runningProxy(proxy, self.setup, self.tls)
        everywhere = {*bed.cores.pair, *bed.cores.load}
        others, since = othersSeconds(everywhere), time.perf_counter()
        before = target.cpuSeconds()
        told = self.load(bed, target, seconds)
        used = [spent - before.get(pid, 0.0) for pid, spent in target.cpuSeconds().items()]
        wall = time.perf_counter() - since
        others = othersSeconds(everywhere) - others
        target.checkAlive()
        cpu = sum(used)
        return {
            "cpu": cpu / max(1, told["requests"]) * 1e6,
            "cpuPerGB": cpu / max(1, told["bytes"]) * 1e9,
            "rate": told["requests"] / told["seconds"],
            **{name: told[name] for name in ("p50", "p99", "p999", "bad") if name in told},
            "busy": cpu / wall / len(target.cores),
            "largest": max(used) / cpu,
            "others": max(0.0, others) / wall / len(everywhere),
        }


@frozen
class Saturation(Loaded):
    """
    As many requests as possible, by wrk.

    @ivar path: what is asked for; L{PAGES} for each page at its own rate.
    @ivar varied: whether each request is different.
    @ivar close: whether each request has a connection of its own.
    @ivar body: bytes of each request's body.
    @ivar status: the status that all responses must have.
    """

    path: str = PAGES
    varied: bool = True
    close: bool = False
    method: str = "GET"
    body: int = 0
    status: int = 200

    def load(self, bed: TestBed, target: RunningProxy, seconds: int) -> Metrics:
        host = f"127.0.0.1:{target.place.port}"
        form = bed.folder / "form.txt"
        form.write_text(
            template(host, self.path, self.varied, self.close, self.method, self.body),
            newline="",
        )
        wrk = [program("wrk", "apt install wrk"), "-t1", f"-c{self.connections}", f"-d{seconds}s"]
        wrk += ["--timeout", "5s", "-s", str(HERE / "load.lua"), target.origin + self.path]
        wrk += ["--", str(form), str(bed.folder / "choices.txt")]
        told = _json(output(wrk, seconds + 30.0, cores=bed.cores.load), "wrk")
        # wrk counts statuses of 400 and more as errors.
        expected = told["requests"] if self.status >= 400 else 0
        return {**told, "bad": abs(told["statuses"] - expected) + told["broken"]}


@frozen
class Paced(Loaded):
    """
    Varied traffic at a given rate, independent of the responses; see C{paced.py}.

    All proxies get the same rate.

    @ivar share: the rate, as a share of what the slowest of the proxies can do.
    """

    share: float = 0.5

    def prepare(self, bed: TestBed, proxy: Proxy) -> None:
        if proxy.name not in bed.saturation:
            Saturation.prepare(VARIED, bed, proxy)
            bed.saturation[proxy.name] = 1e6 / VARIED.measure(bed, proxy, 1)["cpu"]

    def load(self, bed: TestBed, target: RunningProxy, seconds: int) -> Metrics:
        rate = self.share * min(
            bed.saturation[each.name] for each in self.proxies if each.name in bed.saturation
        )
        command = [sys.executable, "-m", "bench.paced", str(target.place.port)]
        command += [f"{rate:.0f}", str(seconds), str(self.connections)]
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


def _variant(name: str, **changes: Any) -> Sitio:
    return evolve(SITIO, name=f"sitio-{name}", title=name, does="", **changes)


TWO_WORKERS = _variant("workers", options=("--workers", "2"), workers=2)


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
        _variant("no-line", options=("--stats-interval", "0")),
        "`--stats-interval 0`",
        "hits, failures and latencies in the log, every two seconds",
    ),
    Feature(
        "metrics",
        Uncounted("sitio-uncounted", "no metrics", wanted=SITIO.wanted),
        "no option",
        "hits, statuses, bytes and latencies of each endpoint, and the upstream status",
    ),
    Feature(
        "uvloop",
        _variant("epoll", reactor="epoll"),
        "`twistd --reactor epoll`",
        "transports in C",
    ),
    Feature(
        "the admin port",
        _variant("no-admin", options=("--admin", "")),
        "`--admin=`",
        "health, metrics, the last exchanges and the dashboard; here without clients",
    ),
    Feature(
        "`error-page:404`",
        _variant("error-page", policies=("error-page:404",)),
        "`--policy error-page:404`",
        "a page of your own for a 404; here without any 404",
        default=False,
    ),
    Feature(
        "`last-good`",
        _variant("last-good", policies=("last-good",)),
        "`--policy last-good`",
        "masks failures with the last good response, which it keeps from each GET",
        default=False,
    ),
    Feature(
        "`/metrics`, scraped every second",
        Watched("sitio-metrics", "scraped", SITIO.wanted, page="/metrics"),
        "a scraper",
        "all metrics for Prometheus, which usually scrapes every 15 s",
        default=False,
    ),
    Feature(
        "the dashboard, open",
        Watched("sitio-dashboard", "on a dashboard", SITIO.wanted, page="/events"),
        "an open page",
        "live metrics and exchanges",
        default=False,
    ),
    Feature(
        "`--via`",
        _variant("via", options=("--via",)),
        "`--via`",
        "shows proxies, and loops of proxies, in requests and responses",
        default=False,
    ),
    Feature(
        "`--access-log json`",
        _variant("log-json", options=("--access-log", "json:/dev/null")),
        "`--access-log json`",
        "a line for each request: both statuses, who made the response, and why",
        default=False,
    ),
    Feature(
        "`--access-log common`",
        _variant("log-common", options=("--access-log", "common:/dev/null")),
        "`--access-log common`",
        "a line for each request, in a format of other tools",
        default=False,
    ),
)


def _kind(name: str, title: str, benefit: str) -> Feature:
    policy = f"file:{PEERS}/sitio/kinds.py:{name}"
    variant = _variant(name, policies=(policy,))
    return Feature(title, variant, f"`kinds.py:{name}`", benefit, default=False)


#: Policies of each kind, which do nothing.
KINDS = (
    _kind("request", "`@onRequest`", "a function, before the upstream is asked"),
    _kind("response", "`@onResponse`", "a function, with the head of the response"),
    _kind("send", "`@onSend`", "a function, with each head that is sent"),
    _kind("class", "a class", "`IRequestPolicy`, without a decorator"),
    _kind("coroutine", "`async`, never waits", "a coroutine with nothing to wait for"),
    _kind("waiting", "`async`, waits", "`await asyncio.sleep(0)`: one turn of the loop"),
    _kind("filtered", "`addFilter`", "a function for each piece of the body"),
    _kind("buffered", "`buffered=True`", "a function, with the whole body of the response"),
    _kind("closed", "`buffered=True, failOpen=False`", "the same, and 502 if it can't be done"),
    _kind("decoded", "`response.json()`", "the same, with the JSON parsed"),
)

VARIED = Saturation(
    "varied",
    "varied traffic",
    proxies=(SITIO, WITH_POLICIES, *USUAL[1:], MITMPROXY, TWISTED),
)

SCENARIOS: tuple[Scenario, ...] = (
    VARIED,
    Saturation(
        "acts",
        "a policy that acts",
        setup="acts",
        proxies=(*USUAL, NJS, EXTPROC, MITMPROXY),
    ),
    Saturation("replaced", "404 replaced by a page", setup="page", path="/missing", status=404),
    Saturation(
        "json",
        "a JSON body of 2 KB rewritten",
        setup="rewrites",
        path="/json",
        proxies=(*USUAL, NJS, MITMPROXY),
    ),
    Saturation(
        "waits",
        "a policy that waits for a turn of the loop",
        setup="waits",
        proxies=(SITIO, HAPROXY, NGINX, MITMPROXY),
    ),
    Saturation("closing", "a new connection for each request", close=True),
    Saturation("tls", "TLS in front, kept alive", tls=True),
    Saturation("handshakes", "TLS in front, a handshake for each request", tls=True, close=True),
    Saturation("many", "512 connections", connections=512),
    Saturation("post-16k", "16 KB POST", path="/post", method="POST", body=16384),
    Saturation(
        "same",
        "one head over and over, 1 KB GET",
        path="/1k",
        varied=False,
        proxies=(SITIO, WITH_POLICIES, *USUAL[1:]),
    ),
    Saturation(
        "get-100m", "100 MB GET", path="/100m", varied=False, connections=4, metric="cpuPerGB"
    ),
    Paced("half", "at 50 % of saturation", share=0.5, metric="p99", proxies=USUAL[:3]),
    Paced("most", "at 80 % of saturation", share=0.8, metric="p99", proxies=USUAL[:3]),
    Saturation("workers", "two workers", connections=128, proxies=(SITIO, TWO_WORKERS)),
    Saturation(
        "kinds",
        "what each kind of policy costs",
        path="/json",
        proxies=(SITIO, *(each.variant for each in KINDS)),
    ),
    Saturation(
        "features",
        "what features cost",
        proxies=(SITIO, *(each.variant for each in FEATURES)),
    ),
    Start("start", "start, memory", metric="start"),
)
