"""
Promises of L{sitio.service}: what C{twistd sitio} is told, and the sidecar as
a service, started, drained and stopped without a socket.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from typing import Any, ClassVar, cast

import attrs
from attrs import define, field
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

import sitio
from sitio import Response, onRequest, onResponse
from sitio.errors import CannotStart
from sitio.fleet.address import VARIABLES, Address
from sitio.interfaces import IExchangeObserver
from sitio.service import Options, SidecarService, administer, assemble, supervise
from sitio.settings import Settings
from sitio.telemetry.snapshot import DRAINING, SERVING, STARTING, ILoses, ISidecar
from sitio.workers.supervisor import numberOf

LIMITS: tuple[attrs.Attribute, ...] = attrs.fields(Settings)


def parsed(*arguments: str, **environ: str) -> Options:
    """Options that were told these arguments, in this environment and no other."""
    options = Options(environ)
    options.parseOptions(arguments)
    return options


class OptionsTests(SynchronousTestCase):
    """What C{twistd sitio} understands."""

    def test_barePort(self) -> None:
        """A number is enough for a port: any address, and room for many to wait there."""
        self.assertEqual(parsed("--port", "8080")["port"], "tcp:8080:backlog=1024")
        self.assertEqual(parsed("-p", "0")["port"], "tcp:0:backlog=1024")

    def test_portDescription(self) -> None:
        """Any endpoint description is taken for the port as it stands."""
        for description in (
            "tcp:8080:interface=127.0.0.1",
            "unix:/run/sitio.sock",
            "haproxy:tcp:8080",
        ):
            self.assertEqual(parsed("--port", description)["port"], description)

    def test_defaults(self) -> None:
        """Told nothing, sitio listens on 8080 and brings its own site along."""
        options = parsed()
        self.assertEqual(options["port"], "tcp:8080:backlog=1024")
        self.assertIsNone(options["upstream"])
        self.assertEqual(options["policies"], [])
        self.assertEqual(options["stats-interval"], 2)
        self.assertEqual(options["settings"], Settings())
        self.assertFalse(options["via"])
        self.assertIsNone(options["access-log"])

    def test_environment(self) -> None:
        """PORT and TARGET_PORT stand in for what was not given."""
        options = parsed(PORT="81", TARGET_PORT="82")
        self.assertEqual(options["port"], "tcp:81:backlog=1024")
        self.assertEqual(options["upstream"], "tcp:localhost:82")

    def test_environmentEmpty(self) -> None:
        """A variable that is set to nothing is as good as none."""
        options = parsed(PORT="", TARGET_PORT="")
        self.assertEqual(options["port"], "tcp:8080:backlog=1024")
        self.assertIsNone(options["upstream"])

    def test_optionsWin(self) -> None:
        """What was given wins over the environment."""
        options = parsed(
            "--port", "1", "--upstream", "tcp:there:2", PORT="81", TARGET_PORT="not looked at"
        )
        self.assertEqual(options["port"], "tcp:1:backlog=1024")
        self.assertEqual(options["upstream"], "tcp:there:2")

    def test_limits(self) -> None:
        """Every limit and timeout has an option, whose value arrives as a number."""
        arguments = []
        for number, each in enumerate(LIMITS, 1):
            name = "".join(f"-{c.lower()}" if c.isupper() else c for c in each.name)
            arguments.append(f"--{name}={number}")
        settings = parsed(*arguments)["settings"]
        for number, each in enumerate(LIMITS, 1):
            value = getattr(settings, each.name)
            self.assertEqual(value, number)
            self.assertIs(type(value), type(each.default))

    def test_fractions(self) -> None:
        """Seconds may have fractions."""
        self.assertEqual(parsed("--connect-timeout", "0.25")["settings"].connectTimeout, 0.25)
        self.assertEqual(parsed("--stats-interval", "0.5")["stats-interval"], 0.5)

    def test_none(self) -> None:
        """Metrics can be switched off, and grace, by a 0."""
        options = parsed("--stats-interval", "0", "--grace", "0")
        self.assertEqual(options["stats-interval"], 0)
        self.assertEqual(options["settings"].grace, 0)

    def test_workers(self) -> None:
        """One process serves unless more are asked for, as a number or as many as cores."""
        self.assertEqual(parsed()["workers"], 1)
        self.assertEqual(parsed("--workers", "3")["workers"], 3)
        self.assertEqual(parsed("--workers=auto")["workers"], numberOf("auto"))

    def test_forWorkers(self) -> None:
        """What was said, and where, is kept, so that each worker can be told the same."""
        options = parsed("--via", "--port", "1")
        self.assertEqual(options["arguments"], ["--via", "--port", "1"])
        self.assertEqual(options["folder"], os.getcwd())

    def test_accessLog(self) -> None:
        """
        The access log has a format and a place; a file is named from where twistd was
        started, as workers are somewhere else.
        """
        self.assertEqual(parsed("--access-log=json")["access-log"], ("json", None))
        self.assertEqual(
            parsed("--access-log=common:a.log")["access-log"],
            ("common", os.path.join(os.getcwd(), "a.log")),
        )
        self.assertEqual(parsed("--access-log=json:/a.log")["access-log"], ("json", "/a.log"))

    def test_dashboard(self) -> None:
        """A dashboard is named by option or in the environment, and nowhere is a place too."""
        self.assertIsNone(parsed()["dashboard"])
        self.assertEqual(parsed("--dashboard=http://a:1/")["dashboard"], Address("http://a:1"))
        for name in VARIABLES:
            options = parsed(**{name: "http://b"})
            self.assertEqual(options["dashboard"], Address("http://b"))
            self.assertIsNone(parsed("--dashboard=", **{name: "http://b"})["dashboard"])
        both = {"DASHBOARD": "", "MOTHERSHIP": "http://b", "DASHBOARD_URL": "http://c"}
        self.assertEqual(parsed(**both)["dashboard"], Address("http://b"))

    def test_dashboardUntold(self) -> None:
        """User and password of a dashboard are not among what is told of the options."""
        options = parsed("--dashboard=http://me:secret@a")
        self.assertNotIn("secret", repr(options.told()))
        self.assertEqual(options.told()["options"]["dashboard"], "http://a")

    def test_accessLogInBackground(self) -> None:
        """Standard output is refused where there is none."""

        def asked(text: str, nodaemon: int) -> Options:
            options = Options({})
            options.parent = {"nodaemon": nodaemon}  # type: ignore[assignment]
            options.parseOptions([f"--access-log={text}"])
            return options

        error = self.assertRaises(CannotStart, asked, "json", 0)
        self.assertIn("--access-log json needs twistd -n", str(error))
        self.assertIsNotNone(asked("json:a.log", 0)["access-log"])
        self.assertIsNotNone(asked("json", 1)["access-log"])

    def test_policies(self) -> None:
        """Policies stand in the order in which they are given."""
        options = parsed(
            "--policy", f"file:{self.policyFile('first')}", "--policy", self.described("second")
        )
        self.assertEqual([name for name, _ in options["policies"]], ["first", "second"])

    def policyFile(self, name: str) -> str:
        """A file with one policy of that name."""
        path = FilePath(self.mktemp() + ".py")
        text = (
            f"from sitio import onResponse\n@onResponse()\ndef {name}(exchange, response): pass\n"
        )
        path.setContent(text.encode())
        return path.path

    def described(self, name: str) -> str:
        """The same as a description."""
        return f"file:{self.policyFile(name)}"

    def test_helpSaysUnits(self) -> None:
        """The help on a limit begins with what its number counts."""
        text = str(Options({}))
        for each in LIMITS:
            self.assertIn(each.metadata["unit"], ("seconds", "bytes", "number"))
            self.assertIn(
                f"{each.metadata['unit']} {each.metadata['help']}", " ".join(text.split())
            )

    def test_helpPolicies(self) -> None:
        """C{--help-policies} lists a line for each policy, files too, and ends well."""
        lines = self.printed("--help-policies").splitlines()
        starts = [line.partition(" ")[0] for line in lines]
        self.assertEqual(starts[0], "file:PATH")
        for name in ("deny", "error-page", "headers", "last-good", "retry"):
            self.assertEqual(len([each for each in starts if each.startswith(name)]), 1, name)

    def test_version(self) -> None:
        """C{--version} says sitio's, not Twisted's."""
        self.assertRegex(self.printed("--version"), r"\Asitio [0-9]+\.[0-9]+.*\n\Z")

    def printed(self, argument: str) -> str:
        """What is printed before the process ends with status 0."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            end = self.assertRaises(SystemExit, parsed, argument)
        self.assertEqual(end.code, 0)
        return out.getvalue()


