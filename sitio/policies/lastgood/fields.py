"""
The request fields that say nothing about who asks: L{IMPERSONAL_FIELDS} and
L{KEYED_FIELDS}.

A list of fields that identify a client can't be complete: each gateway, framework and
company has names of its own.  So this is the list of those that do not.  A request with any
other field is taken for personal.

Names are in lower case, with hyphens.  CGI and WSGI read C{X_Forwarded_Host} as
C{X-Forwarded-Host}; such a twin is not in the lists, so it makes a request personal, too.
"""

from __future__ import annotations

from sitio.http.grammar import fieldNames

#: What each client sends (RFC 9110, sections 5 to 14; RFC 9111; RFC 8470; RFC 9218).
_OF_HTTP = fieldNames(
    "host accept accept-charset accept-encoding accept-language user-agent"
    " referer cache-control pragma range if-match if-modified-since if-none-match if-range"
    " if-unmodified-since content-length content-type date dnt early-data expect max-forwards"
    " priority te upgrade-insecure-requests via want-content-digest want-digest"
    " want-repr-digest access-control-request-headers access-control-request-method"
)

#: What browsers tell about themselves.  See also L{IMPERSONAL_PREFIXES}.  Of the Sec fields
#: not all are here: Sec-WebSocket-Protocol, Sec-Token-Binding and others hold credentials.
_OF_BROWSERS = fieldNames(
    "alt-used content-dpr device-memory downlink dpr ect purpose rtt save-data sec-gpc"
    " sec-purpose service-worker service-worker-navigation-preload viewport-width width"
    " x-moz x-purpose"
)

#: Names of requests and traces: each request has another.  Not C{baggage}, which holds what
#: a service puts there (W3C Baggage), such as the name of a user.
_OF_TRACING = fieldNames(
    "b3 correlation-id elastic-apm-traceparent grpc-trace-bin newrelic request-id sentry-trace"
    " traceparent tracestate uber-trace-id x-amz-cf-id x-amzn-trace-id x-appgw-trace-id"
    " x-arr-log-id x-azure-ref x-b3-flags x-b3-parentspanid x-b3-sampled x-b3-spanid"
    " x-b3-traceid x-cloud-trace-context x-correlation-id x-datadog-origin"
    " x-datadog-parent-id x-datadog-sampling-priority x-datadog-tags x-datadog-trace-id"
    " x-ot-span-context x-queue-start x-request-id x-request-start x-span-id x-trace-id"
    " x-transaction-id"
)

#: What proxies and content delivery networks tell of a request's way.  A response that
#: depends on the client's address has a Vary, or it is for whoever has the network's access.
_OF_PROXIES = fieldNames(
    "cdn-loop cf-connecting-ip cf-connecting-ipv6 cf-ipcountry cf-ray cf-visitor cf-warp-tag-id"
    " fastly-client-ip fastly-ff forwarded-for true-client-ip x-client-ip x-cluster-client-ip"
    " x-envoy-attempt-count x-envoy-expected-rq-timeout-ms x-envoy-external-address"
    " x-envoy-internal x-forwarded-for x-original-forwarded-for x-real-ip x-varnish"
)

#: Fields that tell the service another host, scheme, port or folder than those of the
#: request, or that change what it answers and are seldom named in a Vary.  They are a part
#: of the key, with the values that the upstream gets.
KEYED_FIELDS = fieldNames(
    "a-im accept-datetime forwarded origin prefer x-forwarded-host x-forwarded-port"
    " x-forwarded-prefix x-forwarded-proto x-requested-with"
)

#: All of them.
IMPERSONAL_FIELDS = _OF_HTTP | _OF_BROWSERS | _OF_TRACING | _OF_PROXIES | KEYED_FIELDS

#: Beginnings of the names of more such fields: client hints, and the metadata of fetches.
#: Scripts can't set them, and browsers get new ones each year.
IMPERSONAL_PREFIXES = (b"sec-ch-", b"sec-fetch-")
