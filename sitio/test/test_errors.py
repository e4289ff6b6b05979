"""
Tests of L{sitio.errors}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio import errors
from sitio.errors import Reached, Side, SitioError

#: Each kind of error: the client is told this status, and whose fault it was counts.
KINDS: dict[type[SitioError], tuple[Side, int]] = {
    errors.SitioError: (Side.SITIO, 500),
    errors.BadMessage: (Side.CLIENT, 400),
    errors.HeadTooLong: (Side.CLIENT, 431),
    errors.BodyTooLong: (Side.CLIENT, 413),
    errors.BadVersion: (Side.CLIENT, 505),
    errors.MethodRefused: (Side.CLIENT, 501),
    errors.RequestTimeout: (Side.CLIENT, 408),
    errors.ClientGone: (Side.CLIENT, 499),
    errors.ConnectFailed: (Side.UPSTREAM, 502),
    errors.ConnectTimeout: (Side.UPSTREAM, 504),
    errors.UpstreamLost: (Side.UPSTREAM, 502),
    errors.BadResponse: (Side.UPSTREAM, 502),
    errors.InterimTooLong: (Side.UPSTREAM, 502),
    errors.UpstreamTimeout: (Side.UPSTREAM, 504),
    errors.PoolExhausted: (Side.SITIO, 503),
    errors.Outrun: (Side.SITIO, 502),
    errors.Stalled: (Side.SITIO, 504),
    errors.Stopped: (Side.SITIO, 503),
    errors.PolicyFailed: (Side.SITIO, 500),
    errors.ResponseWithheld: (Side.SITIO, 502),
    errors.BuffersFull: (Side.SITIO, 503),
    errors.LoopDetected: (Side.SITIO, 508),
    errors.AmbiguousPath: (Side.CLIENT, 400),
    errors.NoRoute: (Side.CLIENT, 404),
    errors.NoEndpoint: (Side.UPSTREAM, 503),
}


def kinds() -> set[type[SitioError]]:
    """Every kind of error that the module has."""
    return {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, SitioError)
    }


class KindTests(SynchronousTestCase):
    """What each kind of error says."""

    def test_all(self) -> None:
        """The table of this test knows every kind; a new one is to be added to it."""
        self.assertEqual(kinds(), set(KINDS))

    def test_sidesAndStatuses(self) -> None:
        """Each kind has its side and its status."""
        for kind, expected in KINDS.items():
            error = kind("detail")
            self.assertEqual((kind, error.side, error.status), (kind, *expected))

    def test_defaults(self) -> None:
        """Where nothing is said nothing was reached, and the operator reads the summary."""
        for kind in KINDS:
            error = kind()
            self.assertEqual((error.reached, error.cause), (Reached.NOTHING, None))
            self.assertEqual((error.detail, str(error)), (kind.summary, kind.summary))

    def test_badMessages(self) -> None:
        """What is wrong with a request is caught as one kind; a response is not a request."""
        requests = {each for each in KINDS if issubclass(each, errors.BadMessage)}
        self.assertEqual(
            requests,
            {
                errors.BadMessage,
                errors.HeadTooLong,
                errors.BodyTooLong,
                errors.BadVersion,
                errors.MethodRefused,
                errors.AmbiguousPath,
            },
        )

    def test_reachedIsOrdered(self) -> None:
        """Further is more."""
        self.assertTrue(Reached.NOTHING < Reached.SENT < Reached.ANSWERED)

    def test_operatorReadsCause(self) -> None:
        """The operator reads what happened and why, in one sentence."""
        error = errors.ConnectFailed("no connection", cause=OSError("refused by 10.0.0.1"))
        self.assertEqual(str(error), "no connection: refused by 10.0.0.1")

    def test_causeWithoutWords(self) -> None:
        """A cause that says nothing adds nothing."""
        self.assertEqual(str(errors.UpstreamLost("lost", cause=OSError())), "lost")
