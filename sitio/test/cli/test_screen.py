"""
Promises of L{sitio.cli.screen}: what C{sitio status} shows.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.cli import screen as screens
from sitio.cli.screen import (
    STATES,
    Status,
    duration,
    millis,
    number,
    quantile,
    rate,
    screen,
)
from sitio.cli.terminal import Terminal
from sitio.test.helpers.snapshots import workerSnapshot


def endpoint(address: str, **changes: Any) -> dict[str, Any]:
    """An endpoint of an upstream, as a snapshot has it."""
    return {
        "address": address,
        "states": {"healthy": 1},
        "weight": 1,
        "outstanding": 2,
        "open": 3,
        "idle": 1,
        "sent": 4000,
        "answered": 4000,
        "failed": 0,
        "seconds": 8.0,
        "ejections": 0,
        "lastFailure": "",
        **changes,
    }


def upstream(name: str, *endpoints: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An upstream, as a snapshot has it."""
    return {"name": name, "problem": "", "judged": True, "endpoints": list(endpoints), **changes}


def status(**changes: Any) -> Status:
    """What a sitio tells that has had 8 requests, 3 of them in the last second."""
    now: dict[str, Any] = {**workerSnapshot(8), **changes}
    before = workerSnapshot(5)
    now["metrics"]["uptime"], before["metrics"]["uptime"] = 8040.0, 8039.0
    config = {"sitio": "1.2.3", "generation": 4, "options": {"port": "tcp:8080"}}
    return Status("127.0.0.1:9901", True, "sitio is ready", config, now, before)


def text(shown: Status, width: int = 100) -> str:
    """The screen without colours."""
    return "\n".join(screen(shown, Terminal(width)))


def changed(shown: Status, **config: Any) -> Status:
    """The status with another configuration."""
    return Status(
        shown.admin,
        shown.isReady,
        shown.state,
        {**shown.config, **config},
        shown.now,
        shown.before,
    )


class HeadTests(SynchronousTestCase):
    """The first lines."""

    def test_first(self) -> None:
        """Version, state, generation and uptime are in the first line."""
        first = text(status()).splitlines()[0]
        self.assertEqual(first, "sitio 1.2.3   ready   generation 4   up 2 h 14 min")

    def test_notReady(self) -> None:
        """If sitio is not ready, the reason is there, on a line of its own if it is long."""
        why = "the upstream at tcp:localhost:8087 can't be reached: Connection refused"
        for reason, lines in (("sitio is draining", 1), (why, 2)):
            shown = Status("a:1", False, reason, {"sitio": "1"}, status().now)
            head = text(shown).split("\n\n")[0].splitlines()
            self.assertEqual(len(head), lines)
            self.assertIn(reason.removeprefix("sitio is "), "".join(head))
        coloured = screen(Status("a:1", False, why, {}, status().now), Terminal(80, True))
        self.assertIn("\x1b[31m", coloured[0])

    def test_reload(self) -> None:
        """A reload that has failed is told, each mistake; and what needs a restart."""
        mistakes = ["sitio.toml:17: routes[2].upstream: there is no upstream 'foto'", "b"]
        shown = changed(status(), refused={"mistakes": mistakes}, needRestart=["workers"])
        lines = text(shown).splitlines()
        self.assertIn("The last reload failed", lines[1])
        self.assertEqual([each.strip() for each in lines[2:4]], mistakes)
        self.assertEqual(lines[4], "These keys need a restart: workers")


class TrafficTests(SynchronousTestCase):
    """Requests and errors."""

    def test_now(self) -> None:
        """Rates are those between the two looks."""
        self.assertIn("Now          3.0 requests/s   0.0 errors/s   2 under way", text(status()))
        self.assertIn("Since start  8 requests   0 errors (0 %)", text(status()))

    def test_mean(self) -> None:
        """With one look they are means since the start."""
        shown = status()
        shown = Status(shown.admin, True, shown.state, shown.config, shown.now)
        shown.now["metrics"]["uptime"] = 4.0
        self.assertIn("Mean         2.0 requests/s", text(shown))

    def test_errors(self) -> None:
        """Errors are marked."""
        shown = status()
        shown.now["metrics"]["total"]["sentFailed"] = 2
        lines = screen(shown, Terminal(100, True))
        self.assertIn("\x1b[31m\x1b[1m2.0 errors/s", lines[2])
        self.assertIn("2 errors (25 %)", lines[3])