class BadOptionsTests(SynchronousTestCase):
    """What can't be understood ends the start, in one sentence."""

    def refused(self, *arguments: str, **environ: str) -> str:
        """
        The sentence on these arguments, when they are assembled on a reactor on
        which nothing may be opened.
        """
        reactor = MemoryReactorClock()
        end = self.assertRaises(
            CannotStart, lambda: assemble(reactor, parsed(*arguments, **environ))
        )
        self.assertEqual(reactor.tcpServers, [])
        # What an interpreter does with such a SystemExit: print it, status 1.
        self.assertIsInstance(end, SystemExit)
        sentence = str(end.code)
        self.assertTrue(sentence.startswith("sitio: "), sentence)
        self.assertNotIn("\n", sentence)
        return sentence

    def test_limitIsNoNumber(self) -> None:
        """A limit that is no number is named, with what was given and what is wanted."""
        for value in ("x", "", "-1", "1.5", "0x10", "nan", "inf"):
            sentence = self.refused(f"--max-head={value}")
            self.assertIn(f"--max-head is {value!r}; a whole number, more than 0", sentence)
        for value in ("x", "", "-1", "nan", "inf", "1s"):
            sentence = self.refused(f"--response-timeout={value}")
            self.assertIn(f"--response-timeout is {value!r}; a number of seconds", sentence)
            self.assertIn("--stats-interval", self.refused(f"--stats-interval={value}"))

    def test_workers(self) -> None:
        """A number of workers that is none is named."""
        for value in ("0", "-1", "two", "", "1000"):
            sentence = self.refused(f"--workers={value}")
            self.assertIn(f"--workers is {value!r}; 1 to 256 is wanted, or auto", sentence)

    def test_admin(self) -> None:
        """A port that is none, and a path that is none, are named."""
        self.assertIn("--admin is '70000'; a port", self.refused("--admin=70000"))
        for value in ("", "healthz", "/a b", "/a#b", "http://a/", "/\xe4"):
            sentence = self.refused(f"--health-path={value}")
            self.assertIn(f"--health-path is {value!r}; a path such as /healthz", sentence)

    def test_accessLog(self) -> None:
        """An access log of no known format is shown those that are."""
        self.assertIn(
            "--access-log is 'xml'; json, common or off is wanted, as in json or json:access.log",
            self.refused("--access-log=xml"),
        )

    def test_dashboard(self) -> None:
        """An address that is none is not repeated, as it may hold a password."""
        what = "no address of a dashboard; http://dashboard:8080 could be one"
        self.assertIn(f"--dashboard is {what}", self.refused("--dashboard=me:secret@a:80"))
        sentence = self.refused(MOTHERSHIP="me:secret@a:80")
        self.assertIn(f"MOTHERSHIP is {what}", sentence)
        self.assertNotIn("secret", sentence)

    def test_limitThatStopsAll(self) -> None:
        """A limit of 0 with which no request could pass is a mistake."""
        for name in ("max-clients", "pool-size", "max-head", "connect-timeout"):
            self.assertIn(f"--{name} is '0'", self.refused(f"--{name}=0"))

    def test_unknownOption(self) -> None:
        """An unknown option, or a word that is none, is named."""
        self.assertIn("--bogus", self.refused("--bogus"))
        self.assertIn("'stray'", self.refused("stray"))

    def test_port(self) -> None:
        """A port that is neither a number nor a description is shown, and what would do."""
        for value in ("80x", "tcp:x", "nope:1", "ssl:8443:privateKey=/nonexistent"):
            sentence = self.refused("--port", value, "--upstream=tcp:a:1")
            self.assertIn(f"--port {value!r} can't be used", sentence)
            self.assertIn("8080 or tcp:8080 could", sentence)

    def test_secrets(self) -> None:
        """What may be a secret is not repeated, as logs are kept and read by others."""
        for name in ("port", "upstream"):
            rest = ["--upstream=tcp:a:1"] if name == "port" else []
            sentence = self.refused(f"--{name}", "nope:1:password=s3cr3t", *rest)
            self.assertIn(f"--{name} 'nope:1:password=***' can't be used", sentence)

    def test_portBeyond(self) -> None:
        """A number that is no port is said to be none, wherever it came from."""
        self.assertIn("--port is '65536'", self.refused("--port", "65536"))
        self.assertIn("PORT is '65536'", self.refused(PORT="65536"))
        for value in ("65536", "x", "80 "):
            self.assertIn(f"TARGET_PORT is {value!r}", self.refused(TARGET_PORT=value))

    def test_upstream(self) -> None:
        """The same of the upstream."""
        for value in ("", "8087", "tcp:a", "tcp:a:b", "tcp:a:65536", "nope:1", "tls:a"):
            sentence = self.refused("--upstream", value)
            self.assertIn(f"--upstream {value!r} can't be used", sentence)
            self.assertIn("tcp:localhost:8087 could", sentence)

    def test_unknownPolicy(self) -> None:
        """An unknown policy is named, and so are all that there are."""
        sentence = self.refused("--policy", "nope:404")
        self.assertIn("there is no policy 'nope'", sentence)
        for name in ("file", "deny", "error-page", "headers", "last-good", "retry"):
            self.assertIn(name, sentence)

    def test_policyFile(self) -> None:
        """Of a policy file with a mistake, the mistake is told, with its line."""
        path = FilePath(self.mktemp() + ".py")
        for text, mistake in (
            ("import sitio\n\nsitio.onNothing\n", f"{path.path}:3 can't be loaded: AttributeError"),
            ("x = 1\ndef broken(:\n", f"{path.path}:2 can't be loaded: SyntaxError"),
            ("x = 1\n", f"{path.path} makes no policy: decorate a function with @onResponse"),
        ):
            path.setContent(text.encode())
            self.assertIn(mistake, self.refused("--policy", f"file:{path.path}"))

    def test_noPolicyFile(self) -> None:
        """A policy file that isn't there is named, and so is how to write one."""
        self.assertIn("/nonexistent.py", self.refused("--policy", "file:/nonexistent.py"))
        self.assertIn("write file:PATH", self.refused("--policy", "file"))


