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
        self.assertEqual(parsed("--workers=auto")["workers"], workerCount("auto"))

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
        """The help on a limit is that of its setting, and contains its unit."""
        text = " ".join(str(Options({})).split())
        for each in LIMITS:
            self.assertIn(each.metadata["unit"], ("seconds", "bytes", "number"))
            self.assertIn(each.metadata["unit"], each.metadata["help"])
            self.assertIn(each.metadata["help"], text)

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
        """The sentence that ends the start with these arguments."""
        end = self.assertRaises(CannotStart, parsed, *arguments, **environ)
        # An interpreter that gets such a SystemExit prints it and ends with status 1.
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

    def test_limitThatStopsAll(self) -> None:
        """A limit of 0 with which no request could pass is a mistake."""
        for name in ("max-clients", "pool-size", "max-head", "connect-timeout"):
            self.assertIn(f"--{name} is '0'", self.refused(f"--{name}=0"))

    def test_unknownOption(self) -> None:
        """An unknown option, or a word that is none, is named."""
        self.assertIn("--bogus", self.refused("--bogus"))
        self.assertIn("'stray'", self.refused("stray"))

    def test_portBeyond(self) -> None:
        """A number that is no port is said to be none, wherever it came from."""
        self.assertIn("--port is '65536'", self.refused("--port", "65536"))
        self.assertIn("PORT is '65536'", self.refused(PORT="65536"))
        for value in ("65536", "x", "80 "):
            self.assertIn(f"TARGET_PORT is {value!r}", self.refused(TARGET_PORT=value))

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
            ("x = 1\n", f"{path.path} defines no policy: decorate a function with @onResponse"),
        ):
            path.setContent(text.encode())
            self.assertIn(mistake, self.refused("--policy", f"file:{path.path}"))

    def test_noPolicyFile(self) -> None:
        """A policy file that isn't there is named, and so is how to write one."""
        self.assertIn("/nonexistent.py", self.refused("--policy", "file:/nonexistent.py"))
        self.assertIn("write file:PATH", self.refused("--policy", "file"))
