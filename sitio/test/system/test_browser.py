"""
Tests of the dashboard page, C{sitio/admin/page}, in a real browser.

Chromium runs headless and is driven by selenium, from a thread.  The page gets its data
from a fake sidecar in this process.  Without Chromium or selenium these tests are
skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGTERM
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site
from zope.interface import implementer

from sitio.admin import dashboard as module
from sitio.admin.dashboard import dashboard
from sitio.errors import UpstreamLost
from sitio.proxy.exchange import CONNECTING, SENDING, WAITING
from sitio.test.helpers.browser import browser, webdriver
from sitio.test.helpers.exchanges import ended, facts
from sitio.test.helpers.loopback import (
    LIMIT_SECONDS,
    LISTENING_LINE,
    LOCALHOST,
    LoopbackTestCase,
    reactor,
)
from sitio.test.helpers.sidecars import Source
from sitio.test.helpers.snapshots import upstreamEndpoint, upstreamOf

#: Seconds between two events here, and between two looks at the page.
BEAT = 0.1
POLL_SECONDS = 0.05

#: Where the service is: a name as long as those in clusters are.
UPSTREAM = "tcp:photographs.some-namespace.svc.cluster.local:8087"

#: How much darker or lighter than its ground each text is, at the least, and which.
CONTRAST = """
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const context = canvas.getContext("2d", { willReadFrequently: true });
const painted = (colours) => {
  for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
  const grounds = [];
  for (let each = element; each; each = each.parentElement) {
    grounds.unshift(getComputedStyle(each).backgroundColor);
  }
  const ground = painted(["white", ...grounds]);
  const ink = painted([`rgb(${ground})`, getComputedStyle(element).color]);
  const [one, two] = [light(ink), light(ground)].sort((a, b) => b - a);
  const ratio = (one + 0.05) / (two + 0.05);
  if (ratio < 4.5) bad.push(`${text}: ${ratio.toFixed(2)}`);
}
return bad;
"""


class QuietSite(Site):
    """A site that logs no requests."""

    noisy = False

    def log(self, request: Any) -> None:
        """Log nothing."""


@implementer(IReactorTime)
class Ahead:
    """
    The reactor's clock, which can be set forward.

    @ivar ahead: by so many seconds.
    """

    ahead = 0.0

    def seconds(self) -> float:
        """See L{IReactorTime}."""
        return float(reactor.seconds()) + self.ahead

    def callLater(self, *arguments: Any, **more: Any) -> Any:
        """See L{IReactorTime}."""
        return reactor.callLater(*arguments, **more)

    def getDelayedCalls(self) -> Any:
        """See L{IReactorTime}."""
        return reactor.getDelayedCalls()


#: What a canvas shows, read from a copy: the browser complains of who reads one twice.
PIXELS = """
    const pixels = (selector) => {
      const copy = document.querySelector(selector).cloneNode();
      const context = copy.getContext("2d");
      context.drawImage(document.querySelector(selector), 0, 0);
      return context;
    };
"""


class Looking:
    """
    For test cases: looks at a page with a browser.

    @ivar browser: the browser.
    @ivar address: of the page.
    @cvar finished: addresses of earlier tests, which share the browser.  It may log the
        end of their connections late.
    """

    browser: Any
    address: str
    finished: ClassVar[set[str]] = set()

    async def drive(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the browser in a thread, as this process serves the page meanwhile."""
        return await deferToThread(function, *arguments)

    async def js(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; returns its result."""
        return await self.drive(self.browser.execute_script, script, *arguments)

    async def becomes(self, script: str, *arguments: Any) -> Any:
        """Wait until a script returns a true value; returns it."""
        for _ in range(int(LIMIT_SECONDS / POLL_SECONDS)):
            found = await self.js(script, *arguments)
            if found:
                return found
            await deferLater(reactor, POLL_SECONDS)
        shown = await self.js("return document.body.innerText")
        raise AssertionError(f"{script} {arguments} did not come true; shown is\n{shown}")

    async def untilText(self, selector: str, text: str) -> None:
        """Wait until an element has this text."""
        await self.becomes(
            "return document.querySelector(arguments[0])?.textContent === arguments[1]",
            selector,
            text,
        )

    async def text(self, selector: str) -> str:
        """The text of an element, as it is shown."""
        return str(await self.js("return document.querySelector(arguments[0]).innerText", selector))

    async def texts(self, selector: str) -> list[str]:
        """The texts of all elements that match."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
        return list(await self.js(script, selector))

    async def click(self, selector: str) -> None:
        """Click on an element with the mouse."""
        await self.drive(self._click, selector)

    def _click(self, selector: str) -> None:
        element = self.browser.find_element("css selector", selector)
        self.browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
        webdriver.ActionChains(self.browser).move_to_element(element).click().perform()

    def _hover(self, selector: str) -> None:
        element = self.browser.find_element("css selector", selector)
        self.browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
        webdriver.ActionChains(self.browser).move_to_element(element).perform()

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        await self.drive(webdriver.ActionChains(self.browser).send_keys(*keys).perform)

    async def focus(self, selector: str) -> None:
        """Focus an element as the Tab key does, with a visible focus."""
        for _ in range(60):
            await self.press(webdriver.Keys.TAB)
            if await self.js("return document.activeElement.matches(arguments[0])", selector):
                return
        raise AssertionError(f"{selector} can't be reached by the Tab key")

    async def cdp(self, command: str, **arguments: Any) -> None:
        """Send a command of the Chrome DevTools protocol."""
        await self.drive(self.browser.execute_cdp_cmd, command, arguments)

    async def look(self, width: int = 1280, height: int = 900, **media: str) -> None:
        """Open the page, on a screen of this size, and wait for its first metrics."""
        await self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value}
            for name, value in {"color_scheme": "light", **media}.items()
        ]
        await self.cdp("Emulation.setEmulatedMedia", features=features)
        await self.drive(self.browser.get, self.address)
        await self.js("localStorage.clear()")
        # Rows below the pointer do not move.
        corner = {"type": "mouseMoved", "x": 0, "y": 0}
        await self.cdp("Input.dispatchMouseEvent", **corner)
        await self.untilText("#link-text", "Live")

    async def complaints(self) -> list[str]:
        """The browser's log entries since the last call, without those of L{finished} pages."""
        entries = await self.drive(self.browser.get_log, "browser")
        messages = [each["message"] for each in entries]
        return [each for each in messages if not each.startswith(tuple(self.finished))]


