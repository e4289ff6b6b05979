"""
Tests of L{sitio.policies.token}.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.interfaces import IRequestPolicy
from sitio.policies.token import INTERVAL_SECONDS, TokenPolicy, makePolicy as declared
from sitio.policy.loader import loadPolicies
from sitio.policy.sources import shownPolicy
from sitio.test.helpers.policies import exchangeFor, fromText
from sitio.testing import Runner, request, response

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)

SECRET, OTHER = "hunter2-and-a-half", "swordfish-3"


class TokenCase(SynchronousTestCase):
    """A file with a token."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.write(f"{SECRET}\n")

    def write(self, text: str) -> None:
        """Put another file in its place, as Kubernetes and careful people do."""
        new = self.path.with_suffix(".new")
        new.write_bytes(text.encode("latin-1"))
        os.replace(new, self.path)

    def sent(self, policy: Any, now: float = 0.0, **fields: str) -> list[tuple[str, str]]:
        """The fields of a request after the policy."""
        exchange = exchangeFor(**fields)
        exchange.now = now
        self.assertIsNone(policy.requestReceived(exchange))
        items: list[tuple[str, str]] = exchange.request.headers.allItems()
        return items[1:]


class FieldTests(TokenCase):
    """What a request gets."""

    def test_interface(self) -> None:
        """It is a request policy."""
        verifyObject(IRequestPolicy, makePolicy(str(self.path)))

    def test_bearer(self) -> None:
        """By default it is the token of a bearer (RFC 6750, section 2.1)."""
        policy = makePolicy(str(self.path))
        self.assertEqual(self.sent(policy), [("Authorization", f"Bearer {SECRET}")])

    def test_others(self) -> None:
        """Another scheme, and another field without one."""
        policy = makePolicy(str(self.path), scheme="Token")
        self.assertEqual(self.sent(policy), [("Authorization", f"Token {SECRET}")])
        policy = makePolicy(str(self.path), name="X-Api-Key", scheme="")
        self.assertEqual(self.sent(policy), [("X-Api-Key", SECRET)])

    def test_replaces(self) -> None:
        """What the application has sent in this field does not go out, in no spelling."""
        policy = makePolicy(str(self.path), name="X-Api-Key", scheme="")
        exchange = exchangeFor(accept="a/b")
        for name in ("x-api-key", "X_Api_Key", "X-API-KEY"):
            exchange.request.headers.add(name, "theirs")
        policy.requestReceived(exchange)
        self.assertEqual(
            exchange.request.headers.allItems()[1:], [("accept", "a/b"), ("X-Api-Key", SECRET)]
        )

    def test_upstream(self) -> None:
        """The upstream gets it, at each attempt; the client gets nothing of it."""
        with Runner(loadPolicies(f"token:{self.path}")) as runner:
            outcome = runner.run(request("/", headers={"Authorization": "a"}), response(200))
        self.assertEqual(outcome.requests[0].headers.getAll("Authorization"), [f"Bearer {SECRET}"])
        self.assertNotIn(SECRET, f"{outcome.headers.allItems()}{outcome.body!r}")


class FileTests(TokenCase):
    """When the file is read."""

    def test_changed(self) -> None:
        """A new token is used from the next look on, also through a link that is turned."""
        folder = self.path.with_suffix(".data")
        for name, text in (("one", SECRET), ("two", OTHER)):
            (folder / name).mkdir(parents=True)
            (folder / name / "token").write_text(text)
        link = folder / "current"
        link.symlink_to("one")
        policy = makePolicy(str(link / "token"))
        self.assertIn(SECRET, str(self.sent(policy, 0.0)))
        link.unlink()
        link.symlink_to("two")
        self.assertIn(SECRET, str(self.sent(policy, INTERVAL_SECONDS / 2)))
        with capturedLogs() as events:
            self.assertIn(OTHER, str(self.sent(policy, INTERVAL_SECONDS)))
        self.assertEqual(len(events), 1)
        self.assertNotIn(OTHER, str(events))

    def test_unread(self) -> None:
        """A file that has not changed is not read again, and looked at once in a while."""
        looks: list[Path] = []
        policy = makePolicy(str(self.path))
        stat = os.stat

        def counting(path: Path) -> os.stat_result:
            looks.append(path)
            return stat(path)

        self.patch(os, "stat", counting)
        self.patch(TokenPolicy, "_read", lambda self: self.fail("it was read again"))
        for tenth in range(25):
            self.sent(policy, tenth * INTERVAL_SECONDS / 10)
        self.assertEqual(len(looks), 3)

    def test_broken(self) -> None:
        """While a changed file has no token the last one is used; the log says so once."""
        policy = makePolicy(str(self.path))
        now = 0.0
        for text, why in (("", "is empty"), (f"{OTHER}\nb", "is '\\n'"), (None, "is not there")):
            if text is None:
                self.path.unlink()
            else:
                self.write(text)
            with capturedLogs() as events:
                for _ in range(3):
                    now += INTERVAL_SECONDS
                    self.assertIn(SECRET, str(self.sent(policy, now)))
            [event] = events
            self.assertIn(why, str(event["why"]))
            self.assertNotIn(OTHER, str(event))
        self.write(OTHER)
        self.assertIn(OTHER, str(self.sent(policy, now + INTERVAL_SECONDS)))

    def test_refused(self) -> None:
        """Without a token at the start there is no policy, and the error does not show one."""
        for text, why in (
            (None, "is not there, or is no file"),
            ("\n", "is empty"),
            ("\xff\xfe", "is no text in UTF-8"),
            (f"{SECRET}\r\nX-Evil: a", "its character 26 is"),
            ("a" * 70_000, "has more than 64KiB"),
        ):
            self.path.unlink(missing_ok=True)
            if text is not None:
                self.write(text)
            error = self.assertRaises(ValueError, loadPolicies, f"token:{self.path}")
            self.assertIn(why, str(error))
            self.assertNotIn(SECRET, str(error))

    def test_badName(self) -> None:
        """So it is with a field that can't be set."""
        for name in ("Host:", "Content-Length"):
            self.assertRaises(ValueError, makePolicy, str(self.path), name=name)

    def test_shown(self) -> None:
        """The description is shown with the name of the file, which is no secret."""
        description = f"token:{self.path}:name=X-Api-Key:scheme="
        self.assertEqual(shownPolicy(description), description)
        self.assertNotIn(SECRET, repr(makePolicy(str(self.path))))
