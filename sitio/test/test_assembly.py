"""
Tests of L{sitio.assembly}: from options to services, without a socket.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

import sitio
from sitio.assembly import assemble, makeReloads, supervise
from sitio.config.options import Options
from sitio.config.places import ConfigErrors
from sitio.errors import CannotStart
from sitio.fleet.address import Address
from sitio.http.addressing import Addressing
from sitio.net.proxyheader import PrefacedEndpoint
from sitio.net.watching import Watcher
from sitio.policy import makers
from sitio.proxy.trust import ForwardedSettings, Trust
from sitio.wiring import adminports, fitting
from sitio.wiring.adminports import administer, connectable, fleetAddress, shownOptions
from sitio.wiring.fitting import fitDescriptors


def parsed(*arguments: str, **environ: str) -> Options:
    """The options for these arguments and this environment."""
    options = Options(environ)
    options.parseOptions(arguments)
    return options


class DescriptorsTests(SynchronousTestCase):
    """The numbers of connections fit into the limit of file descriptors."""

    def fitted(self, limit: int | None, *arguments: str, reactor: Any = None) -> list[str]:
        """Fit options; returns the log lines."""
        events: list[LogEvent] = []
        log = Logger(namespace="test", observer=cast(ILogObserver, events.append))
        self.options = parsed("--upstream=tcp:a:1", *arguments)
        self.patch(fitting, "raiseLimit", lambda: limit)
        fitDescriptors(reactor, self.options, log)
        return [formatEvent(each) for each in events]

    def numbers(self) -> tuple[int, int]:
        """The largest numbers of clients and of upstream connections."""
        settings = self.options["settings"]
        return settings.maxClients, settings.poolSize

    def test_fits(self) -> None:
        """Numbers that fit stay, and nothing is said."""
        for limit in (None, 20_000, 2**30):
            self.assertEqual(self.fitted(limit), [])
            self.assertEqual(self.numbers(), (10_000, 1024))
        self.assertEqual(self.fitted(1024, "--max-clients=300", "--pool-size=100"), [])
        self.assertEqual(self.numbers(), (300, 100))

    def test_tooFew(self) -> None:
        """A limit that is too low for sitio itself is refused, with what to do."""
        self.fitted(48)
        for limit in (1, 24, 47):
            error = self.assertRaises(CannotStart, self.fitted, limit)
            self.assertEqual(
                str(error),
                f"sitio: this process may have {limit} file descriptors open, and needs 48 at"
                " least; raise the limit (ulimit -n)",
            )

    def test_tooMany(self) -> None:
        """Numbers that do not fit become smaller.  One line says so, and the options show it."""
        self.assertEqual(
            self.fitted(128),
            [
                "A process may have 128 file descriptors open (ulimit -n): so --max-clients is 32"
                " and --pool-size 32"
            ],
        )
        self.assertEqual(self.numbers(), (32, 32))
        texts = self.options.texts()
        self.assertEqual((texts["max-clients"], texts["pool-size"]), ("32", "32"))

    def test_worker(self) -> None:
        """A worker says nothing: the supervisor has."""
        options = parsed("--upstream=tcp:a:1")
        self.patch(fitting, "raiseLimit", lambda: 128)
        fitDescriptors(None, options)
        self.assertEqual(options["settings"].maxClients, 32)

    def test_select(self) -> None:
        """C{select} can't watch more than 1024 descriptors, whatever the limit is."""
        reactor = SelectReactor.__new__(SelectReactor)
        for limit in (None, 2**20):
            [line] = self.fitted(limit, reactor=reactor)
            self.assertIn("A process may have 1024 file descriptors open", line)
            self.assertEqual(self.numbers(), (448, 448))


#: Those whom a test of C{--trusted} names.
TRUST = Trust.of(["10.0.0.0/8", "unix"])


