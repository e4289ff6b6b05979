"""
Promises of L{sitio.telemetry.metrics}: the page that Prometheus reads.
"""

from __future__ import annotations

import sys
from typing import Any

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parseOpenMetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from sitio import __version__
from sitio.errors import ClientGone, RequestTimeout, Stalled, UpstreamLost
from sitio.http.routes import Routes
from sitio.net.turns import MAX_WORK
from sitio.proxy.visible import Attempt
from sitio.telemetry.histogram import LATENCY_BOUNDS
from sitio.telemetry.metrics import exposition
from sitio.telemetry.series import Series
from sitio.telemetry.stats import MAX_ENDPOINTS, Stats
from sitio.test.helpers.exchanges import ended, refused
from sitio.test.helpers.metrics import exposed, page, promtool, sidecarSnapshot
from sitio.test.helpers.snapshots import limited, mergedSidecars, workerSnapshot

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"

DURATION = "http_server_request_duration_seconds"
CLIENT = "http_client_request_duration_seconds"


def samples(text: str) -> dict[str, float]:
    """The samples of a page, by name and labels."""
    found = {}
    for family in parse(text):
        for each in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(each.labels.items()))
            found[f"{each.name}{{{labels}}}" if labels else each.name] = each.value
    return found


def labels(route: str = "", status: str | None = None, method: str = "GET", **more: str) -> str:
    """The labels of an endpoint, in order."""
    named = {"http_request_method": method, "http_route": route, **more}
    if status is not None:
        named["http_response_status_code"] = status
    return _inOrder(named)


def server(route: str = "", status: str = "200", method: str = "GET", **more: str) -> str:
    """The labels of a duration, in order: an error where the status is 5xx."""
    error = status if status[:1] == "5" else ""
    return labels(route, status, method, **{"error_type": error, "url_scheme": "http"} | more)


def client(status: str = "200", error: str = "", method: str = "GET", **more: str) -> str:
    """The labels of an attempt, in order."""
    peer = {"server_address": "localhost", "server_port": "8087", "url_scheme": "http"}
    named = {"http_request_method": method, "http_response_status_code": status}
    return _inOrder({**named, "error_type": error, **peer, **more})


def _inOrder(named: dict[str, str]) -> str:
    return "{" + ",".join(f"{name}={named[name]}" for name in sorted(named)) + "}"


