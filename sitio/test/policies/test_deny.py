"""
Tests of L{sitio.policies.deny}.
"""

from __future__ import annotations

import re
from time import process_time
from urllib.parse import quote, unquote_to_bytes

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.http.overrides import METHOD_FIELDS, PATH_FIELDS, PREFIX_FIELDS
from sitio.interfaces import IRequestPolicy
from sitio.policies.deny import (
    Deny,
    makePolicy as declared,
)
from sitio.test.helpers.policies import exchangeFor, fromText
from sitio.testing import request, runPolicy

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)

#: Spellings of /admin and /secret/*.
SPELLINGS = """
    /admin /admin/ /admin?a=b /secret /secret/ /secret/x
    /%61dmin /%61%64%6D%69%6e /%2561dmin /%25252561dmin
    //admin ///admin// /./admin /admin/. /x/../admin /x/y/../../admin /../../admin
    /x/%2e%2e/admin /x%2f..%2fadmin /x/.%2e/%61dmin /x/%252e%252e/admin /%2fadmin /admin%2f
    /admin/x/.. /x/..%2fadmin /..%2f..%2fadmin /%2e/admin /x/%2e%2e%2fadmin
    /admin;a=b /admin; /;a/admin /x/..;/admin /x/..;a=b/%61dmin;c /%3Badmin/../admin
    /admin%3Ba=b /;/admin /.;/admin /admin/;/ /x;/..;/admin
    /\\admin /x\\..\\admin /x%5c..%5cadmin \\admin /%5cadmin /x/..%5cadmin /x%255c..%255cadmin
    /admin#top /admin%23top /admin%3fa=b /admin%253f
    /admin%20 /admin%0a /admin%09 /%20admin /%09/admin /%20/admin /admin/%20 /ad%0amin /admin%0d
    /a//../admin /secret//../../admin /secret/%ff /secret%2f%2e /x/%2e./secret
    //photos.example/admin http://photos.example/admin HTTP://photos.example//admin?a=b
    /admin. /admin.. /admin%2e /admin./ /admin.%20 /admin%20. /secret./x /secret%20/x
    /admin::$DATA /admin:$DATA /admin%3a:$data /secret:$i30:$INDEX_ALLOCATION/x
    /%EF%BD%81dmin /%EF%BC%8Fadmin /x/%EF%BC%8E%EF%BC%8E/admin /x/%E2%80%A5/admin
    /%u2215admin /x%e2%88%95..%e2%88%95admin /ad%E2%80%8Bmin /ad%C2%ADmin /%EF%BB%BFadmin
    /ad%c2%85min /admin%1f /x/.%0a./admin /x/.%ff./admin /x/.%c2%ad./admin /x%3f/../admin
    /x/%2e%2e;/admin /x/..%253b/admin /x/y/..%2f../admin /%e2%93%90dmin /%%36%31dmin
    /ad%ffmin /%ffadmin /admin%80 /x%c0%2f..%c0%2fadmin /%c1%21dmin
    ///x/admin ////x//admin /\\x/admin http:///x/admin ///x/secret/y %2f%2f%2fx/admin
    /%uff41dmin /%uff0fadmin /x/%u2025/admin
    /%c0%afadmin /x/%c0%ae%c0%ae/admin /%C1%A1dmin /x%c1%9c..%c1%9cadmin /admin%c0%80.png
    /%e0%80%afadmin /%f0%80%80%afadmin /%f8%80%80%80%afadmin /%fc%80%80%80%80%afadmin
    /%e0%81%a1dmin /x/%25c0%25ae./admin /%c0%25afadmin /secret/%c0%80 /%25c1%25a1dmin
    /admin%c0%40x /%c0%afadmin/%ff
"""

#: Paths that no service should decode.
UNREADABLE = """
    /admin%00 /admin%00.png /%00/admin /x%00 /x%2500 /x%252500
    /%u0061dmin /%U0061dmin /x/%u002e%u002e/admin /%u002fadmin /%u005cx
    /x%25u002f /%25%75002f /x%u0000
"""