class SectionTests(SynchronousTestCase):
    """Listeners, upstreams, policies and workers."""

    def test_listeners(self) -> None:
        """Each listener is named, or the only port."""
        self.assertIn("Listeners    tcp:8080\n", text(status()))
        listeners = [{"address": "tcp:80"}, {"address": "tcp:443", "tls": {}}, "unix:a"]
        listeners[1]["tls"] = {"key": "a"}  # type: ignore[index]
        shown = changed(status(), listeners=listeners)
        self.assertIn("Listeners    tcp:80   tcp:443 (TLS)   unix:a\n", text(shown))

    def test_upstreams(self) -> None:
        """Each endpoint has its state and its counts, and its last failure below."""
        found = [
            upstream("photos", endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80", failed=7)),
            upstream("canary", endpoint("c:80", lastFailure="it was refused"), problem="no DNS"),
            upstream("empty"),
        ]
        lines = text(status(upstreams=found)).splitlines()
        start = lines.index("Upstreams") + 1
        rows = [each.split() for each in lines[start : start + 7]]
        self.assertEqual(rows[0][:4], ["upstream", "endpoint", "state", "under"])
        counts = ["healthy", "2", "3", "1", "4,000"]
        self.assertEqual(rows[1], ["photos", "10.0.0.1:80", *counts, "0", "2.00", "ms", "0"])
        self.assertEqual(rows[2], ["10.0.0.2:80", *counts, "7", "2.00", "ms", "0"])
        self.assertEqual(" ".join(rows[4] + rows[5]), "no DNS last failure: it was refused")
        self.assertEqual(rows[6], ["empty", "none"])

    def test_gone(self) -> None:
        """An endpoint that no process knows any more is not shown."""
        found = [upstream("a", endpoint("old:1", states={}), endpoint("new:1"))]
        shown = text(status(upstreams=found))
        self.assertNotIn("old:1", shown)
        self.assertIn("new:1", shown)

    def test_states(self) -> None:
        """Each state has a colour; of several, the worst counts."""
        for name, style in STATES.items():
            states = {"healthy": 3, name: 1} if name != "healthy" else {name: 4}
            found = [upstream("a", endpoint("b:1", states=states))]
            lines = screen(status(upstreams=found), Terminal(100, True))
            code = {"green": 32, "red": 31, "yellow": 33}[style["fg"]]
            [line] = [each for each in lines if "b:1" in each]
            self.assertRegex(line, rf"\x1b\[{code}m(\x1b\[1m)?[^\x1b]*{name}")

    def test_older(self) -> None:
        """Of a sitio that tells no upstreams, the address of the only one is shown."""
        shown = status()
        dict(shown.now).pop("upstreams", None)
        plain = {name: value for name, value in shown.now.items() if name != "upstreams"}
        shown = Status("a:1", True, "ready", {}, plain)
        self.assertIn("Upstream     localhost:8087", text(shown))

    def test_policies(self) -> None:
        """Each policy has its counts; without one there is no section."""
        self.assertRegex(text(status()), r"\n  deny +requests +8 +0 +0 +250 ms")
        self.assertNotIn("Policies", text(status(policies=[])))

    def test_workers(self) -> None:
        """Workers are listed if there are several."""
        self.assertNotIn("Workers", text(status()))
        two = workerSnapshot(1)["workers"] * 2
        self.assertRegex(text(status(workers=two)), r"\n +1 +1 +1 s +0 +1 +3\n")

    def test_many(self) -> None:
        """Long tables end with the number of the rows that are left out."""
        self.patch(screens, "MAX_ROWS", 2)
        endpoints = [endpoint(f"e{at}:1") for at in range(5)]
        shown = text(status(upstreams=[upstream("a", *endpoints)]))
        self.assertIn("and 3 more; --json has all", shown)
        self.assertNotIn("e2:1", shown)

    def test_fits(self) -> None:
        """Whatever the width, no line is longer."""
        found = [
            upstream(
                "photos",
                endpoint("[2001:db8::7]:8087", states={"healthy": 3, "ejected": 1}),
                problem="the servers of DNS do not answer, and the last answer is old",
            )
        ]
        for width in (60, 80, 120):
            shown = changed(status(upstreams=found), refused={"mistakes": ["a mistake " * 20]})
            for line in text(shown, width).splitlines():
                self.assertLessEqual(len(line), width, line)


class NumberTests(SynchronousTestCase):
    """How numbers are written."""

    def test_numbers(self) -> None:
        """Each has few digits, and its unit."""
        self.assertEqual(number(1234567), "1,234,567")
        self.assertEqual([rate(3, 2), rate(12345, 1), rate(1, 0)], ["1.5", "12,345", "0"])
        self.assertEqual(
            [duration(each) for each in (5.9, 65, 3720, 90000)],
            ["5 s", "1 min 5 s", "1 h 2 min", "1 d 1 h"],
        )
        self.assertEqual(
            [millis(each) for each in (1.5, 0.0123, 0.0012, 0.0000123, 0)],
            ["1.50 s", "12.3 ms", "1.20 ms", "12.3 us", "0.00 us"],
        )

    def test_quantile(self) -> None:
        """A quantile lies within its bucket; beyond the last bound it is that bound."""
        bounds = [1.0, 2.0, 4.0]
        self.assertEqual(quantile([2, 0, 2, 0], bounds, 0.5), 1.0)
        self.assertEqual(quantile([2, 0, 2, 0], bounds, 0.75), 3.0)
        self.assertEqual(quantile([0, 0, 0, 5], bounds, 0.5), 4.0)
        self.assertEqual(quantile([0, 0, 0, 0], bounds, 0.5), 0.0)
