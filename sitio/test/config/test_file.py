"""
Tests of L{sitio.config.file} and L{sitio.config.structure}.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import Phase, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.file import MAX_FILE_BYTES, loadConfig, readConfig
from sitio.config.listeners import ListenerConfig
from sitio.config.model import AdminConfig, Config, ForwardedConfig, RouteConfig
from sitio.config.places import ConfigErrors
from sitio.config.policies import PolicyConfig
from sitio.config.positions import MAX_DEPTH, MAX_KEYS
from sitio.config.tables import (
    CertificateConfig,
    EjectionConfig,
    HealthConfig,
    ListenerTLSConfig,
    ResolveConfig,
    RetriesConfig,
    RouteLimits,
    UpstreamTLSConfig,
)
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.settings import Settings
from sitio.test.helpers.configurations import WHOLE


class FileTests(SynchronousTestCase):
    """A configuration in a file."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "sitio.toml"

    def load(self, text: str, **environ: str) -> Config:
        """What a file with this text says."""
        self.path.write_text(text)
        return loadConfig(str(self.path), environ)

    def mistakes(self, text: str, **environ: str) -> list[tuple[int, str, str]]:
        """Line, key and sentence of each mistake."""
        error = self.assertRaises(ConfigErrors, self.load, text, **environ)
        self.assertEqual({each.file for each in error.mistakes}, {str(self.path)})
        return [(each.line, each.key, each.sentence) for each in error.mistakes]

    def test_empty(self) -> None:
        """An empty file says nothing: all is as by default."""
        self.assertEqual(self.load(""), Config(folder=str(self.folder)))
        self.assertEqual(self.load("# nothing\n"), Config(folder=str(self.folder)))

    def test_whole(self) -> None:
        """Each key of a file is a plain value of the model; paths are in the file's folder."""
        config, folder = self.load(WHOLE), str(self.folder)
        self.assertEqual(
            config,
            Config(
                workers=2,
                workerTimeout=15.0,
                statsInterval=0.0,
                accessLog=("json", f"{folder}/logs/access.log"),
                accessLogQuery=True,
                logLevel="debug",
                logFormat="json",
                fleet="http://dashboard:8080",
                policies=(
                    PolicyConfig("error-page:404", folder=folder),
                    PolicyConfig("last-good", {"max-age": "60s"}, folder),
                ),
                templates=("/files/{path...}",),
                listeners=(
                    ListenerConfig(
                        "listener",
                        "tcp:8443",
                        ListenerTLSConfig(
                            f"{folder}/tls.crt",
                            "/etc/tls.key",
                            f"{folder}/ca.crt",
                            "optional",
                            "1.3",
                            (CertificateConfig(f"{folder}/b.crt", f"{folder}/b.key"),),
                        ),
                    ),
                ),
                admin=AdminConfig(
                    "tcp:9901:interface=127.0.0.1", "tcp:9902", ("sitio.example.com",), "/healthz"
                ),
                limits=Settings(responseTimeout=30.0, maxHead=65536, poolQueue=0),
                forwarded=ForwardedConfig("replace", "both", ("10.0.0.0/8", "unix"), True, True),
                upstreams=(
                    UpstreamConfig(
                        "photos",
                        "tls:photos.example:443",
                        slowStart=30.0,
                        host="client",
                        forwarded=True,
                        tls=UpstreamTLSConfig(verify=False, name="photos"),
                        ejection=EjectionConfig(consecutive=3, maxShare=0.3),
                        retries=RetriesConfig(budget=0.1, perTryTimeout=2.0),
                    ),
                    UpstreamConfig(
                        "canary",
                        endpoints=(
                            EndpointConfig("tcp:10.0.0.1:8087"),
                            EndpointConfig("tcp:10.0.0.2:8087", 2),
                        ),
                        balance="hash",
                        hashOn="cookie:session",
                        health=HealthConfig("/healthz", 5.0),
                    ),
                    UpstreamConfig(
                        "names",
                        dns=("photos.default.svc", 8087),
                        proxyProtocol="v2",
                        resolve=ResolveConfig(2.0, servers=("10.0.0.10",)),
                    ),
                ),
                routes=(
                    RouteConfig(
                        "users",
                        ("api.example.com",),
                        "/users/{id}",
                        methods=("GET",),
                        fields=(("X-Beta", "1"), ("X-Debug", False)),
                        query=(("v", "2"),),
                        upstreams=(("photos", 90.0), ("canary", 10.0)),
                        sticky=("cookie", "group"),
                        policies=(PolicyConfig("error-page:5xx", folder=folder),),
                        rewrite="/v2/{id}",
                        hostForUpstream="api.example",
                        limits=RouteLimits(responseTimeout=5.0, maxBody=1024 * 1024),
                    ),
                    RouteConfig(prefix="/api", stripPrefix="/api", upstream="names"),
                ),
                folder=folder,
            ),
        )

    def test_places(self) -> None:
        """Each part knows its place, and the configuration its line."""
        config = self.load(WHOLE)
        tls = config.listeners[0].tls
        assert tls is not None
        lines = WHOLE.splitlines()
        for place, text in (
            (config.policies[1].place, "policies = "),
            (config.listeners[0].place, "[listener]"),
            (tls.place, "[listener.tls]"),
            (tls.more[0].place, "more = "),
            (f"{tls.place}.key", 'key = "/etc'),
            (config.upstreams[0].place, "[upstreams.photos]"),
            (config.upstreams[1].endpoints[1].place, "endpoints = "),
            (config.routes[0].policies[0].place, "policies = "),
            (config.routes[1].place, "[[routes]]"),
            (f"{config.routes[1].place}.prefix", "prefix"),
        ):
            line = config.places.line(place)
            self.assertTrue(lines[line - 1].startswith(text), (place, line))
            self.assertEqual(config.where(place), f"{self.path}:{line}: {place}")
        self.assertEqual(config.routes[0].policies[0].place, "routes[0].policies[0]")

    def test_single(self) -> None:
        """[listener] is the only one; [listeners.NAME] are several, with their names."""
        for text, names, places in (
            ("[listener]\naddress = 80", ["listener"], ["listener"]),
            (
                "[listeners.a]\naddress = 80\n[listeners.listener]\naddress = 81",
                ["a", "listener"],
                ["listeners.a", "listeners.listener"],
            ),
        ):
            found = self.load(text).listeners
            self.assertEqual([each.name for each in found], names)
            self.assertEqual([each.place for each in found], places)
        self.assertEqual(
            self.mistakes("[listener]\naddress = 80\n[listeners.a]\naddress = 81"),
            [
                (
                    1,
                    "listener",
                    "there is [listeners], too; write [listeners.NAME] for each of them",
                )
            ],
        )

    def test_environment(self) -> None:
        """Variables stand in texts, for numbers as well."""
        config = self.load(
            'workers = "${WORKERS}"\n[upstream]\naddress = "${HOST}:${PORT}"\n[forwarded]\n'
            'via = "${VIA}"',
            WORKERS="3",
            HOST="photos",
            PORT="8087",
            VIA="true",
        )
        self.assertEqual(config.workers, 3)
        self.assertEqual(config.upstreams[0].address, "tcp:photos:8087")
        self.assertIs(config.forwarded.via, True)

    def test_environmentWrong(self) -> None:
        """The value of a variable may be a secret: a mistake shows what stands in the file."""
        found = self.mistakes(
            'workers = "${A}"\n[upstream]\naddress = "http://${A}/"\nhost = "${NOPE}"\n'
            '[admin]\nhosts = ["x", "${A}"]',
            A="geheim/x",
        )
        self.assertEqual(
            [(line, key) for line, key, _ in found],
            [(1, "workers"), (3, "upstream.address"), (4, "upstream.host"), (6, "admin.hosts")],
        )
        self.assertNotIn("geheim", repr(found))
        self.assertIn("'${A}' has a wrong value in the environment; it must be 1 to", found[0][2])
        self.assertIn("there is no environment variable NOPE", found[2][2])

    def test_secret(self) -> None:
        """A secret may stand in a file; a wrong one is not shown."""
        (self.folder / "url").write_text("http://me:geheim@dashboard\n")
        self.assertEqual(self.load('fleet = "file:url"').fleet, "http://me:geheim@dashboard")
        [(line, key, sentence)] = self.mistakes('\nfleet = "file:nope"')
        self.assertEqual((line, key), (2, "fleet"))
        self.assertIn(f"there is no file {self.folder / 'nope'}", sentence)
        [(_, _, sentence)] = self.mistakes('fleet = "geheim\\n"')
        self.assertEqual(sentence, "it must be a text, or file:PATH")

    def test_allMistakes(self) -> None:
        """All mistakes are told in the order of their lines, and none hides another."""
        found = self.mistakes(
            "workers = 0\n"
            "wokers = 3\n"
            "policies = [5]\n"
            "[listener]\n"
            "adress = 80\n"
            "[listener.tls]\n"
            'key = "a"\n'
            "[upstreams.a]\n"
            'endpoints = ["x:1", { weight = 0 }]\n'
            "[[routes]]\n"
            'path = "x"\n'
            "limits = 5\n"
        )
        self.assertEqual(
            [(line, key) for line, key, _ in found],
            [
                (1, "workers"),
                (2, "wokers"),
                (3, "policies[0]"),
                (5, "listener.adress"),
                (6, "listener.tls.certificate"),
                (9, "upstreams.a.endpoints[1].address"),
                (9, "upstreams.a.endpoints[1].weight"),
                (11, "routes[0].path"),
                (12, "routes[0].limits"),
            ],
        )

    def test_rest(self) -> None:
        """What is right of a file with mistakes is there, so that it can be checked further."""
        self.path.write_text(
            "workers = 0\n[listener]\naddress = 80\n[[routes]]\npath = 5\nprefix = '/a'\n"
            "[[routes]]\npolicies = [5, 'retry']\n[limits]\ngrace = 'x'\nmax-head = 5\n"
        )
        config, mistakes = readConfig(str(self.path), {})
        self.assertEqual(len(mistakes), 4)
        self.assertEqual(config.workers, 1)
        self.assertEqual(config.listeners[0].address, "tcp:80")
        self.assertEqual(config.routes[0], RouteConfig(prefix="/a"))
        self.assertEqual([each.description for each in config.routes[1].policies], ["", "retry"])
        self.assertEqual(config.limits, Settings(maxHead=5))

    def test_unknown(self) -> None:
        """An unknown key is told with one that is near, with its table, or with all there are."""
        for text, expected in (
            ("wokers = 1", "there is no such key; did you mean workers?"),
            ("grace = 1", "there is no such key here; it belongs to [limits]"),
            ("verify = true", "there is no such key here; it belongs to [upstream.tls]"),
            (
                "[admin]\nzzz = 1",
                "there is no such key; write one of address, probes, hosts, health",
            ),
            ("[admin]\nhealthPath = '/a'", "there is no such key; did you mean health-path?"),
            ("[listner]\naddress = 1", "there is no such key; did you mean listener?"),
            ("[[routes]]\nplace = 'x'", "there is no such key"),
            ("port = 8080", "there is no such key; did you mean listener?"),
            ("[listener]\nport = 8080", "there is no such key; did you mean address?"),
            ("[[routes]]\nproxy_pass = 'a'", "there is no such key; did you mean upstream?"),
            ("[[routes]]\nheaders = {}", "there is no such key; did you mean fields?"),
        ):
            [(_, _, sentence)] = self.mistakes(text)
            self.assertTrue(sentence.startswith(expected), sentence)

    def test_shapes(self) -> None:
        """Tables, lists of tables and single values are told apart."""
        for text, key, expected in (
            ("listener = 8080", "listener", "8080; it must be a table with address, tls"),
            ("listeners = 5", "listeners", "5; it must be tables: write [listeners.NAME] for"),
            ("listeners = [{}]", "listeners", "a list; it must be tables"),
            ("[listeners]\naddress = 1", "listeners.address", "1; it must be a table with"),
            ("routes = 5", "routes", "5; it must be a list of tables"),
            ("[routes]\npath = '/'", "routes", "a table; it must be a list of tables: write [["),
            ("[[listener]]", "listener", "a list; it must be a table with"),
            ("[workers]", "workers", "it must be 1 to 256"),
            ("policies = { a = 1 }", "policies[0]", "a table; it must be a description such as"),
            ("policies = [{ name = 5 }]", "policies[0]", "a table; it must be a description"),
            ("limits = true", "limits", "true; it must be a table with connect-timeout"),
        ):
            [(line, found, sentence)] = self.mistakes(text)
            self.assertEqual(
                (line, found), (1 if "\n" not in text or key != "listeners.address" else 2, key)
            )
            self.assertIn(expected, sentence)

    def test_long(self) -> None:
        """A long value is not repeated as a whole."""
        [(_, _, sentence)] = self.mistakes(f'workers = 1\n[admin]\nhealth-path = "{"x" * 5000}"')
        self.assertLess(len(sentence), 200)