#: Paths that are unusual, and spell neither /admin nor anything below /secret.
INNOCENT = """
    / * // /% /%zz /%2 /100% /%u /%u12 /%unit /%u4e2d%u6587 /%uface
    /a%20b /x;admin /x/.admin /x//y /.. /.well-known/x /a...b /a/.../b /.git
    /caf%e9 /caf%C3%A9 /%E4%B8%AD%E6%96%87 /%F0%9F%98%80 /%D0%BC%D0%B8%D1%80 /%B0%A1%B3%AA
    /%61dmins /administrator /admin.html /admin:x /admin$ /admin~ /xadmin /x/admin /Admin /admi
    /a+b /a=b&c=d /a,b /~user/ /@scope%2fname /$metadata /v1/things:batch /x/a:$b
    /projects/group%2Fname /files/a%2Fb%2Fc /report.%20pdf /a.%2fb /%E3%80%82
    /wiki/C%2B%2B /wiki/What%3F /tags/%23one /2%25 /50%25off /secrets /secret.txt /x%2fadmin
    /%%61dmin /%ca%b0x /adm%c4%b1n /admin: /admin:80 /admin~1 /admin%22 /admin, /admin%7C
    /%uff11%uff12 /%uff0fx /%c0%80 /x%c1%9c /%f0%80%80%afx /x/%25c0%25ae /x%c0%40
    http://admin /x?/../admin /?path=/admin /x?_method=DELETE
"""

#: Pieces of long paths that pass.
LONG = """
    /../x %e4%b8%ad a%2Fb %EA%B0%80 %e1%84%80%e1%85%a1%e1%86%a8 ;a=b/c //a %uff11 %e9 %25 %b0%a1
    %EF%BC%91 %c3%a9 %F0%9F%98%80
"""

#: Pieces of paths that take long to read if the work has no limit.
TRAPS = """
    % %% %20 %25 %252525 / /. /.. /../x //x ;a/ ; \\ %5c %2f /%20 %20/ /.%20 %5c%2e%2e %2561
    %cc%96%cc%81 %ef%b7%ba %ef%b7%ba/ %e3%8c%96 %e2%80%a6 %f0%9d%94%b8 %ff %ff/ %c1a %c1%21
    %c0%81 %e9. %u4e2d %uff41 $/ :$ # ? & ;x &_ &_m &%5f%6d _method=& method x-http-metho& method=&
    _method=P, /%2525%252e;\\..//.%01# a. a./a: http: %e2%80%8b %c2%85/ %ff%0a %01a %ed%a0%80
    /%3bx/..%e3%80%82/ /.%20/%2525%252e;\\..//.%01# %25%32%35 a%e2%93%90. a, %f0%9d%94%b8%e9
"""

#: Texts by an encoding other than UTF-8.  Some of their bytes are those of overlong UTF-8,
#: backslashes and control characters.
ENCODED = {
    "gbk": "\u8054\u7cfb\u65b9\u5f0f \u4e2d\u6587\u9875\u9762 \u7b80\u4f53 \u8c26\u865a \u7e5e",
    "gb18030": "\u8054\u7cfb\u65b9\u5f0f \u0234\u0235 \u4e02",
    "euc_kr": "\uc74c\uc545 \uc81c\ud488 \uacbd\uc81c \ud55c\uad6d\uc5b4 \uc7c1",
    "shift_jis": "\u8868\u793a \u80fd\u529b \u30bd\u30d5\u30c8 \uff80\uff81 \u6f3e\u9ed2",
    "euc_jp": "\u65e5\u672c\u8a9e \u8868\u793a",
    "big5": "\u8a31\u529f\u84cb \u4e2d\u6587 \u8ad6\u58c7",
    "cp1251": "\u043f\u0440\u0438\u0432\u0435\u0442 \u0410\u0411\u042f",
    "latin_1": "caf\xe9 \xc0\xaf \xc3\x80 \xbd\xbc",
}


def denied(policy: Deny, target: str, method: str = "GET", **fields: str) -> bool:
    """Whether a request is refused."""
    return policy.requestReceived(exchangeFor(target, method, **fields)) is not None


def sent(policy: Deny, target: str, method: str, *fields: tuple[str, str]) -> bool:
    """Whether a request with fields of any names is refused."""
    exchange = exchangeFor(target, method)
    for name, value in fields:
        exchange.request.headers.add(name, value)
    return policy.requestReceived(exchange) is not None


