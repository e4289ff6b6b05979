"""
Promises of the alert rules in docker/alerts.yml, by Prometheus's own tool.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.metrics import page, promtool, sidecarSnapshot

RULES = Path(__file__).parents[2] / "docker/alerts.yml"

CLIENT = "http_client_request_duration_seconds_count"
SERVER = "http_server_request_duration_seconds_count"
MASKED = "sitio_masked_failures_total"

#: Requests that go well, those that fail by the client's fault, and attempts that others outran.
USUAL = (
    (CLIENT, {"http_response_status_code": "200"}),
    (CLIENT, {"http_response_status_code": "404", "error_type": "404"}),
    (CLIENT, {"error_type": "client_gone"}),
    (CLIENT, {"error_type": "outrun"}),
    (SERVER, {"http_response_status_code": "200"}),
    (SERVER, {"http_response_status_code": "404"}),
    (SERVER, {"error_type": "client_gone"}),
)

#: Kinds of failures, as both metrics label them.
FAILURES = (
    ({"http_response_status_code": "503", "error_type": "503"},) * 2,
    (
        {"error_type": "connection_refused"},
        {"http_response_status_code": "502", "error_type": "502"},
    ),
    ({"error_type": "timeout"}, {"http_response_status_code": "504", "error_type": "504"}),
    ({"http_response_status_code": "200", "error_type": "connection_lost"},) * 2,
)


class AlertTests(SynchronousTestCase):
    """Which alerts there are after a quarter of an hour."""

    def test_rules(self) -> None:
        """promtool finds no fault with the rules; each metric in them is one of sitio's."""
        status, said = promtool("check", "rules", str(RULES))
        self.assertEqual(status, 0, said)
        known = set(re.findall(r"^# TYPE (\S+)", page(sidecarSnapshot()), re.MULTILINE))
        [group] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
        text = " ".join(each["expr"] for each in group["rules"])
        asked = set(re.findall(r"\b(?:http|sitio|process)_[a-z_]+", text))
        self.assertEqual({re.sub("_count$", "", each) for each in asked} - known, set())

    def fires(self, expected: set[str], *more: tuple[str, dict[str, str]]) -> None:
        """With these series besides the usual ones exactly these alerts fire."""
        series = []
        for name, labels in (*USUAL, *more):
            named = {"job": "sitio", "instance": "a", **labels}
            text = ", ".join(f'{key}="{value}"' for key, value in named.items())
            usual = (name, labels) in USUAL
            series.append({"series": f"{name}{{{text}}}", "values": f"0+{60 if usual else 20}x20"})
        firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
        samples = [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in sorted(expected)]
        test = {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [{"expr": firing, "eval_time": "15m", "exp_samples": samples}],
        }
        told = Path(self.mktemp())
        # JSON is YAML, too.
        told.write_text(
            json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
        )
        status, said = promtool("test", "rules", str(told))
        self.assertEqual(status, 0, f"{expected} {more}: {said}")

    def test_quiet(self) -> None:
        """While all is well nothing fires: not for 404s, nor for clients that leave."""
        self.fires(set())

    def test_outages(self) -> None:
        """An outage of the service fires, whatever kind of failure it is; so do its errors."""
        for atService, atClient in FAILURES:
            expected = {"SitioServiceFails", "SitioClientsSeeErrors"}
            self.fires(expected, (CLIENT, atService), (SERVER, atClient))

    def test_masked(self) -> None:
        """An outage that a policy masks fires as well, though clients are sent only 200s."""
        for atService, atClient in FAILURES:
            status = {"http_response_status_code": atClient["http_response_status_code"]}
            self.fires({"SitioServiceFails", "SitioMasks"}, (CLIENT, atService), (MASKED, status))

    def test_policyFails(self) -> None:
        """Errors that sitio itself makes fire for clients only."""
        error = {"http_response_status_code": "500", "error_type": "500"}
        self.fires({"SitioClientsSeeErrors"}, (SERVER, error))