class AssembleTests(SynchronousTestCase):
    """From options to services."""

    def test_listens(self) -> None:
        """The service listens on C{--port}, when it is started and not before."""
        reactor = MemoryReactorClock()
        service = assemble(
            reactor, parsed("--port", "tcp:8123:interface=127.0.0.1", "--upstream=tcp:a:1")
        )
        self.assertEqual(reactor.tcpServers, [])
        service.privilegedStartService()
        [(port, _, _, interface)] = reactor.tcpServers
        self.assertEqual((port, interface), (8123, "127.0.0.1"))

    def test_settings(self) -> None:
        """Limits, Via and the upstream's name are passed to the service."""
        reactor = MemoryReactorClock()
        service = assemble(
            reactor, parsed("--port=1", "--upstream=tcp:there:8087", "--via", "--grace=7")
        )
        self.assertEqual(service.context.settings.grace, 7)
        self.assertEqual(service.context.host, b"there:8087")
        self.assertEqual(service.context.generation.fallback.via, b"sitio")
        self.assertEqual(service.context.forwarded, ForwardedSettings())

    def test_forwarded(self) -> None:
        """What is said of claims is passed to the service; nobody is not the default."""
        for trusted, expected in (("", Trust.of([])), ("10.0.0.0/8,unix", TRUST)):
            options = parsed(
                *("--upstream=tcp:a:1", "--forwarded=replace", "--forwarded-style=both"),
                f"--trusted={trusted}",
            )
            context = assemble(MemoryReactorClock(), options).context
            self.assertEqual(context.forwarded, ForwardedSettings("replace", "both", expected))

    def test_upstream(self) -> None:
        """The Host of requests, and what they tell, are as the upstream and its options say."""
        for arguments, expected in (
            (["--upstream=tcp:a:1"], None),
            (["--upstream=https://a.example"], Addressing(b"a.example", tells=False)),
            (["--upstream=https://a.example", "--upstream-host=client"], None),
            (["--upstream=tcp:a:1", "--upstream-host=upstream"], Addressing(b"a:1")),
            (["--upstream=tcp:a:1", "--upstream-host=b.example"], Addressing(b"b.example")),
        ):
            service = assemble(MemoryReactorClock(), parsed(*arguments))
            route = service.context.generation.only
            assert route is not None
            pool: Any = route.pool
            self.assertEqual(getattr(pool._makeWriter(), "addressing", None), expected, arguments)

    def test_proxyProtocol(self) -> None:
        """Connections begin with a PROXY header, those of the check of /ready as well."""
        options = parsed("--upstream=tcp:a:1", "--proxy-protocol=v2")
        service = assemble(MemoryReactorClock(), options)
        upstream: Any = service.context.generation.upstreams["upstream"]
        self.assertTrue(upstream.settings.identifies)
        check: Any = adminports._healthCheck(MemoryReactorClock(), options, service)
        [endpoint] = check._target._endpoints()
        self.assertIsInstance(endpoint, PrefacedEndpoint)
        refused = parsed("--upstream=https://a", "--proxy-protocol=v2")
        error = self.assertRaises(CannotStart, assemble, MemoryReactorClock(), refused)
        self.assertIn("the PROXY header comes before TLS", str(error))

    def test_demo(self) -> None:
        """With C{--demo}, the photo site runs on loopback."""
        reactor = MemoryReactorClock()
        service = assemble(reactor, parsed("--demo", "--port=8123", "--stats-interval=0"))
        service.startService()
        self.assertEqual(
            [(port, interface) for port, _, _, interface in reactor.tcpServers],
            [(8123, ""), (8087, "127.0.0.1")],
        )

    def test_noUpstream(self) -> None:
        """Without an upstream there is no start: nothing is served by accident."""
        reactor = MemoryReactorClock()
        for environ in ({}, {"TARGET_PORT": ""}):
            error = self.assertRaises(CannotStart, assemble, reactor, parsed(**environ))
            self.assertEqual(
                str(error),
                "sitio: there is no upstream: name the service with --upstream, such as"
                " tcp:localhost:8087, or with TARGET_PORT, or use --demo",
            )
        self.assertEqual(reactor.tcpServers, [])

    def test_hostless(self) -> None:
        """For an upstream without a host name, the Host for requests without one is localhost."""
        service = assemble(MemoryReactorClock(), parsed("--upstream=unix:/run/there.sock"))
        self.assertEqual(service.context.host, b"localhost")