def spellingsOf(names: frozenset[bytes]) -> list[str]:
    """Names of fields as services with CGI or WSGI may read them."""
    lower = sorted(each.decode() for each in names)
    return [f(each) for each in lower for f in (str.title, underscored, str.upper, mixed)]


def underscored(name: str) -> str:
    """With underscores."""
    return name.title().replace("-", "_")


def mixed(name: str) -> str:
    """With one underscore, in lower case."""
    return name.replace("-", "_", 1)


class DenyTests(SynchronousTestCase):
    """What is refused, and how."""

    def test_interface(self) -> None:
        """It is a request policy."""
        verifyObject(IRequestPolicy, makePolicy("*", "/admin"))

    def test_refusal(self) -> None:
        """A refusal is a 403 that discloses nothing, a new response each time."""
        policy = makePolicy("*", "/admin")
        first = policy.requestReceived(exchangeFor("/admin"))
        second = policy.requestReceived(exchangeFor("/admin"))
        assert first is not None and second is not None
        self.assertEqual((first.status, first.body), (403, b"403 Forbidden\n"))
        self.assertEqual(first.headers["Content-Type"], "text/plain; charset=utf-8")
        first.headers.add("X-A", "1")
        self.assertNotIn("X-A", second.headers)

    def test_status(self) -> None:
        """The operator may choose another status, registered or not."""
        for status, body in (("404", b"404 Not Found\n"), ("499", b"499\n")):
            answer = makePolicy("*", "/admin", status=status).requestReceived(exchangeFor("/admin"))
            assert answer is not None
            self.assertEqual((answer.status, answer.body), (int(status), body))

    def test_patterns(self) -> None:
        """Patterns match whole paths; C{*} matches slashes; case matters."""
        for pattern, inside, outside in (
            ("/admin", ["/admin", "/admin/", "/admin?a=b"], ["/admins", "/Admin", "/x/admin", "/"]),
            ("/admin*", ["/admin", "/admin/x", "/administrator"], ["/", "/adm", "/x/admin"]),
            ("/admin/*", ["/admin", "/admin/", "/admin/x/y"], ["/administrator", "/x/admin/y"]),
            ("*.bak", ["/a.bak", "/x/a.bak", "/.bak"], ["/a.bak.txt", "/bak", "/?a.bak"]),
            ("/a?c", ["/abc", "/a/c"], ["/ac", "/abbc"]),
            ("/[ab]", ["/a", "/b/"], ["/c", "/ab"]),
            ("/caf\u00e9", ["/caf%C3%A9", "/caf%E9", "/cafe%CC%81"], ["/cafe"]),
            ("/a b", ["/a%20b"], ["/a+b"]),
            ("/100%", ["/100%", "/100%25"], ["/100"]),
            ("/*", ["/", "/a"], ["*"]),
            ("*", ["/", "/a", "*", ""], []),
        ):
            policy = makePolicy("*", pattern)
            for target in inside:
                self.assertTrue(denied(policy, target), (pattern, target))
            for target in outside:
                self.assertFalse(denied(policy, target), (pattern, target))

    def test_severalPatterns(self) -> None:
        """A path is refused if one of several patterns matches."""
        policy = makePolicy("*", "/a/*", "/b/*c")
        for target, refused in (("/a/c", True), ("/b/xc", True), ("/b/x", False)):
            self.assertEqual(denied(policy, target), refused, target)

    def test_methods(self) -> None:
        """Only the methods in the description are refused, in any case, also unknown ones."""
        policy = makePolicy("PUT, delete,X-Burn", "*")
        for method in ("PUT", "DELETE", "put", "Delete", "X-BURN"):
            self.assertTrue(denied(policy, "/", method), method)
        for method in ("GET", "HEAD", "POST", "PATCH"):
            self.assertFalse(denied(policy, "/", method), method)

    def test_anyMethod(self) -> None:
        """C{*} is all methods, also beside others."""
        for methods in ("*", "GET,*"):
            self.assertTrue(denied(makePolicy(methods, "/a"), "/a", "BREW"))

    def test_head(self) -> None:
        """GET includes HEAD, but HEAD does not include GET."""
        self.assertTrue(denied(makePolicy("GET", "/a"), "/a", "HEAD"))
        self.assertFalse(denied(makePolicy("HEAD", "/a"), "/a", "GET"))

    def test_inPython(self) -> None:
        """The class can be used without a description."""
        self.assertTrue(denied(Deny(None, ["/a"]), "/a", "POST"))
        self.assertFalse(denied(Deny(["GET"], ["/a"]), "/a", "POST"))