class AssembleTests(SynchronousTestCase):
    """From options to services."""

    def test_listens(self) -> None:
        """The service listens where it was told to, once it is started and not before."""
        reactor = MemoryReactorClock()
        service = assemble(
            reactor, parsed("--port", "tcp:8123:interface=127.0.0.1", "--upstream=tcp:a:1")
        )
        self.assertEqual(reactor.tcpServers, [])
        service.privilegedStartService()
        [(port, _, _, interface)] = reactor.tcpServers
        self.assertEqual((port, interface), (8123, "127.0.0.1"))

    def test_told(self) -> None:
        """Limits, policies, Via and the upstream's name reach what they are meant for."""
        reactor = MemoryReactorClock()
        service = assemble(
            reactor, parsed("--port=1", "--upstream=tcp:there:8087", "--via", "--grace=7")
        )
        self.assertEqual(service.sidecar.settings.grace, 7)
        self.assertEqual(service.sidecar.host, b"there:8087")
        self.assertEqual(service.sidecar.via, b"sitio")

    def test_demo(self) -> None:
        """Without an upstream there is a site of its own, on loopback, while it runs."""
        reactor = MemoryReactorClock()
        service = assemble(reactor, parsed("--port=8123", "--stats-interval=0"))
        service.startService()
        self.assertEqual(
            [(port, interface) for port, _, _, interface in reactor.tcpServers],
            [(8123, ""), (8087, "127.0.0.1")],
        )

    def test_hostless(self) -> None:
        """For an upstream without a name, requests without Host say localhost."""
        service = assemble(MemoryReactorClock(), parsed("--upstream=unix:/run/there.sock"))
        self.assertEqual(service.sidecar.host, b"localhost")


