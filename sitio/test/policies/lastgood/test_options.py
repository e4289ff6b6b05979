"""
Tests of L{sitio.policies.lastgood.options}.
"""

from __future__ import annotations

from sitio.http.caching import PERSONAL_FIELDS
from sitio.policies.lastgood.options import makePolicy as declared
from sitio.policies.lastgood.policy import FORBIDDING, LastGood
from sitio.policy.loader import loadPolicies
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import exchangeFor, fromText, upstreamResponse

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)


class OptionTests(LastGoodTestCase):
    """The options of an operator's description."""

    def test_defaults(self) -> None:
        """All options may be missing."""
        self.policy = makePolicy()
        self.keep()
        self.assertMasked(self.failed())

    def test_options(self) -> None:
        """Each option has its effect."""
        for options, answer in (
            ({"statuses": "500,502-503"}, upstreamResponse(504)),
            ({"maxBytes": "1000"}, upstreamResponse(503)),
            ({"maxResponse": "3"}, upstreamResponse(503)),
        ):
            self.policy = makePolicy(**options)
            self.keep()
            self.assertNotEqual(self.response(exchangeFor(), answer).status, 200, options)
        self.policy = makePolicy(
            despite="Cookie,no-store, x-team", personal="x-team", statuses="4xx"
        )
        self.keep(("Cache-Control", "no-store"), cookie="a=b", x_team="blue")
        self.assertEqual(self.failed(404, cookie="b=c").status, 200)
        self.assertNotMasked(self.failed())
        self.policy = makePolicy(personal="X-Team, x-b")
        self.keep(x_team="blue")
        self.assertNotMasked(self.failed(x_team="blue"))
        self.policy = makePolicy(statuses="404,502-503")
        self.keep()
        for status in (404, 502, 503):
            self.assertEqual(self.failed(status).status, 200)
        for status in (500, 504):
            self.assertEqual(self.failed(status).status, status)
        for seconds in ("10", "604800"):
            makePolicy(maxAge=seconds, budget=seconds)
        policy = makePolicy(maxAge="7", budget="11")
        self.assertEqual((policy._maxAge, policy._budget._seconds), (7, 11))

    def test_refused(self) -> None:
        """A wrong value is named in one sentence, with what is expected."""
        for options, words in (
            ({"maxAge": "soon"}, "max-age=soon: a duration from 1s to 7d is expected"),
            ({"maxAge": "0"}, "max-age=0: a duration"),
            ({"maxAge": "-1"}, "max-age=-1: a duration"),
            ({"maxAge": "1e3"}, "max-age=1e3: a duration"),
            ({"maxAge": "604801"}, "max-age=604801: a duration"),
            ({"budget": "9"}, "budget=9: a duration from 10s to"),
            ({"maxBytes": "16M"}, "max-bytes=16M: write 16MiB or 16MB"),
            ({"maxResponse": "9" * 5000}, "max-response=9+: a size"),
            ({"statuses": "200"}, "'200' is not an error status: write 404, 500-504 or 5xx"),
            ({"statuses": "503,"}, "'' is not an error status"),
            (
                {"statuses": "504-502"},
                "'504-502' is not a range of statuses: the lower one comes first",
            ),
            ({"personal": "a b"}, "'a b' is not a field name"),
            ({"despite": "cokie"}, "despite=cokie: 'cokie' is none of .*cookie"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                makePolicy(**options)

    def test_despiteAll(self) -> None:
        """C{despite} takes every word that forbids something."""
        for word in FORBIDDING | PERSONAL_FIELDS:
            makePolicy(despite=word)

    def test_impersonal(self) -> None:
        """C{impersonal} takes names, in any case, and may be given more than once."""
        [(_, policy)] = loadPolicies(
            "last-good:impersonal=X-App-Version:max-age=60:impersonal=X-Build, x-c"
        )
        assert isinstance(policy, LastGood)
        self.policy = policy
        self.keep(x_app_version="1", X_BUILD="2", x_c="3")
        self.assertMasked(self.failed(x_build="4"))
        self.assertNotMasked(self.failed(x_d="4"))

    def test_twice(self) -> None:
        """Other options may not, and a name must be one."""
        for description, words in (
            ("last-good:max-age=1:max-age=2", "max-age is given twice"),
            ("last-good:impersonal=a b", "'a b' is not a field name"),
            ("last-good:impersonal=Connection", "the field connection can't be set"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                loadPolicies(description)
