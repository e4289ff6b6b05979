"""Tests of the webhook, for trial: `cd examples; python -m twisted.trial test_webhook`."""

from hashlib import sha256
from hmac import new

from twisted.trial.unittest import SynchronousTestCase
from webhook import makePolicy

from sitio.settings import Settings
from sitio.testing import request, runPolicy


class WebhookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.policy = makePolicy(key="secret")
        self.good = {"X-Signature": "sha256=" + new(b"secret", b"{}", sha256).hexdigest()}

    def test_good(self) -> None:
        """A webhook with a good signature is let in, unchanged."""
        outcome = runPolicy(self.policy, request("/hook", "POST", self.good, body=b"{}"))
        outcome.assertResponse(200)
        outcome.assertRequest("/hook", "POST", headers=self.good, json={})

    def test_changed(self) -> None:
        """A body that was changed is refused, and so is one without a signature."""
        for fields in (self.good, {}):
            outcome = runPolicy(self.policy, request("/hook", "POST", fields, body=b"[]"))
            outcome.assertResponse(403, text="The signature is wrong.\n")
            self.assertEqual(outcome.requests, [])

    def test_long(self) -> None:
        """A body that is too long to be checked is refused."""
        small = Settings(requestBufferLimit=1)
        asked = request("/hook", "POST", self.good, body=b"{}")
        runPolicy(self.policy, asked, settings=small).assertResponse(413)

    def test_otherPath(self) -> None:
        """No spelling of a path, and no method, needs no signature."""
        for target, method in (("/%68ook", "POST"), ("//hook", "PUT"), ("/", "GET")):
            runPolicy(self.policy, request(target, method)).assertResponse(403)

    def test_field(self) -> None:
        """The signature may be in another field."""
        policy = makePolicy(key="secret", field="X-Hub-Signature-256")
        fields = {"X-Hub-Signature-256": self.good["X-Signature"]}
        runPolicy(policy, request("/", "POST", fields, body=b"{}")).assertResponse(200)