class BrowserTestCase(Looking, TestCase):
    """A dashboard on a port, with a fake sidecar behind it."""

    timeout = 4 * LIMIT_SECONDS

    def setUp(self) -> None:
        self.browser = browser()
        self.patch(module, "INTERVAL_SECONDS", BEAT)
        self.source = Source(reactor)
        self.clock = Ahead()
        self.version = "1.2.3"
        self.addresses: list[str] = []
        self.listen(0)
        self.addCleanup(self.close)

    def listen(self, number: int) -> None:
        """Listen on a port."""
        self.dashboard = dashboard(
            self.source,
            self.clock,
            {"sitio": self.version, "options": {"port": "tcp:8088", "upstream": UPSTREAM}},
            self.source.findProblem,
        )
        self.connections = WrappingFactory(QuietSite(self.dashboard, reactor=reactor))
        self.connections.noisy = False
        self.port = reactor.listenTCP(number, self.connections, interface=LOCALHOST)
        self.address = f"http://{LOCALHOST}:{self.port.getHost().port}/"
        self.finished.discard(self.address)
        self.addresses.append(self.address)

    async def listenSlowly(self) -> None:
        """Replace the dashboard by one with an event a minute."""
        await self.vanish()
        self.patch(module, "INTERVAL_SECONDS", 60.0)
        self.listen(0)

    async def close(self) -> None:
        """Leave the page, and close the port."""
        self.finished.update(self.addresses)
        await self.drive(self.browser.get, "about:blank")
        await self.vanish()

    async def vanish(self) -> None:
        """Close the port and all connections."""
        self.dashboard.stop()
        await maybeDeferred(self.port.stopListening)
        while self.connections.protocols:
            for each in list(self.connections.protocols):
                each.abortConnection()
            await deferLater(reactor, 0)

    def outage(self, times: int = 30, **more: Any) -> None:
        """Count so many failures, all masked."""
        self.source.count("/a", times, status=200, upstreamStatus=500)
        said: dict[str, Any] = {"why": "the service answered 500; last-good sent 200", **more}
        failed = facts(
            f"1-{times}",
            upstreamStatus=500,
            answeredBy="policy last-good",
            acted=["last-good"],
            failed=True,
            **said,
        )
        self.source.recent.insert(0, failed)
        self.source.failed.insert(0, failed)
        self.source.acted += times