class FileTests(SynchronousTestCase):
    """From a configuration file to services."""

    def write(self, text: str) -> str:
        """Write a file; returns the option that names it."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return f"--config={path}"

    def policy(self) -> Path:
        """A file with a policy."""
        path = Path(f"{self.mktemp()}.py").absolute()
        path.write_text("from sitio import onRequest\n@onRequest\ndef it(exchange): pass\n")
        return path

    def test_several(self) -> None:
        """A sidecar listens on all its ports, and has all its upstreams and routes."""
        reactor = MemoryReactorClock()
        options = parsed(
            self.write(
                "[listeners.a]\naddress = 81\n[listeners.b]\naddress = 82\n"
                '[upstreams.one]\naddress = "10.0.0.1:1"\n'
                '[upstreams.two]\nendpoints = ["10.0.0.2:1", "10.0.0.3:1"]\n'
                '[[routes]]\npath = "/a/{b}"\nupstream = "two"\n'
                '[[routes]]\nupstream = "one"\n'
            )
        )
        service = assemble(reactor, options)
        service.startService()
        self.assertEqual([each[0] for each in reactor.tcpServers], [81, 82])
        generation = service.context.generation
        self.assertEqual(set(generation.upstreams), {"one", "two"})
        self.assertEqual([each.name for each in generation.routes], ["/a/{b}", ""])
        self.assertEqual(service.stats._keyFor("GET", "/a/1", 200)[1], "/a/{b}")
        addresses = [address for _, address in connectable(options.config)]
        self.assertEqual(addresses, [f"tcp:10.0.0.{n}:1" for n in (1, 2, 3)])

    def test_mistakes(self) -> None:
        """What can't be used is told with file and line."""
        option = self.write('[listener]\naddress = 81\n[upstream]\naddress = "unix:/a:timeout=x"\n')
        error = self.assertRaises(CannotStart, assemble, MemoryReactorClock(), parsed(option))
        self.assertIn(":4: upstream.address: 'unix:/a:timeout=x' can't be used (", str(error))
        self.assertIsInstance(error.__cause__, ConfigErrors)

    def test_ownPort(self) -> None:
        """None of the upstreams may be one of its ports."""
        reactor = MemoryReactorClock()
        option = self.write(
            "[listeners.a]\naddress = 81\n[listeners.b]\naddress = 82\n"
            '[upstream]\nendpoints = ["10.0.0.1:81", "localhost:82"]\n'
        )
        error = self.assertRaises(CannotStart, assemble(reactor, parsed(option)).startService)
        self.assertIn("--upstream is sitio's own port", str(error))

    def test_workers(self) -> None:
        """Workers get the text of the file, and the number of what is configured."""
        option = self.write("[listener]\naddress = 81\n[upstream]\naddress = 82\n")
        supervisor = supervise(MemoryReactorClock(), parsed("--workers=2", option))
        supervisor.configState.adopted(7, 0.0)
        assignment = supervisor._assignment()
        self.assertEqual(assignment["generation"], 7)
        self.assertTrue(assignment["text"].startswith("[listener]"))

    def test_watched(self) -> None:
        """Files are watched if there are any, and if the operator has nothing against it."""
        for arguments, isWatched in (
            (["--upstream=a:1"], False),
            (["--upstream=a:1", f"--policy=file:{self.policy()}"], True),
            ([self.write("[upstream]\naddress = 82\n")], True),
            ([self.write("[upstream]\naddress = 82\n"), "--no-watch"], False),
            ([self.write("watch = false\n[upstream]\naddress = 82\n")], False),
        ):
            reactor, options = MemoryReactorClock(), parsed(*arguments)
            service = assemble(reactor, options)
            makeReloads(reactor, options, service)
            watchers = [each for each in service if isinstance(each, Watcher)]
            self.assertEqual(len(watchers), isWatched)