class EndpointTests(SynchronousTestCase):
    """The metrics of endpoints."""

    def test_durations(self) -> None:
        """Durations have method, route and status, with OpenTelemetry's name and buckets."""
        found = samples(
            page(
                sidecarSnapshot(
                    ended(duration=0.003),
                    ended(duration=0.03),
                    ended(duration=20.0),
                    ended(status=404, upstreamStatus=404, duration=0.25),
                    ended("/b", "POST", duration=1.5),
                )
            )
        )
        self.assertEqual(found[f"{DURATION}_count{server()}"], 3)
        self.assertAlmostEqual(found[f"{DURATION}_sum{server()}"], 20.033)
        self.assertEqual(found[f"{DURATION}_bucket{server(le='0.005')}"], 1)
        self.assertEqual(found[f"{DURATION}_bucket{server(le='0.05')}"], 2)
        self.assertEqual(found[f"{DURATION}_bucket{server(le='10.0')}"], 2)
        self.assertEqual(found[f"{DURATION}_bucket{server(le='+Inf')}"], 3)
        self.assertEqual(found[f"{DURATION}_sum{server(status='404')}"], 0.25)
        self.assertEqual(found[f"{DURATION}_sum{server(method='POST')}"], 1.5)
        bounds = [each for each in found if each.startswith(f"{DURATION}_bucket")]
        self.assertEqual(len(bounds), 3 * (len(LATENCY_BOUNDS) + 1))

    def test_mask(self) -> None:
        """
        A masked 503 counts as the 200 that was sent on the side of clients, as a 503 on the
        side of the upstream, and as a masked failure.
        """
        found = samples(
            page(
                sidecarSnapshot(
                    ended(status=200, upstreamStatus=503),
                    ended(status=200, upstreamStatus=503),
                    ended(status=503, upstreamStatus=503),
                    ended(),
                )
            )
        )
        self.assertEqual(found[f"{DURATION}_count{server(status='200')}"], 3)
        self.assertEqual(found[f"{DURATION}_count{server(status='503')}"], 1)
        self.assertEqual(found[f"{CLIENT}_count{client('200')}"], 1)
        self.assertEqual(found[f"{CLIENT}_count{client('503', '503')}"], 3)
        self.assertEqual(found[f"sitio_masked_failures_total{labels(status='503')}"], 2)

    def test_errorTypes(self) -> None:
        """
        The server metric has an error for 5xx and for what ended a response early; the
        client metric also for 4xx, and a name where there is no status.
        """
        lost, gone = UpstreamLost(), ClientGone()
        for exchange, serverSide, clientSide in (
            (ended(), ("200", ""), ("200", "")),
            (ended(status=302, upstreamStatus=302), ("302", ""), ("302", "")),
            (ended(status=404, upstreamStatus=404), ("404", ""), ("404", "404")),
            (ended(status=500, upstreamStatus=500), ("500", "500"), ("500", "500")),
            (ended(status=200, upstreamStatus=404), ("200", ""), ("404", "404")),
            (ended(status=200, upstreamStatus=500), ("200", ""), ("500", "500")),
            (ended(status=403, upstreamStatus=None, attempts=0), ("403", ""), None),
            (
                ended(
                    status=502,
                    upstreamStatus=502,
                    failure=lost,
                    earlier=(Attempt(None, lost, 1.0),),
                ),
                ("502", "502"),
                ("", "connection_lost"),
            ),
            (
                ended(failure=lost, brokeOff=True, earlier=(Attempt(200, lost, 1.0),)),
                ("200", "connection_lost"),
                ("200", "connection_lost"),
            ),
            (
                ended(
                    status=499,
                    upstreamStatus=None,
                    failure=gone,
                    earlier=(Attempt(None, gone, 1.0),),
                ),
                ("", "client_gone"),
                ("", "client_gone"),
            ),
        ):
            found = samples(page(sidecarSnapshot(exchange)))
            [counted] = [each for each in found if each.startswith(f"{DURATION}_count")]
            name = server(status=serverSide[0], error_type=serverSide[1])
            self.assertEqual(counted, f"{DURATION}_count{name}")
            attempts = [each for each in found if each.startswith(f"{CLIENT}_count")]
            expected = [] if clientSide is None else [f"{CLIENT}_count{client(*clientSide)}"]
            self.assertEqual(attempts, expected)

    def test_attempts(self) -> None:
        """Durations of attempts have OpenTelemetry's name, labels and buckets, and no route."""
        lost = UpstreamLost()
        found = samples(
            page(
                sidecarSnapshot(
                    ended("/a", duration=9.0, upstreamTime=0.003),
                    ended("/b", duration=9.0, upstreamTime=0.03, connectTime=0.25),
                    ended(
                        "/b",
                        attempts=2,
                        earlier=(Attempt(None, lost, 2.0), Attempt(200, None, 20.0)),
                    ),
                )
            )
        )
        self.assertEqual(found[f"{CLIENT}_count{client()}"], 3)
        self.assertAlmostEqual(found[f"{CLIENT}_sum{client()}"], 20.283)
        self.assertEqual(found[f"{CLIENT}_bucket{client(le='0.005')}"], 1)
        self.assertEqual(found[f"{CLIENT}_bucket{client(le='0.25')}"], 1)
        self.assertEqual(found[f"{CLIENT}_bucket{client(le='0.5')}"], 2)
        self.assertEqual(found[f"{CLIENT}_bucket{client(le='+Inf')}"], 3)
        self.assertEqual(found[f"{CLIENT}_sum{client('', 'connection_lost')}"], 2.0)

    def test_bytes(self) -> None:
        """Body sizes have a sum and a count in each direction."""
        found = samples(page(sidecarSnapshot(ended(bytesIn=3, bytesOut=5), ended(bytesOut=6))))
        for way, data in (("request", 3), ("response", 11)):
            name = f"http_server_{way}_body_size_bytes"
            self.assertEqual(found[f"{name}_sum{labels()}"], data)
            self.assertEqual(found[f"{name}_count{labels()}"], 2)

    def test_own(self) -> None:
        """The time that sitio adds is a histogram."""
        found = samples(page(sidecarSnapshot(ended(duration=0.5, upstreamTime=0.25))))
        self.assertEqual(found["sitio_added_duration_seconds_sum"], 0.25)
        self.assertEqual(found["sitio_added_duration_seconds_bucket{le=0.1}"], 0)
        self.assertEqual(found["sitio_added_duration_seconds_bucket{le=0.25}"], 1)

    def test_noStatus(self) -> None:
        """If no status was sent, there is no status label."""
        found = samples(page(sidecarSnapshot(ended(status=None, upstreamStatus=None, attempts=0))))
        self.assertEqual(found[f"{DURATION}_count{server(status='')}"], 1)

    def test_noPaths(self) -> None:
        """
        No path is a label: requests of all paths count together, by their method, also those
        that were not found, refused, or too many for the table.
        """
        stats = Stats(Clock())
        for number in range(2 * MAX_ENDPOINTS):
            stats.exchangeFinished(ended(f"/{number}"))
        stats.exchangeFinished(ended("/no", status=404, upstreamStatus=404))
        stats.exchangeFinished(ended("/" + 999 * "a", "PUT"))
        stats.exchangeFinished(refused())
        found = samples(page({**workerSnapshot(), "metrics": stats.snapshot()}))
        counts = {each: found[each] for each in found if each.startswith(f"{DURATION}_count")}
        self.assertEqual(
            counts,
            {
                f"{DURATION}_count{server()}": 2 * MAX_ENDPOINTS,
                f"{DURATION}_count{server(status='404')}": 1,
                f"{DURATION}_count{server(method='PUT')}": 1,
                f"{DURATION}_count{server(status='400', method='_OTHER')}": 1,
            },
        )

    def test_templates(self) -> None:
        """A path that matches a template has it as its route; 404 is an answer of it."""
        snapshot = sidecarSnapshot(
            ended("/users/1", bytesOut=3),
            ended("/users/2"),
            ended("/users/3", status=404, upstreamStatus=404),
            ended("/users/3", status=200, upstreamStatus=503),
            ended("/users"),
            routes=Routes(["/users/{id}"]),
        )
        found = samples(page(snapshot))
        self.assertEqual(found[f"{DURATION}_count{server('/users/{id}')}"], 3)
        self.assertEqual(found[f"{DURATION}_count{server('/users/{id}', '404')}"], 1)
        self.assertEqual(found[f"{DURATION}_count{server()}"], 1)
        body = "http_server_response_body_size_bytes"
        self.assertEqual(found[f"{body}_sum{labels('/users/{id}')}"], 3)
        masked = f"sitio_masked_failures_total{labels('/users/{id}', '503')}"
        self.assertEqual(found[masked], 1)

    def test_escapes(self) -> None:
        """No template can break the format of the page."""
        template = '/a"b/c,d=e'
        found = page(sidecarSnapshot(ended(template), routes=Routes([template])))
        self.assertIn('http_route="/a\\"b/c,d=e"', found)
        self.assertEqual(samples(found)[f"{DURATION}_count{server(template)}"], 1)

    def test_neverFall(self) -> None:
        """
        No counter falls when endpoints lose their row to others, with workers or without, or
        when combinations of labels are more than have series of their own.
        """
        routes = Routes(["/users/{id}"])
        workers = [Stats(Clock(), maxEndpoints=8, routes=routes) for _ in range(2)]
        series, before = Series(), dict[str, float]()
        # More statuses than one row tells apart.
        methods, statuses = ("GET", "PUT", "FROB"), (200, *range(400, 450))
        for turn in range(120):
            for number, stats in enumerate(workers):
                for path in (f"/{turn}", f"/users/{turn}", "/"):
                    status = statuses[(turn + number) % 51 if path[1:] else 0]
                    exchange = ended(path, methods[turn % 3], status=status, upstreamStatus=status)
                    stats.exchangeFinished(exchange)
            parts: list[Any] = [
                {**workerSnapshot(), "metrics": stats.snapshot()} for stats in workers
            ]
            whole: Any = mergedSidecars(*parts)
            whole = {**whole, "metrics": limited(whole["metrics"], 8)}
            found = samples(exposed(whole, "", series=series)[0].decode())
            for name in before:
                if not name.startswith("process_"):
                    self.assertGreaterEqual(found[name], before[name], name)
            before = found
        counts = [found[each] for each in found if each.startswith(f"{DURATION}_count")]
        self.assertEqual(sum(counts), 120 * 2 * 3)


