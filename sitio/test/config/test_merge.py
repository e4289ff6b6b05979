"""
Tests of L{sitio.config.merge} and L{sitio.config.loading}: file, options and environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.limits import optionName
from sitio.config.listeners import ListenerConfig
from sitio.config.merge import PLACES
from sitio.config.model import AdminConfig, Config, ForwardedConfig
from sitio.config.optionlist import FLAGS, PARAMETERS
from sitio.config.options import Options
from sitio.config.places import ConfigErrors
from sitio.config.policies import PolicyConfig
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.errors import CannotStart
from sitio.settings import Settings
from sitio.test.helpers.configurations import FILE

#: Options that are no part of a configuration, and why.
NOT_CONFIGURED = {"config": "it names the file", "help-memory": "it ends the process"}


class FolderTestCase(SynchronousTestCase):
    """Tests with a file in a folder of its own."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "sitio.toml"
        self.path.parent.mkdir()

    def parsed(self, text: str, *arguments: str, **environ: str) -> Options:
        """The options with a file."""
        self.path.write_text(text)
        options = Options(environ)
        options.parseOptions(["--config", str(self.path), *arguments])
        return options

    def refused(self, text: str, *arguments: str, **environ: str) -> str:
        """The sentence that ends the start."""
        return str(self.assertRaises(CannotStart, self.parsed, text, *arguments, **environ))


def withoutFile(*arguments: str, **environ: str) -> Config:
    """The configuration of a command line."""
    options = Options(environ)
    options.parseOptions(arguments)
    return options.config


class CommandLineTests(SynchronousTestCase):
    """A configuration without a file."""

    def test_default(self) -> None:
        """Without options there is a port, and no upstream."""
        self.assertEqual(withoutFile(), Config(listeners=(ListenerConfig("listener", "tcp:8080"),)))

    def test_options(self) -> None:
        """Options and the environment give one listener, one upstream, and no routes."""
        config = withoutFile(
            "--upstream=photos:80",
            "--workers=3",
            "--via",
            "--trusted=10.0.0.0/8,unix",
            "--admin=",
            "--admin-hosts=a.example,b.example",
            "--grace=5",
            "--policy=retry",
            "--policy=error-page:404",
            "--route=/a/{b}",
            PORT="81",
        )
        self.assertEqual(
            config,
            Config(
                workers=3,
                policies=(
                    PolicyConfig("retry", folder=os.getcwd()),
                    PolicyConfig("error-page:404", folder=os.getcwd()),
                ),
                templates=("/a/{b}",),
                listeners=(ListenerConfig("listener", "tcp:81"),),
                admin=AdminConfig("", hosts=("a.example", "b.example")),
                limits=Settings(grace=5.0),
                forwarded=ForwardedConfig(trusted=("10.0.0.0/8", "unix"), via=True),
                upstreams=(
                    UpstreamConfig("upstream", "tcp:photos:80", (EndpointConfig("tcp:photos:80"),)),
                ),
            ),
        )
        self.assertEqual(config.where("upstream.address"), "--upstream")
        self.assertEqual(config.upstreams[0].endpoints[0].place, "upstream.address")

    def test_demo(self) -> None:
        """The photo site is an upstream without endpoints."""
        config = withoutFile("--demo", TARGET_PORT="81")
        self.assertTrue(config.demo)
        self.assertEqual(config.upstreams, (UpstreamConfig("demo"),))

    def test_complete(self) -> None:
        """Each option has its key in the file."""
        names = {name for name, *_ in (*PARAMETERS, *FLAGS)} | {"policy", "route"}
        self.assertEqual(names - set(NOT_CONFIGURED), set(PLACES))
        for option, place in PLACES.items():
            table, _, key = place.rpartition(".")
            holder: Any = Config
            if table in ("listener", "upstream"):
                continue
            if table:
                holder = type(getattr(Config(), table))
            known = {optionName(each.name) for each in fields(holder)}
            self.assertIn(key, known, option)

    def test_policies(self) -> None:
        """The policies of the command line are made once, and anew when it is loaded again."""
        options = Options({})
        options.parseOptions(["--policy=retry", "--policy=last-good"])
        self.assertEqual([name for name, _ in options["policies"]], ["retry", "last-good"])
        again = options.load()
        for (name, policy), (other, another) in zip(options["policies"], again.everyPolicy):
            self.assertEqual(name, other)
            self.assertIsNot(policy, another)


