"""
Parsers for the values of single options.

Each takes the text that the operator gave and returns a value.  Each raises
C{ValueError} with one sentence that begins with the text, without secrets, and says what
it must be; L{sitio.config.options} puts the option's name before it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from sitio.config.cores import coreCount
from sitio.http.grammar import isHostname, isPath, splitHost
from sitio.redact import textWithoutSecrets

#: The most worker processes: more than the cores of any machine sitio is run on.
MAX_WORKERS = 256

#: The formats of L{sitio.telemetry.logformat}.
ACCESS_LOG_FORMATS = ("json", "common")

#: Levels of the log, the lowest first, and its forms.
LOG_LEVELS = ("debug", "info", "warn", "error")
LOG_FORMATS = ("text", "json")

#: The highest port.
MAX_PORT = 65535

#: Values of C{interface} that mean all addresses.
_EVERYWHERE = ("", "0.0.0.0", "::", r"\:\:")

#: The port and the address in the description of a TCP port, as it is mostly written.
_tcp = re.compile(r"tcp6?:(?:port=)?([0-9]+)(?::backlog=[0-9]+)?(?::interface=(.*))?").fullmatch

#: The largest numbers: more than any machine has bytes or sitio runs seconds.  Timers and
#: counters of the system can hold them.
MAX_COUNT = 10**15
MAX_SECONDS = 10**9


def _quoted(text: str) -> str:
    return repr(textWithoutSecrets(text))


def portNumber(text: str) -> int:
    """A TCP port; 0 lets the kernel choose one."""
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise ValueError(f"{_quoted(text)}; it must be a port, 0 to {MAX_PORT}")
    return int(text)


def isSamePort(first: str, second: str) -> bool:
    """
    Whether two endpoint descriptions name the same TCP port, and addresses of this host that
    can't both be listened on: the same ones, or all by one of them.
    """
    found = [_tcp(each) for each in (first, second)]
    if not all(found):
        return False
    (port, address), (other, another) = ((each[1], each[2] or "") for each in found if each)
    everywhere = address in _EVERYWHERE or another in _EVERYWHERE
    return port == other != "0" and (address == another or everywhere)


def number(text: str, kind: type[int] | type[float], zero: bool = True) -> float:
    """
    A count, a number of bytes or a number of seconds.

    @param kind: C{int} for whole numbers, C{float} for seconds.
    @param zero: whether 0 is allowed.
    """
    try:
        value = kind(text)
    except ValueError:
        value = -1
    most = MAX_COUNT if kind is int else MAX_SECONDS
    if most < value < float("inf"):
        raise ValueError(f"{_quoted(text)}; it must be at most {most}")
    if not 0 <= value < float("inf") or not (value or zero):
        what = "a whole number" if kind is int else "a number of seconds"
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{_quoted(text)}; it must be {what}, {least}")
    return value


def healthPath(text: str) -> str:
    """The path and query of a request target: printable ASCII, no spaces, no fragment."""
    if not isPath(text):
        raise ValueError(f"{_quoted(text)}; it must be a path such as /healthz")
    return text


def hostNames(text: str) -> list[str]:
    """Names of hosts, separated by commas, in small letters and without a port."""
    names = [each.strip().lower() for each in text.split(",") if each.strip()]
    for each in names:
        if not isHostname(each):
            raise ValueError(
                f"{_quoted(text)}; it must be names of hosts without ports, as in sitio.example.com"
            )
    return names


def accessLogTarget(text: str) -> tuple[str, str | None] | None:
    """
    The format of the access log, and the path of its file or L{None} for standard
    output; L{None} if there is to be no access log.
    """
    if text in ("", "off"):
        return None
    form, colon, path = text.partition(":")
    if form not in ACCESS_LOG_FORMATS or (colon and not path):
        names = ", ".join(ACCESS_LOG_FORMATS)
        raise ValueError(
            f"{_quoted(text)}; it must be {names} or off, as in json or json:access.log"
        )
    return form, path or None


def oneOf(text: str, words: Sequence[str]) -> str:
    """One of some words."""
    if text not in words:
        expected = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
        raise ValueError(f"{_quoted(text)}; it must be {expected}")
    return text


def trustedProxies(text: str) -> list[str]:
    """
    Networks of IP, addresses, or C{unix}, separated by commas; each as C{ip_network} writes it.
    """
    # Imported with the first network.
    from ipaddress import ip_network

    found = []
    for each in [word.strip() for word in text.split(",") if word.strip()]:
        try:
            found.append(each if each == "unix" else str(ip_network(each)))
        except ValueError:
            try:
                network = ip_network(each, strict=False)
            except ValueError:
                raise ValueError(
                    f"{_quoted(each)}; it must be networks such as 10.0.0.0/8 or ::1, or unix,"
                    " separated by commas"
                ) from None
            raise ValueError(
                f"{_quoted(each)}; the network of this address is {network}: write that"
            ) from None
    return found


def upstreamHost(text: str) -> str:
    """C{client}, C{upstream}, or the Host of requests for the upstream."""
    if not text or splitHost(text) is None:
        raise ValueError(
            f"{_quoted(text)}; it must be client, upstream, or a host such as api.example"
        )
    return text


def workerCount(text: str, environ: Mapping[str, str] | None = None) -> int:
    """
    The number of worker processes; C{auto} is one for each core (L{coreCount}).

    @param environ: environment variables; L{None} for those of the process.
    """
    if text == "auto":
        return min(coreCount(environ), MAX_WORKERS)
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(
            f"{_quoted(text)}; it must be 1 to {MAX_WORKERS}, or auto for one on each core"
        )
    if int(text) > 1 and os.name != "posix":
        raise ValueError(f"{_quoted(text)}; it must be 1, as this system can't share a port")
    return int(text)
