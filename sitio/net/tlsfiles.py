"""
TLS of files that are read again when they change: L{PortTLS} and L{UpstreamTLS}, and
L{TLSFiles}, which has all of a process.

New handshakes get what was read last; connections that are open stay as they are.  Files that
can't be used change nothing: what they were before stays in use, the log says why, once for
each change, and so do L{TLSFiles.warnings} and the metrics.

An expired certificate is a warning, as clients that don't check it are served; but it never
replaces one that is still valid.

Contract: the time and the L{Watcher<sitio.net.watching.Watcher>} are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import time as _time
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakMethod, finalize

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from sitio.net.certificates import BadTLSFiles, Identity, written
from sitio.net.recordlayer import Buffer
from sitio.net.tls import selectProtocol
from sitio.net.tlsclient import verifyUpstream
from sitio.net.tlscontexts import ClientContext, ServerContexts
from sitio.net.tlssettings import ClientTLS, ServerTLS
from sitio.net.watching import Watch, Watcher

_log = Logger(namespace="sitio")

#: Offered to upstreams by ALPN.
UPSTREAM_PROTOCOLS = (b"http/1.1",)

_Settings = TypeVar("_Settings", ServerTLS, ClientTLS)
_Made = TypeVar("_Made", ServerContexts, ClientContext)


class _Rotating(Generic[_Settings, _Made]):
    """
    What is made of some files, and made anew when they change.

    @ivar name: of the port or the upstream, for messages and metrics.
    @ivar role: C{listener} or C{upstream}.
    @ivar settings: those that are in use.
    @ivar current: what was made last.
    @ivar problem: why the files as they are now can't be used, as a sentence; L{None} if they
        are in use.
    """

    role: str

    def __init__(
        self,
        name: str,
        settings: _Settings,
        watcher: Watcher | None = None,
        time: Callable[[], float] = _time,
    ) -> None:
        """
        @param watcher: says when files have changed; without one they are read only once.
        @raise BadTLSFiles: a file can't be read or used.
        """
        self.name = name
        self.settings: _Settings = settings
        self.problem: str | None = None
        self._time = time
        self._watch: Watch | None = None
        if watcher is not None:
            # Not a reference to this object: it ends with the last port or endpoint of it.
            reload = WeakMethod(self.reload)
            self._watch = watcher.watch(settings.paths, lambda: _callWeakly(reload))
            finalize(self, self._watch.stop)
        try:
            self.current: _Made = self._make(settings)
        except BaseException:
            self.stop()
            raise
        self._logTimes()

    def _make(self, settings: _Settings) -> _Made:
        raise NotImplementedError

    @property
    def shown(self) -> str:
        """Role and name, for people; the only port and the only upstream have no other name."""
        return self.role if self.name == self.role else f"{self.role} {self.name}"

    @property
    def identities(self) -> Sequence[Identity]:
        """The certificates that are in use."""
        return self.current.identities

    def replace(self, settings: _Settings) -> None:
        """
        Use other settings from now on.

        @raise BadTLSFiles: a file can't be read or used.  Then nothing changes.
        """
        self.prepare(settings)()

    def prepare(self, settings: _Settings) -> Callable[[], None]:
        """
        Make what other settings need, without using it yet.

        @return: call it to use them, before anything else is prepared.

        @raise BadTLSFiles: a file can't be read or used.
        """
        made = self._make(settings)

        def adopt() -> None:
            if settings == self.settings and self.problem is None and self._watch is not None:
                return
            self.current, self.settings, self.problem = made, settings, None
            if self._watch is None:
                self._logTimes()
                return
            self._watch.follow(settings.paths)
            # They may have changed since they were read.
            self.reload()

        return adopt

    def reload(self) -> None:
        """Read the files again; what can't be used changes nothing."""
        try:
            made = self._make(self.settings)
            self._checkTimes(made.identities)
        except BadTLSFiles as error:
            self.problem = str(error)
            _log.error(
                "The new TLS files of the {part} are not used, those before stay: {why}",
                part=self.shown,
                why=self.problem,
            )
            return
        self.current, self.problem = made, None
        _log.info(
            "The {part} uses new TLS files: {certificates}",
            part=self.shown,
            certificates=_listed(self.identities),
        )
        self._logTimes()

    def _checkTimes(self, identities: Iterable[Identity]) -> None:
        now = self._time()
        if not all(each.isValid(now) for each in self.identities):
            return
        for each in identities:
            if not each.isValid(now):
                raise BadTLSFiles(f"{each.warning(now)}")

    def _logTimes(self) -> None:
        now = self._time()
        for each in self.identities:
            warning = each.warning(now)
            if warning is not None:
                _log.warn(
                    "TLS of the {part}: {why}",
                    part=self.shown,
                    why=warning,
                )

    def warnings(self) -> list[str]:
        """What an operator has to know, as sentences without full stops."""
        now = self._time()
        found = [each.warning(now) for each in self.identities]
        if self.problem is not None:
            found.append(f"the new TLS files are not used: {self.problem}")
        return [f"{self.shown}: {each}" for each in found if each is not None]

    def stop(self) -> None:
        """Watch the files no longer."""
        if self._watch is not None:
            self._watch.stop()


