"""
Tests of L{sitio.config.checks}, and of all mistakes of a file together: L{MISTAKES}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sitio.config.checks import MAX_ENDPOINTS, MAX_LISTENERS, MAX_UPSTREAMS
from sitio.config.options import Options
from sitio.config.places import ConfigErrors
from sitio.errors import CannotStart
from sitio.http.requestmatch import MAX_MATCHES

UPSTREAM = '[upstream]\naddress = "a:1"\n'
TWO = '[upstreams.a]\naddress = "a:1"\n[upstreams.b]\naddress = "b:1"\n'

#: Files with one mistake, on the line that ends in C{# here}; its key, and what is said.
MISTAKES: list[tuple[str, str, str]] = [
    # Single keys.
    ("wokers = 2  # here", "wokers", "there is no such key; did you mean workers?"),
    ("response-timeout = 5  # here", "response-timeout", "it belongs to [limits]"),
    ('workers = "many"  # here', "workers", "it must be 1 to 256, or auto for one on each core"),
    ("[limits]\nmax-head = 0  # here", "limits.max-head", "0; it must be more than 0"),
    (
        '[limits]\nresponse-timeout = "5 min"  # here',
        "limits.response-timeout",
        "it must be a number of seconds, or a duration such as 500ms, 30s, 5m or 1h",
    ),
    ('[limits]\nmax-body = "10M"  # here', "limits.max-body", "write 10MiB or 10MB"),
    (
        'access-log = "xml"  # here',
        "access-log",
        "it must be json, common or off, as in json or json:access.log",
    ),
    ('log-level = "warning"  # here', "log-level", "did you mean warn?"),
    ('fleet = "file:nope"  # here', "fleet", "write file: and its path"),
    ('[listener]\naddress = "${NOPE}"  # here', "listener.address", "set it, or write the value"),
    ("[listener]\naddress = 99999  # here", "listener.address", "it must be a port, 0 to 65535"),
    (
        '[listener]\naddress = "example.com:80"  # here',
        "listener.address",
        "write an IP address of this one, such as 127.0.0.1:80, or only the port",
    ),
    (
        "[listener.tls]  # here\ncertificate = 'a'",
        "listener.tls.key",
        'it is missing: write key = "tls.key"',
    ),
    (
        "[forwarded]\ntrusted = ['10.0.0.1/8']  # here",
        "forwarded.trusted",
        "the network of this address is 10.0.0.0/8: write that",
    ),
    ("[forwarded]\nvia = 'yes'  # here", "forwarded.via", "it must be true or false"),
    ("[admin]\nhosts = ['a:80']  # here", "admin.hosts", "it must be names of hosts without"),
    # Listeners.
    (
        "[listener.tls]\ncertificate = 'a'\nkey = 'b'\nclient-certificate = 'required'  # here",
        "listener.tls.client-certificate",
        "there is no client-ca: name the PEM file with the authorities of clients",
    ),
    (
        "[listener]\naddress = 'unix:/run/s'\n[listener.tls]  # here\ncertificate = 'a'\nkey = 'b'",
        "listener.tls",
        "write a port such as 8443",
    ),
    (
        "[listeners.a]\naddress = 80\n[listeners.b]  # here\naddress = '127.0.0.1:80'",
        "listeners.b",
        "it is the port of listeners.a, too: write another port",
    ),
    (
        "[listener]\naddress = 80\n[admin]\nprobes = 80  # here",
        "admin.probes",
        "it is the port of listener, too: write another port",
    ),
    ("[admin]\nprobes = 9901  # here", "admin.probes", "it is the port of the admin pages, too"),
    (
        "[listener]  # here\naddress = 80\n[listeners.b]\naddress = 81",
        "listener",
        "write [listeners.NAME] for each of them",
    ),
    # Upstreams.
    (
        "[upstream]\naddress = 'http://a/api'  # here",
        "upstream.address",
        "an upstream is only scheme, host and port: write http://a",
    ),
    ("[upstream]  # here\nslow-start = 5", "upstream", 'write for example address = "localhost:80'),
    (
        "[upstream]\naddress = 'a:1'\ndns = 'b:1'  # here",
        "upstream.dns",
        "there is address, too: write one of address, endpoints, dns, srv",
    ),
    ("[upstream]\ndns = 'photos'  # here", "upstream.dns", "it must be a name with a port, such"),
    (
        "[upstream]\nendpoints = ['a:1', 'http://a:1']  # here",
        "upstream.endpoints[1]",
        "it is the same as upstream.endpoints[0]: write a larger weight there",
    ),
    (
        "[upstream]\nendpoints = ['a:1', 'https://b']  # here",
        "upstream.endpoints[1]",
        "write https for all of them, or for none",
    ),
    (
        "[upstream]\naddress = 'a:1'\nbalance = 'hash'  # here",
        "upstream.balance",
        'hash needs hash-on: write for example hash-on = "path"',
    ),
    (
        "[upstream]\naddress = 'a:1'\nhash-on = 'path'  # here",
        "upstream.hash-on",
        'write balance = "hash"',
    ),
    (
        "[upstream]\naddress = 'https://a'\nproxy-protocol = 'v2'  # here",
        "upstream.proxy-protocol",
        "leave it out, or write an address without TLS",
    ),
    (
        f"{UPSTREAM}[upstream.tls]\ncertificate = 'a'  # here",
        "upstream.tls.certificate",
        "it needs its key: write key = and a PEM file",
    ),
    (
        f"{UPSTREAM}[upstream.tls]\nverify = false\nca = 'a'  # here",
        "upstream.tls.ca",
        "nothing is verified with it: leave out verify = false",
    ),
    (
        "[upstream]\naddress = 'unix:/run/s'\n[upstream.tls]  # here",
        "upstream.tls",
        "a UNIX socket has no name to verify: write name = and that of the service",
    ),
    (
        f"{UPSTREAM}[upstream.resolve]  # here\nfloor = 1",
        "upstream.resolve",
        "there is neither dns nor srv: leave it out, or write one",
    ),
    (
        "[upstream]\nsrv = '_http._tcp.a'\nresolve = { floor = 5, ceiling = '2s' }  # here",
        "upstream.resolve.floor",
        "write at most 2",
    ),
    (
        f"{UPSTREAM}[upstream.retries]\nbudget = 0  # here\nminimum = 0",
        "upstream.retries.budget",
        "nothing is tried again: leave out the table",
    ),
    (
        f"{UPSTREAM}[upstream.retries]\nattempts = 1  # here",
        "upstream.retries.attempts",
        "one attempt is no retry: write 2 or more",
    ),
    (
        f"{UPSTREAM}[upstream.retries]\nper-try-timeout = 1\nhedge-after = '1s'  # here",
        "upstream.retries.hedge-after",
        "write less than the 1 seconds of per-try-timeout",
    ),
    (
        f"{UPSTREAM}[upstream.ejection]\nmax-share = 3  # here",
        "upstream.ejection.max-share",
        "it must be a share from 0 to 1, or a text such as 20%",
    ),
    (f"{UPSTREAM}[upstream.health]  # here", "upstream.health.path", 'write path = "/healthz"'),
    # Routes.
    (
        f"{TWO}[[routes]]\nupstream = 'c'  # here",
        "routes[0].upstream",
        "there is no upstream 'c'; write one of a, b",
    ),
    (
        '[upstreams.photos]\naddress = "a:1"\n[[routes]]\nupstream = "fotos"  # here',
        "routes[0].upstream",
        "there is no upstream 'fotos'; did you mean photos?",
    ),
    (
        f"{TWO}[[routes]]\nupstreams = {{ a = 1, z = 2 }}  # here",
        "routes[0].upstreams",
        "there is no upstream 'z'; write one of a, b",
    ),
    (
        f"{TWO}[[routes]]\nupstreams = {{ a = 0, b = 0 }}  # here",
        "routes[0].upstreams",
        "all weights are 0; give one upstream more",
    ),
    (
        f"{TWO}[[routes]]  # here\npath = '/a'",
        "routes[0]",
        "there are several upstreams: write upstream = and one of a, b",
    ),
    (
        f"{TWO}[[routes]]\nupstream = 'a'\nupstreams = {{ b = 1 }}  # here",
        "routes[0].upstreams",
        "there is upstream, too: write one of them",
    ),
    (
        f"{TWO}[[routes]]\nupstream = 'a'\nsticky = 'cookie:x'  # here",
        "routes[0].sticky",
        "there is nothing to choose: write upstreams with their weights",
    ),
    (
        f"{TWO}[[routes]]\nupstreams = {{ a = 1, b = 1 }}\nsticky = 'path'  # here",
        "routes[0].sticky",
        "it must be cookie:NAME or field:NAME",
    ),
    (
        f"{UPSTREAM}[[routes]]\npath = '/a'\nprefix = '/b'  # here",
        "routes[0].prefix",
        "there is a path, too: write one of them",
    ),
    (
        f"{UPSTREAM}[[routes]]\npath = '/users/:id'  # here",
        "routes[0].path",
        "write a path such as /users/{id}",
    ),
    (
        f"{UPSTREAM}[[routes]]\npath = '/a/{{x}}'\nrewrite = '/b/{{y}}'  # here",
        "routes[0].rewrite",
        "has the name 'y'; the path /a/{x} has x: write names of the path",
    ),
    (
        f"{UPSTREAM}[[routes]]\nprefix = '/a'\nrewrite = '/b'  # here",
        "routes[0].rewrite",
        "it needs a path: write path, or replace-prefix for a prefix",
    ),
    (
        f"{UPSTREAM}[[routes]]\npath = '/a'\nreplace-prefix = '/b'  # here",
        "routes[0].replace-prefix",
        "it needs a prefix: write prefix, or rewrite for a path",
    ),
    (
        f"{UPSTREAM}[[routes]]\nprefix = '/a'\nstrip-prefix = '/b'  # here",
        "routes[0].strip-prefix",
        "'/a' does not begin with '/b': write whole segments of its beginning",
    ),
    (
        f"{UPSTREAM}[[routes]]\nstrip-prefix = '/b'  # here",
        "routes[0].strip-prefix",
        "it needs a prefix: write prefix = '/b'",
    ),
    (
        f"{UPSTREAM}[[routes]]\nprefix = '/a'\nstrip-prefix = '/a'\nreplace-prefix = '/b'  # here",
        "routes[0].replace-prefix",
        "there is strip-prefix, too: write one of them",
    ),
    (
        f"{UPSTREAM}[[routes]]\nprefix = '/a'\n[[routes]]  # here\npath = '/a/b'",
        "routes[1]",
        "no request takes it, as routes[0] takes them all: write it before that",
    ),
    (f"{UPSTREAM}[[routes]]\n[[routes]]  # here\npath = '/a'", "routes[1]", "no request takes it"),
    (
        f"{UPSTREAM}[[routes]]\nhost = 'a b'  # here",
        "routes[0].host",
        "it must be a host such as api.example.com or *.example.com",
    ),
    (
        f"{UPSTREAM}[[routes]]\nmethods = ['G T']  # here",
        "routes[0].methods",
        "it must be a method such as GET",
    ),
    (
        f"{UPSTREAM}[[routes]]\nfields = {{ X-A = 1 }}  # here",
        "routes[0].fields",
        "X-A is 1; it must be a text, true or false",
    ),
    (
        f"{UPSTREAM}[[routes]]\n[routes.limits]\ngrace = 1  # here",
        "routes[0].limits.grace",
        "there is no such key here; it belongs to [limits]",
    ),
    (
        f"templates = ['/a/{{x}}', '/a/{{y}}']  # here\n{UPSTREAM}",
        "templates[1]",
        "'/a/{y}' matches the same paths as '/a/{x}'; leave out one",
    ),
    # Policies.
    (
        f"policies = ['eror-page:404']  # here\n{UPSTREAM}",
        "policies[0]",
        "; did you mean error-page?",
    ),
    (
        f"policies = [{{ name = 'last-good', max-age = 'x' }}]  # here\n{UPSTREAM}",
        "policies[0]",
        "a duration from 1s to 7d is expected",
    ),
    (
        f"policies = [{{ name = 'last-good', maxage = 5 }}]  # here\n{UPSTREAM}",
        "policies[0]",
        "there is no option maxage; did you mean max-age?",
    ),
    (
        f"policies = ['file:nope.py']  # here\n{UPSTREAM}",
        "policies[0]",
        "is not a Python file: it must exist and end in .py",
    ),
    (
        f"{UPSTREAM}[[routes]]\npolicies = [ 'retry',\n 'deny' ]  # here",
        "routes[0].policies[1]",
        "methods is missing",
    ),
    # The whole.
    (f"{TWO}# here", "upstreams", "write [[routes]] that say which requests go where"),
    (f"demo = true  # here\n{UPSTREAM}", "demo", "it is a service of its own: leave out [upstr"),
    (
        f"[limits]\npool-size = 5\npool-uploads = 6  # here\n{UPSTREAM}",
        "limits.pool-uploads",
        "6 is more than pool-size 5: write at most that, or 0 for three quarters of it",
    ),
]

#: What a sentence must have, as it says what to do.
ADVICE = ("write", "it must be", "did you mean", "it belongs to", "leave out", "set it", "name the")
ADVICE_OF_POLICIES = ("is expected", "is missing", "must exist", "give one")


class MistakesTests(SynchronousTestCase):
    """Mistakes are found, with their places."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()

    def mistakes(self, text: str, *arguments: str, **environ: str) -> list[tuple[int, str, str]]:
        """Line, key and sentence of each mistake of a file."""
        self.path.write_text(text)
        options = Options(environ)
        error = self.assertRaises(
            CannotStart, options.parseOptions, ["--config", str(self.path), *arguments]
        )
        cause = error.__context__
        assert isinstance(cause, ConfigErrors), error
        return [(each.line, each.key, each.sentence) for each in cause.mistakes]

    def test_planted(self) -> None:
        """Each mistake is the only one, has its line and its key, and says what to do."""
        self.assertGreater(len(MISTAKES), 60)
        for text, key, expected in MISTAKES:
            # What is not about upstreams needs one.
            whole = text if "upstream" in text else f"{text}\n{UPSTREAM}"
            found = self.mistakes(whole)
            self.assertEqual(len(found), 1, (text, found))
            [(line, place, sentence)] = found
            lines = [at for at, each in enumerate(text.split("\n"), 1) if "# here" in each]
            self.assertEqual(place, key, text)
            self.assertIn(expected, sentence)
            if text != f"{TWO}# here":
                self.assertEqual([line], lines, (text, sentence))
            known = any(each in sentence for each in ADVICE)
            self.assertTrue(known or any(each in sentence for each in ADVICE_OF_POLICIES), sentence)
            self.assertNotRegex(sentence, r"object at|<class|\bNone\b|Error\b")

    def test_together(self) -> None:
        """Many mistakes in one file are all told: of keys, between them, and of policies."""
        found = self.mistakes(
            "workers = 0\n"
            "policies = ['nope', 'retry', 'error-page']\n"
            "[listener]\n"
            "address = 80\n"
            "[admin]\n"
            "probes = 80\n"
            "[upstreams.a]\n"
            "balance = 'hash'\n"
            "[upstreams.b]\n"
            "address = 'ftp://b'\n"
            "[[routes]]\n"
            "upstream = 'c'\n"
            "prefix = '/a'\n"
            "[[routes]]\n"
            "path = '/a/b'\n"
            "upstream = 'b'\n"
            "[[routes]]\n"
            "path = 'x'\n"
            "upstream = 'a'\n"
            "[[routes]]\n"
            "upstream = 'a'\n"
            "policies = ['deny']\n"
        )
        self.assertEqual(
            [(line, key) for line, key, _ in found],
            [
                (1, "workers"),
                (2, "policies[0]"),
                (2, "policies[2]"),
                (6, "admin.probes"),
                (7, "upstreams.a"),
                (8, "upstreams.a.balance"),
                (10, "upstreams.b.address"),
                (12, "routes[0].upstream"),
                (14, "routes[1]"),
                (18, "routes[2].path"),
                (22, "routes[3].policies[0]"),
            ],
        )

    def test_consequences(self) -> None:
        """What only follows from another mistake is not told."""
        for text in (
            # An upstream whose address is wrong has none.
            "[upstream]\naddress = 'ftp://a'",
            # Whose only upstream is no table.
            "upstream = 5",
            "upstreams = 5\n[[routes]]\nupstream = 'a'",
            # A route whose path is wrong would take all requests.
            f"{UPSTREAM}[[routes]]\npath = 'x'\n[[routes]]\npath = '/a'",
            f"{UPSTREAM}[[routes]]\npaht = '/x'\n[[routes]]\npath = '/a'",
        ):
            self.assertEqual(len(self.mistakes(text)), 1, text)

    def test_noUpstream(self) -> None:
        """A file without upstream needs one from elsewhere."""
        [(line, key, sentence)] = self.mistakes("workers = 1")
        self.assertEqual((line, key), (0, ""))
        self.assertIn('there is no upstream: write [upstream] with address = "localhost', sentence)
        for arguments, environ in (
            (["--upstream=a:1"], {}),
            (["--demo"], {}),
            ([], {"TARGET_PORT": "8087"}),
        ):
            options = Options(environ)
            options.parseOptions(["--config", str(self.path), *arguments])
            self.assertEqual(len(options.config.upstreams), 1)

    def test_many(self) -> None:
        """More listeners, upstreams, endpoints and routes than anyone has are refused."""
        for text, key in (
            (
                "".join(
                    f"[listeners.l{at}]\naddress = {at + 1}\n" for at in range(MAX_LISTENERS + 1)
                )
                + UPSTREAM,
                "listeners",
            ),
            (
                "".join(f"[upstreams.u{at}]\naddress = 'a:1'\n" for at in range(MAX_UPSTREAMS + 1))
                + "[[routes]]\nupstream = 'u1'\n",
                "upstreams",
            ),
            (
                f"[upstream]\nendpoints = {[f'a:{at + 1}' for at in range(MAX_ENDPOINTS + 1)]}",
                "upstream.endpoints",
            ),
            (
                UPSTREAM
                + "".join(f"[[routes]]\nprefix = '/r{at}'\n" for at in range(MAX_MATCHES + 1)),
                "routes",
            ),
        ):
            found = self.mistakes(text)
            self.assertEqual([each[1] for each in found], [key])
            self.assertIn("too many; write at most", found[0][2])

    def test_right(self) -> None:
        """What looks alike and is right is no mistake."""
        for text in (
            # Routes of one path with other methods, and a prefix after what is below it.
            f"{UPSTREAM}[[routes]]\npath = '/a'\nmethods = 'GET'\n[[routes]]\npath = '/a'\n"
            "[[routes]]\nprefix = '/a'\n[[routes]]",
            # Ports that the kernel chooses, and addresses of their own.
            f"{UPSTREAM}[listeners.a]\naddress = 0\n[listeners.b]\naddress = 0",
            f"{UPSTREAM}[listeners.a]\naddress = '10.0.0.1:80'\n[listeners.b]\n"
            "address = '10.0.0.2:80'",
            f"{UPSTREAM}[admin]\naddress = ''\nprobes = 9901",
            f"{UPSTREAM}[[routes]]\nprefix = '/api/v1'\nstrip-prefix = '/api'",
            "[upstream]\naddress = 'https://a'\n[upstream.tls]\nca = 'ca.crt'",
            "[upstream]\nendpoints = ['a:1', 'https://b']\n[upstream.tls]",
            "demo = true\n[[routes]]\npath = '/photos'",
            f"templates = ['/a/{{x}}']\n{UPSTREAM}[[routes]]\npath = '/a/{{x}}'",
        ):
            self.path.write_text(text)
            Options({}).parseOptions(["--config", str(self.path)])
