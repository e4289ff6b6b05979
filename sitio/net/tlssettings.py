"""
The settings of TLS, as plain values: L{ServerTLS} for a port, L{ClientTLS} for an upstream.

Settings that are equal make the same TLS of the same files.  Nothing is read here:
L{sitio.net.certificates} reads the files, and L{sitio.net.tlsfiles} reads them again when they
change.

Contract: pure.  OpenSSL is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import field, frozen

#: The versions of TLS that may be the oldest.
VERSIONS = ("1.2", "1.3")

#: What a port asks of clients that have a certificate to show.
REQUIRED = "required"  # a client without a certificate is refused
OPTIONAL = "optional"  # it may have none
NONE = "none"  # certificates are not asked for
CLIENT_CERTIFICATES = (REQUIRED, OPTIONAL, NONE)


def _path(value: Any) -> str:
    return "" if value is None else str(value)


def _optional(value: Any) -> str | None:
    return _path(value) or None


def _named(instance: Any, attribute: Any, value: str) -> None:
    if not value or "\0" in value:
        raise ValueError(f"TLS needs the name of a file as its {attribute.alias}, not {value!r}")


def _oneOf(*words: str) -> Any:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        if value not in words:
            raise ValueError(f"{attribute.alias} is {' or '.join(words)}, not {value!r}")

    return check


@frozen
class KeyPair:
    """
    The files of a certificate and of its key.

    @ivar certificate: a file in PEM format: the certificate, then the one that has signed it,
        and so on.
    @ivar key: a file in PEM format with the private key, without a password.  It may be the
        same file.
    """

    certificate: str = field(converter=_path, validator=_named)
    key: str = field(converter=_path, validator=_named)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Both files."""
        return Path(self.certificate), Path(self.key)


def _pairs(values: Iterable[Any]) -> tuple[KeyPair, ...]:
    return tuple(each if isinstance(each, KeyPair) else KeyPair(*each) for each in values)


@frozen
class ServerTLS:
    """
    TLS of a port.

    @ivar certificate: see L{KeyPair}.
    @ivar key: see L{KeyPair}.
    @ivar more: further certificates.  A client that asks for a name gets the first certificate
        that has the name, and the one above if none has.
    @ivar clientCA: a file in PEM format with the authorities that sign certificates of
        clients; L{None} if clients are not asked for one.
    @ivar clientCertificate: one of L{CLIENT_CERTIFICATES}; by default L{REQUIRED} if there is a
        C{clientCA}, else L{NONE}.
    @ivar minimum: the oldest version of TLS; one of L{VERSIONS}.

    @raise ValueError: a value is wrong, in a sentence.
    """

    certificate: str = field(converter=_path, validator=_named)
    key: str = field(converter=_path, validator=_named)
    clientCA: str | None = field(default=None, converter=_optional)
    clientCertificate: str = field(validator=_oneOf(*CLIENT_CERTIFICATES))
    minimum: str = field(default="1.2", validator=_oneOf(*VERSIONS))
    more: tuple[KeyPair, ...] = field(default=(), converter=_pairs)

    @clientCertificate.default
    def _defaultClientCertificate(self) -> str:
        return REQUIRED if self.clientCA else NONE

    def __attrs_post_init__(self) -> None:
        if self.clientCA is None and self.clientCertificate != NONE:
            raise ValueError(
                "certificates of clients need the file of the authorities that sign them:"
                " set client-ca"
            )

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """All certificates; the first is the default."""
        return KeyPair(self.certificate, self.key), *self.more

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        own = [path for each in self.pairs for path in each.paths]
        return (*own, Path(self.clientCA)) if self.clientCA else tuple(own)


@frozen
class ClientTLS:
    """
    TLS to an upstream.

    @ivar verify: whether the certificate of the upstream must be trusted, and be for its name.
    @ivar ca: a file in PEM format with the authorities that are trusted; L{None} for those of
        the system.
    @ivar name: the name that is asked for by SNI, and that the certificate must have; L{None}
        for the host that sitio connects to.
    @ivar certificate: the certificate that sitio shows; see L{KeyPair}.  L{None} for none.
    @ivar key: its key.
    @ivar minimum: the oldest version of TLS; one of L{VERSIONS}.

    @raise ValueError: a value is wrong, in a sentence.
    """

    verify: bool = True
    ca: str | None = field(default=None, converter=_optional)
    name: str | None = None
    certificate: str | None = field(default=None, converter=_optional)
    key: str | None = field(default=None, converter=_optional)
    minimum: str = field(default="1.2", validator=_oneOf(*VERSIONS))

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ValueError(f"the {given} for the upstream needs its {missing}, too")
        if self.ca is not None and not self.verify:
            raise ValueError(
                "ca names the authorities that are trusted, but verify = false trusts anyone:"
                " leave one of both out"
            )

    @property
    def pair(self) -> KeyPair | None:
        """The certificate that sitio shows, if there is one."""
        if self.certificate is None or self.key is None:
            return None
        return KeyPair(self.certificate, self.key)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        own = () if self.pair is None else self.pair.paths
        return (*own, Path(self.ca)) if self.ca else own