class SuperviseTests(SynchronousTestCase):
    """From options to several processes."""

    def assignment(self, *arguments: str) -> dict[str, Any]:
        """The assignment of a worker, with these options."""
        workers = supervise(MemoryReactorClock(), parsed("--workers=2", *arguments))
        return cast(dict[str, Any], workers._assignment())

    def test_assignment(self) -> None:
        """A worker gets the command line and the folder in which it was given."""
        assignment = self.assignment("--upstream=tcp:a:1", "--via")
        self.assertEqual(assignment["arguments"], ["--workers=2", "--upstream=tcp:a:1", "--via"])
        self.assertEqual(assignment["folder"], os.getcwd())
        self.assertIsNone(assignment["demo"])

    def test_demo(self) -> None:
        """The photo site runs once, in the parent, and workers get its address."""
        workers = supervise(MemoryReactorClock(), parsed("--demo", "--workers=2"))
        [demo] = workers
        demo.startService()
        self.assertRegex(workers._assignment()["demo"], r"\Atcp:127\.0\.0\.1:[0-9]+\Z")


class AdministerTests(SynchronousTestCase):
    """From options to an admin port."""

    def listening(self, *arguments: str) -> list[tuple[int, str]]:
        """The ports of a sidecar with these arguments, in order."""
        self.reactor = MemoryReactorClock()
        options = parsed("--port=1", "--stats-interval=0", *arguments)
        service = assemble(self.reactor, options)
        administer(self.reactor, options, service)
        service.startService()
        return [(port, interface) for port, _, _, interface in self.reactor.tcpServers]

    def test_default(self) -> None:
        """The admin port is on loopback by default."""
        self.assertEqual(self.listening("--upstream=tcp:a:1"), [(1, ""), (9901, "127.0.0.1")])

    def test_upstream(self) -> None:
        """The default gives way to an upstream; a port that was named is refused as one."""
        upstream = "--upstream=tcp:localhost:9901"
        self.assertEqual(self.listening(upstream)[1:], [(9901, "127.0.0.1"), (0, "127.0.0.1")])
        for option in ("--admin", "--probes"):
            with self.assertRaisesRegex(CannotStart, f"see its admin pages.*another {option}"):
                self.listening(upstream, "--admin=", f"{option}=9901")

    def test_given(self) -> None:
        """A number is a port of loopback; a description is used unchanged."""
        for admin, where in (("81", (81, "127.0.0.1")), ("tcp:82", (82, ""))):
            self.assertEqual(self.listening("--upstream=tcp:a:1", "--admin", admin)[1], where)

    def test_off(self) -> None:
        """An empty value differs from the default."""
        self.assertEqual(parsed("--admin=")["admin"], "")
        self.assertIsNone(parsed()["admin"])

    def test_malformed(self) -> None:
        """A wrong description is shown in the error, without its secrets."""
        options = parsed("--upstream=tcp:a:1", "--admin=nope:1:token=s3cr3t")
        reactor = MemoryReactorClock()
        error = self.assertRaises(
            CannotStart, administer, reactor, options, assemble(reactor, options)
        )
        self.assertEqual(
            str(error),
            "sitio: --admin 'nope:***' can't be used (Unknown endpoint type: 'nope');"
            " use for example 9901 or tcp:9901, or --admin= for none",
        )

    def test_demo(self) -> None:
        """The health check works for the photo site too."""
        self.assertIn((8087, "127.0.0.1"), self.listening("--demo", "--health-path=/"))
        [(host, *_)] = self.reactor.tcpClients
        self.assertEqual(host, "127.0.0.1")

    def test_healthPath(self) -> None:
        """The health check requests its path when the service starts."""
        self.listening("--upstream=tcp:10.0.0.1:8087", "--health-path=/healthz")
        [(host, port, factory, *_)] = self.reactor.tcpClients
        self.assertEqual((host, port), ("10.0.0.1", 8087))
        protocol: Any = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertTrue(transport.value().startswith(b"GET /healthz HTTP/1.1\r\n"))
        self.assertIn(b"\r\nHost: 10.0.0.1:8087\r\n", transport.value())

    def test_config(self) -> None:
        """All options are shown, given or default, without secrets."""
        options = parsed(
            *("--port=tcp:1:token=abc", "--via", "--access-log=json:there/access.log"),
            *("--policy", "retry:times=1", "--policy", "headers:set X-Key abc"),
            "--route=/users/{id}",
        )
        told = shownOptions(options)
        self.assertEqual(told["sitio"], sitio.__version__)
        self.assertEqual(told["policies"], ["retry:times=1", "headers:set X-Key ***"])
        self.assertEqual(told["options"]["port"], "tcp:1:token=***")
        self.assertEqual(told["options"]["grace"], "30")
        self.assertEqual(told["routes"], ["/users/{id}"])
        self.assertTrue(told["options"]["access-log"].endswith("/there/access.log"))
        self.assertEqual(told["options"].keys(), told["sources"].keys())
        self.assertEqual(json.loads(json.dumps(told)), told)

    def test_sources(self) -> None:
        """
        Of each option it is told whether its value was given, and where, or is the default;
        also of one whose name is shortened, and of one that was given as it is by default.
        """
        variables = {"PORT": "81", "TARGET_PORT": "82", "SEND_STATS": "", "OTHER": "1"}
        for arguments, environment, expected in (
            ((), {}, {}),
            (("--grace=30",), {}, {"grace": "command line"}),
            (("--grac", "30", "--via"), {}, {"grace": "command line", "via": "command line"}),
            ((), variables, {"port": "environment: PORT", "upstream": "environment: TARGET_PORT"}),
            (
                ("--port=83", "--upstream=tcp:a:1"),
                variables,
                {"port": "command line", "upstream": "command line"},
            ),
        ):
            options = Options(environment)
            options.parseOptions(list(arguments))
            sources = shownOptions(options)["sources"]
            given = {name: each for name, each in sources.items() if each != "default"}
            self.assertEqual(given, expected, arguments)

    def test_lowered(self) -> None:
        """Numbers that the limit of file descriptors made smaller are told as such."""
        options = parsed("--upstream=tcp:a:1", "--max-clients=1000000000")
        fitDescriptors(MemoryReactorClock(), options)
        self.assertEqual(shownOptions(options)["sources"]["max-clients"], "file descriptors")


