"""
Runs a real Prometheus: Debian's package, installed or downloaded.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from e2e.manifests import ROOT

#: The folder for the downloaded package.
CACHE = ROOT / ".e2e"

#: Seconds until it answers, or has scraped.
PATIENCE = 60.0

_CONFIGURATION = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: sitio
    static_configs:
      - targets: ["{target}"]
"""


def tool(name: str) -> str:
    """
    The path of C{prometheus} or C{promtool}.

    If it is not installed, Debian's package is downloaded and unpacked, but not installed:
    that would start it as a service.

    @raise FileNotFoundError: it is not installed and can't be downloaded.
    """
    found = shutil.which(name)
    if found:
        return found
    unpacked = CACHE / "prometheus/usr/bin" / name
    if not unpacked.exists():
        try:
            _fetch()
        except (OSError, subprocess.SubprocessError) as error:
            raise FileNotFoundError(
                f"{name} is missing: install Prometheus (on Debian: apt install prometheus)"
            ) from error
    return str(unpacked)


def _fetch() -> None:
    """Download Debian's package, and unpack it."""
    CACHE.mkdir(exist_ok=True)
    fetch = ["apt-get", "download", "-qq", "prometheus"]
    if _apt(fetch):
        # The package lists are outdated or missing.
        _apt(["apt-get", "update", "-qq"])
        if said := _apt(fetch):
            raise OSError(said)
    (package,) = CACHE.glob("prometheus_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, CACHE / "prometheus"], check=True, timeout=60)
    package.unlink()


def _apt(command: list[str]) -> str:
    """What it has to complain of; nothing where it succeeds."""
    ended = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=300)
    return ended.stderr or "it failed" if ended.returncode else ""


def freePort() -> int:
    """A free port on loopback."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


#: Without the HTTP proxy of the environment.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Prometheus:
    """A Prometheus that scrapes one target every second."""

    def __init__(self, target: str) -> None:
        """
        @param target: C{HOST:PORT}.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="sitio-e2e-"))
        self._address = f"127.0.0.1:{freePort()}"
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(target=target), "utf-8")
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """
        The current result of a PromQL expression.

        @raise ValueError: the expression is wrong.
        """
        asked = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with _open(f"http://{self._address}/api/v1/query", asked, timeout=10) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return result
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from error

    def value(self, expression: str) -> float:
        """The single number that is an expression's result; 0 if it has none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    def wait(self, expression: str, least: float) -> float:
        """Query until the result is at least this; the last result."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                now = self.value(expression)
            except OSError:
                now = 0.0  # not started yet
            if now >= least or time.monotonic() > until:
                return now
            time.sleep(0.3)

    def end(self) -> None:
        """Stop it, and remove its data."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
