"""
Certificates of an authority for tests, by trustme: L{Authority}.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sitio.net.tlssettings import KeyPair


def fromNow(**span: float) -> datetime:
    """The time in this span: C{fromNow(days=3)}."""
    return datetime.now(UTC) + timedelta(**span)


class Authority:
    """
    An authority that writes the certificates that it signs into a folder.

    @ivar folder: that folder.
    @ivar file: the certificate of the authority itself.
    """

    def __init__(self, folder: Path, name: str = "ca", parent: Authority | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ca: trustme.CA = trustme.CA() if parent is None else parent.ca.create_child_ca()
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.ca.cert_pem.bytes())

    def issue(
        self,
        name: str,
        *hosts: str,
        commonName: str | None = None,
        begins: datetime | None = None,
        ends: datetime | None = None,
    ) -> KeyPair:
        """
        Write C{NAME.crt} and C{NAME.key}.

        @param hosts: the names and addresses that the certificate is for.
        """
        issued = self.ca.issue_cert(
            *hosts, common_name=commonName, not_before=begins, not_after=ends
        )
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        return self.write(name, chain, issued.private_key_pem.bytes())

    def issueURIs(self, name: str, *uris: str, commonName: str = "", key: Any = None) -> KeyPair:
        """The same for a certificate of URIs, or of a common name alone: trustme makes none."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        signer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        signing = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, commonName)] if commonName else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(signer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(fromNow(hours=-1))
            .not_valid_after(fromNow(hours=1))
        )
        if uris:
            names = x509.SubjectAlternativeName(list(map(x509.UniformResourceIdentifier, uris)))
            builder = builder.add_extension(names, critical=not subject)
        certificate = builder.sign(signing, hashes.SHA256())  # type: ignore[arg-type]
        return self.write(
            name,
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def write(self, name: str, certificate: bytes, key: bytes) -> KeyPair:
        """Write a certificate and a key."""
        files = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        for path, data in zip(files.paths, (certificate, key)):
            path.write_bytes(data)
        return files


def joined(path: Path, parts: Iterable[Path]) -> Path:
    """Write the content of several files into one."""
    path.write_bytes(b"".join(each.read_bytes() for each in parts))
    return path
