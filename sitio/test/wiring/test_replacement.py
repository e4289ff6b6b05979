"""
Tests of L{sitio.wiring.replacement}: another configuration in place of a running one, without
sockets.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from sitio.assembly import assemble
from sitio.config.options import Options
from sitio.config.places import ConfigErrors
from sitio.policy.handover import SELF_TEST_SECONDS
from sitio.service import SidecarService
from sitio.test.helpers.logs import recorded
from sitio.wiring.adminports import shownConfig
from sitio.wiring.replacement import Replacement, SeveralProcesses

FILE = """\
policies = ["file:mine.py"]
[listener]
address = 8080
[upstream]
address = "10.0.0.1:80"
"""

#: A policy that has a state, and a self-test.
POLICY = """\
from twisted.internet.defer import Deferred
from zope.interface import implementer
from sitio import IHandover, IRequestPolicy, ISelfTest
import helper

@implementer(IHandover, IRequestPolicy, ISelfTest)
class Mine:
    state = 0
    number = helper.number
    waits = None

    def requestReceived(self, exchange):
        pass

    def giveState(self):
        return self.state + 1

    def takeState(self, state):
        self.state = state

    def selfTest(self):
        if self.number < 0:
            raise ValueError("the number is negative")
        if self.number == 0:
            return Deferred()

mine = Mine()
"""


class Reactor(MemoryReactorClock):
    """Ports in memory, of which one is taken."""

    taken = 81

    def listenTCP(self, port: int, *arguments: Any, **options: Any) -> Any:
        """See C{IReactorTCP}."""
        if port == self.taken:
            raise CannotListenError("", port, OSError(98, "Address already in use"))
        return super().listenTCP(port, *arguments, **options)

    def ports(self) -> list[int]:
        """The numbers of those that were opened, in order."""
        return [each[0] for each in self.tcpServers]


class ReplacementTestCase(SynchronousTestCase):
    """A sidecar with a file, a policy and a neighbour of that."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.write(FILE)
        self.write(POLICY, "mine.py")
        self.write("number = 1", "helper.py")
        self.reactor = Reactor()
        self.addCleanup(lambda: [sys.modules.pop(each) for each in self.modules()])

    def modules(self) -> list[str]:
        """The names of modules of policy files."""
        return [each for each in sys.modules if each.startswith("sitio_policy_")]

    def write(self, text: str, name: str = "sitio.toml") -> None:
        """Write a file."""
        (self.folder / name).write_text(text)

    def started(self, *arguments: str) -> SidecarService:
        """Start a sidecar with this command line."""
        self.options = Options({})
        self.options.parseOptions([f"--config={self.folder}/sitio.toml", *arguments])
        self.sidecar = sidecar = assemble(self.reactor, self.options)
        sidecar.startService()
        self.addCleanup(sidecar.stopService)
        self.replacement: Any = sidecar.replaceable and sidecar.replaceable()
        return sidecar

    def reload(self) -> list[str]:
        """Reload; returns the keys that need a restart."""
        waiting: list[str] = self.successResultOf(self.replacement.prepare())
        self.replacement.adopt()
        return waiting

    def refused(self, prepared: Deferred[Any] | None = None) -> list[str]:
        """Fail to reload; returns the mistakes."""
        before = self.sidecar.context.generation
        error = self.failureResultOf(prepared or self.replacement.prepare(), ConfigErrors).value
        self.assertIs(self.sidecar.context.generation, before)
        self.assertEqual(len(list(self.sidecar.generations)), 1)
        return [each.sentence for each in error.mistakes]

    def policy(self) -> Any:
        """The policy of the file."""
        return dict(self.sidecar.context.generation.policies())["mine"]