class SidecarTests(SynchronousTestCase):
    """All other metrics."""

    def test_connections(self) -> None:
        """Exchanges in progress, client and upstream connections, and waits for these."""
        found = samples(page(workerSnapshot()))
        for name, value in (
            ("http_server_active_requests", 2),
            ("sitio_client_connections", 3),
            ("http_client_open_connections{http_connection_state=active}", 1),
            ("http_client_open_connections{http_connection_state=idle}", 1),
            ("sitio_upstream_waiting_requests", 0),
            ("sitio_upstream_wait_seconds_count", 2),
            ("sitio_upstream_wait_seconds_sum", 0.5),
            ("sitio_upstream_opened_connections_total", 5),
            ("sitio_upstream_failed_connections_total", 1),
            ("sitio_broken_responses_total", 2),
            ("sitio_overlong_responses_total", 1),
            ("sitio_access_log_dropped_lines_total", 3),
            ("sitio_fleet_dropped_entries_total", 0),
        ):
            self.assertEqual(found[name], value, name)

    def test_policies(self) -> None:
        """Each policy has its counts and times; two of one name are told apart."""
        one = workerSnapshot(4)
        [policy] = one["policies"]
        other = {**policy, "name": "retry"}
        found = samples(
            page({**one, "policies": [policy, {**policy, "acted": 9}, other]})  # type: ignore
        )
        self.assertEqual(found["sitio_policy_duration_seconds_count{policy=deny}"], 4)
        self.assertEqual(found["sitio_policy_duration_seconds_sum{policy=deny}"], 1)
        self.assertEqual(found["sitio_policy_actions_total{policy=deny}"], 0)
        self.assertEqual(found["sitio_policy_actions_total{policy=deny 2}"], 9)
        self.assertEqual(found["sitio_policy_failures_total{policy=retry}"], 0)

    def test_workers(self) -> None:
        """Several processes have one page."""
        found = samples(page(mergedSidecars(workerSnapshot(2), workerSnapshot(3))))
        self.assertEqual(found["sitio_workers"], 2)
        self.assertEqual(found["sitio_worker_restarts_total"], 0)
        self.assertEqual(found[f"{DURATION}_count{server()}"], 5)
        self.assertEqual(found["http_server_active_requests"], 4)

    def test_build(self) -> None:
        """The version of sitio, and of what it runs on."""
        [info] = [each for each in samples(page(workerSnapshot())) if "_build" in each]
        self.assertTrue(info.startswith("sitio_build_info{python_version=3."), info)
        self.assertIn(f",version={__version__}}}", info)

    def test_processes(self) -> None:
        """The process's own metrics have the names of all Prometheus clients."""
        found = samples(page(workerSnapshot()))
        names = {each for each in found if each.startswith("process_")}
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux tells them")
        self.assertEqual(
            names,
            {
                "process_cpu_seconds_total",
                "process_max_fds",
                "process_open_fds",
                "process_resident_memory_bytes",
                "process_start_time_seconds",
                "process_virtual_memory_bytes",
            },
        )

    def test_fewSeries(self) -> None:
        """
        With seven policies there are less than 500 series, whatever paths, methods, statuses
        and failures there are, and with workers.
        """
        clock = Clock()
        stats = Stats(clock)
        failures: list[Any] = [None, UpstreamLost(), ClientGone(), Stalled(), RequestTimeout()]
        for number in range(20_000):
            status = 100 + number * 7 % 500
            failure = failures[number % 5]
            stats.exchangeFinished(
                ended(
                    f"/{number % 3000}",
                    ("GET", "POST", "PUT", "PATCH", f"M{number}", "MKCOL", "HEAD")[number % 7],
                    status=200 if number % 4 == 0 else status,
                    upstreamStatus=status,
                    bytesOut=5,
                    failure=failure,
                    brokeOff=failure is not None,
                    earlier=(Attempt(status, failure, 1.0),) if failure else (),
                )
            )
        stats.watch([ended(f"/{each}", f"M{each}") for each in range(99)])
        clock.advance(2.0)
        one: Any = {**workerSnapshot(), "metrics": stats.snapshot()}
        one["policies"] = [{**one["policies"][0], "name": f"policy-{each}"} for each in range(7)]
        series, text = Series(), ""
        for snapshot in (workerSnapshot(), one, mergedSidecars(one, one)):
            for accept in (OPEN_METRICS, ""):
                text = exposed(snapshot, accept, series=series)[0].decode()
                lines = [each for each in text.splitlines() if not each.startswith("#")]
                self.assertLess(len(lines), 500)
        found = samples(text)
        counts = [found[each] for each in found if each.startswith(f"{DURATION}_count")]
        self.assertEqual(sum(counts), 40_000)

    def test_formats(self) -> None:
        """OpenMetrics is used if the Accept field asks for it, with the same samples."""
        snapshot = workerSnapshot(3)
        body, kind = exposed(snapshot, OPEN_METRICS)
        self.assertTrue(kind.startswith("application/openmetrics-text"), kind)
        plain = {each.name.removesuffix("_info") for each in parse(page(snapshot))}
        self.assertEqual({each.name for each in parseOpenMetrics(body.decode())}, plain)

    def test_strangeAccept(self) -> None:
        """An invalid Accept field gets the text format."""
        names, kind = set(samples(page(workerSnapshot(1)))), exposed(workerSnapshot(1), "")[1]
        for accept in (f"{OPEN_METRICS.partition(';')[0]}; version=x", "\xff", ";", "a" * 9999):
            body, its = exposed(workerSnapshot(1), accept)
            self.assertEqual((set(samples(body.decode())), its), (names, kind), accept)


