"""
Tests of L{sitio.config.options}.
"""

from __future__ import annotations

import contextlib
import io
import os

import attrs
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.options import FLEET_VARIABLES, Options
from sitio.config.values import workerCount
from sitio.errors import CannotStart
from sitio.settings import Settings

LIMITS: tuple[attrs.Attribute, ...] = attrs.fields(Settings)


def parsed(*arguments: str, **environ: str) -> Options:
    """The options for these arguments and this environment."""
    options = Options(environ)
    options.parseOptions(arguments)
    return options


class OptionsTests(SynchronousTestCase):
    """Valid options and their values."""

    def test_barePort(self) -> None:
        """A number is a port on all addresses, with a long backlog."""
        self.assertEqual(parsed("--port", "8080")["port"], "tcp:8080")
        self.assertEqual(parsed("-p", "0")["port"], "tcp:0")

    def test_portDescription(self) -> None:
        """An endpoint description for the port is used unchanged."""
        for description in (
            "tcp:8080:interface=127.0.0.1",
            "unix:/run/sitio.sock",
            "haproxy:tcp:8080",
        ):
            self.assertEqual(parsed("--port", description)["port"], description)

    def test_defaults(self) -> None:
        """By default sitio listens on 8080, and has no upstream."""
        options = parsed()
        self.assertEqual(options["port"], "tcp:8080")
        self.assertIsNone(options["upstream"])
        self.assertEqual(options["policies"], [])
        self.assertEqual(options["stats-interval"], 2)
        self.assertEqual(options["worker-timeout"], 10)
        self.assertEqual(options["settings"], Settings())
        self.assertFalse(options["via"])
        self.assertIsNone(options["access-log"])

    def test_demo(self) -> None:
        """The photo site is asked for; the environment does not replace it."""
        self.assertFalse(parsed()["demo"])
        options = parsed("--demo", TARGET_PORT="81")
        self.assertTrue(options["demo"])
        self.assertIsNone(options["upstream"])
        error = self.assertRaises(CannotStart, parsed, "--demo", "--upstream=tcp:a:1")
        self.assertIn("sitio: --demo is a service of its own: leave out --upstream", str(error))

    def test_environment(self) -> None:
        """PORT and TARGET_PORT replace options that are not given."""
        options = parsed(PORT="81", TARGET_PORT="82")
        self.assertEqual(options["port"], "tcp:81")
        self.assertEqual(options["upstream"], "tcp:localhost:82")

    def test_environmentEmpty(self) -> None:
        """An empty variable counts as unset."""
        options = parsed(PORT="", TARGET_PORT="")
        self.assertEqual(options["port"], "tcp:8080")
        self.assertIsNone(options["upstream"])

    def test_optionsWin(self) -> None:
        """Options take precedence over the environment."""
        options = parsed(
            "--port", "1", "--upstream", "tcp:there:2", PORT="81", TARGET_PORT="not looked at"
        )
        self.assertEqual(options["port"], "tcp:1")
        self.assertEqual(options["upstream"], "tcp:there:2")

    def test_limits(self) -> None:
        """Every limit and timeout has an option with a number as its value."""
        arguments = []
        # Downwards: uploads hold at most as many connections as there are.
        numbers = dict(zip(LIMITS, range(len(LIMITS), 0, -1)))
        for each, number in numbers.items():
            name = "".join(f"-{c.lower()}" if c.isupper() else c for c in each.name)
            arguments.append(f"--{name}={number}")
        settings = parsed(*arguments)["settings"]
        for each, number in numbers.items():
            value = getattr(settings, each.name)
            self.assertEqual(value, number)
            self.assertIs(type(value), type(each.default))

    def test_fractions(self) -> None:
        """Seconds may have fractions."""
        self.assertEqual(parsed("--connect-timeout", "0.25")["settings"].connectTimeout, 0.25)
        self.assertEqual(parsed("--stats-interval", "0.5")["stats-interval"], 0.5)

    def test_zero(self) -> None:
        """0 switches off the stats line and the grace."""
        options = parsed("--stats-interval", "0", "--grace", "0")
        self.assertEqual(options["stats-interval"], 0)
        self.assertEqual(options["settings"].grace, 0)

    def test_workers(self) -> None:
        """The number of workers is 1 by default, a given number, or the number of cores."""
        self.assertEqual(parsed()["workers"], 1)
        self.assertEqual(parsed("--workers", "3")["workers"], 3)
        self.assertEqual(parsed("--workers=auto")["workers"], workerCount("auto"))

    def test_probes(self) -> None:
        """By default probes have no port; a number is a port on all addresses."""
        self.assertIsNone(parsed()["probes"])
        self.assertIsNone(parsed("--probes=")["probes"])
        self.assertEqual(parsed("--probes=9902")["probes"], "tcp:9902")
        for description in ("tcp:9902", "tcp:9901:interface=10.0.0.7", "unix:/run/probes"):
            self.assertEqual(parsed("--probes", description)["probes"], description)
        self.assertEqual(parsed("--probes=tcp:9901", "--admin=")["probes"], "tcp:9901")

    def test_routes(self) -> None:
        """Templates of routes can be repeated; there are none by default."""
        self.assertEqual(parsed()["routes"].templates, ())
        given = parsed("--route", "/users/{id}", "--route=/files/{path...}")
        self.assertEqual(given["routes"].templates, ("/users/{id}", "/files/{path...}"))

    def test_forwarded(self) -> None:
        """Claims of other proxies are appended to, or what is asked for."""
        self.assertEqual(parsed()["forwarded"], "append")
        for mode in ("append", "preserve", "replace"):
            self.assertEqual(parsed("--forwarded", mode)["forwarded"], mode)

    def test_forwardedStyle(self) -> None:
        """The fields are those of X-Forwarded, or what is asked for."""
        self.assertEqual(parsed()["forwarded-style"], "x-forwarded")
        for style in ("x-forwarded", "forwarded", "both"):
            self.assertEqual(parsed("--forwarded-style", style)["forwarded-style"], style)

    def test_upstreamHost(self) -> None:
        """The Host of requests, and a PROXY header: nothing is said by default."""
        self.assertEqual((parsed()["upstream-host"], parsed()["proxy-protocol"]), (None, None))
        for host in ("client", "upstream", "a.example", "[::1]:80"):
            given = parsed("--upstream=tcp:a:1", "--upstream-host", host, "--proxy-protocol=v2")
            [upstream] = given.config.upstreams
            self.assertEqual((upstream.host, upstream.proxyProtocol), (host, "v2"))

    def test_trusted(self) -> None:
        """Networks, addresses and UNIX sockets; nobody is not the same as none given."""
        self.assertIsNone(parsed()["trusted"])
        self.assertEqual(parsed("--trusted=")["trusted"], "")
        given = parsed("--trusted", " 10.0.0.0/8,unix , 2001:DB8::1,")
        self.assertEqual(given["trusted"], "10.0.0.0/8,unix,2001:db8::1/128")

    def test_forWorkers(self) -> None:
        """The command line and the folder are kept for the workers."""
        options = parsed("--via", "--port", "1")
        self.assertEqual(options["arguments"], ["--via", "--port", "1"])
        self.assertEqual(options["folder"], os.getcwd())

    def test_accessLog(self) -> None:
        """The access log has a format and a path, which is relative to the folder of the start."""
        self.assertEqual(parsed("--access-log=json")["access-log"], ("json", None))
        self.assertEqual(
            parsed("--access-log=common:a.log")["access-log"],
            ("common", os.path.join(os.getcwd(), "a.log")),
        )
        self.assertEqual(parsed("--access-log=json:/a.log")["access-log"], ("json", "/a.log"))

    def test_fleet(self) -> None:
        """The option or the first variable that is set names the fleet's dashboard."""

        def fleet(*arguments: str, **environ: str) -> tuple[str | None, str]:
            options = parsed(*arguments, **environ)
            return options["fleet"], options["fleet-source"]

        self.assertEqual(fleet(), (None, ""))
        self.assertEqual(fleet("--fleet=http://a:1/"), ("http://a:1/", "--fleet"))
        for name in FLEET_VARIABLES:
            self.assertEqual(fleet(**{name: "http://b"}), ("http://b", name))
            self.assertIsNone(fleet("--fleet=", **{name: "http://b"})[0])
        both = {"DASHBOARD": "", "MOTHERSHIP": "http://b", "DASHBOARD_URL": "http://c"}
        self.assertEqual(fleet(**both), ("http://b", "MOTHERSHIP"))

    def test_accessLogInBackground(self) -> None:
        """An access log on standard output is refused for a daemon, which has none."""

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
        """Policies are in the order in which they are given."""
        options = parsed(
            "--policy", f"file:{self.policyFile('first')}", "--policy", self.described("second")
        )
        self.assertEqual([name for name, _ in options["policies"]], ["first", "second"])

    def policyFile(self, name: str) -> str:
        """A file with one policy of this name."""
        path = FilePath(self.mktemp() + ".py")
        text = (
            f"from sitio import onResponse\n@onResponse()\ndef {name}(exchange, response): pass\n"
        )
        path.setContent(text.encode())
        return path.path

    def described(self, name: str) -> str:
        """The description of such a policy."""
        return f"file:{self.policyFile(name)}"

    def test_helpSaysUnits(self) -> None:
        """The help on a limit is that of its setting, and contains its unit."""
        text = " ".join(str(Options({})).split())
        for each in LIMITS:
            self.assertIn(each.metadata["unit"], ("seconds", "bytes", "number"))
            self.assertIn(each.metadata["unit"], each.metadata["help"])
            self.assertIn(each.metadata["help"], text)

    def test_helpPolicies(self) -> None:
        """C{--help-policies} lists a line for each policy, files included, and exits with 0."""
        lines = self.printed("--help-policies").splitlines()
        starts = [line.partition(" ")[0] for line in lines]
        self.assertEqual(starts[0], "file:PATH")
        for name in ("allow", "deny", "error-page", "headers", "last-good", "retry"):
            self.assertEqual(len([each for each in starts if each.startswith(name)]), 1, name)

    def test_helpPolicy(self) -> None:
        """With names after it, it lists their options instead; a wrong name ends with 1."""
        text = self.printed("--help-policies", "retry", "deny")
        self.assertIn("retry[:times=N][:statuses=STATUSES][:after=DURATION]\n", text)
        self.assertRegex(text, r"\n  times=N +how often .* \(a whole number from 1 .*\) +\[2\]\n")
        self.assertIn("deny:METHODS:PATTERN", text)
        error = self.assertRaises(CannotStart, parsed, "--help-policies", "rety")
        self.assertIn("--help-policies there is no policy 'rety'", str(error))
        self.assertIn("did you mean retry?", str(error))

    def test_version(self) -> None:
        """C{--version} prints sitio's version, not Twisted's."""
        self.assertRegex(self.printed("--version"), r"\Asitio [0-9]+\.[0-9]+.*\n\Z")

    def printed(self, *arguments: str) -> str:
        """The output of an option that exits with status 0."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            end = self.assertRaises(SystemExit, parsed, *arguments)
        self.assertEqual(end.code, 0)
        return out.getvalue()


class BadOptionsTests(SynchronousTestCase):
    """A bad option ends the start with one sentence."""

    def refused(self, *arguments: str, **environ: str) -> str:
        """The sentence that ends the start with these arguments."""
        end = self.assertRaises(CannotStart, parsed, *arguments, **environ)
        # An interpreter that gets such a SystemExit prints it and ends with status 1.
        self.assertIsInstance(end, SystemExit)
        sentence = str(end.code)
        self.assertTrue(sentence.startswith("sitio: "), sentence)
        self.assertNotIn("\n", sentence)
        return sentence

    def test_poolUploads(self) -> None:
        """Uploads can't hold more connections than there are."""
        parsed("--pool-uploads=20", "--pool-size=20")
        self.assertEqual(
            self.refused("--pool-uploads=21", "--pool-size=20"),
            "sitio: --pool-uploads 21 is more than --pool-size 20: write at most that, or 0 for"
            " three quarters of it; twistd sitio --help lists the options",
        )

    def test_limitIsNoNumber(self) -> None:
        """The error for a limit that is no number has its name, the value and what it must be."""
        for value in ("x", "", "-1", "1.5", "0x10", "nan", "inf"):
            sentence = self.refused(f"--max-head={value}")
            self.assertIn(
                f"--max-head is {value!r}; it must be a whole number, more than 0", sentence
            )
        for value in ("x", "", "-1", "nan", "inf", "1s"):
            sentence = self.refused(f"--response-timeout={value}")
            self.assertIn(
                f"--response-timeout is {value!r}; it must be a number of seconds", sentence
            )
            for name in ("--stats-interval", "--worker-timeout"):
                self.assertIn(name, self.refused(f"{name}={value}"))

    def test_workers(self) -> None:
        """The error for a wrong number of workers has the value and what it must be."""
        for value in ("0", "-1", "two", "", "1000"):
            sentence = self.refused(f"--workers={value}")
            self.assertIn(f"--workers is {value!r}; it must be 1 to 256, or auto", sentence)

    def test_route(self) -> None:
        """A template that is wrong, or is another one in other words."""
        for arguments, sentence in (
            (["--route=users"], "--route 'users' is no path; write a path such as /users/{id}"),
            (["--route=/{a}", "--route=/{b}"], "--route '/{b}' matches the same paths as '/{a}'"),
        ):
            self.assertIn(sentence, self.refused(*arguments))

    def test_forwarded(self) -> None:
        """The error for a wrong mode lists all modes."""
        for value in ("", "Append", "add", "append,replace"):
            self.assertIn(
                f"--forwarded is {value!r}; it must be append, preserve or replace",
                self.refused(f"--forwarded={value}"),
            )

    def test_forwardedStyle(self) -> None:
        """The error for a wrong style lists all styles."""
        self.assertIn(
            "--forwarded-style is 'rfc'; it must be x-forwarded, forwarded or both",
            self.refused("--forwarded-style=rfc"),
        )

    def test_upstreamHost(self) -> None:
        """What is no host, and another version."""
        for value in ("", "https://a.example", "a b", "a/b"):
            self.assertIn(
                f"--upstream-host is {value!r}; it must be client, upstream, or a host such as"
                " api.example",
                self.refused(f"--upstream-host={value}"),
            )
        self.assertIn(
            "--proxy-protocol is 'v1'; it must be v2", self.refused("--proxy-protocol=v1")
        )

    def test_trusted(self) -> None:
        """What is no network; an address in a network is probably a mistake."""
        for value in ("proxy.example", "10.0.0.0/33", "*", "10.0.0.0-10.0.0.9"):
            self.assertIn(
                f"--trusted is {value!r}; it must be networks such as 10.0.0.0/8 or ::1, or unix,"
                " separated by commas",
                self.refused(f"--trusted=unix,{value}"),
            )
        self.assertIn(
            "--trusted is '10.0.0.7/8'; the network of this address is 10.0.0.0/8: write that",
            self.refused("--trusted=10.0.0.7/8"),
        )

    def test_admin(self) -> None:
        """The errors for a wrong admin port and a wrong health path have the value."""
        self.assertIn("--admin is '70000'; it must be a port", self.refused("--admin=70000"))
        for value in ("", "healthz", "/a b", "/a#b", "http://a/", "/\xe4"):
            sentence = self.refused(f"--health-path={value}")
            self.assertIn(
                f"--health-path is {value!r}; it must be a path such as /healthz", sentence
            )

    def test_probes(self) -> None:
        """The port for probes is another than that of the admin pages."""
        self.assertIn("--probes is '70000'; it must be a port", self.refused("--probes=70000"))
        for arguments in (
            ("--probes=9901",),
            ("--probes=tcp:9901",),
            ("--probes=9903", "--admin=9903"),
            ("--probes=tcp:9903", "--admin=tcp:9903"),
        ):
            self.assertIn(
                "sitio: --probes and --admin have the same port: write for example --probes"
                " tcp:9902",
                self.refused(*arguments),
            )

    def test_accessLog(self) -> None:
        """The error for an unknown format of the access log lists all formats."""
        self.assertIn(
            "--access-log is 'xml'; it must be json, common or off, as in json or json:access.log",
            self.refused("--access-log=xml"),
        )

    def test_limitThatStopsAll(self) -> None:
        """0 is refused for a limit with which no request could pass."""
        for name in ("max-clients", "pool-size", "max-head", "connect-timeout"):
            self.assertIn(f"--{name} is '0'", self.refused(f"--{name}=0"))

    def test_unknownOption(self) -> None:
        """The error for an unknown option has its name, and that for a stray word its place."""
        self.assertIn("--bogus", self.refused("--bogus"))
        for before in ((), ("--via",), ("--via", "--grace=1", "--port", "80")):
            said = self.refused(*before, "stray", "s3cret")
            self.assertIn(f"argument {len(before) + 1} after sitio belongs to no option", said)
            self.assertNotIn("s3cret", said)

    def test_portBeyond(self) -> None:
        """The error for a wrong port number has the option or variable that it is from."""
        self.assertIn("--port is '65536'", self.refused("--port", "65536"))
        self.assertIn("PORT is '65536'", self.refused(PORT="65536"))
        for value in ("65536", "x", "80 "):
            self.assertIn(f"TARGET_PORT is {value!r}", self.refused(TARGET_PORT=value))

    def test_unknownPolicy(self) -> None:
        """The error for an unknown policy lists all policies."""
        sentence = self.refused("--policy", "nope:404")
        self.assertIn("there is no policy 'nope'", sentence)
        for name in ("file", "allow", "deny", "error-page", "headers", "last-good", "retry"):
            self.assertIn(name, sentence)

    def test_policyFile(self) -> None:
        """The error for a bad policy file has the mistake and its line."""
        path = FilePath(self.mktemp() + ".py")
        for text, mistake in (
            ("import sitio\n\nsitio.onNothing\n", f"{path.path}:3 can't be loaded: AttributeError"),
            ("x = 1\ndef broken(:\n", f"{path.path}:2 can't be loaded: SyntaxError"),
            ("x = 1\n", f"{path.path} defines no policy: decorate a function with @onResponse"),
        ):
            path.setContent(text.encode())
            self.assertIn(mistake, self.refused("--policy", f"file:{path.path}"))

    def test_noPolicyFile(self) -> None:
        """The error for a missing policy file has its path; without a path, it shows the form."""
        self.assertIn("/nonexistent.py", self.refused("--policy", "file:/nonexistent.py"))
        self.assertIn("write file:PATH", self.refused("--policy", "file"))