class SpellingTests(SynchronousTestCase):
    """Other spellings of a path, or other ways to request it, do not evade a rule."""

    def setUp(self) -> None:
        self.policy = makePolicy("*", "/admin", "/secret/*")

    def test_spellings(self) -> None:
        """Each known spelling of a refused path is refused, with the status of the rule."""
        for target in SPELLINGS.split():
            answer = self.policy.requestReceived(exchangeFor(target))
            self.assertEqual(answer and answer.status, 403, target)

    def test_unreadable(self) -> None:
        """A path that no service should decode gets 400, whatever it would mean."""
        for target in UNREADABLE.split():
            answer = self.policy.requestReceived(exchangeFor(target))
            self.assertEqual(answer and answer.status, 400, target)
            self.assertFalse(denied(makePolicy("DELETE", "/admin"), target), target)

    def test_innocent(self) -> None:
        """A path that no service reads as a refused one passes, however unusual it is."""
        for target in INNOCENT.split():
            self.assertFalse(denied(self.policy, target), target)

    def test_encodings(self) -> None:
        """
        Paths in other encodings than UTF-8 pass, word by word and as one long path; but not
        below a path that is refused.
        """
        for encoding, text in ENCODED.items():
            words = text.split()
            long = "/".join(words * 99).encode(encoding)[:200]
            for data in (*(each.encode(encoding) for each in words), long):
                self.assertFalse(denied(self.policy, "/wiki/" + quote(data)), (encoding, data))
                answer = self.policy.requestReceived(exchangeFor("/secret/" + quote(data)))
                self.assertEqual(answer and answer.status, 403, (encoding, data))

    def test_sameReading(self) -> None:
        """A text that is reached in two ways is read in the ways of both."""
        self.assertTrue(sent(self.policy, "/%c2%aadmin", "GET", ("X-Original-URL", "/%aadmin")))
        self.assertTrue(sent(self.policy, "/%aadmin", "GET", ("X-Original-URL", "/%c2%aadmin")))

    def test_bothOrders(self) -> None:
        """Slashes may be merged before or after dots are resolved; both readings count."""
        self.assertTrue(denied(makePolicy("*", "/a/admin"), "/a//../admin"))
        self.assertTrue(denied(makePolicy("*", "/admin"), "/a//../admin"))

    def test_folder(self) -> None:
        """A path with dots that ends in a folder is that folder."""
        policy = makePolicy("*", "/x/")
        for target in ("/x/", "/x/.", "/x/y/..", "/x/y/%2e%2e"):
            self.assertTrue(denied(policy, target), target)
        self.assertFalse(denied(policy, "/x"))

    @given(st.data())
    def test_encoded(self, data: st.DataObject) -> None:
        """A path is the same path, however much of it is encoded, and however often."""
        path = "/admin"
        for _ in range(data.draw(st.integers(1, 3))):
            path = "/" + "".join(
                f"%{ord(each):02{data.draw(st.sampled_from('xX'))}}"
                if data.draw(st.booleans())
                else each
                for each in path[1:]
            )
        self.assertTrue(denied(self.policy, path), path)

    @given(
        st.lists(
            st.sampled_from(
                ["/.", "/x/..", "/x/y/../..", "/%2e", "/", "/x;a/..", "/x/..;b", "/x/%2e%2e", "/.;"]
            ),
            max_size=6,
        ),
        st.sampled_from(["/admin", "/%61dmin", "/admin;x", "/admin/", "\\admin"]),
    )
    def test_detours(self, detours: list[str], path: str) -> None:
        """A path is the same path, with any number of dots in it."""
        self.assertTrue(denied(self.policy, "".join(detours) + path), (detours, path))

    @given(st.text(st.sampled_from("/ab.-_~%2;=:\\"), max_size=30))
    def test_otherLetters(self, path: str) -> None:
        """A path without the letters of a rule is never refused."""
        self.assertFalse(denied(self.policy, f"/{path}"), path)

    @given(st.text(max_size=60))
    def test_anything(self, path: str) -> None:
        """No path raises an exception, which would be a 500."""
        self.assertIn(denied(self.policy, path), (True, False))

    def test_bounded(self) -> None:
        """A path with too many readings is refused in any case; a long plain one is not."""
        self.assertTrue(denied(self.policy, "/%2525%252e;\\..//.%01#" * 1000))
        for honest in (
            *("/" + "x/" * 16_000, "/" + "%20x" * 5000),
            *("/x" + each * (8000 // len(each)) for each in LONG.split()),
        ):
            self.assertFalse(denied(self.policy, honest), honest[:40])

    def test_time(self) -> None:
        """
        No request takes long, whatever its path, query and fields are.

        The limit is ten times what a slow machine needs.
        """
        globs = makePolicy("DELETE", "/a*b*c*d*e", "*.bak", "*secret*", case="ignore")
        for trap in TRAPS.split():
            text = trap * (30_000 // len(trap))
            for target, fields in (
                ("/" + text, []),
                ("/" + text[:500], []),
                ("/x?" + text, []),
                ("/x", [("X-Original-URL", "/" + unquote_to_bytes(text).decode("latin-1"))]),
                ("/x", [("X-HTTP-Method", text)]),
                ("/x" + text[:200], [("X-Script-Name", f"/x{n}") for n in range(90)]),
            ):
                fields = [(n, v) for n, v in fields if not re.search("[\0-\x1f\x7f]", v)]
                exchange = exchangeFor(target, "POST")
                for field in fields:
                    exchange.request.headers.add(*field)
                times = []
                for _ in range(3):
                    before = process_time()
                    globs.requestReceived(exchange)
                    self.policy.requestReceived(exchange)
                    times.append(process_time() - before)
                    if times[-1] < 0.02:
                        break
                self.assertLess(min(times), 0.05, (trap, target[:20]))

    def test_case(self) -> None:
        """Case counts, unless the operator says that it does not."""
        ignoring = makePolicy("*", "/admin", "/Secret/*", case="ignore")
        for target in ("/ADMIN", "/%41dmin", "/aDmIn.", "/secret/x", "/SECRET"):
            self.assertFalse(denied(self.policy, target.replace("secret", "Secret")), target)
            self.assertTrue(denied(ignoring, target), target)
        self.assertFalse(denied(ignoring, "/x"))

    def test_methodOverride(self) -> None:
        """A method in a field counts, beside that of the request, in any spelling of its name."""
        for name in spellingsOf(METHOD_FIELDS):
            policy = makePolicy("DELETE", "/a")
            for value, refused in ((" delete ", True), ("PUT", False), ("PUT, DELETE", True)):
                self.assertEqual(sent(policy, "/a", "POST", (name, value)), refused, name)
            self.assertTrue(sent(policy, "/a", "DELETE", (name, "GET")), name)
        self.assertTrue(sent(makePolicy("GET", "/a"), "/a", "POST", ("X_HTTP_METHOD", "head")))

    def test_methodParameter(self) -> None:
        """A method in the query counts, as some frameworks take it from there."""
        policy = makePolicy("DELETE", "/a")
        for query in (
            "_method=DELETE",
            "a=b&_method=delete",
            "a;_METHOD=DELETE",
            "%5fmethod=%44ELETE",
            "_method[]=DELETE",
            "$method=DELETE",
            "X-HTTP-Method-Override=DELETE",
            "_method=PUT&_method=DELETE",
        ):
            expected = "[]" not in query
            self.assertEqual(denied(policy, f"/a?{query}", "POST"), expected, query)
        for name in METHOD_FIELDS:
            for query in (f"{name.decode()}=DELETE", f"a=b&{underscored(name.decode())}=delete"):
                self.assertTrue(denied(policy, f"/a?{query}", "POST"), query)
        for query in ("method=DELETE", "_method=PUT", "_method", "DELETE", "a=_method=DELETE"):
            self.assertFalse(denied(policy, f"/a?{query}", "POST"), query)

    def test_manyMethods(self) -> None:
        """A request that names more methods than anyone means gets 400."""
        policy = makePolicy("DELETE", "/a")
        for query in ("_method=PUT&" * 99, "_method=&" * 99, "_method=" + "A,B+" * 99):
            answer = policy.requestReceived(exchangeFor(f"/b?{query}", "POST"))
            self.assertEqual(answer and answer.status, 400)
        self.assertFalse(denied(policy, "/b?" + "_method=PUT&" * 50, "POST"))
        answer = policy.requestReceived(exchangeFor("/b", X_HTTP_Method="A," * 99))
        self.assertEqual(answer and answer.status, 400)

    def test_pathOverride(self) -> None:
        """A path in a field counts, beside that of the request, in any spelling of its name."""
        for name in spellingsOf(PATH_FIELDS):
            for value in (
                "/admin",
                "/%61dmin?a=b",
                "https://photos.example/admin",
                "admin",
                "%61dmin.",
                "/\xef\xbd\x81dmin",
                "/\xc0\xafadmin",
            ):
                self.assertTrue(sent(self.policy, "/", "GET", (name, value)), (name, value))
            for value in ("/x", "", "/", "*", "https://photos.example/"):
                self.assertFalse(sent(self.policy, "/", "GET", (name, value)), (name, value))
            self.assertTrue(sent(self.policy, "/admin", "GET", (name, "/x")), name)

    def test_prefix(self) -> None:
        """The path without a prefix in a field counts, too."""
        for name in spellingsOf(PREFIX_FIELDS):
            for prefix, target in (("/x", "/x/admin"), ("/x/", "/x/admin"), ("/x", "/%78/admin")):
                self.assertTrue(sent(self.policy, target, "GET", (name, prefix)), name)
            for prefix, target in (("/x", "/y/admin"), ("/", "/x/admin"), ("/admin", "/x")):
                self.assertFalse(sent(self.policy, target, "GET", (name, prefix)), name)

    def test_manyFields(self) -> None:
        """The work for a request has one limit, however many fields it has."""
        trick = "/%2525%252e;\\..//.%01#" * 20
        fields = [(f"X-{name}", f"{trick}{n}") for n in range(12) for name in ("Url", "Prefix")]
        self.assertTrue(sent(self.policy, "/", "GET", *fields))


class OptionTests(SynchronousTestCase):
    """Descriptions that are refused at start."""

    def test_methods(self) -> None:
        """A malformed method is quoted."""
        for methods in ("", "GET,", "GET POST", "/admin"):
            with self.assertRaisesRegex(
                ValueError, "is not a method: write GET, or GET,POST, or \\* for all"
            ):
                makePolicy(methods, "/admin")

    def test_noPattern(self) -> None:
        """A description without a pattern is refused."""
        with self.assertRaisesRegex(ValueError, "needs the paths to refuse"):
            makePolicy("*")

    def test_pattern(self) -> None:
        """A pattern that can match no path is refused."""
        for pattern in ("", "admin", "[/]admin"):
            with self.assertRaisesRegex(ValueError, "it must begin with / or"):
                makePolicy("*", "/a", pattern)

    def test_spelledPattern(self) -> None:
        """A pattern with two readings is refused."""
        for pattern in ("/a%20b", "//admin", "/x/../admin", "/a;b", "/a\\b", "/a#b", "/a "):
            with self.assertRaisesRegex(ValueError, "write a pattern decoded"):
                makePolicy("*", pattern)

    def test_status(self) -> None:
        """A status that does not fit a refusal, or needs a field, is refused."""
        for status in ("200", "600", "forbidden", "401", "405", "407", "", "4030"):
            with self.assertRaisesRegex(ValueError, f"status={status}: write 400 to 599"):
                makePolicy("*", "/a", status=status)

    def test_case(self) -> None:
        """An unknown word for case is refused."""
        with self.assertRaisesRegex(ValueError, "case=any: write exact or ignore"):
            makePolicy("*", "/a", case="any")


class ProxyTests(SynchronousTestCase):
    """The policy in a whole proxy."""

    def test_refused(self) -> None:
        """A refused request does not reach the upstream; any other does."""
        outcome = runPolicy("deny:*:/admin/*:status=404", request("/x/%2e%2e/admin"))
        self.assertEqual((outcome.status, outcome.attempts), (404, 0))
        self.assertEqual(outcome.text, "404 Not Found\n")
        outcome = runPolicy("deny:*:/admin/*", request("/public"))
        self.assertEqual((outcome.status, outcome.attempts), (200, 1))