class SuperviseTests(SynchronousTestCase):
    """From options to several processes."""

    def duty(self, *arguments: str) -> dict[str, Any]:
        """What a worker is told, where these are the options."""
        workers = supervise(MemoryReactorClock(), parsed("--workers=2", *arguments))
        return cast(dict[str, Any], workers._duty())

    def test_duty(self) -> None:
        """A worker is told the options, and where they were given."""
        duty = self.duty("--upstream=tcp:a:1", "--via")
        self.assertEqual(duty["arguments"], ["--workers=2", "--upstream=tcp:a:1", "--via"])
        self.assertEqual(duty["folder"], os.getcwd())
        self.assertIsNone(duty["upstream"])

    def test_demo(self) -> None:
        """The site that comes along runs once, in the parent, and workers are told where."""
        workers = supervise(MemoryReactorClock(), parsed("--workers=2"))
        [demo] = workers
        demo.startService()
        self.assertRegex(workers._duty()["upstream"], r"\Atcp:127\.0\.0\.1:[0-9]+\Z")


class Host(MemoryReactorClock):
    """A reactor whose threads nobody needs."""

    def getThreadPool(self) -> None:
        """There is none."""


class AdministerTests(SynchronousTestCase):
    """From options to an admin port."""

    def listening(self, *arguments: str) -> list[tuple[int, str]]:
        """Where a sidecar listens that was told this, in order."""
        self.reactor = Host()
        options = parsed("--port=1", "--stats-interval=0", *arguments)
        service = assemble(self.reactor, options)
        administer(self.reactor, options, service)
        service.startService()
        return [(port, interface) for port, _, _, interface in self.reactor.tcpServers]

    def test_default(self) -> None:
        """Nobody but this host sees it, unless it is told otherwise."""
        self.assertEqual(self.listening("--upstream=tcp:a:1"), [(1, ""), (9901, "127.0.0.1")])

    def test_told(self) -> None:
        """A number is a port of this host; a description is taken as it is."""
        for admin, where in (("81", (81, "127.0.0.1")), ("tcp:82", (82, ""))):
            self.assertEqual(self.listening("--upstream=tcp:a:1", "--admin", admin)[1], where)

    def test_off(self) -> None:
        """An empty value is heard as such."""
        self.assertEqual(parsed("--admin=")["admin"], "")
        self.assertIsNone(parsed()["admin"])

    def test_malformed(self) -> None:
        """A description that is no endpoint's is shown."""
        options = parsed("--upstream=tcp:a:1", "--admin=nope:1:token=s3cr3t")
        reactor = Host()
        error = self.assertRaises(
            CannotStart, administer, reactor, options, assemble(reactor, options)
        )
        self.assertEqual(
            str(error),
            "sitio: --admin 'nope:1:token=***' can't be used (Unknown endpoint type: 'nope');"
            " 9901 or tcp:9901 could, and --admin= is for none",
        )

    def test_demo(self) -> None:
        """The site that comes along is as good an upstream as any to be asked for its health."""
        self.assertIn((8087, "127.0.0.1"), self.listening("--health-path=/"))
        [(host, *_)] = self.reactor.tcpClients
        self.assertEqual(host, "127.0.0.1")

    def test_healthPath(self) -> None:
        """The upstream is asked for that path when the service starts."""
        self.listening("--upstream=tcp:10.0.0.1:8087", "--health-path=/healthz")
        [(host, port, factory, *_)] = self.reactor.tcpClients
        self.assertEqual((host, port), ("10.0.0.1", 8087))
        protocol: Any = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertTrue(transport.value().startswith(b"GET /healthz HTTP/1.1\r\n"))
        self.assertIn(b"\r\nHost: 10.0.0.1:8087\r\n", transport.value())

    def test_config(self) -> None:
        """What it was told is shown, and the defaults of the rest; secrets are not."""
        options = parsed(
            *("--port=tcp:1:token=abc", "--via", "--access-log=json:there/access.log"),
            *("--policy", "retry:times=1", "--policy", "headers:set X-Key abc"),
        )
        told = options.told()
        self.assertEqual(told["sitio"], sitio.__version__)
        self.assertEqual(told["policies"], ["retry:times=1", "headers:set X-Key ***"])
        self.assertEqual(told["options"]["port"], "tcp:1:token=***")
        self.assertEqual(told["options"]["grace"], "30")
        self.assertTrue(told["options"]["access-log"].endswith("/there/access.log"))
        self.assertEqual(json.loads(json.dumps(told)), told)