class ReplacementTests(ReplacementTestCase):
    """One process."""

    def test_severalEndpoints(self) -> None:
        """Metrics name no address as that of all attempts if there are several endpoints."""
        sidecar = self.started()
        for upstreams, scheme in (
            ('[upstream]\nendpoints = ["10.0.0.1:80", "10.0.0.2:80"]\n', "http"),
            ('[upstream]\ndns = "photos.example:80"\n', "http"),
            (
                '[upstreams.a]\naddress = "10.0.0.1:80"\n'
                '[upstreams.b]\naddress = "https://10.0.0.2"\n[[routes]]\nupstream = "a"\n',
                "",
            ),
        ):
            self.write(upstreams)
            self.successResultOf(self.replacement.prepare())
            self.replacement.adopt()
            peers = sidecar.peers
            self.assertEqual((peers["upstreamAddress"], peers["upstreamPort"]), ("", ""))
            self.assertEqual(peers["upstreamScheme"], scheme)

    def test_adopted(self) -> None:
        """Nothing changes before it is adopted; then all of it is new."""
        sidecar = self.started("--grace=7")
        first, policy = sidecar.context.generation, self.policy()
        self.write(
            FILE.replace("10.0.0.1", "10.0.0.2")
            + '[limits]\nmax-clients = 5\nbuffer-total = "1MiB"\n'
            + "[forwarded]\nkeep-underscores = true\n"
            + '[[routes]]\npath = "/users/{id}"\n'
        )
        self.successResultOf(self.replacement.prepare())
        self.assertIs(sidecar.context.generation, first)
        self.assertIs(self.options.config.limits, first.settings)
        self.assertEqual(self.replacement.adopt(), 2)
        now = sidecar.context.generation
        self.assertEqual((now.number, now.settings.maxClients, now.settings.grace), (2, 5, 7))
        self.assertIsNot(self.policy(), policy)
        self.assertEqual(sidecar.context.host, b"10.0.0.2")
        self.assertEqual(sidecar.context.buffers.limit, 1024 * 1024)
        self.assertTrue(sidecar.factory.limits.keepsFolded)
        self.assertEqual(sidecar.peers["upstreamAddress"], "10.0.0.2")
        self.assertEqual(sidecar.stats._keyFor("GET", "/users/7", 200)[1], "/users/{id}")
        shown = shownConfig(self.options, sidecar)["options"]
        self.assertEqual((shown["upstream"], shown["max-clients"]), ("tcp:10.0.0.2:80", "5"))

    def test_kept(self) -> None:
        """An upstream that is the same keeps its connections."""
        sidecar = self.started()
        before = sidecar.context.generation.upstreams["upstream"]
        self.reload()
        self.assertIs(sidecar.context.generation.upstreams["upstream"], before)

    def test_files(self) -> None:
        """A policy file and its neighbour run anew; modules are the new ones once it is adopted."""
        self.started()
        self.write("number = 2", "helper.py")
        before = {each: sys.modules[each] for each in self.modules()}
        self.successResultOf(self.replacement.prepare())
        self.assertEqual({each: sys.modules[each] for each in self.modules()}, before)
        self.replacement.adopt()
        self.assertEqual(self.policy().number, 2)
        self.assertEqual(before.keys(), set(self.modules()))
        for name, module in before.items():
            self.assertIsNot(sys.modules[name], module)

    def test_handedOver(self) -> None:
        """The new policy goes on with the state of the old one."""
        self.started()
        self.reload()
        self.reload()
        self.assertEqual(self.policy().state, 2)

    def test_broken(self) -> None:
        """Mistakes in the file are all told, with their places, and nothing changes."""
        self.started()
        self.write(FILE + 'routs = 1\n[limits]\nmax-head = "x"\n')
        error = self.failureResultOf(self.replacement.prepare(), ConfigErrors).value
        path = self.folder / "sitio.toml"
        self.assertEqual(
            [str(each).partition(" ")[0] for each in error.mistakes],
            [f"{path}:6:", f"{path}:8:"],
        )
        self.write("number = ", "helper.py")
        self.write(FILE)
        [sentence] = self.refused()
        self.assertIn("can't be loaded: SyntaxError", sentence)
        self.assertEqual(self.policy().number, 1)
        self.write("number = 3", "helper.py")
        self.reload()
        self.assertEqual(self.policy().number, 3)

    def test_selfTest(self) -> None:
        """A self-test that fails, or does not end, is a mistake."""
        self.started()
        self.write("number = -1", "helper.py")
        self.assertEqual(
            self.refused(),
            ["the self-test of the policy mine fails: ValueError: the number is negative"],
        )
        self.write("number = 0", "helper.py")
        prepared = self.replacement.prepare()
        self.assertNoResult(prepared)
        self.reactor.advance(SELF_TEST_SECONDS)
        self.assertIn("TimeoutError", self.refused(prepared)[0])

    def test_start(self) -> None:
        """So is a policy that can't start."""
        self.started()
        self.write(
            "from twisted.application.service import Service\n"
            "from sitio import onRequest\n"
            "class Mine(Service):\n"
            "    def requestReceived(self, exchange): pass\n"
            "    def startService(self): raise OSError('no disk')\n"
            "mine = Mine()\n",
            "mine.py",
        )
        with recorded() as recorder:
            self.assertEqual(self.refused(), ["a policy can't start: OSError: no disk"])
        self.assertEqual(len(recorder.events), 1)
        self.flushLoggedErrors(OSError)

    def test_ports(self) -> None:
        """New ports open before, those that have gone close after; others stay open."""
        sidecar = self.started()
        other = FILE.replace("[listener]", "[listeners.a]") + "[listeners.b]\naddress = 82\n"
        self.write(other)
        self.successResultOf(self.replacement.prepare())
        self.assertEqual(self.reactor.ports(), [8080, 82])
        self.replacement.adopt()
        self.assertEqual(sidecar.ports.names, {"tcp:8080", "tcp:82"})
        self.write(FILE.replace("8080", "82"))
        self.reload()
        self.assertEqual(self.reactor.ports(), [8080, 82])
        self.assertEqual(sidecar.ports.names, {"tcp:82"})

    def test_taken(self) -> None:
        """A port that can't be opened changes nothing: those that were opened close again."""
        sidecar = self.started()
        self.write(
            FILE.replace("[listener]", "[listeners.a]")
            + "[listeners.b]\naddress = 82\n[listeners.c]\naddress = 81\n"
        )
        [sentence] = self.refused()
        self.assertIn("can't listen on port 81: Address already in use", sentence)
        self.assertEqual(sidecar.ports.names, {"tcp:8080"})

    def test_discarded(self) -> None:
        """What was prepared and is dropped leaves nothing."""
        sidecar = self.started()
        self.write(FILE.replace("8080", "82"))
        self.successResultOf(self.replacement.prepare())
        self.replacement.discard()
        self.replacement.discard()
        self.assertEqual(sidecar.ports.names, {"tcp:8080"})
        self.assertEqual(len(list(sidecar.generations)), 1)
        self.write(FILE)
        self.reload()
        self.assertEqual(sidecar.context.generation.number, 2)

    def test_stopped(self) -> None:
        """When sitio stops, no port opens any more."""
        self.started().stopService()
        self.write(FILE.replace("8080", "82"))
        [sentence] = self.refused()
        self.assertIn("no port can be opened any more", sentence)

    def test_atStart(self) -> None:
        """Keys of the process are told, and the rest is in use."""
        self.started()
        self.write(
            "workers = 2\nstats-interval = 9\ndemo = false\n[admin]\naddress = 9999\n"
            '[listener]\naddress = 8080\n[upstream]\naddress = "10.0.0.7:80"\n'
        )
        self.assertEqual(self.reload(), ["workers", "stats-interval", "admin.address"])
        self.assertEqual(self.sidecar.context.host, b"10.0.0.7")

    def test_watched(self) -> None:
        """The file, policies and their neighbours count, also those that can't be loaded."""
        self.started()
        names = ("sitio.toml", "mine.py", "helper.py")
        self.assertEqual(self.replacement.files(), {self.folder / each for each in names})
        self.write("broken", "other.py")
        self.write(FILE.replace("mine", "other"))
        self.refused()
        self.assertIn(self.folder / "other.py", self.replacement.files())

    def test_commandLine(self) -> None:
        """Without a file, the policies of the command line are made anew."""
        self.options = Options({})
        policy = f"--policy=file:{self.folder}/mine.py"
        self.options.parseOptions(["--upstream=10.0.0.1:80", "--port=1", policy])
        self.sidecar = assemble(self.reactor, self.options)
        self.replacement = self.sidecar.replaceable and self.sidecar.replaceable()
        self.write("number = 2", "helper.py")
        self.assertEqual(self.reload(), [])
        self.assertEqual(self.policy().number, 2)


