"""
Which fields of an error response belong to the message, and which to its representation.

A proxy that replaces the body of an error replaces the representation: its type, length,
encoding, validators, ranges and digests (RFC 9110, sections 8 and 14).  What remains is the
message: why the status was sent and what to do next, to whom and how long it applies, whether
a script may read it, and where to find it in logs.  Fields that are in no table here describe
the service, or nobody knows what they describe.
"""

from __future__ import annotations

from sitio.http.grammar import fieldNames

#: What the status means, and what to do next: challenges and nonces (RFC 9110, section 11;
#: RFC 9449, section 8; RFC 8555, section 6.5), the context of the response (section 10.2), what
#: the resource accepts instead (sections 12.5 and 15.5.16; RFC 5789, section 3.1), versions and
#: limits of protocols (RFC 6455, section 4.4), quotas, and the end of an API (RFC 9745).
MEANING = fieldNames(
    "allow location retry-after retry-after-ms x-ms-retry-after-ms x-retry-after warning"
    " www-authenticate proxy-authenticate authentication-info proxy-authentication-info"
    " dpop-nonce replay-nonce oauth-client-attestation-challenge secure-session-challenge"
    " sec-session-challenge accept accept-encoding accept-patch accept-post accept-query"
    " accept-signature accept-ch want-content-digest want-repr-digest"
    " critical-ch optional-www-authenticate authentication-control cf-mitigated"
    " x-sentry-rate-limits docker-distribution-api-version"
    " sec-websocket-version dav mqtt-version deprecation sunset api-supported-versions"
    " api-deprecated-versions payment-required payment-response grpc-status grpc-message"
    " grpc-status-details-bin x-error-code x-ms-error-code"
)

#: For whom, and for how long, the status is valid (RFC 9111, section 5; RFC 9211; RFC 9213).
CACHING = fieldNames(
    "age cache-control cache-status cache-tag cdn-cache-control expires pragma surrogate-control"
    " surrogate-key vary xkey"
)

#: What the client keeps, and what it may do with the response: cookies and policies of the
#: origin.  Without Content-Security-Policy, which fits the replaced page.
ORIGIN = fieldNames(
    "alt-svc clear-site-data cross-origin-embedder-policy cross-origin-opener-policy"
    " cross-origin-resource-policy nel origin-agent-cluster permissions-policy referrer-policy"
    " report-to reporting-endpoints set-cookie set-login strict-transport-security"
    " timing-allow-origin x-content-type-options x-frame-options x-robots-tag"
)

#: Which request this was, and who handled it, for logs and traces (RFC 9209; Trace Context).
TRACING = fieldNames(
    "cf-ray correlation-id proxy-status request-context request-id server-timing trace-id"
    " akamai-grn fly-request-id x-amz-cf-id x-azure-ref x-vercel-id"
    " traceparent traceresponse tracestate uber-trace-id via x-amz-id-2 x-amz-request-id"
    " x-amzn-requestid x-amzn-trace-id x-cloud-trace-context x-correlation-id x-github-request-id"
    " x-goog-request-id x-ms-correlation-request-id x-ms-request-id x-request-id x-requestid"
    " x-trace-id x-transaction-id"
)

_MESSAGE = MEANING | CACHING | ORIGIN | TRACING

#: Families of such fields: CORS, quotas, resumable uploads, targeted caching, traces.
FAMILIES = (
    b"access-control-",
    b"ratelimit",
    b"x-ratelimit-",
    b"x-rate-limit-",
    b"tus-",
    b"upload-",
    b"x-b3-",
)

#: Fields that mean something with one status only: the length of what has no such range
#: (RFC 9110, section 15.5.17), and who demands that something is blocked (RFC 7725, section 4).
FOR_STATUS = {b"content-range": 416, b"link": 451}

#: Fields that the new representation has itself, or that would be wrong beside it.
REPLACED = fieldNames(
    "content-digest content-encoding content-language content-length content-md5 content-type"
    " date digest repr-digest server signature signature-input trailer"
)

#: Fields about the old representation, which may be wanted all the same.
REPRESENTATION = REPLACED | fieldNames(
    "accept-ranges content-disposition content-location content-range content-security-policy"
    " content-security-policy-report-only etag last-modified link refresh sourcemap"
)


def isOfMessage(name: bytes, status: int) -> bool:
    """
    Whether a field belongs to a message with this status, and not to its representation.

    @param name: in lower case.
    """
    if name in _MESSAGE or name.startswith(FAMILIES):
        return True
    if name in FOR_STATUS:
        return FOR_STATUS[name] == status
    return name.endswith(b"-cache-control")
