"""
Whose claims are believed: L{Trust}; and what becomes of claims: L{ForwardedSettings}.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice

from attrs import frozen

from sitio.http.claims import APPEND, FORWARDED, X_FORWARDED
from sitio.http.forwarded import addressesInForwarded, addressesInList
from sitio.http.headers import Headers
from sitio.http.lines import keyOf
from sitio.net.families import unmappedIP

#: What stands for the peers of UNIX sockets among networks.
UNIX = "unix"

#: Proxies in a row whose claims are read.  Real requests have fewer, and each is looked up.
MAX_PROXIES = 32

_FOR, _FORWARDED = keyOf(b"x-forwarded-for"), keyOf(b"forwarded")


@frozen
class Trust:
    """
    Whose claims are believed.

    @ivar networks: those of trusted proxies.
    @ivar sockets: whether peers of UNIX sockets, which have no address, are trusted.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    sockets: bool = False

    @classmethod
    def of(cls, texts: Iterable[str]) -> Trust:
        """
        Trust networks, such as C{10.0.0.0/8} or C{::1}; or C{unix}.

        @raise ValueError: one of them is none.
        """
        words = frozenset(texts)
        networks = sorted(map(ip_network, words - {UNIX}), key=str)
        return cls(tuple(networks), UNIX in words)

    def has(self, address: str) -> bool:
        """
        Whether a peer is trusted.

        @param address: its IP address; anything else if it has none, as it uses a UNIX socket.
        """
        try:
            host = unmappedIP(ip_address(address))
        except ValueError:
            return self.sockets
        return any(host in each for each in self.networks)


#: Whom sitio trusts by default with claims that it only passes on: this host, private networks
#: (RFC 1918, RFC 4193), the shared ones of RFC 6598, in which some clusters have their Pods,
#: links, and UNIX sockets.
NEIGHBOURS = Trust.of(
    (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10", UNIX),
    )
)


@frozen
class ForwardedSettings:
    """
    What requests tell of clients, and whom sitio believes.

    @ivar mode: what becomes of the claims of other proxies; one of
        L{MODES<sitio.http.claims.MODES>}.
    @ivar style: the fields by which sitio tells of its clients, and in which it reads who they
        are; one of L{STYLES<sitio.http.claims.STYLES>}.
    @ivar trusted: the proxies that the operator has named.  L{None} if none were: then
        L{NEIGHBOURS} may claim what sitio passes on, and sitio itself believes no peer.
    """

    mode: str = APPEND
    style: str = X_FORWARDED
    trusted: Trust | None = None

    @classmethod
    def ofTexts(cls, mode: str, style: str, trusted: str | None) -> ForwardedSettings:
        """
        Settings of the texts of options that were checked.

        @param trusted: as L{Trust.of} takes them, separated by commas; L{None} for the default.
        """
        words = None if trusted is None else filter(None, trusted.split(","))
        return cls(mode, style, None if words is None else Trust.of(words))

    def believes(self, address: str) -> bool:
        """
        Whether the claims of a peer pass in the mode C{append}.

        On a C{haproxy:} port the address is that of the PROXY header: a balancer that sends one
        passes what its client sends, claims included.
        """
        return (self.trusted or NEIGHBOURS).has(address)

    def clientOf(self, peer: str, lines: bytes) -> str:
        """
        The address of the client of a request.

        That is the peer, unless the operator has named it as a trusted proxy.  Then it is the
        last address in its claims that is no trusted proxy, or the first of all.  An entry
        without an address says nothing of those before it: it ends the search.

        @param peer: the address of the connection.
        @param lines: the field lines of the request as they were received, in wire form.
        """
        trusted = self.trusted
        if trusted is None or not trusted.has(peer):
            return peer
        # With both styles this one: a proxy that only knows the other would pass what its client
        # has written into this.
        key, addresses = _FOR, addressesInList
        if self.style == FORWARDED:
            key, addresses = _FORWARDED, addressesInForwarded
        value = Headers.fromLines(lines).valueOf(key)
        for claimed in islice(addresses(value or b""), MAX_PROXIES):
            if claimed is None:
                break
            peer = claimed
            if not trusted.has(peer):
                break
        return peer


def forwardedSettings(given: ForwardedSettings | str) -> ForwardedSettings:
    """These settings, or those of a mode alone."""
    return ForwardedSettings(given) if isinstance(given, str) else given