class PageTests(BrowserTestCase):
    """What the page shows."""

    async def test_first(self) -> None:
        """At the first event the recent past is unknown, and the summary says so."""
        await self.listenSlowly()
        self.source.count("/a", 5)
        await self.look()
        await self.untilText("#summary-title", "Measuring")
        self.assertIn("5 requests since the start", await self.text("#summary-text"))

    async def test_idle(self) -> None:
        """Before the first request the page shows how to make one; the browser logs no error."""
        await self.look()
        await self.untilText("#summary-title", "No requests yet")
        self.assertEqual(await self.text("#curl"), "curl -i http://localhost:8088/")
        self.assertEqual(await self.text("#upstream-when"), UPSTREAM)
        self.assertIn("sitio 1.2.3", await self.text("#since"))
        self.assertEqual(await self.texts("#endpoints tbody tr"), [])
        self.assertEqual(await self.complaints(), [])

    async def test_numbers(self) -> None:
        """Numbers are updated by themselves; the browser logs no error."""
        await self.look()
        self.source.count("/a", 3)
        self.source.count("/b", 1, status=404, upstreamStatus=404)
        self.source.count("/c", 2, status=404, upstreamStatus=200)
        await self.untilText("#summary-title", "All is well")
        self.assertTrue(await self.js("return document.querySelector('#first').hidden"))
        await self.becomes("return document.querySelectorAll('#endpoints tbody tr').length === 3")
        self.assertEqual(
            await self.texts('#endpoints [data-cell="name"]'), ["GET /a", "GET /c", "(not found)"]
        )
        self.assertEqual(await self.texts('#endpoints [data-cell="hits"]'), ["3", "2", "1"])
        self.assertNotEqual(await self.text("#rate"), "0")
        self.assertRegex(await self.text("#p50"), r"^[0-9.]+\s?ms$")
        self.assertEqual(await self.texts("#statuses li"), ["2005", "4041"])
        policy = ["last-good", "9", "0", "1.0\u202fms", "0"]
        self.assertEqual(await self.texts("#policies tbody td"), policy)
        self.source.count("/a", 1000)
        await self.untilText('#endpoints [data-cell="hits"]', "1,003")
        self.assertEqual(await self.complaints(), [])

    async def test_upstreams(self) -> None:
        """Endpoints are shown with their state, their share and why they get no requests."""
        one = upstreamEndpoint("10.0.0.1:80", sent=10, answered=10, seconds=0.05)
        hung = upstreamEndpoint("10.0.0.2:80", failed=5, ejections=1, lastFailure="it hung")
        hung["states"] = {"ejected": 1, "healthy": 1}
        self.source.upstreams = [upstreamOf("photos", one, hung)]
        await self.look()
        await self.untilText("#upstreams-when", "1 of 2 endpoints get requests")
        self.assertEqual(await self.text("#upstream-when"), "all endpoints together")
        row = ["10.0.0.1:80\nphotos", "healthy", "0", "10", "5.0\u202fms", "\u2013", "\u2013"]
        self.assertEqual((await self.texts("#upstream-endpoints tbody td"))[:7], row)
        self.assertEqual(
            await self.texts('#upstream-endpoints [data-cell="state"] > *'),
            ["healthy", "", "ejected in 1 of 2, healthy in 1 of 2", "it hung"],
        )
        one["sent"] = 20
        await self.untilText('#upstream-endpoints [data-cell="sent"]', "20 100 %")
        self.source.upstreams = []
        await self.becomes("return document.querySelector('#upstreams').hidden")
        self.assertEqual(await self.complaints(), [])

    async def test_streams(self) -> None:
        """
        Requests that last are seen while they run, also if none has ended: in the summary,
        in the rate of bytes, and as rows.
        """
        streams = [ended("/events", began=float("-inf")) for _ in range(200)]
        self.source.stats.watch(streams)
        await self.look()
        await self.untilText("#summary-title", "In progress")
        self.assertIn("200 requests are open", await self.text("#summary-text"))
        self.assertIn("None has ended yet", await self.text("#summary-text"))
        self.assertTrue(await self.js("return document.querySelector('#first').hidden"))
        name = '#endpoints [data-cell="name"]'
        self.assertEqual(await self.texts(name), ["GET /events"])
        hits = '#endpoints [data-cell="hits"]'
        self.assertEqual(await self.texts(hits), ["0\n200 open"])
        for each in streams:
            each.bytesOut = 50_000
        await self.becomes("return document.querySelector('#bytes').textContent !== '0B'")
        self.assertIn("go to clients each second", await self.text("#summary-text"))
        # One ends.
        self.source.stats.exchangeFinished(streams.pop())
        await self.untilText(hits, "1 199 open")
        streams.clear()
        await self.untilText(hits, "1")
        self.assertEqual(await self.complaints(), [])

    async def test_charts(self) -> None:
        """In the chart failures are red above the axis; masked ones are not red below it."""
        await self.look()
        # A bar a few pixels high.
        self.clock.ahead += 4
        self.source.count("/a", 40)
        self.outage(40)
        await self.untilText("#summary-title", "Outage, masked")
        # Stripes, for readers who can't distinguish red and green.
        await self.becomes(
            PIXELS
            + """
            const { width, height } = document.querySelector("#traffic");
            const { data } = pixels("#traffic").getImageData(0, 0, width, height);
            const [above, below] = [0, 1].map(() => ({ red: 0, green: 0, striped: 0 }));
            for (let at = 0; at < data.length; at += 4) {
              const [r, g, b, a] = data.slice(at, at + 4);
              if (a < 250) continue;
              const side = at / 4 / width < (height - 20) / 2 ? above : below;
              if (r > 170 && g < 90) side.red += 1;
              if (g > 110 && r < 90) side.green += 1;
              if (r > 200 && g > 110 && g < 200 && b < 200) side.striped += 1;
            }
            return above.striped > 20 && above.red > 20 && above.green > 20
              && below.green > above.red && below.red === 0;
            """
        )
        await self.becomes(
            PIXELS
            + """
            const { width, height } = document.querySelector("#latency");
            const { data } = pixels("#latency").getImageData(60, 0, width - 60, height);
            for (let at = 0; at < data.length; at += 4) {
              const [r, g, b, a] = data.slice(at, at + 4);
              if (a > 200 && g > 90 && r < 60) return true;
            }
            return false;
            """
        )

    async def test_masked(self) -> None:
        """A masked outage is shown in red, and clients got 100 % good responses."""
        await self.look()
        self.source.count("/a", 10)
        self.outage(30)
        await self.untilText("#summary-title", "Outage, masked")
        self.assertRegex(
            await self.text("#summary-text"),
            r"^30 of 40 requests failed .* \(75\.0\s%\)\.",
        )
        self.assertEqual(await self.text("#upstreamStatuses-share"), "25.0\u202f%")
        self.assertEqual(await self.text("#statuses-share"), "100\u202f%")
        self.assertEqual(await self.js("return document.title"), "Outage, masked \u00b7 sitio")
        self.assertIn("%23c2362b", await self.js("return document.querySelector('#icon').href"))
        red, green, blue = await self.js(
            "return getComputedStyle(document.querySelector('#summary-title')).color"
            ".match(/[0-9]+/g).map(Number)"
        )
        self.assertGreater(red, 2 * max(green, blue))
        self.assertEqual(
            await self.texts("#failure-list .why"),
            ["The service answered 500; last-good sent 200."],
        )
        self.assertEqual(await self.texts("#last tbody .code"), ["500", "200"])
        self.assertEqual(await self.text('#endpoints [data-cell="failures"]'), "30 masked")

    async def test_seen(self) -> None:
        """Failures that clients get are not masked; client errors are no outage."""
        await self.look()
        self.source.count("/a", 5, status=500, upstreamStatus=500)
        await self.untilText("#summary-title", "Outage")
        self.source.count("/a", 5, status=200, upstreamStatus=500)
        await self.untilText("#summary-title", "Outage, partly masked")
        self.assertIn("5 were masked; clients saw 5 errors", await self.text("#summary-text"))

    async def test_few(self) -> None:
        """A few failures among many responses are a warning, not an outage."""
        await self.look()
        self.source.count("/a", 500)
        self.source.count("/a", 1, status=502, upstreamStatus=502)
        await self.untilText("#summary-title", "A few failures")
        self.assertEqual(
            await self.js("return document.querySelector('#summary').dataset.level"), "warn"
        )

    async def test_notThere(self) -> None:
        """Without traffic the page still shows that the service is down."""
        self.source.problem = "the upstream can't be reached: Connection refused."
        await self.look()
        await self.untilText("#summary-title", "Service is down")
        self.assertEqual(
            await self.text("#summary-text"), "The upstream can't be reached: Connection refused."
        )

    async def test_broken(self) -> None:
        """Responses that break off do not count as good, with any status."""
        await self.look()
        self.source.count("/a", 10)
        self.source.count("/a", 30, failure=UpstreamLost(), brokeOff=True)
        await self.untilText("#summary-title", "Responses break off")
        self.assertIn("30 of 40 requests", await self.text("#summary-text"))
        self.assertEqual(await self.text("#statuses-share"), "25.0\u202f%")

    async def test_waiting(self) -> None:
        """A service that accepts requests and does not answer is shown as slow."""
        for state in (WAITING, CONNECTING):
            stuck = facts(
                "1-7",
                state=state,
                duration=42.0,
                status=None,
                upstreamStatus=None,
                answeredBy=None,
                path="/slow",
            )
            self.source.open = [facts("1-6", state=SENDING, duration=99.0), stuck]
            await self.look()
            await self.untilText("#summary-title", "Service is slow")
            self.assertIn("the oldest has waited 42 s", await self.text("#summary-text"))
        self.source.count("/a", 5)
        await self.untilText("#summary-title", "All is well")
        self.assertIn("has waited 42 s", await self.text("#summary-text"))
        self.source.open = self.source.open[:1]
        await self.becomes(
            "return !document.querySelector('#summary-text').textContent.includes('waited')"
        )

    async def test_unseen(self) -> None:
        """The time before the page opened is summed up, and soon replaced by new traffic."""
        self.source.count("/a", 5)
        await self.look()
        await self.untilText('#endpoints [data-cell="hits"]', "5")
        self.clock.ahead += 120
        self.outage(30)
        await self.untilText("#summary-title", "Outage, masked")
        self.assertIn("in the last 2 min", await self.text("#summary-text"))
        self.source.count("/a", 3)
        for _ in range(3):
            self.clock.ahead += 2
            await deferLater(reactor, 2 * BEAT)
        await self.untilText("#summary-title", "All is well")
        self.assertRegex(await self.text("#summary-text"), "^3 requests in the last . s, ")

    async def test_draining(self) -> None:
        """A draining sidecar is shown as such."""
        await self.look()
        self.assertTrue(await self.js("return document.querySelector('#state').hidden"))
        self.source.state = "draining"
        await self.becomes("return !document.querySelector('#state').hidden")
        self.assertEqual(await self.text("#state"), "draining")

    async def test_failures(self) -> None:
        """Failures of one kind are one item with a number; client errors are not red."""
        for number in range(3):
            why = f"it broke off., at attempt {number + 1}; last-good sent 200"
            self.outage(number + 1, path=f"/{number}", why=why)
        self.source.failed.insert(
            0,
            facts(
                "9",
                status=499,
                why="the client went away before its response was complete",
                failed=False,
            ),
        )
        await self.look()
        await self.becomes("return document.querySelectorAll('#failure-list li').length === 2")
        self.assertEqual(await self.texts("#failure-list .times"), ["1\u00d7", "3\u00d7"])
        self.assertEqual(
            await self.texts("#failure-list .why"),
            [
                "The client went away before its response was complete.",
                "It broke off; last-good sent 200.",
            ],
        )
        self.assertEqual(
            await self.texts("#failure-list .route"), ["GET /", "GET /0, GET /1, GET /2"]
        )
        theirs = "return document.querySelectorAll('#failure-list .byClient').length"
        self.assertEqual(await self.js(theirs), 1)

    async def test_failuresAgain(self) -> None:
        """A failure that recurs after a while moves to the top."""
        await self.look()
        for at, name in ((0, "old"), (10, "new"), (20, "old"), (90, "old")):
            self.source.failed = [
                facts(
                    f"{name} {at}",
                    began=1_790_000_000.0 + at,
                    upstreamStatus=500,
                    failed=True,
                    why=name,
                )
            ]
            await self.becomes(
                "return document.querySelector('#failure-list')?.innerText.includes(arguments[0])",
                f"{name.title()}.",
            )
            await deferLater(reactor, 3 * BEAT)
            order = ["New.", "Old."] if at < 90 else ["Old.", "New."]
            if at >= 10:
                self.assertEqual((at, await self.texts("#failure-list .why")), (at, order))

    async def test_open(self) -> None:
        """A long exchange is listed while it is open, and after its end."""
        self.source.open = [
            facts(
                "1-7",
                state="waiting for the response",
                duration=3.0,
                status=None,
                upstreamStatus=None,
                answeredBy=None,
                path="/slow",
                why="",
            )
        ]
        await self.look()
        await self.untilText('#last [data-cell="status"]', "open")
        self.assertEqual(
            await self.text('#last [data-cell="answeredBy"]'), "waiting for the response"
        )
        self.assertRegex(await self.text('#last [data-cell="took"]'), r"^3\.0\ss$")
        self.source.open = []
        self.source.recent = [facts("1-7", path="/slow", duration=4.0)]
        await self.untilText('#last [data-cell="status"]', "200")
        self.assertEqual(await self.texts('#last [data-cell="request"]'), ["GET /slow"])

    async def test_hostile(self) -> None:
        """Text from clients is shown as text, and never runs as script."""
        path = "/<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
        self.source.count(path, 3, status=200, upstreamStatus=500)
        bad = facts(
            "1-1",
            path=path,
            client=path,
            why=path,
            failed=True,
            upstreamStatus=500,
            answeredBy=f"policy {path}",
        )
        self.source.recent = self.source.failed = [bad]
        await self.look()
        await self.becomes("return document.querySelectorAll('#endpoints tbody tr').length === 1")
        self.assertEqual(await self.text('#endpoints [data-cell="name"]'), f"GET {path}")
        self.assertEqual(await self.text("#failure-list .route"), f"GET {path}")
        self.assertEqual(await self.text("#last .route"), f"GET {path}")
        await self.click("#last td button")
        await self.becomes("return document.querySelector('#last tr.detail')")
        self.assertEqual(await self.js("return document.images.length"), 0)
        self.assertEqual(await self.js("return document.scripts.length"), 1)
        self.assertNotIn("owned", await self.js("return document.title"))
        self.assertEqual(await self.complaints(), [])

    async def test_disguised(self) -> None:
        """Invisible and direction-changing characters are shown by number."""
        self.source.count("/\u202egnp.exe", 1)
        self.source.recent = [facts(path="/a\tb\u200b\U0001f600")]
        await self.look()
        await self.untilText('#endpoints [data-cell="name"]', "GET /\\u{202e}gnp.exe")
        self.assertEqual(await self.text("#last .route"), "GET /a\\u{9}b\\u{200b}\U0001f600")

    async def test_many(self) -> None:
        """Of 512 endpoints the first are shown; a button shows all, a search some."""
        for number in range(512):
            self.source.count(f"/items/{number:03}", 1 + number % 7)
        await self.look()
        await self.becomes("return document.querySelectorAll('#endpoints tbody tr').length === 12")
        await self.click("#more")
        await self.becomes("return document.querySelectorAll('#endpoints tbody tr').length === 512")
        self.assertEqual(await self.text("#more"), "Show the first 12")
        await self.click("#find")
        await self.press("/items/51")
        await self.becomes("return document.querySelectorAll('#endpoints tbody tr').length === 2")
        await self.press("x")
        await self.untilText("#no-endpoints", "No endpoint matches.")
        self.assertEqual(await self.complaints(), [])


