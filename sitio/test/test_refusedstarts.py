"""
Tests of the sentences that end a start: each option, with bad values of each kind.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from socket import gaierror
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from sitio.assembly import assemble
from sitio.config.options import Options
from sitio.errors import CannotStart, inOneLine
from sitio.net.listening import explainListenError
from sitio.test.helpers.certificates import certify
from sitio.wiring.adminports import administer, fleetAddress

#: What only a programmer can read.
ARTIFACTS = (
    *("__init__", "_parse", "b'", 'b"', "('", "Traceback", "<class", "object at 0x", "\n"),
    *("positional", "keyword", "invalid literal", "Errno", "KeyError", "routines"),
)

#: Words of a sentence that says what to do.
ADVICE = (
    "the known ones are",
    "is given twice",
    "use for example",
    "it must be",
    "usage: ",
    "--help",
    "write ",
    "must exist",
    "decorate",
)

NO_PORT = "its port is not a number from 0 to 65535"
TOO_MANY = "it has too many parts; a colon within a value needs a backslash, as in \\:\\:1"
NO_HOST = "its host is neither a name nor an IP address without brackets"
UNKNOWN = "Unknown endpoint type: "
DAMAGED = "its key or certificate is damaged, or its key needs a passphrase"
MISMATCH = "the certificate and the private key don't belong together"

SERVERS = {
    "tcp": "it has no port",
    "tcp:": NO_PORT,
    "tcp:x": NO_PORT,
    "tcp:-1": NO_PORT,
    "tcp:65536": NO_PORT,
    "tcp:1e3": NO_PORT,
    "tcp:port=x": NO_PORT,
    "tcp:80:port=81": "its port is given twice",
    "tcp:80:backlog=x": "its backlog is not a number of 1 or more",
    "tcp:80:backlog=-1": "its backlog is not a number of 1 or more",
    "tcp:80:nope=1": "an option that tcp does not have: port, interface, backlog",
    "tcp:80:a:b:c:d": TOO_MANY,
    "tcp:80:interface=::1": "its interface is given twice",
    "tcp6": "it has no port",
    "tcp6:x": NO_PORT,
    "unix": "it has no address",
    "unix:": "it has no path",
    "unix:/a:mode=zz": "its mode is not an octal number such as 660",
    "unix:/a:mode=999": "its mode is not an octal number such as 660",
    "unix:/a:nope=1": "an option that unix does not have",
    "systemd": "it has no domain",
    "systemd:domain=X:index=0": "its domain is not INET, INET6 or UNIX",
    "systemd:domain=INET": "it needs either index= or name=",
    "systemd:domain=INET:index=x": "its index is not a number of 0 or more",
    "systemd:domain=INET:index=7": "systemd has passed no such socket",
    "systemd:domain=INET:name=a": "systemd has passed no such socket",
    "haproxy": "it names no port; write for example haproxy:tcp:8080",
    "haproxy:": "it names no port; write for example haproxy:tcp:8080",
    "haproxy:tcp": "it has no port",
    "haproxy:tcp:x": NO_PORT,
    "haproxy:nope:1": UNKNOWN,
    "nope": UNKNOWN,
    "8080x": UNKNOWN,
    "-1": UNKNOWN,
    " 80": UNKNOWN,
    "example.com:80": "it names a host: write an IP address of this one, such as 127.0.0.1:80",
    "localhost:99999": "it must be a port, 0 to 65535",
    "http://a": "it is a URL, and a port has none: write for example 8080",
    "--admin=": "it does not begin with a kind of endpoint, such as tcp",
    "99999": "it must be a port, 0 to 65535",
    "ssl": "it has no port",
    "ssl:x:privateKey={key}:certKey={certificate}": NO_PORT,
    "ssl:8443": "server.pem: No such file or directory",
    "ssl:8443:privateKey=/nonexistent": "can't read /nonexistent: No such file or directory",
    "ssl:8443:privateKey={folder}": "can't read {folder}: Is a directory",
    "ssl:8443:privateKey={key}": "{key} holds no certificate in PEM format",
    "ssl:8443:privateKey={garbage}": "{garbage} holds no private key in PEM format",
    "ssl:8443:privateKey={certificate}": "{certificate} holds no private key in PEM format",
    "ssl:8443:privateKey={badKey}:certKey={certificate}": DAMAGED,
    "ssl:8443:privateKey={key}:certKey=/nonexistent": "can't read /nonexistent: No such file",
    "ssl:8443:privateKey={key}:certKey={garbage}": "{garbage} holds no certificate in PEM format",
    "ssl:8443:privateKey={key}:certKey={badCertificate}": DAMAGED,
    "ssl:8443:privateKey={key}:certKey={other}": MISMATCH,
    "haproxy:ssl:8443:privateKey={key}:certKey={other}": MISMATCH,
    "ssl:8443:privateKey={key}:certKey={certificate}:sslmethod=FOO": "its sslmethod is unknown",
    "ssl:8443:privateKey={key}:certKey={certificate}:extraCertChain={garbage}": (
        "{garbage} holds no certificate in PEM format"
    ),
    "ssl:8443:privateKey={key}:certKey={certificate}:extraCertChain=/nonexistent": (
        "can't read /nonexistent: No such file or directory"
    ),
    "tls:8443:privateKey={key}:certKey={certificate}": "its options are not those of tls",
}

CLIENTS = {
    "": "it does not begin with a kind of endpoint, such as tcp",
    "tcp": "it has no host",
    "tcp:": "it has no port",
    "tcp:a": "it has no port",
    "tcp:host=a": "it has no port",
    "tcp:port=1": "it has no host",
    "tcp:a:b": NO_PORT,
    "tcp:a:-1": NO_PORT,
    "tcp:a:65536": NO_PORT,
    "tcp:a:0": "its port is not a number from 1 to 65535",
    "tcp::80": NO_HOST,
    "tcp:a b:1": NO_HOST,
    "tcp:[\\:\\:1]:80": NO_HOST,
    "tcp:[::1]:80": TOO_MANY,
    "tcp:::1:80": TOO_MANY,
    "tcp:a:1:timeout=x": "its timeout is not a number of 1 or more",
    "tcp:a:1:nope=1": "an option that tcp does not have: host, port, timeout, bindAddress",
    "unix": "it has no path",
    "unix:": "it has no path",
    "unix:nope=1": "an option that unix does not have",
    "unix:/a:timeout=x": "its timeout is not a number of 1 or more",
    "nope": UNKNOWN,
    "0": "it must be a port from 1 to 65535",
    "99999": "it must be a port from 1 to 65535",
    "localhost:0": "it must be a port from 1 to 65535",
    "localhost:99999": "it must be a port from 1 to 65535",
    "localhost": UNKNOWN,
    "ftp://a": "its scheme is neither http nor https: write for example localhost:8087",
    "http://": "it has no host and port that can be asked: write for example localhost:8087",
    "http://a:x": "it has no host and port that can be asked: write for example localhost:8087",
    "http://a:99999": "it must be a port from 1 to 65535",
    "http://a/b": "it has a path, and an upstream is only scheme, host and port: write http://a",
    "https://a:1?b": "it has a query, and an upstream is only scheme, host and port: write",
    "https://a#b": "it has a fragment, and an upstream is only scheme, host and port: write",
    "https://me:secret@a": "sitio sends no user and no password: write only scheme, host and port",
    "haproxy:tcp:a:1": UNKNOWN,
    "ssl": "it has no host",
    "ssl:a": "it has no port",
    "ssl:a:b": NO_PORT,
    "ssl:a:443:certKey=/nonexistent": "can't read /nonexistent: No such file or directory",
    "ssl:a:443:privateKey={garbage}:certKey={certificate}": "{garbage} holds no private key",
    "ssl:a:443:privateKey={key}:certKey={garbage}": "{garbage} holds no certificate",
    "ssl:a:443:caCertsDir=/nonexistent": "/nonexistent is not a folder with certificates",
    "ssl:a:443:nope=1": "an option that ssl does not have",
    "tls": "it has no host",
    "tls:a": "it has no port",
    "tls:a:99999": NO_PORT,
    "tls:a b:443": NO_HOST,
    "tls:.:443": "its host is not a name of a host",
    "tls:a:443:nope=1": "an option that tls does not have",
    "tls:a:443:timeout=x": "its timeout is not a number of 1 or more",
    "tls:a:443:certificate={garbage}": "{garbage} holds no",
    "tls:a:443:certificate=/nonexistent": "can't read /nonexistent: No such file or directory",
    "tls:a:443:certificate={other}:privateKey={key}": MISMATCH,
    "tls:a:443:trustRoots=/nonexistent": "/nonexistent is not a folder with certificates",
    "tls:a:443:trustRoots={garbage}": "{garbage} is not a folder with certificates",
    "tls:a:443:trustRoots={folder}": "a certificate in {folder} can't be used",
}

POLICIES = {
    "": "there is no policy ''",
    "nope": "there is no policy 'nope'; the known ones are file, ",
    "error-page": "error-page needs the statuses",
    "error-page:nope": "'nope' is not an error status: write 404, 500-504 or 5xx",
    "error-page:404:nope=1": "there is no option nope",
    "error-page:404:file=/nonexistent.html": "there is no file '/nonexistent.html' for the",
    "last-good:x": "there are more parts than it takes; options are written NAME=VALUE",
    "last-good:max-age=x": "a duration from 1s to 7d is expected",
    "last-good:nope=1": "there is no option nope",
    "last-good:max-age=60:max-age=5": "max-age is given twice",
    "retry:x": "there are more parts than it takes",
    "retry:times=x": "a whole number from 1 to 10 is expected",
    "headers": "headers needs a change: write set NAME VALUE",
    "headers:foo": "write set NAME VALUE, add NAME VALUE or remove NAME",
    "headers:nope=1": "there is no option nope",
    "deny": "methods is missing",
    "deny:GET": "deny needs the paths to refuse",
    "deny:GET:x": "is not a pattern for paths: it must begin with / or *",
    "deny:GET:/a:nope=1": "there is no option nope",
    "file": "write file:PATH, where PATH is a Python file",
    "file:nope.py": "nope.py is not a Python file: it must exist in /",
    "file:/nope.py": "/nope.py is not a Python file: it must exist and end in .py",
    "file:{folder}/empty.py": "defines no policy: decorate a function with",
    "file:{folder}/raises.py": "raises.py:1 can't be loaded: TypeError",
    "file:{folder}/object.py": "object.py:1 can't be loaded: ValueError",
    "file:{folder}/lacks.py": "it is an incomplete policy: ",
    "file:{folder}/arity.py": "it has the wrong parameters: write it(exchange), not it();",
}

POLICY_FILES = {
    "empty.py": "import sitio\n",
    "raises.py": "(lambda x: x)()\n",
    "object.py": "raise ValueError(object())\n",
    "arity.py": "from sitio import onRequest\n@onRequest\ndef it(): pass\n",
    "lacks.py": (
        "from zope.interface import implementer\n"
        "from sitio.interfaces import IResponsePolicy\n"
        "@implementer(IResponsePolicy)\n"
        "class Policy: pass\n"
        "it = Policy()\n"
    ),
}

SECONDS = "it must be a number of seconds"
WHOLE = "it must be a whole number"
OTHERS = {
    "--workers=": "it must be 1 to 256, or auto",
    "--workers=x": "it must be 1 to 256, or auto",
    "--workers=0": "it must be 1 to 256, or auto",
    "--workers=1.5": "it must be 1 to 256, or auto",
    "--worker-timeout=x": SECONDS,
    "--stats-interval=": SECONDS,
    "--stats-interval=nan": SECONDS,
    "--stats-interval=1e400": SECONDS,
    "--stats-interval=1e20": "it must be at most 1000000000",
    "--grace=-1": SECONDS,
    "--grace=1e10": "it must be at most 1000000000",
    "--connect-timeout=0": "more than 0",
    "--max-clients=1.5": WHOLE,
    "--max-clients=0": "more than 0",
    "--max-body=-1": WHOLE,
    "--max-body=99999999999999999999999": "it must be at most 1000000000000000",
    "--access-log=x": "it must be json, common or off",
    "--access-log=json:": "it must be json, common or off",
    "--fleet=x": "not the URL of a fleet dashboard; use for example",
    "--fleet=http://a:99999": "not the URL of a fleet dashboard; use for example",
    "--admin-hosts=a:80": "it must be names of hosts without ports",
    "--health-path=x": "it must be a path such as /healthz",
    "--nope": "option --nope not recognized",
    "--via=1": "option --via must not have an argument",
    "--po=1": "option --po not a unique prefix",
    "foo": "belongs to no option: a value with spaces needs quotes",
}


class RefusedStartTests(SynchronousTestCase):
    """A start that is refused ends with one sentence for the operator, which says what to do."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        others = self.folder / "others"
        others.mkdir(parents=True)
        key, certificate = certify(self.folder)
        _, other = certify(others)
        self.names = {
            "folder": self.folder,
            "key": key,
            "certificate": certificate,
            "other": other,
            "garbage": self.write("garbage.pem", "hello\n"),
            "badKey": self.write("badkey.pem", self.pem("PRIVATE KEY")),
            "badCertificate": self.write("badcertificate.pem", self.pem("CERTIFICATE")),
        }
        for name, text in POLICY_FILES.items():
            self.write(name, text)

    def pem(self, kind: str) -> str:
        """PEM around something that is no certificate and no key."""
        return f"-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n"

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_text(text)
        return path

    def filled(self, text: str) -> str:
        """A text with the names of files."""
        for name, path in self.names.items():
            text = text.replace(f"{{{name}}}", str(path))
        return text

    def start(self, *arguments: str) -> None:
        """Start sitio, with ports in memory."""
        options = Options({})
        options.parseOptions(["--upstream=tcp:a:1", *arguments])
        fleetAddress(options)
        reactor = MemoryReactorClock()
        sidecar = assemble(reactor, options)
        administer(reactor, options, sidecar)
        self.addCleanup(sidecar.stopService)
        sidecar.startService()

    def check(self, expected: str, *arguments: str) -> None:
        """These arguments are refused with a sentence that has this in it."""
        with self.subTest(arguments=arguments):
            error = self.assertRaises(CannotStart, self.start, *map(self.filled, arguments))
            sentence = str(error)
            self.assertTrue(sentence.startswith("sitio: "), sentence)
            self.assertIn(self.filled(expected), sentence)
            # What the operator gave is not sitio's to change.
            for each in map(self.filled, arguments):
                sentence = sentence.replace(each.partition("=")[2] or each, "")
            for artifact in ARTIFACTS:
                self.assertNotIn(artifact, sentence)
            if "can't be loaded" not in sentence and "incomplete" not in sentence:
                self.assertTrue(any(each in sentence for each in ADVICE), sentence)

    def test_port(self) -> None:
        """Each mistake in C{--port}."""
        for description, expected in SERVERS.items():
            self.check(expected, f"--port={description}")

    def test_admin(self) -> None:
        """The same in C{--admin}."""
        for description, expected in SERVERS.items():
            self.check(expected, "--port=1", f"--admin={description}")

    def test_upstream(self) -> None:
        """Each mistake in C{--upstream}."""
        for description, expected in CLIENTS.items():
            self.check(expected, f"--upstream={description}")

    def test_policies(self) -> None:
        """Policies with wrong arguments, and files that are no policies."""
        for description, expected in POLICIES.items():
            self.check(expected, f"--policy={description}")

    def test_others(self) -> None:
        """All other options."""
        for argument, expected in OTHERS.items():
            self.check(expected, argument)

    def test_right(self) -> None:
        """What is right still starts."""
        for argument in (
            "--port=tcp:0",
            "--port=tcp:8080:interface=127.0.0.1:backlog=1",
            "--port=tcp:8080:\\:\\:1:77",
            "--port=tcp6:8080",
            "--port=haproxy:tcp:8080",
            "--port=ssl:8443:privateKey={key}:certKey={certificate}",
            "--upstream=tcp:\\:\\:1:8087",
            "--upstream=tcp:host=a:port=1:timeout=3:bindAddress=127.0.0.1",
            "--upstream=ssl:a:443:privateKey={key}:certKey={certificate}",
            "--upstream=tls:a:443:certificate={certificate}:privateKey={key}",
            "--upstream=unix:/run/a.sock:timeout=3",
        ):
            with self.subTest(argument=argument):
                self.start(self.filled(argument))