def _callWeakly(method: WeakMethod[Any]) -> None:
    found = method()
    if found is not None:
        found()


def _listed(identities: Iterable[Identity]) -> str:
    listed = [f"{each.subject} until {written(each.ends)}" for each in identities]
    return ", ".join(listed) or "authorities"


@implementer(IOpenSSLServerConnectionCreator)
class PortTLS(_Rotating[ServerTLS, ServerContexts]):
    """TLS of a port; L{TLSServerEndpoint<sitio.net.tls.TLSServerEndpoint>} listens with it."""

    role = "listener"

    def _make(self, settings: ServerTLS) -> ServerContexts:
        return ServerContexts(settings, selectProtocol)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator}."""
        connection = self.current.connection()
        connection.set_app_data(protocol)
        return connection


class UpstreamTLS(_Rotating[ClientTLS, ClientContext]):
    """
    TLS to an upstream; L{sitio.net.tlsclient} connects with it.

    @ivar buffer: for all connections to it; L{None} before the first endpoint.
    """

    role = "upstream"
    buffer: Buffer | None = None

    def _make(self, settings: ClientTLS) -> ClientContext:
        return ClientContext(settings, UPSTREAM_PROTOCOLS, verifyUpstream)


class TLSFiles:
    """
    The TLS of all ports and upstreams of a process, for metrics and for the page /ready.

    A port or an upstream is in it as long as somebody uses it.
    """

    def __init__(self, watcher: Watcher | None = None, time: Callable[[], float] = _time) -> None:
        """
        @param watcher: says when files have changed; without one they are read only once.
        @param time: the time in seconds since 1970.
        """
        self._watcher = watcher
        self._time = time
        self._parts: WeakKeyDictionary[PortTLS | UpstreamTLS, None] = WeakKeyDictionary()

    def port(self, name: str, settings: ServerTLS) -> PortTLS:
        """
        TLS of a port.

        @raise BadTLSFiles: a file can't be read or used.
        """
        return self._add(PortTLS(name, settings, self._watcher, self._time))

    def upstream(self, name: str, settings: ClientTLS) -> UpstreamTLS:
        """
        TLS to an upstream.

        @raise BadTLSFiles: a file can't be read or used.
        """
        return self._add(UpstreamTLS(name, settings, self._watcher, self._time))

    def _add(self, part: Any) -> Any:
        self._parts[part] = None
        return part

    def drop(self, part: PortTLS | UpstreamTLS) -> None:
        """A port or an upstream is used no longer; more than once is no error."""
        part.stop()
        self._parts.pop(part, None)

    def snapshot(self) -> list[dict[str, Any]]:
        """
        Each port and each upstream: C{role} and C{name}; C{certificates}, each with C{subject},
        C{serial} and C{ends}, in seconds since 1970; C{problem}, why the files as they are now
        are not used, or empty; and C{warnings}, sentences for an operator.
        """
        return [
            {
                "role": part.role,
                "name": part.name,
                "certificates": [
                    {"subject": each.subject, "serial": each.serial, "ends": each.ends}
                    for each in part.identities
                ],
                "problem": part.problem or "",
                "warnings": part.warnings(),
            }
            for part in list(self._parts)
        ]

    def warnings(self) -> list[str]:
        """What an operator has to know, as sentences without full stops."""
        return [each for part in list(self._parts) for each in part.warnings()]