class UseTests(BrowserTestCase):
    """Using the page by mouse, by keyboard, and with assistive technology."""

    async def routes(self) -> list[str]:
        """The endpoints in the order shown."""
        return await self.texts('#endpoints [data-cell="name"]')

    async def endpoints(self) -> None:
        """Count hits of three endpoints, each of which is first in some order."""
        self.source.count("/a", 3, duration=0.5)
        self.source.count("/b", 9, duration=0.001)
        self.source.count("/c", 6, duration=0.01, status=500, upstreamStatus=500)
        await self.look()
        await self.becomes("return document.querySelectorAll('#endpoints tbody tr').length === 3")

    async def test_sortMouse(self) -> None:
        """A click on a heading sorts by it, another reverses the order; both are announced."""
        await self.endpoints()
        self.assertEqual(await self.routes(), ["GET /b", "GET /c", "GET /a"])
        for name, order in (
            ("median", ["GET /a", "GET /c", "GET /b"]),
            ("failures", ["GET /c", "GET /a", "GET /b"]),
            ("name", ["GET /a", "GET /b", "GET /c"]),
            ("hits", ["GET /b", "GET /c", "GET /a"]),
        ):
            await self.click(f'[data-sort="{name}"] button')
            self.assertEqual((name, await self.routes()), (name, order))
        await self.click('[data-sort="hits"] button')
        self.assertEqual(await self.routes(), ["GET /a", "GET /c", "GET /b"])
        sorted = await self.js(
            "return [...document.querySelectorAll('[aria-sort]')]"
            ".map((each) => [each.dataset.sort, each.ariaSort])"
        )
        self.assertEqual(sorted, [["hits", "ascending"]])

    async def test_sortKeyboard(self) -> None:
        """The same with Tab, Enter and Space; the focus is visible, and stays."""
        await self.endpoints()
        await self.focus('[data-sort="p95"] button')
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual(await self.js(outline), "solid")
        await self.press(webdriver.Keys.ENTER)
        self.assertEqual(await self.routes(), ["GET /a", "GET /c", "GET /b"])
        await self.press(webdriver.Keys.SPACE)
        self.assertEqual(await self.routes(), ["GET /b", "GET /c", "GET /a"])
        await deferLater(reactor, 3 * BEAT)
        here = "return document.activeElement.parentElement.dataset.sort"
        self.assertEqual(await self.js(here), "p95")

    async def exchanges(self) -> None:
        """Show five different exchanges."""
        self.source.recent = [
            facts(
                "4",
                path="/masked",
                upstreamStatus=500,
                answeredBy="policy last-good",
                acted=["last-good"],
            ),
            facts("3", path="/missing", status=404, upstreamStatus=404),
            facts("2", path="/there", client="198.51.100.9"),
            facts(
                "1", path="/broken", status=502, upstreamStatus=502, answeredBy="sitio", failed=True
            ),
            facts("0", path="/cut", failed=True, brokeOff=True),
        ]
        await self.look()
        await self.becomes("return document.querySelectorAll('#last tbody tr').length === 5")

    async def shown(self) -> list[str]:
        """The paths of the exchanges shown."""
        return [
            each.removeprefix("GET /") for each in await self.texts('#last [data-cell="request"]')
        ]

    async def test_filterText(self) -> None:
        """The text filter matches path, client and policies."""
        await self.exchanges()
        await self.click("#filter")
        for text, kept in (
            ("/mis", ["missing"]),
            ("198.51", ["there"]),
            ("LAST-GOOD", ["masked"]),
            ("nothing of it", []),
        ):
            await self.press(text)
            self.assertEqual((text, await self.shown()), (text, kept))
            await self.js("document.activeElement.select()")
        self.assertEqual(await self.text("#no-exchanges"), "No exchange matches the filter.")

    async def test_filterClass(self) -> None:
        """
        The status filter matches upstream and sent status, and failures; by mouse and by
        keyboard.  A 200 that broke off is a failure, and not one of the 2xx.
        """
        await self.exchanges()
        await self.click('#classes [value="failed"]')
        self.assertEqual(await self.shown(), ["masked", "broken", "cut"])
        await self.click('#classes [value="masked"]')
        self.assertEqual(await self.shown(), ["masked"])
        await self.press(webdriver.Keys.LEFT, webdriver.Keys.LEFT)
        self.assertEqual(await self.shown(), ["missing"])
        await self.press(webdriver.Keys.LEFT, webdriver.Keys.LEFT)
        self.assertEqual(await self.shown(), ["masked", "there"])

    async def test_pause(self) -> None:
        """While paused the list does not change, and shows how many exchanges are new."""
        await self.exchanges()
        await self.focus("#pause")
        await self.press(webdriver.Keys.SPACE)
        self.source.recent = [facts("5", path="/new"), *self.source.recent]
        self.source.count()
        await self.untilText("#pause", "Resume (1 new)")
        self.assertEqual(await self.shown(), ["masked", "missing", "there", "broken", "cut"])
        self.assertEqual(await self.js("return document.activeElement.ariaPressed"), "true")
        await self.press(webdriver.Keys.SPACE)
        self.assertEqual((await self.shown())[0], "new")
        self.assertEqual(await self.text("#pause"), "Pause")

    async def test_details(self) -> None:
        """An exchange opens and closes by keyboard, and shows its outcome and steps."""
        await self.exchanges()
        await self.focus("#last td button")
        await self.press(webdriver.Keys.ENTER)
        detail = await self.text("#last tr.detail")
        self.assertIn("The service answered 200.", detail)
        self.assertRegex(detail, r"Service\s+1\.0\sms")
        self.assertEqual(await self.js("return document.activeElement.ariaExpanded"), "true")
        await self.press(webdriver.Keys.ENTER)
        await self.becomes("return !document.querySelector('#last tr.detail')")

    async def came(self, id: str) -> None:
        """Have one more exchange end, and wait until the page has it."""
        self.source.recent = [facts(id, path=f"/{id}"), *self.source.recent]
        self.source.count()
        await self.becomes(
            "return document.querySelector('#since').innerText.includes(arguments[0])",
            f" {id} requests ",
        )

    async def test_still(self) -> None:
        """The list is held below the pointer, around the focus, and while an exchange is open."""
        self.source.count(times=4)
        await self.exchanges()
        when = "#exchanges-when"
        await self.drive(self._hover, "#last td button")
        await self.came("5")
        self.assertNotIn("5", await self.shown())
        self.assertEqual(await self.text(when), "1 new, held while you point at it")
        await self.drive(self._hover, "h1")
        await self.came("6")
        self.assertEqual((await self.shown())[:2], ["6", "5"])
        self.assertEqual(await self.text(when), "7 of the last 7")
        await self.focus("#last td button")
        await self.came("7")
        self.assertEqual((await self.shown())[0], "6")
        await self.press(webdriver.Keys.ENTER)
        await self.press(webdriver.Keys.SHIFT + webdriver.Keys.TAB)
        await self.came("8")
        self.assertEqual((await self.shown())[0], "6")
        self.assertEqual(await self.text(when), "2 new, held while an exchange is open")
        # The button resumes the list.
        await self.click("#pause")
        self.assertEqual(await self.text("#pause"), "Resume (2 new)")
        await self.click("#pause")
        self.assertEqual((await self.shown())[:2], ["8", "7"])
        self.assertEqual(await self.js("return document.querySelectorAll('.detail').length"), 0)

    async def test_chart(self) -> None:
        """Arrow keys move through a chart's time; the values are available as text."""
        self.source.count("/a", 3)
        await self.look()
        await self.focus("#traffic")
        await self.press(webdriver.Keys.LEFT, webdriver.Keys.LEFT)
        await self.becomes("return document.activeElement.ariaValueNow === '-10'")
        told = await self.js("return document.activeElement.ariaValueText")
        self.assertRegex(told, r"^10 s ago: 2xx [0-9.\u2013]+, ")
        self.assertEqual(await self.texts("#traffic-when, #latency-when"), ["10 s ago"] * 2)
        await self.press(webdriver.Keys.ESCAPE)
        await self.becomes("return document.activeElement.ariaValueNow === '0'")

    async def test_themes(self) -> None:
        """Colours follow the system; the button changes them, and the choice is remembered."""
        ground = "return getComputedStyle(document.body).backgroundColor"
        await self.look(color_scheme="dark")
        dark = await self.js(ground)
        self.assertEqual(
            await self.js("return document.querySelector('#theme').ariaPressed"), "true"
        )
        await self.look(color_scheme="light")
        light = await self.js(ground)
        self.assertNotEqual(light, dark)
        await self.click("#theme")
        self.assertEqual(await self.js(ground), dark)
        await self.drive(self.browser.refresh)
        await self.untilText("#link-text", "Live")
        self.assertEqual(await self.js(ground), dark)
        self.assertEqual(await self.complaints(), [])

    async def test_contrast(self) -> None:
        """Each text has a contrast of at least 4.5, in both themes, also in an outage."""
        self.source.count("/b", 20, status=404, upstreamStatus=404)
        self.source.count("/c", 20, status=304, upstreamStatus=304)
        self.outage(5)
        self.source.state = "draining"
        for theme in ("light", "dark"):
            await self.look(color_scheme=theme)
            await self.untilText("#state", "draining")
            self.assertEqual((theme, await self.js(CONTRAST)), (theme, []))
        self.outage(500)
        await self.untilText("#summary-title", "Outage, masked")
        self.assertEqual(await self.js(CONTRAST), [])

    async def test_phone(self) -> None:
        """On a screen of 360 pixels nothing is wider, and buttons are large enough to touch."""
        await self.look(width=360, height=740)
        self.source.count("/" + "long" * 50, 123456)
        self.outage(30000, path="/" + "long" * 50, client="2001:db8:1234:5678:90ab:cdef:1234:5678")
        await self.untilText("#summary-title", "Outage, masked")
        await self.click("#last td button")
        await self.becomes("return document.querySelector('#last tr.detail')")
        wide = await self.js(
            """
            return [...document.querySelectorAll("main *")]
              .filter((each) => each.checkVisibility())
              .filter((each) => !each.closest(".offscreen, thead, .route"))
              .filter((each) => each.getBoundingClientRect().right > innerWidth)
              .map((each) => `${each.tagName} ${each.id} ${each.className}`);
            """
        )
        self.assertEqual(wide, [])
        self.assertLessEqual(await self.js("return document.documentElement.scrollWidth"), 360)
        small = await self.js(
            """
            return [...document.querySelectorAll("button, input[type=search], #classes label")]
              .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 24)
              .map((each) => each.textContent);
            """
        )
        self.assertEqual(small, [])

    async def test_widths(self) -> None:
        """At any width nothing is wider than the window, and names have room."""
        self.source.count("/" + "long/" * 40, 123456)
        self.outage(30000, path="/" + "long/" * 40)
        self.source.workers = [
            {"number": n, "pid": 4194304, "uptime": 4e5, "restarts": 3, "hits": 99999, "clients": 9}
            for n in (1, 2)
        ]
        endpoint = upstreamEndpoint("photos-" * 20, "ejected", lastFailure="no " * 60, sent=123456)
        self.source.upstreams = [upstreamOf("photos-" * 9, endpoint)]
        for width in (320, 360, 640, 641, 820, 864, 865, 1088, 1089, 1278, 1280, 1920):
            await self.look(width=width)
            await self.becomes("return document.querySelector('#endpoints tbody tr')")
            for name in ('#endpoints [data-cell="name"]', '#last [data-cell="request"]'):
                room = "return document.querySelector(arguments[0]).getBoundingClientRect().width"
                self.assertGreater(await self.js(room, name), 200, (width, name))
            over = "return document.documentElement.scrollWidth - innerWidth"
            self.assertLessEqual(await self.js(over), 0, width)

    async def test_motion(self) -> None:
        """With the setting for reduced motion nothing is animated."""
        await self.look(reduced_motion="reduce")
        moving = await self.js("return document.getAnimations().length")
        self.assertEqual(moving, 0)
        await self.look()
        self.assertGreater(await self.js("return document.getAnimations().length"), 0)

    async def test_steady(self) -> None:
        """While numbers change the layout does not move, and screen readers announce nothing."""
        await self.look(height=2400)
        self.source.count("/a", 5)
        await self.untilText("#summary-title", "All is well")
        await self.js(
            """
            // Rows of the list make way for new ones; all else stays where it is.
            window.jumped = [];
            new PerformanceObserver((list) => {
              for (const { node } of list.getEntries().flatMap((each) => each.sources)) {
                const element = node?.closest ? node : node?.parentElement;
                if (!element?.closest("#last tbody, #metrics dd, footer")) {
                  window.jumped.push(`${element?.tagName} ${element?.id}`);
                }
              }
            }).observe({ type: "layout-shift" });
            window.said = 0;
            const watch = new MutationObserver((changes) => { window.said += changes.length; });
            for (const each of document.querySelectorAll("[role=status], [aria-live]")) {
              watch.observe(each, { childList: true, characterData: true, subtree: true });
            }
            """
        )
        for number in range(8):
            self.source.count("/a", 7 ** (number % 6), duration=0.001 * 3 ** (number % 7))
            self.source.recent = [facts(f"1-{number}", path=f"/{number}"), *self.source.recent]
            await deferLater(reactor, 2 * BEAT)
        self.assertEqual(await self.js("return window.said"), 0)
        self.assertEqual(await self.js("return window.jumped"), [])