class ListenTests(SynchronousTestCase):
    """Why a port can't be opened."""

    def test_table(self) -> None:
        """Each reason of the system is a clause that names the port, the address or the file."""
        for interface, port, error, expected in (
            ("", 80, OSError(errno.EADDRINUSE, "Address already in use"), "port 80: Address alr"),
            ("", 80, OSError(errno.EACCES, "Permission denied"), "port 80: Permission denied"),
            (
                "10.9.9.9",
                80,
                OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
                "10.9.9.9, which must be an address of this host: Cannot assign",
            ),
            (
                "300.1.1.1",
                80,
                gaierror(-2, "Name or service not known"),
                "300.1.1.1, which must be an address of this host: Name or service not known",
            ),
            (None, b"/run/s", OSError(errno.EEXIST, "in the way"), "/run/s: in the way"),
        ):
            said = explainListenError(CannotListenError(interface, port, error))
            self.assertTrue(said.startswith(f"can't listen on {expected}"), said)

    def test_tls(self) -> None:
        """What OpenSSL says is not for operators."""
        from OpenSSL.SSL import Error

        said = explainListenError(Error([("PEM routines", "", "no start line")]))
        self.assertEqual(
            said,
            "can't listen on the address: its key, certificate or Diffie-Hellman parameters"
            " can't be used",
        )


class InOneLineTests(SynchronousTestCase):
    """Exceptions as text for a person."""

    def test_shown(self) -> None:
        """A message in words stays, in one line."""
        self.assertEqual(inOneLine(ValueError("no\n such  port")), "ValueError: no such port")
        self.assertEqual(inOneLine(OSError(2, os.strerror(2)), name=False)[:9], "[Errno 2]")

    def test_hidden(self) -> None:
        """What only programmers can read is left out."""
        errors: list[Any] = [
            TypeError("TCP4ClientEndpoint.__init__() missing 1 required argument"),
            TypeError("makePolicy() takes 1 positional argument but 2 were given"),
            ValueError([("DECODER routines", "", "unsupported")]),
            ValueError(b"bytes"),
            ValueError(object()),
            ValueError(int),
        ]
        for error in errors:
            self.assertEqual(inOneLine(error, name=False), "")
            self.assertEqual(inOneLine(error), type(error).__name__)
