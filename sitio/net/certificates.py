"""
Certificates and keys from files: L{readIdentity} and L{readAuthorities}.

Each mistake is one sentence that names the file.  Keys never show up in it.

Contract: reads the files that it is given; the time is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from sitio.net.tlssettings import KeyPair

#: Bytes of the longest file: more is taken for a mistake.  The authorities of a system have a
#: quarter of that.
MAX_FILE_BYTES = 1024 * 1024

#: Seconds before the end of a certificate from which sitio warns, and the part of its time
#: from which it does so at the earliest: some are replaced each day.
WARN_SECONDS = 14 * 86400.0
WARN_SHARE = 0.2

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class BadTLSFiles(ValueError):
    """A certificate or a key can't be used; the message is a sentence."""


@frozen(eq=False)
class Identity:
    """
    A certificate with its key.

    @ivar files: where it comes from.
    @ivar chain: the certificate, then those that have signed each other.
    @ivar key: the private key.
    """

    files: KeyPair
    chain: tuple[x509.Certificate, ...]
    key: Any = field(repr=False)

    @property
    def subject(self) -> str:
        """Whose it is: C{CN=localhost}; the first name if the subject is empty."""
        return subjectOf(self.chain[0])

    @property
    def serial(self) -> str:
        """The serial number, as C{openssl x509 -serial} writes it."""
        return f"{self.chain[0].serial_number:X}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it is for, in small letters; some begin with C{*.}."""
        return tuple(each.lower() for each in namesOf(self.chain[0]))

    @property
    def begins(self) -> float:
        """The time from which it is valid, in seconds since 1970."""
        return self.chain[0].not_valid_before_utc.timestamp()

    @property
    def ends(self) -> float:
        """The time at which the first certificate of the chain ends."""
        return min(each.not_valid_after_utc.timestamp() for each in self.chain)

    def isValid(self, now: float) -> bool:
        """Whether its time has begun and is not over."""
        return self.begins <= now < self.ends

    def warning(self, now: float) -> str | None:
        """What is wrong with its time, as a clause, or L{None}."""
        if now < self.begins:
            return f"the certificate {self.subject} is not valid before {written(self.begins)}"
        left = self.ends - now
        if left <= 0:
            return f"the certificate {self.subject} has expired at {written(self.ends)}"
        if left < min(WARN_SECONDS, WARN_SHARE * (self.ends - self.begins)):
            return f"the certificate {self.subject} expires in {_span(left)}"
        return None


def written(seconds: float) -> str:
    """A time as in C{2026-11-30T17:22:13Z}."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} seconds"


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def namesOf(certificate: x509.Certificate) -> list[str]:
    """
    The names of hosts for which a certificate is; its common name if it has no alternative
    names at all.
    """
    found = _alternatives(certificate)
    if found is not None:
        return found.get_values_for_type(x509.DNSName)
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [str(each.value) for each in common]


def urisOf(certificate: x509.Certificate) -> list[str]:
    """The URIs of a certificate, such as a SPIFFE id."""
    found = _alternatives(certificate)
    return [] if found is None else found.get_values_for_type(x509.UniformResourceIdentifier)


def subjectOf(certificate: x509.Certificate) -> str:
    """The subject of a certificate (RFC 4514); its first name or URI if that is empty."""
    subject = certificate.subject.rfc4514_string()
    return subject or next(iter((*namesOf(certificate), *urisOf(certificate))), "without a name")


def _read(path: str, what: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadTLSFiles(f"can't read the {what} {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadTLSFiles(f"the {what} {path} has more than {MAX_FILE_BYTES} bytes")
    return data


def _certificatesIn(path: str, what: str) -> tuple[x509.Certificate, ...]:
    data = _read(path, what)
    if _CERTIFICATE not in data:
        raise BadTLSFiles(f"{path} holds no certificate in PEM format")
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        raise BadTLSFiles(f"a certificate in {path} is damaged") from None


def _keyIn(path: str) -> Any:
    found = _KEY.search(_read(path, "key"))
    if found is None:
        raise BadTLSFiles(f"{path} holds no private key in PEM format")
    if b"ENCRYPTED" in found[0]:
        raise BadTLSFiles(
            f"the key in {path} has a password, for which sitio can't ask: write it without one,"
            " as openssl pkey does"
        )
    try:
        return load_pem_private_key(found[0], None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise BadTLSFiles(f"the key in {path} is damaged, or of a kind that is unknown") from None


def _publicBytes(key: Any) -> bytes:
    public: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public


def _checkKey(files: KeyPair, chain: Sequence[x509.Certificate], key: Any) -> None:
    own = _publicBytes(key.public_key())
    places = [n for n, each in enumerate(chain, 1) if _publicBytes(each.public_key()) == own]
    if not places:
        raise BadTLSFiles(
            f"the key in {files.key} does not belong to the certificate in {files.certificate}"
        )
    if places[0] != 1:
        raise BadTLSFiles(
            f"the certificate of the key must come first in {files.certificate}; it is number"
            f" {places[0]}"
        )


def _checkOrder(path: str, chain: Sequence[x509.Certificate]) -> None:
    for number, (signed, signer) in enumerate(pairwise(chain), 2):
        try:
            signed.verify_directly_issued_by(signer)
        except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
            raise BadTLSFiles(
                f"the certificates in {path} are not in order: number {number}"
                f" ({subjectOf(signer)}) has not signed the one before it"
            ) from None


def readIdentity(files: KeyPair) -> Identity:
    """
    Read a certificate and its key.

    Whether its time is over is not checked: see L{Identity.warning}.

    @raise BadTLSFiles: a file can't be read or used, the key is not that of the certificate, or
        the certificates are not in order.
    """
    chain = _certificatesIn(files.certificate, "certificate")
    key = _keyIn(files.key)
    try:
        _checkKey(files, chain, key)
        _checkOrder(files.certificate, chain)
        found = Identity(files, chain, key)
        # Not all can be read: that is found out here, and not within a handshake.
        _ = found.names, found.subject, found.ends
        return found
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, BadTLSFiles):
            raise
        # Such as a public key or an extension of which nothing can be made.
        raise BadTLSFiles(f"a certificate in {files.certificate} can't be used") from None


def readAuthorities(path: str) -> tuple[x509.Certificate, ...]:
    """
    Read the certificates of authorities.

    @raise BadTLSFiles: the file can't be read, or holds no certificate.
    """
    return _certificatesIn(path, "file of authorities")
