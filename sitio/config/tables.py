"""
The tables of a configuration that most do without: TLS, health checks, and the like.

They are imported only if there is a file.

Contract: pure.
"""

from __future__ import annotations

from attrs import frozen

from sitio.config import kinds
from sitio.config.keys import entry, limitOf, place, table


@frozen
class CertificateConfig:
    """A certificate and its key."""

    certificate: str = entry(
        kinds.FILE, "PEM file with the certificate and its chain", example='"tls.crt"'
    )
    key: str = entry(kinds.FILE, "PEM file with the private key", example='"tls.key"')
    place: str = place()


@frozen
class ListenerTLSConfig:
    """TLS for clients.  The files are read again when they change."""

    certificate: str = entry(
        kinds.FILE, "PEM file with the certificate and its chain", example='"tls.crt"'
    )
    key: str = entry(kinds.FILE, "PEM file with the private key", example='"tls.key"')
    clientCa: str | None = entry(
        kinds.FILE,
        "PEM file with the authorities of clients' certificates (mutual TLS)",
        None,
        example='"ca.crt"',
    )
    clientCertificate: str | None = entry(
        kinds.choice("required", "optional"),
        "whether a client needs a certificate; required if there is a client-ca",
        None,
        example='"optional"',
    )
    minimum: str = entry(kinds.choice("1.2", "1.3"), "lowest version of TLS", "1.2")
    more: tuple[CertificateConfig, ...] = table(
        "more certificates, chosen by the name that the client asks for (SNI)", ()
    )
    place: str = place()

    @property
    def asksForCertificate(self) -> str | None:
        """C{required}, C{optional}, or L{None} if clients are not asked for a certificate."""
        return self.clientCertificate or ("required" if self.clientCa else None)

    @property
    def certificates(self) -> tuple[CertificateConfig, ...]:
        """All certificates; the first is for clients that ask for no name."""
        first = CertificateConfig(self.certificate, self.key, place=self.place)
        return (first, *self.more)


@frozen
class UpstreamTLSConfig:
    """TLS to the upstream.  The files are read again when they change."""

    verify: bool = entry(kinds.FLAG, "whether the certificate of the service is verified", True)
    ca: str | None = entry(
        kinds.FILE,
        "PEM file with the authorities to trust; without it, those of the system",
        None,
        example='"ca.crt"',
    )
    name: str | None = entry(
        kinds.HOSTNAME,
        "name in the certificate, and in SNI; without it, the host of the address",
        None,
        example='"api.example"',
    )
    certificate: str | None = entry(
        kinds.FILE, "PEM file with sitio's own certificate (mutual TLS)", None, example='"me.crt"'
    )
    key: str | None = entry(kinds.FILE, "PEM file with its private key", None, example='"me.key"')
    minimum: str = entry(kinds.choice("1.2", "1.3"), "lowest version of TLS", "1.2")
    place: str = place()


@frozen
class HealthConfig:
    """Active health checks: requests of sitio to each endpoint."""

    path: str = entry(kinds.PATH, "path to request", example='"/healthz"')
    interval: float = entry(kinds.seconds(), "time between two checks", 2.0)
    timeout: float = entry(kinds.seconds(), "longest time for an answer", 1.0)
    healthy: int = entry(kinds.count(1, 1000), "good checks in a row after which it is used", 2)
    unhealthy: int = entry(kinds.count(1, 1000), "bad checks in a row after which it is not", 3)
    place: str = place()


@frozen
class EjectionConfig:
    """Passive ejection: an endpoint that fails requests gets none for a while."""

    consecutive: int = entry(
        kinds.count(0, 1_000_000), "failures in a row, 5xx and failed connections; 0 for never", 5
    )
    time: float = entry(
        kinds.seconds(), "how long the first ejection lasts; the second lasts twice as long", 30.0
    )
    maxTime: float = entry(kinds.seconds(), "how long an ejection lasts at most", 300.0)
    maxShare: float = entry(kinds.SHARE, "largest share of endpoints that may be ejected", 0.5)
    panic: float = entry(
        kinds.SHARE, "share of healthy endpoints below which all of them are used", 0.3
    )
    place: str = place()


@frozen
class RetriesConfig:
    """Retries within a budget, before the first byte of a response, at another endpoint."""

    budget: float = entry(kinds.SHARE, "retries as a share of the requests", 0.2)
    minimum: float = entry(
        kinds.WEIGHT, "retries per second that are allowed however few requests there are", 1.0
    )
    attempts: int = entry(kinds.count(1, 10), "attempts of one request, the first included", 3)
    perTryTimeout: float | None = entry(
        kinds.seconds(), "longest time for one attempt", None, example='"2s"'
    )
    hedgeAfter: float | None = entry(
        kinds.seconds(),
        "time after which a second attempt runs beside the first; the first answer counts",
        None,
        example='"500ms"',
    )
    place: str = place()


@frozen
class ResolveConfig:
    """How the names of an upstream are looked up."""

    floor: float = entry(kinds.seconds(), "shortest time between two look-ups", 1.0)
    ceiling: float = entry(kinds.seconds(), "longest time between two look-ups", 60.0)
    servers: tuple[str, ...] = entry(
        kinds.several(kinds.SERVER, "addresses of DNS servers such as 10.0.0.10"),
        "DNS servers to ask; without it, those of the system",
        (),
        example='["10.0.0.10"]',
    )
    place: str = place()


@frozen
class RouteLimits:
    """Limits and timeouts of one route, in place of those of all routes."""

    responseTimeout: float | None = limitOf("responseTimeout")
    stallTimeout: float | None = limitOf("stallTimeout")
    policyTimeout: float | None = limitOf("policyTimeout")
    maxBody: int | None = limitOf("maxBody")
    bufferLimit: int | None = limitOf("bufferLimit")
    requestBufferLimit: int | None = limitOf("requestBufferLimit")
    replayLimit: int | None = limitOf("replayLimit")