class Workers:
    """Workers that can or can't use a configuration."""

    def __init__(self) -> None:
        self.texts: list[str | None] = []
        self.error: Exception | None = None
        self.story: list[str] = []

    async def prepare(self, text: str | None) -> None:
        self.texts.append(text)
        if self.error is not None:
            raise self.error

    def adopt(self) -> int:
        self.story.append("adopt")
        return 2

    def discard(self) -> None:
        self.story.append("discard")


class SeveralProcessesTests(ReplacementTestCase):
    """The process that has workers."""

    def setUp(self) -> None:
        super().setUp()
        self.started()
        self.workers = Workers()
        connects = self.replacement._connects
        self.several = SeveralProcesses(self.options, connects, self.workers)

    def test_adopted(self) -> None:
        """Workers get the text that was read; the ports of all of them stay."""
        text = FILE.replace("8080", "82").replace("10.0.0.1", "10.0.0.2")
        self.write(text)
        self.assertEqual(self.successResultOf(self.several.prepare()), ["listeners"])
        self.assertEqual((self.workers.texts, self.workers.story), ([text], []))
        self.assertEqual(self.options.config.upstreams[0].endpoints[0].address, "tcp:10.0.0.1:80")
        self.assertEqual(self.several.adopt(), 2)
        self.assertEqual(self.workers.story, ["adopt"])
        self.assertEqual(self.options.loaded.text, text)

    def test_mistakes(self) -> None:
        """Mistakes that this process finds are not sent to workers."""
        self.write("workers = 0")
        self.failureResultOf(self.several.prepare(), ConfigErrors)
        self.assertEqual(self.workers.texts, [])

    def test_workers(self) -> None:
        """Mistakes of workers are those of the reload."""
        self.workers.error = Exception()
        self.workers.error.mistakes = [("a", 1, "b", "c")]  # type: ignore[attr-defined]
        error = self.failureResultOf(self.several.prepare(), ConfigErrors).value
        self.assertEqual(str(error), "a:1: b: c")
        self.workers.error = RuntimeError("odd")
        self.failureResultOf(self.several.prepare(), RuntimeError)

    def test_discarded(self) -> None:
        """What is dropped is dropped by workers, once."""
        self.successResultOf(self.several.prepare())
        self.several.discard()
        self.several.discard()
        self.assertEqual(self.workers.story, ["discard"])
        self.assertIn(self.folder / "mine.py", self.several.files())