#: Arguments that hold C{s3cret}, none of which starts, and what each error says.
REFUSED = (
    ("--policy=headers:request set Authorization Bearer s3cret:bad", "'headers:request set"),
    ("--policy=headers:bad:request  set\tAuthorization Bearer s3cret", "Authorization ***'"),
    ("--policy=headers:reqest set Authorization Bearer s3cret", "usage: headers:"),
    ("--policy=headers:set X-Key s3cret\n", "usage: headers:"),
    ("--policy=headers:set X-Key s3cret\x00more", "X-Key ***"),
    ("--policy=headers:set Content-Length s3cret", "Content-Length ***"),
    ("--policy=headers:set X:Key s3cret", "usage: headers:"),
    ("--policy=headers:token=s3cret", "'headers:***'"),
    ("--policy=headers:s3cret=", "usage: headers:"),
    ("--policy=headers:add s3cret", "usage: headers:"),
    ("--policy=headers:add X-Key=s3cret", "usage: headers:"),
    ("--policy=headers:request add Host s3cret", "the Host of a request can only be set"),
    (
        "--policy=headers:set X-A a:key=s3cret:key=s3cret",
        "there is no option key",
    ),
    ("--policy=headers request set Authorization Bearer s3cret", "no policy 'headers***'"),
    ("--policy=header:request set Authorization Bearer s3cret", "no policy 'header'"),
    ("--policy= headers:set X-Key s3cret", "no policy ' headers'"),
    ("--policy=http://user:s3cret@a", "no policy 'http'"),
    ("--policy=last-good:token=s3cret", "'last-good:token=***'"),
    ("--policy=last-good:max-age=x:Token=s3cret", "'last-good:Token=***:max-age=x'"),
    ("--policy=retry:times=x:auth=s3cret", "'retry:times=x:auth=***'"),
    ("--policy=error-page:404:token=s3cret", "'error-page:404:token=***'"),
    ("--policy=deny:PUT:x:token=s3cret", "'deny:PUT:x:token=***'"),
    ("--policy=deny:PUT:http\\://user\\:s3cret@a/", "http\\\\://***@a/"),
    ("--policy=file:mine.py:token=s3cret", "mine.py is not a Python file"),
    ("--fleet=http://user:s3cret@a:b/", "--fleet is not the URL"),
    ("--fleet=ftp://a/s3cret", "--fleet is not the URL"),
    ("--fleet=http://a/hook?key=s3cret", "--fleet is not the URL"),
    ("--port=socks:user:s3cret", "--port 'socks:***'"),
    ("--port=tcp:1:key=s3cret", "--port 'tcp:1:key=***'"),
    ("--port=haproxy:socks:s3cret", "--port 'haproxy:socks:***'"),
    ("--upstream=socks:user:s3cret", "--upstream 'socks:***'"),
    ("--upstream=tcp:a:1:key=s3cret", "--upstream 'tcp:a:1:key=***'"),
    ("--admin=socks:user:s3cret", "--admin 'socks:***'"),
    ("--health-path=/a b?token=s3cret", "--health-path is '/a b?***'"),
    ("--health-path=http://me:s3cret@a/", "--health-path is 'http://***@a/'"),
    ("--admin-hosts=http://me:s3cret@a/", "--admin-hosts is 'http://***@a/'"),
    ("--access-log=http://me:s3cret@a/", "--access-log is 'http://***@a/'"),
    ("s3cret", "after sitio belongs to no option"),
)