class ConnectionTests(BrowserTestCase):
    """When sitio does not answer."""

    async def test_lost(self) -> None:
        """The page shows a lost connection, and reconnects when sitio is back."""
        await self.look()
        self.source.count("/a", 3)
        await self.untilText("#summary-title", "All is well")
        number = self.port.getHost().port
        await self.vanish()
        await self.untilText("#link-text", "Connection lost")
        await self.untilText("#summary-title", "Connection lost")
        self.assertEqual(await self.js("return document.title"), "Connection lost \u00b7 sitio")
        self.source.count("/a", 4)
        self.listen(number)
        await self.untilText("#link-text", "Live")
        await self.untilText('#endpoints [data-cell="hits"]', "7")
        # The browser itself logs that it could not connect.
        for each in await self.complaints():
            self.assertIn("net::ERR_", each)

    async def test_late(self) -> None:
        """A sidecar that answers late is shown as busy, not as lost."""
        self.patch(module, "ANSWER_SECONDS", 0.2)
        await self.look()
        self.source.answer = Deferred
        await self.untilText("#link-text", "sitio is busy")
        self.source.answer = None
        await self.untilText("#link-text", "Live")
        self.flushLoggedErrors()

    async def test_refused(self) -> None:
        """A page that is refused tries again until it is accepted."""
        self.patch(module, "MAX_VIEWERS", 0)
        await self.drive(self.browser.get, self.address)
        await self.untilText("#link-text", "Connection lost")
        self.patch(module, "MAX_VIEWERS", 1)
        await self.untilText("#link-text", "Live")
        await self.complaints()

    async def test_silent(self) -> None:
        """A connection without events is replaced by a new one."""
        await self.listenSlowly()
        await self.look()
        await self.untilText("#link-text", "Live")
        asked = self.source.asked
        await self.js(
            """
            window.links = [];
            new MutationObserver(() => links.push(document.body.dataset.link))
              .observe(document.body, { attributeFilter: ["data-link"] });
            const now = Date.now;
            Date.now = () => now() + 8000;
            """
        )
        await self.becomes("return links.join() === 'lost,live'")
        self.assertGreater(self.source.asked, asked)

    async def test_upgraded(self) -> None:
        """If sitio's version changes, the page reloads itself."""
        await self.look()
        await self.js("window.old = true")
        number = self.port.getHost().port
        await self.vanish()
        self.listen(number)
        await self.untilText("#link-text", "Connection lost")
        await self.untilText("#link-text", "Live")
        self.assertTrue(await self.js("return window.old"))
        await self.vanish()
        self.version = "1.3"
        self.listen(number)
        await self.becomes("return !window.old && document.readyState === 'complete'")
        await self.untilText("#link-text", "Live")
        await self.complaints()

    async def test_frames(self) -> None:
        """Events that arrive in a hidden tab are drawn once, together."""
        await self.look()
        await self.js(
            """
            window.frames_ = [];
            window.requestAnimationFrame = (draw) => frames_.push(draw);
            """
        )
        asked = self.source.asked
        while self.source.asked < asked + 5:
            await deferLater(reactor, BEAT)
        self.assertEqual(await self.js("return frames_.length"), 1)
        self.source.count("/a", 3)
        await deferLater(reactor, 3 * BEAT)
        await self.js("frames_.splice(0).forEach((draw) => draw())")
        self.assertEqual(await self.text('#endpoints [data-cell="hits"]'), "3")
        await self.becomes("return frames_.length === 1")

    async def test_hidden(self) -> None:
        """A page that is hidden for five minutes disconnects, and reconnects when it is shown."""
        await self.look()
        await self.js(
            """
            const now = Date.now;
            window.pretend = (hidden, later) => {
              Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
              Date.now = () => now() + later;
            };
            pretend(true, 301000);
            """
        )
        asked = -1
        while asked != self.source.asked:
            asked = self.source.asked
            await deferLater(reactor, 10 * BEAT)
        await self.js("pretend(false, 302000)")
        self.source.count("/a", 3)
        await self.untilText('#endpoints [data-cell="hits"]', "3")