class UnreadableTests(SynchronousTestCase):
    """What is no configuration ends with one mistake."""

    def refused(self, content: bytes) -> tuple[int, str, str]:
        """Line, key and sentence of the only mistake of a file."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        error = self.assertRaises(ConfigErrors, readConfig, str(path), {})
        [mistake] = error.mistakes
        self.assertEqual(mistake.file, str(path))
        return mistake.line, mistake.key, mistake.sentence

    def test_syntax(self) -> None:
        """What is not TOML is told with its line, and in words."""
        for text, line, sentence in (
            ("a = 1\na = 2", 2, "a key is given twice; leave out one of them"),
            ("[a]\n[b]\n[a]", 3, "this table is given twice; put its keys together"),
            ("workers = two", 1, "there is no value behind the equals sign, or a text without"),
            ("address = 127.0.0.1:80", 1, "there is more behind the value, or it is a text with"),
            ("x", 1, "behind a key, an equals sign is missing"),
            ("\n=1", 2, "this is neither a key with a value nor a [table]"),
            ('a = "x\nb = 1', 1, "a text has no quote at its end"),
            ("a = [1,\n2", 2, "unclosed array"),
            ("\n\n[a", 3, "expected ']' at the end of a table declaration"),
        ):
            found = self.refused(text.encode())
            self.assertEqual(found[:2], (line, ""), text)
            self.assertTrue(found[2].startswith(sentence), found[2])
            self.assertTrue(found[2].endswith(" (this is not TOML)"), found[2])

    def test_encoding(self) -> None:
        """Another encoding is told with the line; the mark of some editors is none."""
        line, _, sentence = self.refused(b"# a\n# \xff\n")
        self.assertEqual((line, sentence), (2, "this is not UTF-8; save the file in this encoding"))
        path = Path(self.mktemp())
        path.write_bytes(b"\xef\xbb\xbfworkers = 2\r\n")
        self.assertEqual(loadConfig(str(path), {}).workers, 2)

    def test_large(self) -> None:
        """A very large file, very many keys and very deep ones are refused without being read."""
        for content, line, sentence in (
            (b"#" * (10 * MAX_FILE_BYTES), 0, f"it has {10 * MAX_FILE_BYTES} bytes; a config"),
            (
                b"".join(b"a%d = 1\n" % each for each in range(50_000)),
                MAX_KEYS + 1,
                f"there are more than {MAX_KEYS} keys",
            ),
            (b"a = " + b"[" * 100_000, 1, f"there are keys within more than {MAX_DEPTH} others"),
            (b"a" + b".a" * 200_000 + b" = 1", 1, "there are keys within more than"),
        ):
            found = self.refused(content)
            self.assertEqual(found[0], line)
            self.assertTrue(found[2].startswith(sentence), found[2])

    def test_noFile(self) -> None:
        """What is no file is not opened: a named pipe would block for ever."""
        folder = Path(self.mktemp())
        folder.mkdir()
        os.mkfifo(folder / "pipe")
        for name, expected in (
            ("pipe", "it is no file; write"),
            (".", "it is no file; write"),
            ("nope", "there is no such file; write the path of a configuration"),
        ):
            error = self.assertRaises(ConfigErrors, loadConfig, str(folder / name), {})
            self.assertEqual(len(error.mistakes), 1)
            self.assertIn(expected, str(error))

    @settings(max_examples=80, deadline=None, phases=(Phase.generate,))
    @given(
        st.dictionaries(
            st.sampled_from(
                ("workers", "listener", "upstreams", "routes", "policies", "limits", "fleet", "x")
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(("address", "tls", "path", "name", "limits", "a b")),
                        inner,
                        max_size=3,
                    )
                ),
                max_leaves=8,
            ),
        )
    )
    def test_anyData(self, data: dict[str, object]) -> None:
        """Whatever data a file has, there is a configuration, and a sentence for each mistake."""
        from sitio.config.structure import structured

        config, mistakes = structured(data, "/etc/sitio")
        self.assertIsInstance(config, Config)
        for path, sentence in mistakes:
            self.assertTrue(path and sentence and "object at" not in sentence, sentence)
