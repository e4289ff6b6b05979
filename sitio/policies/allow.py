"""
C{allow}: lets only some clients in, by their certificates or addresses; all others get 403.

::

    allow:name=web.shop.example,*.till.shop.example
    allow:spiffe=spiffe\\://cluster.local/ns/shop/sa/*
    allow:subject=CN=web,O=Shop|CN=batch
    allow:network=10.0.0.0/8,192.0.2.7

Of the values of an option one is enough.  If several options are given, the client needs a
value of each.  A client without a certificate has no name, no subject and no SPIFFE id.

  - C{name}: a DNS name in the certificate.  C{*.} at its beginning stands for one label.
  - C{spiffe}: the SPIFFE id of the certificate.  C{*} stands for one whole segment of its path,
    and C{**} at its end for one or more.
  - C{subject}: attributes that the subject has, whatever else it has and in whatever order.
    C{|} separates alternatives.
  - C{network}: networks or addresses of C{exchange.clientAddress}.

The response tells whether a certificate was missing, and nothing of the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated

from zope.interface import implementer

from sitio.http.message import Response
from sitio.http.peer import PeerCertificate
from sitio.interfaces import IExchange, IRequestPolicy
from sitio.policy.kinds import Kind, Network
from sitio.policy.options import About

#: Alternatives of types and values of attributes that a subject must have.
Subjects = tuple[tuple[tuple[str, str], ...], ...]


@implementer(IRequestPolicy)
class Allow:
    """Lets only some clients in; see the module's docstring."""

    def __init__(
        self,
        names: Iterable[str] = (),
        spiffe: Iterable[str] = (),
        subjects: Subjects = (),
        networks: Iterable[IPv4Network | IPv6Network] = (),
    ) -> None:
        """
        @param names: DNS names, in small letters.
        @param spiffe: patterns of SPIFFE ids.
        @param subjects: attributes of subjects.
        @param networks: networks of clients.
        """
        self._networks = tuple(networks)
        self._tests: list[Callable[[PeerCertificate], bool]] = []
        if wanted := frozenset(names):
            self._tests.append(lambda peer: any(_hasName(wanted, each) for each in peer.dnsNames))
        if patterns := [_compiled(each) for each in spiffe]:
            self._tests.append(
                lambda peer: (
                    (id := peer.spiffe) is not None and any(each.fullmatch(id) for each in patterns)
                )
            )
        if subjects:
            self._tests.append(
                lambda peer: any(set(each) <= set(peer.attributes) for each in subjects)
            )

    def requestReceived(self, exchange: IExchange) -> Response | None:
        """Return a refusal, or L{None} if the client may come in."""
        if self._networks and not _isIn(exchange.clientAddress, self._networks):
            return _refusal("this client is not allowed")
        if self._tests:
            peer = exchange.peer
            if peer is None:
                return _refusal("a client certificate is needed")
            if not all(test(peer) for test in self._tests):
                return _refusal("this client is not allowed")
        return None


def _refusal(why: str) -> Response:
    return Response(403, text=f"403 Forbidden: {why}\n")


def _hasName(wanted: frozenset[str], name: str) -> bool:
    # A name with a star in the certificate is no name of a client.
    return "*" not in name and not wanted.isdisjoint((name, f"*.{name.partition('.')[2]}"))


def _isIn(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        # A link-local address may come with its zone.
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in each for each in networks)


_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]+(/(\*|[A-Za-z0-9._-]+))*(/\*\*)?")
_SEGMENT = "[A-Za-z0-9._-]+"


def _compiled(pattern: str) -> re.Pattern[str]:
    whole = re.escape(pattern)
    whole = whole.replace(re.escape("/**"), f"(/{_SEGMENT})+")
    return re.compile(whole.replace(re.escape("/*"), f"/{_SEGMENT}"))


def _name(text: str) -> str:
    name = text.strip().lower().rstrip(".")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not a name: write web.example, or *.example")
    return name


def _pattern(text: str) -> str:
    if not _SPIFFE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a SPIFFE id: write spiffe://DOMAIN/PATH, with * for one segment of"
            " the path, or ** for its end"
        )
    return text


def _subjects(text: str) -> Subjects:
    found = []
    for subject in text.split("|"):
        pairs = []
        for part in re.split(r"(?<!\\),", subject):
            kind, equals, value = part.strip().partition("=")
            if not (kind and equals and value):
                raise ValueError(
                    f"{part.strip()!r} is not an attribute of a subject: write CN=web,O=Shop"
                )
            pairs.append((kind.upper(), re.sub(r"\\(.)", r"\1", value)))
        found.append(tuple(pairs))
    return tuple(found)


def _written(subjects: Subjects) -> str:
    return "|".join(
        ",".join(f"{kind}={value.replace(',', chr(92) + ',')}" for kind, value in each)
        for each in subjects
    )


_Name = Annotated[str, Kind("a DNS name, or *.example", "NAME", _name, example="web.example")]
_Spiffe = Annotated[
    str, Kind("a SPIFFE id, with * for a segment", "ID", _pattern, example="spiffe://example/a/*")
]
_Subject = Annotated[
    Subjects,
    Kind("attributes of a subject", "SUBJECT", _subjects, _written, "CN=web,O=Shop|CN=batch"),
    About("attributes that the certificate's subject has, in any order"),
]


def makePolicy(
    *,
    name: Annotated[tuple[_Name, ...], About("DNS names, one of which the certificate has")] = (),
    spiffe: Annotated[
        tuple[_Spiffe, ...], About("SPIFFE ids, one of which is the certificate's")
    ] = (),
    subject: _Subject = (),
    network: Annotated[
        tuple[Network, ...], About("networks, one of which has the client's address")
    ] = (),
) -> Allow:
    """
    Let only some clients in.

    @raise ValueError: nothing is given that clients have to be.
    """
    if not (name or spiffe or subject or network):
        raise ValueError(
            "allow needs to know whom it lets in: give name=, spiffe=, subject= or network="
        )
    return Allow(name, spiffe, subject, network)