class FileTests(FolderTestCase):
    """A configuration with a file."""

    def test_file(self) -> None:
        """What the file says is used, also for the items of the options."""
        options = self.parsed(FILE)
        config = options.config
        self.assertEqual(config.workers, 2)
        self.assertEqual(config.upstreams[0].endpoints, (EndpointConfig("tcp:photos:80"),))
        expected = {
            "workers": 2,
            "worker-timeout": 10.0,
            "stats-interval": 5.0,
            "access-log": ("json", None),
            "fleet": "http://dashboard",
            "fleet-source": f"{self.path}:4: fleet",
            "port": "tcp:8443:interface=127.0.0.1",
            "upstream": "tcp:photos:80",
            "admin": "tcp:9999:interface=127.0.0.1",
            "probes": "tcp:9998",
            "admin-hosts": "a.example",
            "health-path": "/up",
            "settings": Settings(grace=7.0, maxHead=5000),
            "grace": "7",
            "max-head": "5000",
            "forwarded": "replace",
            "forwarded-style": "x-forwarded",
            "trusted": "10.0.0.0/8",
            "via": True,
            "keep-underscores": False,
            "descriptions": ["retry"],
        }
        self.assertEqual({name: options[name] for name in expected}, expected)
        self.assertEqual([name for name, _ in options["policies"]], ["retry"])
        self.assertEqual(options["routes"].templates, ("/a/{b}",))

    def test_commandLineWins(self) -> None:
        """Each option wins over the file; what the file says beside it stays."""
        options = self.parsed(
            FILE,
            *("--workers=3", "--stats-interval=0", "--access-log=off", "--fleet=", "--port=81"),
            *("--admin=", "--probes=", "--admin-hosts=b.example", "--health-path=/down"),
            *("--grace=9", "--forwarded=append", "--trusted=unix", "--upstream=https://a"),
            *("--policy=error-page:404", "--route=/c"),
        )
        config = options.config
        self.assertEqual((config.workers, config.statsInterval), (3, 0.0))
        self.assertEqual((config.accessLog, config.fleet), (None, None))
        self.assertEqual(config.listeners, (ListenerConfig("listener", "tcp:81"),))
        self.assertEqual(config.admin, AdminConfig("", None, ("b.example",), "/down"))
        self.assertEqual(config.limits, Settings(grace=9.0, maxHead=5000))
        self.assertEqual(config.forwarded, ForwardedConfig("append", trusted=("unix",), via=True))
        [upstream] = config.upstreams
        self.assertEqual(upstream.endpoints, (EndpointConfig("tls:a:443"),))
        self.assertEqual(upstream.slowStart, 5.0)
        self.assertEqual([each.description for each in config.policies], ["error-page:404"])
        self.assertEqual(config.templates, ("/c",))
        self.assertEqual([name for name, _ in options["policies"]], ["error-page"])

    def test_environment(self) -> None:
        """The file wins over the environment, which is for what it does not say."""
        environ = {"PORT": "81", "TARGET_PORT": "82", "DASHBOARD": "http://other"}
        config = self.parsed(FILE, **environ).config
        self.assertEqual(config.listeners[0].address, "tcp:8443:interface=127.0.0.1")
        self.assertEqual(config.upstreams[0].address, "tcp:photos:80")
        self.assertEqual(config.fleet, "http://dashboard")
        config = self.parsed("workers = 2", **environ).config
        self.assertEqual(config.listeners[0].address, "tcp:81")
        self.assertEqual(config.upstreams[0].address, "tcp:localhost:82")
        self.assertEqual(config.fleet, "http://other")

    def test_several(self) -> None:
        """Options for the only one of something can't be brought together with several."""
        several = (
            "[listeners.a]\naddress = 81\n[listeners.b]\naddress = 82\n"
            "[upstreams.c]\naddress = 'c:1'\n[upstreams.d]\naddress = 'd:1'\n"
            "[[routes]]\nupstream = 'c'\n"
        )
        for option, expected in (
            ("--port=80", "--port: there are several listeners (a, b): change their addresses"),
            ("--upstream=a:1", "--upstream: there are several (c, d): change their addresses"),
            ("--demo", "--demo: it is a service of its own, and the file has upstreams: leave"),
            (
                "--upstream-host=a",
                "--upstream-host: there are several upstreams: write host in the file",
            ),
            (
                "--proxy-protocol=v2",
                "--proxy-protocol: there are several upstreams: write proxy-protocol in the file",
            ),
        ):
            self.assertIn(expected, self.refused(several, option))
        options = self.parsed(several)
        self.assertEqual(options["port"], "tcp:81")
        self.assertEqual(options["upstream"], "tcp:c:1")

    def test_ofUpstream(self) -> None:
        """Options of the only upstream win over the file, and keep what else it says."""
        text = "trusted = []\n[upstream]\naddress = 'a:1'\nhost = 'b'\nslow-start = 3"
        text = f"[forwarded]\n{text}"
        options = self.parsed(text, "--proxy-protocol=v2")
        [upstream] = options.config.upstreams
        self.assertEqual((upstream.host, upstream.proxyProtocol), ("b", "v2"))
        self.assertEqual((options["upstream-host"], options["proxy-protocol"]), ("b", "v2"))
        # Nobody is not the default.
        self.assertEqual(options["trusted"], "")
        for arguments in (["--upstream-host=c"], ["--upstream-host=c", "--upstream=a:1"]):
            [upstream] = self.parsed(text, *arguments).config.upstreams
            self.assertEqual((upstream.host, upstream.slowStart), ("c", 3.0))

    def test_demo(self) -> None:
        """The file may ask for the photo site; an upstream on the command line wins."""
        options = self.parsed("demo = true")
        self.assertTrue(options["demo"])
        self.assertIsNone(options["upstream"])
        options = self.parsed("demo = true", "--upstream=a:1")
        self.assertFalse(options["demo"])
        self.assertEqual(options["upstream"], "tcp:a:1")

    def test_routes(self) -> None:
        """A route has a name, and the upstream if there is only one."""
        config = self.parsed(
            "[upstream]\naddress = 'a:1'\n[[routes]]\npath = '/a'\n[[routes]]\nname = 'b'\n"
            "prefix = '/b'\n[[routes]]\nhost = ['c.example', 'd.example']\n"
        ).config
        self.assertEqual([each.name for each in config.routes], ["/a", "b", "c.example, d.example"])
        for each in config.routes:
            self.assertEqual(each.upstreams, (("upstream", 1.0),))

    def test_policies(self) -> None:
        """Policies of the file, and of its routes, are made; files are beside it."""
        (self.path.parent / "mine.py").write_text(
            "from sitio import onRequest\n@onRequest\ndef mine(exchange): pass\n"
        )
        options = self.parsed(
            "policies = ['file:mine.py']\n[upstream]\naddress = 'a:1'\n[[routes]]\n"
            "policies = ['retry', { name = 'file:mine.py' }]\n"
        )
        self.assertEqual([name for name, _ in options["policies"]], ["mine"])
        names = [name for name, _ in options["every-policy"]]
        self.assertEqual(names, ["mine", "retry", "mine"])
        [route] = options.config.routes
        made = options.loaded.policiesOf(route.policies)
        self.assertEqual([name for name, _ in made], ["retry", "mine"])

    def test_folder(self) -> None:
        """A file of a policy on the command line is in the folder of the start."""
        (self.path.parent / "mine.py").write_text("")
        sentence = self.refused("[upstream]\naddress = 'a:1'", "--policy=file:mine.py")
        self.assertIn(f"mine.py is not a Python file: it must exist in {os.getcwd()}", sentence)

    def test_sources(self) -> None:
        """It is known where the value of each option is from."""
        options = self.parsed(FILE, "--grace=5", DASHBOARD="http://other")
        sources = options.sources()
        for name, expected in (
            ("workers", f"{self.path}:1"),
            ("port", f"{self.path}:8"),
            ("max-head", f"{self.path}:16"),
            ("via", f"{self.path}:20"),
            ("grace", "command line"),
            ("fleet", f"{self.path}:4"),
            ("worker-timeout", "default"),
            ("keep-underscores", "default"),
            ("idle-timeout", "default"),
        ):
            self.assertEqual(sources[name], expected, name)

    def test_relative(self) -> None:
        """The file's path is kept as an absolute one, as a daemon changes its folder."""
        self.path.write_text(FILE)
        options = Options({})
        options.parseOptions(["-c", os.path.relpath(self.path)])
        self.assertEqual(options["config"], str(self.path))

    def test_again(self) -> None:
        """Loaded again, all is as the file says now; what it no longer says is as before."""
        options = self.parsed(FILE, "--workers=3", TARGET_PORT="81")
        self.path.write_text("stats-interval = 1\nworkers = 4")
        config = options.load().config
        self.assertEqual((config.workers, config.statsInterval), (3, 1.0))
        self.assertEqual(config.listeners[0].address, "tcp:8080")
        self.assertEqual(config.upstreams[0].address, "tcp:localhost:81")
        self.assertEqual(config.limits, Settings())
        self.path.write_text("workers = 0")
        error = self.assertRaises(ConfigErrors, options.load)
        self.assertEqual([(each.line, each.key) for each in error.mistakes], [(1, "workers")])

    def test_refused(self) -> None:
        """A start ends with all mistakes: one in a sentence, several in a line each."""
        self.assertIn(
            f"sitio: --config {self.path} has a mistake: {self.path}:1: workers: '0'; it must be",
            self.refused("workers = 0", "--upstream=a:1"),
        )
        text = "workers = 0\nstats-interval = 'x'"
        lines = self.refused(text, "--upstream=a:1").splitlines()
        self.assertEqual(lines[0], f"sitio: --config {self.path} has 2 mistakes:")
        self.assertEqual(len(lines), 3)

    def test_background(self) -> None:
        """An access log on standard output is refused for a daemon, wherever it is from."""
        self.path.write_text(FILE)
        options = Options({})
        options.parent = {"nodaemon": 0}  # type: ignore[assignment]
        error = self.assertRaises(CannotStart, options.parseOptions, [f"--config={self.path}"])
        self.assertIn(f"{self.path}:3: access-log json needs twistd -n", str(error))

    def test_lowered(self) -> None:
        """Limits that were lowered for the file descriptors are those of the configuration."""
        options = self.parsed(FILE)
        options["settings"] = Settings(maxClients=50)
        self.assertEqual(options.config.limits, Settings(maxClients=50))
