"""
Tests of L{sitio.http.failures}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio import errors
from sitio.errors import Reached, SitioError
from sitio.http.failures import asResponse

#: Every kind of error.
KINDS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, SitioError)
]


class AsResponseTests(SynchronousTestCase):
    """An error becomes a response in one place."""

    def test_every(self) -> None:
        """Each kind of error gives its status with its sentence, and stands as the failure."""
        for kind in KINDS:
            error = kind("detail", Reached.SENT)
            response = asResponse(error)
            said = kind.summary
            if issubclass(kind, errors.BadMessage):
                said = f"{said[:-1]}: detail."
            self.assertEqual(
                (response.status, response.body, response.headers.allItems()),
                (
                    kind.status,
                    f"{kind.status} {said}\n".encode(),
                    [("Content-Type", "text/plain; charset=utf-8"), ("Server", "sitio")],
                ),
            )
            self.assertTrue(response.reason)
            self.assertIdentical(response.failure, error)

    def test_clientLearnsNoAddress(self) -> None:
        """
        No cause reaches the client, nor a detail, unless it is of its own request:
        they name hosts, files and policies.
        """
        for kind in KINDS:
            detail = "" if issubclass(kind, errors.BadMessage) else "at 10.0.0.1:8087"
            response = asResponse(kind(detail, cause=OSError("/run/secret.sock")))
            told = repr(
                (response.status, response.reason, response.headers.allItems(), response.body)
            )
            for word in ("10.0.0.1", "8087", "secret"):
                self.assertNotIn(word, told)

    def test_reason(self) -> None:
        """The reason is the registered one, where there is one."""
        self.assertEqual(asResponse(errors.UpstreamTimeout()).reason, "Gateway Timeout")
        self.assertEqual(asResponse(errors.ClientGone()).reason, "Client Closed Request")

    def test_unregisteredStatus(self) -> None:
        """An error with an unregistered status has a reason phrase, too."""

        class Odd(SitioError):
            status = 599

        self.assertEqual(asResponse(Odd()).reason, "Error")

    def test_ownResponse(self) -> None:
        """Two responses to one kind share nothing that a policy could change for the other."""
        first, second = asResponse(errors.BadResponse()), asResponse(errors.BadResponse())
        first.headers["Server"] = "b"
        self.assertEqual(second.headers["Server"], "sitio")