class Wire(StringTransport):
    """
    A transport that closes as those of a socket do: later.

    @ivar lost: whether its protocol has been told that it is closed.
    """

    def __init__(self, clock: Clock, protocol: Any) -> None:
        StringTransport.__init__(self, lenient=True)
        self.lost = False
        self._clock = clock
        self._protocol = protocol
        protocol.makeConnection(self)

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._clock.callLater(0, self.close)

    def close(self) -> None:
        """The peer has closed, or the transport itself."""
        if not self.lost:
            self.lost = True
            self._protocol.connectionLost(Failure(ConnectionDone()))

    def receive(self, data: bytes) -> None:
        """The peer has sent this."""
        self._protocol.dataReceived(data)


@implementer(IListeningPort)
@define
class Port:
    """A port that closes when the test says so."""

    closing: Deferred[None] | None = None

    def startListening(self) -> None:
        """It listens from the start."""

    def stopListening(self) -> Deferred[None]:
        self.closing = Deferred()
        return self.closing

    def getHost(self) -> Any:
        return StringTransport().getHost()


@implementer(IStreamServerEndpoint)
@define
class Listen:
    """
    Where clients come.

    @ivar result: what listening comes to: a Deferred.
    """

    result: Deferred[Any]
    factory: Factory | None = None

    def listen(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.result


@implementer(IStreamClientEndpoint)
@define
class Upstream:
    """The service behind, of which each connection is a L{Wire}."""

    clock: Clock
    wires: list[Wire] = field(factory=list)

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        self.wires.append(Wire(self.clock, protocol))
        return succeed(protocol)


@implementer(IExchangeObserver)
class Watcher(Service):
    """A policy that is a service as well."""

    started = 0
    stopped = 0
    seen = 0
    losses: ClassVar = {"accessLogLines": 7}

    def startService(self) -> None:
        self.started += 1
        Service.startService(self)

    def stopService(self) -> None:
        self.stopped += 1
        Service.stopService(self)

    def exchangeFinished(self, exchange: Any) -> None:
        self.seen += 1


REQUEST = b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class SidecarTestCase(SynchronousTestCase):
    """A sidecar service with nothing but memory on both sides."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = Port()
        self.listen = Listen(succeed(self.port))
        self.upstream = Upstream(self.clock)

    def sidecar(self, *policies: Any, **arguments: Any) -> SidecarService:
        """One with these policies and arguments."""
        return SidecarService(self.clock, self.listen, self.upstream, policies, **arguments)

    def client(self) -> Wire:
        """One more client."""
        factory = self.listen.factory
        assert factory is not None
        return Wire(self.clock, factory.buildProtocol(None))

    def logged(self) -> list[LogEvent]:
        """What is logged from here on."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return events


class StartTests(SidecarTestCase):
    """A sidecar starts."""

    def test_once(self) -> None:
        """It listens once, be it started with privileges first or not, and says where."""
        events = self.logged()
        service = self.sidecar()
        service.privilegedStartService()
        service.startService()
        self.assertIs(service.port, self.port)
        [said] = [each["address"] for each in events if "address" in each]
        self.assertEqual(said, "10.0.0.1:12345")

    def test_inRunningTree(self) -> None:
        """Put into a tree of services that runs, it listens at once."""
        application = MultiService()
        application.startService()
        self.sidecar().setServiceParent(application)
        self.assertIsNotNone(self.listen.factory)

    def test_cannotListen(self) -> None:
        """A port in use ends the start with a sentence that names it, and not with a traceback."""
        cause = OSError(98, "Address already in use")
        self.listen.result = fail(CannotListenError("127.0.0.1", 8080, cause))
        end = self.assertRaises(CannotStart, self.sidecar().startService)
        self.assertEqual(str(end), "sitio: can't listen on port 8080: Address already in use")

    def test_cannotListenElsewhere(self) -> None:
        """An address that isn't a port is named as far as it is known."""
        self.listen.result = fail(FileNotFoundError(2, "No such file or directory"))
        end = self.assertRaises(CannotStart, self.sidecar().startService)
        self.assertEqual(str(end), "sitio: can't listen on the address: No such file or directory")

    def test_listensLate(self) -> None:
        """An endpoint may take its time to listen."""
        self.listen.result = Deferred()
        service = self.sidecar()
        service.startService()
        self.assertIsNone(service.port)
        self.listen.result.callback(self.port)
        self.assertIs(service.port, self.port)

    def test_failsLate(self) -> None:
        """One that fails in the end is reported, as there is nobody left to be told."""
        events = self.logged()
        self.listen.result = Deferred()
        self.sidecar().startService()
        self.listen.result.errback(OSError(13, "Permission denied"))
        [event] = [each for each in events if "why" in each]
        self.assertEqual(event["log_level"].name, "critical")
        self.assertEqual(event["why"], "can't listen on the address: Permission denied")

    def test_stoppedBefore(self) -> None:
        """One that is still at it when the service stops is told to stop as well."""
        cancelled: list[Deferred[Any]] = []
        self.listen.result = Deferred(cancelled.append)
        events = self.logged()
        service = self.sidecar()
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(cancelled, [self.listen.result])
        self.assertEqual([each for each in events if "why" in each], [])

    def test_policiesAreServices(self) -> None:
        """A policy that is a service starts and stops with the sidecar, and sees exchanges."""
        watcher = Watcher()
        service = self.sidecar(watcher, statsInterval=0)
        self.assertEqual(watcher.started, 0)
        service.startService()
        self.assertEqual((watcher.started, watcher.stopped), (1, 0))
        client = self.client()
        client.receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        self.assertEqual(watcher.seen, 1)
        stopped = service.stopService()
        client.close()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual((watcher.started, watcher.stopped), (1, 1))

    def test_figures(self) -> None:
        """The metrics are a service of it, with the interval that was asked for."""
        service = self.sidecar(statsInterval=5)
        service.startService()
        self.assertEqual([each.getTime() for each in self.clock.getDelayedCalls()], [5])
        self.assertIs(IService(service.stats).parent, service)

    def test_snapshot(self) -> None:
        """It tells of itself what several processes would."""
        log = Watcher()
        alsoProvides(log, ILoses)
        service = self.sidecar(("seen", Watcher()), ("access-log", log))
        self.assertTrue(verifyObject(ISidecar, service))
        service.startService()
        self.client().receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        told = self.successResultOf(service.snapshot())
        self.assertEqual(told["metrics"], service.stats.snapshot())
        self.assertEqual(told["metrics"]["total"]["hits"], 1)
        self.assertEqual([each["name"] for each in told["policies"]], ["seen", "access-log"])
        self.assertEqual(told["pool"], {"open": 1, "idle": 1, "waiting": 0})
        self.assertEqual(told["poolCounts"]["opened"], 1)
        self.assertEqual((told["clients"], told["inFlight"], told["tooLong"]), (1, 0, 0))
        self.assertEqual(told["lost"], {"accessLogLines": 7, "dashboardEntries": 0})
        [worker] = told["workers"]
        self.assertEqual((worker["pid"], worker["hits"]), (os.getpid(), 1))
        self.assertEqual(json.loads(json.dumps(told)), told)

    def test_state(self) -> None:
        """It is starting until it listens, then serving, and draining once it is told to."""
        service = self.sidecar()
        self.assertEqual(service.state, STARTING)
        service.startService()
        self.assertEqual(service.state, SERVING)
        service.drain()
        service.drain()
        self.assertEqual(service.state, DRAINING)

    def test_drain(self) -> None:
        """While it drains it goes on to accept, and each connection ends after its response."""
        service = self.sidecar()
        service.startService()
        before = self.client()
        service.drain()
        for client in (before, self.client()):
            client.receive(REQUEST)
            self.upstream.wires[0].receive(RESPONSE)
            self.assertIn(b"\r\nConnection: close\r\n", client.value())
            self.assertTrue(client.disconnecting)

    def test_exchanges(self) -> None:
        """It tells of single exchanges: those that failed, and those under way."""
        service = self.sidecar()
        service.startService()
        self.client().receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE.replace(b"200 OK", b"500 No"))
        self.client().receive(REQUEST)
        told = self.successResultOf(service.exchanges())
        self.assertEqual([each["true"] for each in told["failed"]], [500])
        [exchange] = told["open"]
        self.assertEqual(exchange["state"], "waiting for the response")
        self.assertTrue(exchange["id"].startswith(f"{os.getpid()}-"))

    def test_policies(self) -> None:
        """Functions serve as policies, under their own names, in order."""

        @onRequest
        def answered(exchange: Any) -> Any:
            return Response(200, text="mine") if exchange.request.path == "/mine" else None

        @onResponse(404)
        def friendly(exchange: Any, response: Any) -> Any:
            return Response(404, text="sorry")

        service = self.sidecar(answered, ("kind", friendly))
        service.startService()
        names = [each["name"] for each in service.sidecar.chain.snapshot()]
        self.assertEqual(names[:2], ["answered", "kind"])
        client = self.client()
        client.receive(REQUEST.replace(b"/x", b"/mine"))
        self.assertTrue(client.value().endswith(b"\r\n\r\nmine"))

    def test_noPolicy(self) -> None:
        """What is no policy is refused when the sidecar is made."""
        why = self.assertRaises(ValueError, self.sidecar, object())
        self.assertIn("is no policy", str(why))