class SitioTests(Looking, LoopbackTestCase):
    """The page of a real sitio process."""

    async def test_sitio(self) -> None:
        """
        The page shows traffic and masked failures of a real process.  A stopping process
        does not wait for open pages, and they show the stop.
        """
        self.browser = browser()
        process = self.twistd(
            "--demo",
            f"--port=tcp:0:interface={LOCALHOST}",
            f"--admin=tcp:0:interface={LOCALHOST}",
            "--policy=last-good:max-age=60",
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        self.address = (await process.out.expect(rb"admin pages are on (http\S+)"))[1].decode()
        await self.look()
        await self.untilText("#summary-title", "No requests yet")
        self.assertEqual(await self.text("#upstream-when"), "the demo site of sitio")
        request = b"GET /flaky HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client = await self.connect(port, request * 6)
        await client.got.waitUntil(lambda: client.got.data.count(b"HTTP/1.1 200 ") == 6)
        await self.untilText("#summary-title", "Outage, masked")
        self.assertEqual(await self.text("#statuses-share"), "100\u202f%")
        self.assertEqual(
            await self.texts("#failure-list .why"),
            ["The service answered 500; last-good sent 200."],
        )
        self.assertEqual(await self.text('#endpoints [data-cell="name"]'), "GET /flaky")
        self.assertEqual(await self.text('#endpoints [data-cell="failures"]'), "3 masked")
        self.assertEqual(await self.complaints(), [])
        client.transport.loseConnection()
        process.signal(SIGTERM)
        self.assertIn(await process.finish(), (0, -SIGTERM))
        await self.untilText("#link-text", "Connection lost")
        await self.drive(self.browser.get, "about:blank")
        await self.complaints()