class TurnTests(SynchronousTestCase):
    """A long page is made in many turns."""

    def test_often(self) -> None:
        """In both formats no piece has more than a few samples, and the page is the same."""
        templates = [f"/{each}" for each in range(100)]
        exchanges = [ended(each) for each in templates]
        for accept in ("", OPEN_METRICS):
            snapshot = sidecarSnapshot(*exchanges, routes=Routes(templates))
            pieces = list(exposition(snapshot, accept, Series(isRouted=True)))
            body, _ = exposed(snapshot, accept, Series(isRouted=True))
            self.assertGreater(body.count(b"\n"), 1500)
            self.assertLessEqual(max(pieces), MAX_WORK)
            self.assertGreater(sum(pieces), 1500 * 10)
            names = [line for line in body.splitlines() if line.startswith(b"# TYPE")]
            self.assertEqual(len(set(names)), len(names))
            if accept:
                self.assertTrue(body.endswith(b"\n# EOF\n") and body.count(b"# EOF") == 1)


class PromtoolTests(SynchronousTestCase):
    """The check of Prometheus's own tool."""

    def test_noFault(self) -> None:
        """promtool finds no fault with the format, the names and the units."""
        snapshot = sidecarSnapshot(
            ended(),
            ended("/b?c", "PUT", status=200, upstreamStatus=500),
            ended(status=None),
            routes=Routes(["/b"]),
        )
        found = promtool("check", "metrics", stdin=exposed(snapshot, "")[0])
        self.assertEqual(found, (0, ""))