class MoreReplacementTests(ReplacementTestCase):
    """Details."""

    def test_isWorkers(self) -> None:
        """A worker opens no port, whatever the file says."""
        sidecar = self.started()
        replacement = Replacement(
            self.reactor, self.options, sidecar, self.replacement._connects, hasPorts=False
        )
        self.write(FILE.replace("8080", "82"))
        self.assertEqual(self.successResultOf(replacement.prepare()), ["listeners"])
        replacement.adopt()
        self.assertEqual(sidecar.ports.names, {"tcp:8080"})

    def test_text(self) -> None:
        """A text that is passed counts, and not the file."""
        sidecar = self.started()
        self.write("broken")
        self.successResultOf(self.replacement.prepare(FILE.replace("10.0.0.1", "10.0.0.9")))
        self.replacement.adopt()
        self.assertEqual(sidecar.context.host, b"10.0.0.9")

    def test_routes(self) -> None:
        """Policies of equal names are told apart by their routes."""
        two = FILE + "".join(
            f'[[routes]]\nname = "{each}"\npath = "/{each}"\n'
            'policies = ["last-good", "last-good"]\n'
            for each in ("a", "b")
        )
        self.write(two)
        sidecar = self.started()

        def stores() -> list[Any]:
            found = sidecar.context.generation.policies()
            return [policy._store for name, policy in found if name == "last-good"]

        before = stores()
        self.assertEqual(len(before), 4)
        self.reload()
        self.assertEqual(stores(), before)
