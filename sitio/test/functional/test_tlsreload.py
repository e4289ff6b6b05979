"""
TLS of ports and upstreams, as it is configured, and as it changes with a reload.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from sitio.assembly import assemble
from sitio.config.options import Options
from sitio.config.places import ConfigErrors
from sitio.errors import CannotStart
from sitio.net.tls import PortFactory
from sitio.test.helpers.authority import Authority

FILE = """\
[listener]
address = 8443
[listener.tls]
certificate = "a.crt"
key = "a.key"
[upstream]
address = "localhost:9443"
[upstream.tls]
ca = "ca.pem"
"""


class ReloadTests(SynchronousTestCase):
    """A sidecar whose TLS changes with its configuration."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()).absolute())
        self.folder = self.authority.folder
        for name in ("a", "b"):
            self.authority.issue(name, "localhost", commonName=name)
        self.reactor = MemoryReactorClock()

    def write(self, text: str) -> None:
        """Write the configuration."""
        (self.folder / "sitio.toml").write_text(text)

    def assembled(self, text: str = FILE) -> Any:
        """A sidecar with this configuration."""
        self.write(text)
        self.options = Options({})
        self.options.parseOptions([f"--config={self.folder}/sitio.toml"])
        return assemble(self.reactor, self.options)

    def started(self, text: str = FILE) -> None:
        """Start one."""
        self.sidecar = self.assembled(text)
        self.sidecar.startService()
        self.addCleanup(self.sidecar.stopService)
        self.replacement = self.sidecar.replaceable()

    def reload(self, text: str) -> list[str]:
        """Reload with this configuration; returns the keys that need a restart."""
        self.write(text)
        keys: list[str] = self.successResultOf(self.replacement.prepare())
        self.replacement.adopt()
        return keys

    def parts(self) -> list[tuple[str, str]]:
        """The ports and the upstreams that have TLS, and the subjects of certificates."""
        found = []
        for each in self.sidecar.tls.snapshot():
            subjects = [one["subject"].partition(",")[0] for one in each["certificates"]]
            found.append((each["role"], ", ".join(subjects)))
        return found

    def test_start(self) -> None:
        """The port has TLS, and so has the upstream; the metrics and /ready know of both."""
        self.started()
        [(port, factory, *_)] = self.reactor.tcpServers
        self.assertEqual((port, type(factory)), (8443, PortFactory))
        self.assertEqual(self.parts(), [("listener", "CN=a"), ("upstream", "")])
        self.assertEqual(self.sidecar.peers["scheme"], "https")
        self.assertEqual(self.sidecar.peers["upstreamScheme"], "https")

    def test_mistakes(self) -> None:
        """Files that can't be used end the start, with their places."""
        self.write("")
        for text, place in (
            (FILE.replace("a.key", "b.key"), ":3: listener.tls: "),
            (FILE.replace("ca.pem", "a.key"), ":6: upstream: "),
        ):
            error = self.assertRaises(CannotStart, self.assembled, text)
            self.assertIn(place, str(error))

    def test_changed(self) -> None:
        """A port that stays open uses the files that the configuration names now."""
        self.started()
        self.reload(FILE.replace('"a.', '"b.'))
        self.assertEqual(self.parts(), [("listener", "CN=b"), ("upstream", "")])
        self.assertEqual(len(self.reactor.tcpServers), 1)

    def test_refused(self) -> None:
        """Files that can't be used change nothing, and leave nothing behind."""
        self.started()
        for text in (
            FILE.replace("a.key", "b.key"),
            FILE.replace("ca.pem", "a.key"),
            FILE.replace("9443", "9444").replace('"a.key"', '"none"'),
            FILE.replace("[listener", "[listeners.a") + "[listeners.b]\naddress = 8444\n"
            '[listeners.b.tls]\ncertificate = "a.crt"\nkey = "b.key"\n',
        ):
            self.write(text)
            self.failureResultOf(self.replacement.prepare(), ConfigErrors)
            self.assertEqual(self.parts(), [("listener", "CN=a"), ("upstream", "")], text)

    def test_comesAndGoes(self) -> None:
        """Ports and upstreams that come get TLS; what has gone is watched no longer."""
        plain = "[listener]\naddress = 81\n[upstream]\naddress = 82\n"
        self.started(plain)
        self.assertEqual(self.parts(), [])
        self.reload(FILE)
        self.assertEqual(sorted(self.parts()), [("listener", "CN=a"), ("upstream", "")])
        self.reload(plain)
        # The reactor of a test remembers ports.
        self.reactor.tcpServers.clear()
        gc.collect()
        self.assertEqual(self.parts(), [])
        self.assertEqual(len(self.sidecar.watcher._watches), 0)

    def test_kept(self) -> None:
        """An upstream with the same TLS keeps its connections."""
        self.started()
        before = self.sidecar.context.generation.upstreams["upstream"]
        self.reload(FILE)
        self.assertIs(self.sidecar.context.generation.upstreams["upstream"], before)

    def test_toggled(self) -> None:
        """An open port can't begin or cease to have TLS: that needs a restart."""
        self.started()
        plain = FILE[: FILE.index("[listener.tls]")] + FILE[FILE.index("[upstream]") :]
        self.assertEqual(self.reload(plain), ["listener.tls"])
        self.assertEqual(self.parts()[0], ("listener", "CN=a"))