class StopTests(SidecarTestCase):
    """A sidecar that is told to stop loses nothing that is in flight."""

    def started(self, grace: float = 30) -> SidecarService:
        """One that runs, without metrics."""
        service = self.sidecar(settings=Settings(grace=grace), statsInterval=0)
        service.startService()
        return service

    def stopped(self, service: SidecarService) -> Deferred[Any]:
        """Stop it; its port closes."""
        stopped = service.stopService()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        return stopped

    def test_idle(self) -> None:
        """With no client it has stopped at once, and nothing is left on the clock."""
        self.successResultOf(self.stopped(self.started()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_portFirst(self) -> None:
        """It has not stopped before its port is closed."""
        stopped = self.started().stopService()
        self.assertNoResult(stopped)
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.successResultOf(stopped)

    def test_inFlight(self) -> None:
        """A request under way gets its response, with C{Connection: close}; then all is over."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 40)
        self.assertNoResult(stopped)
        self.assertEqual(client.value(), b"")
        self.upstream.wires[0].receive(RESPONSE)
        self.assertIn(b"\r\nConnection: close\r\n", client.value())
        self.assertTrue(client.value().endswith(b"\r\n\r\nhi"))
        self.clock.advance(0)
        self.assertTrue(client.lost)
        self.assertTrue(self.upstream.wires[0].lost)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_onItsWay(self) -> None:
        """A request that was on its way to an idle connection is answered as well."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        client.clear()
        stopped = self.stopped(service)
        self.clock.advance(0.5)
        client.receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        self.assertIn(b"\r\nConnection: close\r\n", client.value())
        self.clock.pump([0, 0])
        self.successResultOf(stopped)

    def test_idleClients(self) -> None:
        """Idle connections are not waited for longer than a request might be on its way."""
        service = self.started()
        clients = [self.client() for _ in range(3)]
        for each in clients:
            each.receive(REQUEST)
            self.upstream.wires[-1].receive(RESPONSE)
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 8)
        self.assertEqual([each.lost for each in clients], [True] * 3)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_grace(self) -> None:
        """What has not ended within the grace is broken off, and said to be."""
        events = self.logged()
        service = self.started(grace=3)
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 11)
        self.assertNoResult(stopped)
        self.assertFalse(client.disconnected)
        self.clock.advance(0.25)
        self.assertTrue(client.disconnected)
        self.clock.pump([0, 0])
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([each["connections"] for each in events if "connections" in each], [1])

    def test_abort(self) -> None:
        """What is in flight can be broken off before the grace is over."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        service.abort()
        self.assertTrue(client.disconnected)
        self.clock.pump([0, 0])
        self.successResultOf(stopped)

    def test_upstreamLast(self) -> None:
        """It has not stopped before the last connection to the upstream is closed."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        [wire] = self.upstream.wires
        wire.receive(RESPONSE)
        client.close()
        wire.loseConnection = lambda: None  # type: ignore[method-assign]
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 4)
        self.assertNoResult(stopped)
        wire.close()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_policiesLast(self) -> None:
        """Policies and metrics run on until the last exchange has ended."""
        watcher = Watcher()
        service = self.sidecar(watcher, statsInterval=0)
        service.startService()
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        self.assertEqual(watcher.stopped, 0)
        self.upstream.wires[0].receive(RESPONSE)
        self.assertEqual(watcher.seen, 1)
        self.clock.pump([0, 0])
        self.successResultOf(stopped)
        self.assertEqual(watcher.stopped, 1)

    def test_notAgain(self) -> None:
        """One that was stopped says that it can't be started again."""
        service = self.started()
        self.successResultOf(self.stopped(service))
        end = self.assertRaises(CannotStart, service.startService)
        self.assertIn("make another", str(end))
