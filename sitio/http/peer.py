"""
Whom the certificate of a client names: L{PeerCertificate}.

Contract: pure.  The certificate is one that TLS has verified.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

#: A SPIFFE id (SPIFFE-ID, section 2): a trust domain, and a path without empty segments, C{.} or
#: C{..}.
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}((/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+)?")

#: Bytes of the longest SPIFFE id (SPIFFE-ID, section 2.3).
MAX_SPIFFE = 2048


@frozen
class PeerCertificate:
    """
    The client at the other end of a connection by TLS, as its certificate names it.

    @ivar subject: as RFC 4514 writes it, such as C{CN=web,O=Shop}; it may be empty.
    @ivar attributes: the types and values in the subject, such as C{("CN", "web")}.
    @ivar dnsNames: the names of hosts in it, in small letters.
    @ivar uris: the URIs in it.
    @ivar spiffe: its SPIFFE id; L{None} if it has none, or more than one URI (X509-SVID,
        section 2).
    @ivar fingerprint: the SHA-256 of the certificate, in small hexadecimal digits.
    """

    subject: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    dnsNames: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    spiffe: str | None = None
    fingerprint: str = ""


def spiffeOf(uris: tuple[str, ...]) -> str | None:
    """The SPIFFE id among the URIs of a certificate, or L{None}."""
    if len(uris) != 1 or len(uris[0]) > MAX_SPIFFE or _SPIFFE.fullmatch(uris[0]) is None:
        return None
    return uris[0]


def peerOf(certificate: Any) -> PeerCertificate:
    """
    What a certificate says.

    @param certificate: a C{Certificate} of C{cryptography.x509}.

    @raise ValueError: it can't be read.
    """
    # Imported here, as it takes memory; with TLS it is loaded already.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    names: list[str] = []
    uris: list[str] = []
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
        uris = found.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        pass
    return PeerCertificate(
        certificate.subject.rfc4514_string(),
        tuple((each.rfc4514_attribute_name, str(each.value)) for each in certificate.subject),
        tuple(each.lower() for each in names),
        tuple(uris),
        spiffeOf(tuple(uris)),
        certificate.fingerprint(hashes.SHA256()).hex(),
    )