class SecretsTests(SynchronousTestCase):
    """No place that shows an option shows a secret of it."""

    def started(self, argument: str) -> None:
        """Do with an argument all that a start does, but listening."""
        reactor = MemoryReactorClock()
        options = parsed(*([] if "upstream" in argument else ["--upstream=tcp:a:1"]), argument)
        fleetAddress(options)
        administer(reactor, options, assemble(reactor, options))

    def test_refused(self) -> None:
        """The sentence that ends the start says what is wrong, and hides the secret."""
        for argument, said in REFUSED:
            error = self.assertRaises(CannotStart, self.started, argument)
            self.assertIn(said, str(error), argument)
            self.assertNotIn("s3cret", str(error).lower(), argument)

    def test_repeated(self) -> None:
        """A maker that repeats what it was given, in whatever way, shows nothing of it."""

        class Maker:
            name = "guard"
            usage = "guard:KEY  let requests with a key pass"
            error: type[BaseException]

            def makePolicy(self, *arguments: str, **options: str) -> Any:
                given = [*arguments, *options.values(), *options]
                if given[0] == "s3cret object":
                    return Exception(given)
                raise self.error(
                    f"{given} {' '.join(given)} {given[0].split()[0]!r} {given[0].upper()}"
                )

        self.patch(makers, "getPlugins", lambda interface: [Maker()])
        for Maker.error in (ValueError, TypeError, SystemExit):
            for text in (
                *("s3cret", "a s3cret", "key=s3cret", "s3cret="),
                r"a\:s3cret",
                "s3cret object",
            ):
                said = str(self.assertRaises(CannotStart, parsed, f"--policy=guard:{text}"))
                self.assertIn("--policy 'guard:***': ", said)
                self.assertIn("usage: guard:KEY", said)
                self.assertNotIn("s3cret", said.lower())

    def test_fleet(self) -> None:
        """Of the fleet's URL only scheme, host and port are shown: paths may be tokens."""
        for url, shown in (
            ("http://me:s3cret@a", "http://a"),
            ("https://hooks.example/services/T0/s3cret", "https://hooks.example"),
            ("http://me:s3cret@[::1]:8080/s3cret/", "http://[::1]:8080"),
        ):
            options = parsed(f"--fleet={url}")
            address = cast(Address, fleetAddress(options))
            for place in (repr(address), str(address), repr(shownOptions(options))):
                self.assertNotIn("s3cret", place)
                self.assertIn(shown, place)
            self.assertEqual(shownOptions(options)["options"]["fleet"], shown)


