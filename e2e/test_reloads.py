"""
Tests of a Pod whose ConfigMap changes while many clients keep their connections: sitio uses what
is new without a restart, no request fails, and a file with a mistake changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

from e2e.clients import Balancer, Outcome, running
from e2e.configmaps import switch
from e2e.manifests import Document, container, read
from e2e.pods import PodTests, Response
from e2e.test_ends import withSlow

#: Kept connections, and seconds between two requests of each.
CLIENTS, PAUSE_SECONDS = 50, 0.5

#: Seconds until a change is in use, or told to be wrong: sitio looks once a second, and uses
#: what does not change any more.  A slow response of C{slow.py} comes in addition.
CHANGE_SECONDS = 10.0

#: The ConfigMap, and where it is mounted.
NAME, FOLDER = "sitio-policies", "/etc/sitio"

#: The field of the policy C{marked.py}.
FIELD = "X-Decorated-By"

#: A route that the manifest has not.
MOVED = """
[[routes]]
path = "/moved"
rewrite = "/"
policies = ["file:moved.py"]
"""


class Reloaded(PodTests):
    """C{deployment.yml} with C{slow.py} as the service, so that requests are under way always."""

    manifest = "deployment.yml"
    port = 9900

    @classmethod
    def documents(cls) -> list[Document]:
        """The manifest with C{slow.py}."""
        return withSlow(read(cls.manifest))

    def setUp(self) -> None:
        self.container = self.pod.container("sitio")
        self.folder = self.runtime.mounted(self.container, FOLDER)
        (self.files,) = (
            each["data"]
            for each in self.pod.documents
            if each["kind"] == "ConfigMap" and each["metadata"]["name"] == NAME
        )
        self.began = self.runtime.starts(self.container)

    def change(self, **files: str) -> None:
        """Give the ConfigMap the files of the manifest, with some others: C{sitio_toml=...}."""
        named = {name.replace("_", "."): text for name, text in files.items()}
        switch(self.folder, {**self.files, **named})

    def decorated(self, path: str) -> str | None:
        """What a response has in the field of C{marked.py}."""
        response = Response(self.base + path)
        self.assertEqual(response.status, 200, path)
        value: str | None = response.headers[FIELD]
        return value

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition is true."""
        until = time.monotonic() + CHANGE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), until, f"not true in time: {what}")
            time.sleep(0.2)

    def told(self) -> Document:
        """What /config says of the last configuration that was read."""
        found: Document = json.loads(Response(f"{self.admin}/config").text)
        return found

    def successful(self) -> bool:
        """Whether the metric says so."""
        page = Response(f"{self.probes}/metrics").text
        return "\nsitio_config_last_reload_successful 1.0\n" in page

    def whileAsked(self, act: Callable[[], object]) -> None:
        """Do something while many clients send requests: none fails, and nothing restarts."""
        outcome = asyncio.run(self._whileAsked(act))
        print(outcome, end=" ", flush=True)
        self.assertEqual(dict(outcome.failed), {})
        self.assertGreater(outcome.answered, 2 * CLIENTS)
        # Connections are kept: through all changes, each client has its first one.
        self.assertEqual((outcome.connections, outcome.repeated), (CLIENTS, 0))
        self.assertEqual(self.runtime.starts(self.container), self.began)

    async def _whileAsked(self, act: Callable[[], object]) -> Outcome:
        outcome, until = Outcome(), asyncio.Event()
        balancer = Balancer([self.pod.address], self.port)
        clients = asyncio.create_task(running(CLIENTS, balancer, outcome, PAUSE_SECONDS, until))
        try:
            await asyncio.sleep(2 * PAUSE_SECONDS)
            await asyncio.to_thread(act)
        finally:
            until.set()
            await clients
        return outcome

    def test_route(self) -> None:
        """A new route, with a new policy file beside it, is in use within seconds."""
        policy = self.files["marked.py"].replace('"sitio"', '"the new route"')

        def act() -> None:
            self.assertIsNone(self.decorated("/moved"))
            self.change(sitio_toml=self._withRoute(), moved_py=policy)
            self.until(lambda: self.decorated("/moved") == "the new route", "the new route")
            self.assertEqual(self.decorated("/photos/lake"), "sitio")
            # Without it, the requests go where they went before.
            self.change()
            self.until(lambda: self.decorated("/moved") is None, "the route has gone")

        self.whileAsked(act)

    def _withRoute(self) -> str:
        """sitio.toml with one more route, before the others."""
        first, mark, rest = self.files["sitio.toml"].partition("[[routes]]")
        return f"{first}{MOVED}\n{mark}{rest}"

    def test_policy(self) -> None:
        """A policy file that changes alone is in use within seconds, however often."""

        def act() -> None:
            for number in range(3):
                value = f"sitio {number}"
                self.change(marked_py=self.files["marked.py"].replace('sitio"\n', f'{value}"\n'))
                self.until(lambda: self.decorated("/photos/lake") == value, value)  # noqa: B023
            self.change()
            self.until(lambda: self.decorated("/photos/lake") == "sitio", "as before")

        self.whileAsked(act)

    def test_broken(self) -> None:
        """
        A file with a mistake changes nothing; the log, /config and a metric tell of it until the
        next good one, which is in use.
        """
        wrong = {
            "sitio.toml:1: polices: there is no such key; did you mean policies?": {
                "sitio_toml": "polices = []\n" + self._withRoute()
            },
            "marked.py": {"marked_py": "def marked(:\n"},
        }

        def act() -> None:
            for sentence, files in wrong.items():
                generation = self.told()["generation"]
                self.change(**files)
                self.until(lambda: "refused" in self.told(), sentence)
                self.assertIn(sentence, str(self.told()["refused"]["mistakes"]))
                self.assertIn(sentence, self.runtime.logs(self.container))
                self.assertFalse(self.successful())
                self.assertEqual(self.told()["generation"], generation)
                self.assertEqual(self.decorated("/photos/lake"), "sitio")
                self.assertIsNone(self.decorated("/moved"))
                # It is ready all the time.
                self.assertEqual(Response(f"{self.probes}/ready").status, 200)
                good = self.files["marked.py"].replace('"sitio"', '"the good one"')
                self.change(marked_py=good)
                self.until(lambda: self.decorated("/photos/lake") == "the good one", "the good one")
                self.assertNotIn("refused", self.told())
                self.assertTrue(self.successful())
                self.change()
                self.until(lambda: self.decorated("/photos/lake") == "sitio", "as before")

        self.whileAsked(act)


class ReloadedWorkers(Reloaded):
    """The same with two processes: both have what is new, or none."""

    @classmethod
    def documents(cls) -> list[Document]:
        """The manifest with C{--workers=2}, and with memory for them."""
        documents = super().documents()
        sitio = container(documents, "sitio")
        sitio["args"].append("--workers=2")
        del sitio["resources"]["limits"]["memory"]
        return documents
