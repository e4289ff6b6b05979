"""
Request fields in which a proxy says who its client is, and what that client has asked for.

A client can send each of them, so they are claims: as true as whoever sent them.
L{sitio.proxy.forwarding} decides which of them pass.
"""

from __future__ import annotations

from sitio.http.grammar import fieldNames

#: Modes of C{--forwarded}; L{sitio.proxy.forwarding} says what they do.
PRESERVE, APPEND, REPLACE = "preserve", "append", "replace"
MODES = (APPEND, PRESERVE, REPLACE)

#: Styles of C{--forwarded-style}: the fields by which sitio tells of its clients.
X_FORWARDED, FORWARDED, BOTH = "x-forwarded", "forwarded", "both"
STYLES = (X_FORWARDED, FORWARDED, BOTH)

FOR, PROTO, HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"

#: The claims that sitio makes itself.
OWN_FIELDS = frozenset((FOR, PROTO, HOST))

#: All claims, in lower case: those of C{OWN_FIELDS}; Forwarded (RFC 7239); others about the
#: scheme, host, port or path; others about the client's address; those about its identity.
CLAIM_FIELDS = OWN_FIELDS | fieldNames(
    "forwarded"
    " x-forwarded-hostname x-forwarded-server x-forwarded-port x-forwarded-protocol"
    " x-forwarded-scheme x-forwarded-ssl x-forwarded-prefix x-forwarded-path x-forwarded-uri"
    " x-forwarded-url x-forwarded-context x-forwarded-root x-forwarded-script-name"
    " x-forwarded-method front-end-https x-scheme x-url-scheme x-original-host"
    " x-original-proto x-original-scheme x-original-port"
    " x-original-url x-original-uri x-rewrite-url x-rewrite-uri x-envoy-original-path"
    " x-forwarded x-forwarded-by x-forwarded-client-ip forwarded-for x-original-forwarded-for"
    " x-real-ip x-real-port x-client-ip client-ip true-client-ip x-cluster-client-ip"
    " x-remote-ip x-remote-addr cf-connecting-ip cf-connecting-ipv6 fastly-client-ip"
    " fly-client-ip x-azure-clientip x-azure-socketip x-appengine-user-ip"
    " x-envoy-external-address"
    " x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-preferred-username"
    " x-forwarded-access-token x-forwarded-client-cert x-forwarded-tls-client-cert"
    " x-forwarded-tls-client-cert-info"
    " remote-user x-remote-user x-remote-group x-webauth-user x-authenticated-user"
    " x-auth-request-user x-auth-request-email x-auth-request-groups"
    " x-auth-request-preferred-username x-auth-request-access-token"
    " x-ssl-client-cert x-ssl-client-verify x-ssl-client-s-dn ssl-client-cert"
    " ssl-client-verify ssl-client-subject-dn x-client-cert client-cert client-cert-chain"
)
