"""
Tests of L{sitio.policies.lastgood.fields} and L{sitio.policies.lastgood.lookup}, through the
policy that uses them.
"""

from __future__ import annotations

from sitio.http.overrides import OVERRIDE_FIELDS
from sitio.policies.lastgood.fields import IMPERSONAL_FIELDS, KEYED_FIELDS
from sitio.policies.lastgood.lookup import MAX_LIST_BYTES, MAX_LISTS
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import FakeExchange, exchangeFor, upstreamResponse
from sitio.testing import readRequests


def wordsOf(text: str) -> list[str]:
    """The words of a table."""
    return text.split()


#: Fields in which clients, gateways and frameworks say who asks.
CREDENTIALS = wordsOf(
    """
    Authorization Cookie Cookie2 Proxy-Authorization Authentication Auth Token Access-Token
    X-Token X-Auth X-Auth-Token X-Access-Token X-Session X-Session-Id X-Session-Token Session
    apikey Api-Key X-Api-Key X-Apikey X-Api-Token X-App-Key X-Client-Secret X-Secret
    Private-Token Job-Token Deploy-Token X-GitHub-Token X-Gitlab-Token X-Vault-Token
    X-Consul-Token X-Shopify-Access-Token X-CSRF-Token X-XSRF-Token X-Amz-Security-Token
    X-Amz-Date X-Goog-Api-Key X-Goog-Iap-Jwt-Assertion X-Goog-Authenticated-User-Email
    Ocp-Apim-Subscription-Key X-Functions-Key X-Ms-Client-Principal X-Ms-Client-Principal-Name
    X-Ms-Token-Aad-Id-Token X-Amzn-Oidc-Data X-Amzn-Oidc-Identity X-Amzn-Mtls-Clientcert
    Cf-Access-Jwt-Assertion Cf-Access-Authenticated-User-Email Cf-Access-Client-Id
    CF-Access-Client-Secret X-WebAuth-User X-WebAuth-Email Remote-User X-Remote-User
    Remote-Email X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Access-Token
    X-Forwarded-Preferred-Username X-Auth-Request-User X-Auth-Request-Email X-authentik-username
    X-Pomerium-Jwt-Assertion X-Tailscale-User Tailscale-User-Login X-User X-User-Id X-Username
    X-Email From X-Account X-Account-Id X-Customer-Id X-Tenant-Id X-Org-Id Client-Cert
    Client-Cert-Chain X-Client-Cert X-Ssl-Client-Cert X-Ssl-Client-S-Dn X-Forwarded-Client-Cert
    X-Forwarded-Tls-Client-Cert DPoP Signature Signature-Input Sec-WebSocket-Protocol
    Sec-Token-Binding Sec-Private-State-Token Sec-Session-Response Sec-Browsing-Topics Baggage
    X-Parse-Session-Token X-Discourse-Auth X-Plex-Token X-Redmine-Api-Key X-Figma-Token
    X-Wp-Nonce Grpc-Metadata-Authorization Last-Event-Id X-Device-Id X-Fingerprint X-Uidh
    X-Impersonate-User Impersonate-User X-Act-As Sudo X-Hasura-Role X-Unheard-Of
    """
)

#: Fields that say nothing about who asks.
IMPERSONAL = wordsOf(
    """
    Accept Accept-Charset Accept-Encoding Accept-Language User-Agent Referer
    Cache-Control Pragma Range If-Match If-None-Match If-Modified-Since If-Unmodified-Since
    If-Range Date DNT Expect Max-Forwards Via Priority Purpose Save-Data Early-Data
    Upgrade-Insecure-Requests Content-Type Device-Memory DPR Viewport-Width Downlink ECT RTT
    Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-CH-UA-Full-Version-List
    Sec-CH-Prefers-Color-Scheme Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User
    Sec-GPC Sec-Purpose Service-Worker traceparent tracestate b3 X-B3-TraceId X-B3-SpanId
    X-B3-Sampled uber-trace-id X-Request-Id X-Correlation-Id Request-Id X-Trace-Id
    X-Amzn-Trace-Id X-Cloud-Trace-Context X-Datadog-Trace-Id sentry-trace X-Request-Start
    X-Forwarded-For X-Real-IP X-Client-IP True-Client-IP CF-Connecting-IP CF-Ray CF-Visitor
    CDN-Loop X-Envoy-External-Address X-Cluster-Client-IP
    """
)