class BadEndpointTests(SynchronousTestCase):
    """An option that can't be used ends the start with one sentence."""

    def refused(self, *arguments: str) -> str:
        """The sentence for these arguments; no port may be opened."""
        reactor = MemoryReactorClock()
        end = self.assertRaises(CannotStart, assemble, reactor, parsed(*arguments))
        self.assertEqual(reactor.tcpServers, [])
        sentence = str(end.code)
        self.assertTrue(sentence.startswith("sitio: "), sentence)
        self.assertNotIn("\n", sentence)
        return sentence

    def test_port(self) -> None:
        """The error for a wrong C{--port} shows it, and an example."""
        for value in ("80x", "tcp:x", "nope:x", "ssl:8443:privateKey=/nonexistent"):
            sentence = self.refused("--port", value, "--upstream=tcp:a:1")
            shown = "nope:***" if value == "nope:x" else value
            self.assertIn(f"--port {shown!r} can't be used", sentence)
            self.assertIn("use for example 8080 or tcp:8080", sentence)

    def test_secrets(self) -> None:
        """Errors do not repeat secrets, as others may read the log."""
        for name in ("port", "upstream"):
            rest = ["--upstream=tcp:a:1"] if name == "port" else []
            sentence = self.refused(f"--{name}", "nope:1:password=s3cr3t", *rest)
            self.assertIn(f"--{name} 'nope:***' can't be used", sentence)

    def test_upstream(self) -> None:
        """The error for a wrong C{--upstream} shows it, and an example."""
        for value in ("", "nope", "tcp:a", "tcp:a:b", "tcp:a:65536", "nope:x", "tls:a"):
            sentence = self.refused("--upstream", value)
            shown = "nope:***" if value == "nope:x" else value
            self.assertIn(f"--upstream {shown!r} can't be used", sentence)
            self.assertIn("use for example tcp:localhost:8087", sentence)


class FleetTests(SynchronousTestCase):
    """From options to the address of the fleet's dashboard."""

    def test_none(self) -> None:
        """Without the option there is no address."""
        self.assertIsNone(fleetAddress(parsed()))

    def test_address(self) -> None:
        """The URL of the option is parsed."""
        self.assertEqual(fleetAddress(parsed("--fleet=http://a:1/")), Address("http://a:1"))

    def test_malformed(self) -> None:
        """A URL that is wrong is not repeated, as it may contain a password."""
        what = "not the URL of a fleet dashboard; use for example http://dashboard:8080"
        error = self.assertRaises(CannotStart, fleetAddress, parsed("--fleet=me:secret@a:80"))
        self.assertTrue(str(error).startswith(f"sitio: --fleet is {what}"), str(error))
        error = self.assertRaises(CannotStart, fleetAddress, parsed(MOTHERSHIP="me:secret@a:80"))
        self.assertTrue(str(error).startswith(f"sitio: MOTHERSHIP is {what}"), str(error))
        self.assertNotIn("secret", str(error))

    def test_shown(self) -> None:
        """User and password of the URL are not shown."""
        told = shownOptions(parsed("--fleet=http://me:secret@a"))
        self.assertNotIn("secret", repr(told))
        self.assertEqual(told["options"]["fleet"], "http://a")
