"""
Tests of L{sitio.wiring.check}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.certificates import certify
from sitio.wiring.check import check

#: A file that uses all that can be built.
RIGHT = """\
policies = ["error-page:5xx", "file:mine.py"]
fleet = "http://dashboard:8080"
[listeners.public]
address = 8443
[listeners.public.tls]
certificate = "{certificate}"
key = "{key}"
client-ca = "{certificate}"
more = [{{ certificate = "{other}", key = "{otherKey}" }}]
[listeners.local]
address = "ssl:8444:privateKey={key}:certKey={certificate}"
[listeners.systemd]
address = "systemd:domain=INET:index=7"
[admin]
address = 9901
probes = 9902
[upstreams.photos]
endpoints = ["10.0.0.1:8087", {{ address = "10.0.0.2:8087", weight = 2 }}]
[upstreams.photos.tls]
ca = "{certificate}"
name = "photos"
certificate = "{certificate}"
key = "{key}"
[upstreams.prices]
address = "https://api.example"
[upstreams.names]
dns = "photos.default.svc:8087"
[[routes]]
path = "/users/{{id}}"
rewrite = "/v2/{{id}}"
upstreams = {{ photos = 90, prices = 10 }}
policies = [{{ name = "last-good", max-age = "60s" }}]
[[routes]]
upstream = "names"
"""

#: Pieces of files, each with a mistake that shows only when it is built; on the lines that end
#: in C{# here}, and what is said.
MISTAKES = (
    (
        '[listeners.a.tls]\ncertificate = "nope.crt"  # here\nkey = "{key}"\n',
        "listeners.a.tls.certificate",
        "can't read the certificate",
    ),
    (
        '[listeners.b]\naddress = 81\n[listeners.b.tls]\ncertificate = "{other}"  # here\n'
        'key = "{key}"\n',
        "listeners.b.tls.certificate",
        "does not belong to the certificate",
    ),
    (
        '[listeners.c]\naddress = 82\n[listeners.c.tls]\ncertificate = "{certificate}"\n'
        'key = "{key}"\nclient-ca = "{garbage}"  # here\n',
        "listeners.c.tls.client-ca",
        "holds no certificate in PEM format",
    ),
    (
        '[listeners.d]\naddress = "ssl:8444:privateKey=/nonexistent"  # here\n',
        "listeners.d.address",
        "can't read /nonexistent: No such file or directory",
    ),
    (
        '[listeners.e]\naddress = "tcp:x"  # here\n',
        "listeners.e.address",
        "its port is not a number from 0 to 65535",
    ),
    (
        '[upstreams.a]\naddress = "tls:a"  # here\n',
        "upstreams.a.address",
        "it has no port",
    ),
    (
        '[upstreams.b]\nendpoints = ["nope:x:password=geheim",  # here\n"b:1"]\n',
        "upstreams.b.endpoints[0]",
        "Unknown endpoint type: 'nope'); use for example localhost:8087",
    ),
    (
        '[upstreams.c]\naddress = "https://c"\n[upstreams.c.tls]\nca = "nope.pem"  # here\n',
        "upstreams.c.tls.ca",
        "can't read the file of authorities",
    ),
    (
        '[admin]\nprobes = "tcp"  # here\n',
        "admin.probes",
        "it has no port",
    ),
    (
        '[limits]\ngrace = "x"  # here\n',
        "limits.grace",
        "it must be a number of seconds",
    ),
    (
        '[[routes]]\nupstream = "z"  # here\npath = "/z"\n',
        "routes[0].upstream",
        "there is no upstream 'z'",
    ),
    (
        "[[routes]]\nupstream = 'a'\npolicies = ['file:broken.py']  # here\n",
        "routes[1].policies[0]",
        "broken.py:1 can't be loaded: ZeroDivisionError",
    ),
)


class CheckTests(SynchronousTestCase):
    """A configuration is checked as a whole, and nothing is opened."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        others = self.folder / "others"
        others.mkdir(parents=True)
        key, certificate = certify(self.folder)
        otherKey, other = certify(others)
        garbage = self.folder / "garbage.pem"
        garbage.write_text("hello\n")
        self.names = {
            "key": key,
            "certificate": certificate,
            "otherKey": otherKey,
            "other": other,
            "garbage": garbage,
        }
        (self.folder / "mine.py").write_text(
            "from sitio import onRequest\n@onRequest\ndef mine(exchange): pass\n"
        )
        (self.folder / "broken.py").write_text("1 / 0\n")
        self.path = self.folder / "sitio.toml"

    def check(self, text: str, *arguments: str) -> list[tuple[int, str, str]]:
        """Line, key and sentence of each mistake of a file."""
        self.path.write_text(text)
        reactor = MemoryReactorClock()
        found = check(["--config", str(self.path), *arguments], reactor, {})
        for opened in (reactor.tcpServers, reactor.tcpClients, reactor.sslServers):
            self.assertEqual(opened, [])
        self.assertEqual(reactor.getDelayedCalls(), [])
        return [(each.line, each.key, each.sentence) for each in found]

    def test_right(self) -> None:
        """What can be built is no mistake."""
        self.assertEqual(self.check(RIGHT.format(**self.names)), [])

    def test_commandLine(self) -> None:
        """A command line without a file is checked, too."""
        reactor = MemoryReactorClock()
        self.assertEqual(check(["--upstream=a:1"], reactor, {}), [])
        for arguments, expected in (
            (["--upstream=tls:a"], "--upstream: 'tls:a' can't be used (it has no port); use for"),
            (["--nope"], "option --nope not recognized"),
            (["--upstream=a:1", "--policy=nope"], "--policy there is no policy 'nope'"),
            ([], "there is no upstream"),
        ):
            [mistake] = check(arguments, reactor, {})
            self.assertIn(expected, str(mistake))

    def test_mistakes(self) -> None:
        """All mistakes are told, with their lines: of keys, policies, addresses and files."""
        text = "".join(each for each, _, _ in MISTAKES)
        for name, path in self.names.items():
            text = text.replace(f"{{{name}}}", str(path))
        found = self.check(text)
        lines = [at for at, each in enumerate(text.split("\n"), 1) if each.endswith("# here")]
        self.assertEqual(
            [(line, key) for line, key, _ in found],
            [(line, key) for line, (_, key, _) in zip(lines, MISTAKES)],
        )
        for (_, _, sentence), (_, _, expected) in zip(found, MISTAKES):
            self.assertIn(expected, sentence)
            self.assertNotIn("geheim", sentence)

    def test_single(self) -> None:
        """Each of these mistakes alone is found."""
        for piece, key, expected in MISTAKES:
            text = piece if "[upstreams" in piece else f"{piece}[upstreams.a]\naddress = 'a:1'\n"
            if "[upstreams.b]" in piece or "[upstreams.c]" in piece:
                text = piece
            for name, path in self.names.items():
                text = text.replace(f"{{{name}}}", str(path))
            [(line, found, sentence)] = self.check(text)
            lines = [at for at, each in enumerate(text.split("\n"), 1) if each.endswith("# here")]
            self.assertEqual([line], lines, text)
            self.assertEqual(found, key.replace("routes[1]", "routes[0]"))
            self.assertIn(expected, sentence)

    def test_unreadable(self) -> None:
        """A file that can't be read is one mistake."""
        [(line, key, sentence)] = self.check("x")
        self.assertEqual((line, key), (1, ""))
        self.assertIn("this is not TOML", sentence)