#: Fields that a client can send to get something else than it asks for.
OVERRIDES = wordsOf(
    """
    X-Original-URI X-Original-URL X-Rewrite-URL X-HTTP-Method X-HTTP-Method-Override
    X-Method-Override X-Forwarded-Scheme X-Forwarded-Ssl X-Forwarded-Server X-Original-Host
    X-Script-Name X-Host Front-End-Https X-Forwarded-Uri
    """
)

KEYED = [each.decode() for each in sorted(KEYED_FIELDS)]


def asking(*lines: tuple[str, str]) -> FakeExchange:
    """An exchange for a request with these lines, their names as they are."""
    exchange = exchangeFor()
    for line in lines:
        exchange.request.headers.add(*line)
    return exchange


def spellings(name: str) -> set[str]:
    """The name in several cases."""
    return {name, name.lower(), name.upper(), name.title(), name.swapcase()}


def twins(name: str) -> set[str]:
    """Names that CGI reads as the same one."""
    return {name.replace("-", "_"), name.replace("-", "_", 1), name.replace("-", ".")} - {name}


class TwoClientsTests(LastGoodTestCase):
    """Two clients, one mask: what one got is shown to the other only if it is for all."""

    def isKept(self, *lines: tuple[str, str]) -> bool:
        """Whether the response to a request with these lines is stored."""
        self.make(impersonal=frozenset())
        self.response(asking(*lines), upstreamResponse(200, body=b"good"))
        return self.policy.size > 0

    def isMasked(self, *lines: tuple[str, str]) -> bool:
        """Whether a request with these lines gets what one without them has got."""
        self.make(impersonal=frozenset())
        self.keep()
        failed = self.response(asking(*lines), upstreamResponse(503, body=b"bad"))
        return failed.status != 503

    def test_credentials(self) -> None:
        """
        The response to a request with a field that is not known to be impersonal is neither
        stored, nor is such a request masked, in any spelling and at any place.
        """
        self.assertGreaterEqual(len(CREDENTIALS), 60)
        for name in CREDENTIALS:
            for each in spellings(name) | twins(name):
                for lines in ([(each, "me")], [(each, "me"), ("Accept", "*/*")]):
                    self.assertFalse(self.isKept(*lines), each)
                    self.assertFalse(self.isMasked(*lines), each)
            # A value that looks like none counts as well.
            self.assertFalse(self.isKept((name, "")), name)

    def test_impersonal(self) -> None:
        """A request with fields that say nothing about its client is stored and masked."""
        for name in IMPERSONAL:
            for each in spellings(name):
                self.assertTrue(self.isKept((each, "1")), each)
            if name not in ("If-Match", "If-Unmodified-Since"):
                self.assertTrue(self.isMasked((name, "1")), name)
            for each in twins(name):
                self.assertFalse(self.isKept((each, "1")), each)

    def test_browser(self) -> None:
        """What a browser sends without cookies is impersonal."""
        lines = [(each, "x") for each in IMPERSONAL if not each.startswith("If-")]
        self.assertTrue(self.isKept(*lines))

    def test_connection(self) -> None:
        """Fields about the connection, which are not forwarded, say nothing about who asks."""
        for line in ("Connection: keep-alive", "Connection: TE\r\nTE: trailers", "Keep-Alive: 5"):
            self.make()
            [asked] = readRequests(f"GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n".encode())
            self.response(FakeExchange(asked), upstreamResponse(200))
            self.assertGreater(self.policy.size, 0, line)

    def test_twins(self) -> None:
        """
        A field that CGI takes for another one makes a request unfit, even if the response is
        public: the service may obey it, though neither the key nor Vary has it.
        """
        for name in (*KEYED, *IMPERSONAL, "X-Unheard-Of"):
            for each in twins(name):
                for said in ("public", "private", "max-age=60"):
                    self.make()
                    response = upstreamResponse(200, ("Cache-Control", said))
                    self.response(asking((each, "1")), response)
                    self.assertEqual(self.policy.size, 0, each)
                self.keep(("Cache-Control", "public"))
                failed = self.response(asking((each, "1")), upstreamResponse(503, body=b"bad"))
                self.assertNotMasked(failed)

    def test_manyNames(self) -> None:
        """The lists of names that are remembered are bounded, as each is; each is judged."""
        for n in range(2 * MAX_LISTS):
            self.response(asking((f"X-Field-{n}", "1")), upstreamResponse(200))
            self.response(asking((f"X-Field-{n}" * 150, "1")), upstreamResponse(200))
            self.assertEqual(self.policy.size, 0)
        uses = self.policy._rules._uses
        self.assertLessEqual(len(uses), MAX_LISTS)
        self.assertLessEqual(max(map(len, uses)), MAX_LIST_BYTES)
        self.keep()
        self.assertMasked(self.failed())

    def test_listsOfNames(self) -> None:
        """Requests with the same names, in another order, number or spelling, are judged alike."""
        for lines, isKept in (
            (["Accept", "A"], True),
            (["A", "Accept"], True),
            (["A", "A", "Accept"], True),
            (["A", "Token"], False),
            (["Token", "A"], False),
            (["A", "TOKEN", "token", "Accept"], False),
            (["A", "X-Scheme"], False),
        ):
            for _ in range(2):
                self.make()
                for cased in (str.upper, str.lower, str):
                    exchange = asking(*[(cased(each), "1") for each in lines])
                    self.response(exchange, upstreamResponse(200))
                    self.assertEqual(self.policy.size > 0, isKept, lines)

    def test_overrides(self) -> None:
        """
        A field that overrides method, path or host makes a request unfit in any spelling, even
        if the response is public.
        """
        for name in OVERRIDES:
            for each in spellings(name) | twins(name):
                for value in ("/admin", "DELETE", ""):
                    self.assertFalse(self.isKept((each, value)), each)
                    self.assertFalse(self.isMasked((each, value)), each)
                    self.make()
                    response = upstreamResponse(200, ("Cache-Control", "public"))
                    self.response(asking((each, value)), response)
                    self.assertEqual(self.policy.size, 0, each)
        # Whatever else is known to override something is keyed, or no field for anybody.
        self.assertLessEqual(OVERRIDE_FIELDS & IMPERSONAL_FIELDS, KEYED_FIELDS)

    def test_keyed(self) -> None:
        """Keyed fields with another value, or none, are another key; order of lines counts."""
        for name in KEYED:
            self.make(impersonal=frozenset())
            self.response(asking((name, "1")), upstreamResponse(200, body=b"good"))
            self.assertGreater(self.policy.size, 0, name)
            for lines in ([], [(name, "2")], [(name, "1"), (name, "1")]):
                failed = self.response(asking(*lines), upstreamResponse(503, body=b"bad"))
                self.assertNotMasked(failed)
            for each in spellings(name):
                failed = self.response(asking((each, "1")), upstreamResponse(503, body=b"bad"))
                self.assertMasked(failed)

    def test_named(self) -> None:
        """The operator's names are impersonal, in any case, but not their twins."""
        self.make(impersonal=frozenset(("x-app-version",)))
        self.response(asking(("X-APP-Version", "1")), upstreamResponse(200, body=b"good"))
        failed = self.response(asking(("x-app-version", "2")), upstreamResponse(503))
        self.assertMasked(failed)
        failed = self.response(asking(("x_app_version", "2")), upstreamResponse(503, body=b"bad"))
        self.assertNotMasked(failed)

    def test_namedOverride(self) -> None:
        """An override that the operator names is a part of the key, as it changes the answer."""
        self.make(impersonal=frozenset(("x-scheme", "x-original-url")))
        for name in ("X-Scheme", "X-Original-Url"):
            self.response(asking((name, "1")), upstreamResponse(200, body=b"good"))
            failed = self.response(asking((name, "1")), upstreamResponse(503))
            self.assertMasked(failed)
            for lines in ([], [(name, "2")]):
                failed = self.response(asking(*lines), upstreamResponse(503, body=b"bad"))
                self.assertNotMasked(failed)

    def test_personal(self) -> None:
        """The operator can take names off the list, also those that begin as impersonal ones."""
        for name in ("User-Agent", "Sec-CH-UA", "Origin", "X-Forwarded-For", "Accept"):
            self.make(personal=frozenset((name.lower(),)))
            self.response(asking((name, "1")), upstreamResponse(200, body=b"good"))
            self.assertEqual(self.policy.size, 0, name)

    def test_personalAndMore(self) -> None:
        """A name that is taken off the list stays a part of the key, or unfit."""
        public = ("Cache-Control", "public")
        for name, value in (
            ("Origin", "https://a.example"),
            ("X-Forwarded-Prefix", "/a"),
            ("X-Original-Url", "/admin"),
            ("X_Requested_With", "1"),
            ("Accept", "text/event-stream"),
            ("Cache-Control", "no-store"),
        ):
            self.make(personal=frozenset((name.lower(),)))
            self.response(asking((name, value)), upstreamResponse(200, public, body=b"other"))
            self.assertNotMasked(self.failed())
            self.keep(public)
            failed = self.response(asking((name, value)), upstreamResponse(503, body=b"bad"))
            self.assertNotEqual(failed.body, b"good", name)

    def test_public(self) -> None:
        """
        C{public} or C{s-maxage} lets a response to a personal request be stored, and sent to
        whoever has the same key, Vary included.
        """
        for said in ("public", "s-maxage=60", "Public, max-age=5", "max-age=0, S-MAXAGE=60"):
            self.make()
            line = ("Cache-Control", said)
            self.response(asking(("X-Token", "me")), upstreamResponse(200, line, body=b"good"))
            for lines in ([], [("X-Token", "you")], [("Cookie", "a=b")]):
                self.assertMasked(self.response(asking(*lines), upstreamResponse(503)))
            vary = ("Vary", "X-Token")
            response = upstreamResponse(200, line, vary, body=b"mine")
            self.make()
            self.response(asking(("X-Token", "me")), response)
            for lines in ([], [("X-Token", "you")]):
                failed = self.response(asking(*lines), upstreamResponse(503, body=b"bad"))
                self.assertNotMasked(failed)
            failed = self.response(asking(("X-Token", "me")), upstreamResponse(503))
            self.assertMasked(failed, b"mine")

    def test_notPublic(self) -> None:
        """No other directive does, nor those that forbid more than C{public} allows."""
        for said in (
            "must-revalidate",
            "max-age=60",
            "immutable",
            "public, private",
            "public, no-store",
            "s-maxage=60, private",
            "stale-if-error=60",
            'x="public"',
            # Malformed: what looks like the directive may be a part of another.
            "x;public",
            "public;x",
            "x=y public",
            "a public",
            '"public"',
            'x="y, public',
            'x=y", public',
            'public, x="',
        ):
            self.make()
            self.response(asking(("X-Token", "me")), upstreamResponse(200, ("Cache-Control", said)))
            self.assertEqual(self.policy.size, 0, said)

    def test_gone(self) -> None:
        """
        A personal request that finds nothing drops what was for everyone; a refusal, or a page
        of its own, drops nothing.
        """
        for status, masked in ((404, False), (410, False), (401, True), (403, True), (302, True)):
            self.make()
            self.keep(("Cache-Control", "public"), cookie="a=b")
            self.response(asking(("Cookie", "c=d")), upstreamResponse(status))
            self.assertEqual(self.failed().status == 200, masked, status)

    def test_streams(self) -> None:
        """An event stream is never stored, and a request for one is never masked."""
        for kind in ("text/event-stream", "Text/Event-Stream; charset=utf-8"):
            self.make()
            for length in (4, None):
                response = upstreamResponse(200, ("Content-Type", kind), body=b"data")
                response.length = length
                response.body = None if length is None else b"data"
                self.response(exchangeFor(), response)
                self.assertIsNone(response.filters)
                self.assertEqual(self.policy.size, 0, kind)
        for accept in ("text/event-stream", "text/html, TEXT/event-stream;q=0.5"):
            self.assertFalse(self.isKept(("Accept", accept)))
            self.assertFalse(self.isMasked(("Accept", accept)))

    def test_upgrade(self) -> None:
        """The response to an attempt to upgrade is never stored, and the attempt never masked."""
        exchange = exchangeFor()
        exchange.request.upgrade = b"websocket"
        self.response(exchange, upstreamResponse(200, body=b"good"))
        self.assertEqual(self.policy.size, 0)
        self.keep()
        self.assertNotMasked(self.response(exchange, upstreamResponse(503, body=b"bad")))
