"""
Tests of L{sitio.policy.functions}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio import onFinish, onRequest, onResponse, onSend
from sitio.interfaces import IExchangeObserver, IRequestPolicy, IResponsePolicy
from sitio.policy.functions import FinishFunction, RequestFunction, SendFunction


def unused(*given: Any) -> None:
    """A function that no test calls."""
    raise AssertionError("called")


async def unusedCoroutine(*given: Any) -> None:
    """A coroutine function that no test calls."""
    raise AssertionError("called")


class FunctionTests(SynchronousTestCase):
    """A policy can be a function."""

    def test_interfaces(self) -> None:
        """Each decorator makes an object that provides its interface."""
        verifyObject(IRequestPolicy, onRequest(unused))
        verifyObject(IResponsePolicy, onResponse()(unused))
        verifyObject(IExchangeObserver, onFinish(unused))

    def test_callable(self) -> None:
        """The policy can be called like its function, which a test may do."""
        request: Any = onRequest(lambda exchange: [exchange])
        self.assertEqual(request(1), [1])
        policy: Any = onResponse(404)(lambda exchange, response: [exchange, response])
        self.assertEqual(policy(1, 2), [1, 2])
        seen: list[Any] = []
        onFinish(seen.append)(1)
        self.assertEqual(seen, [1])

    def test_statuses(self) -> None:
        """Statuses are given as numbers and ranges; none means all."""
        policy = onResponse(404, range(500, 502))(unused)
        self.assertEqual(policy.statuses, {404, 500, 501})
        self.assertFalse(policy.buffered)
        everything = onResponse(buffered=True)(unused)
        self.assertEqual(everything.statuses, set(range(100, 1000)))
        self.assertTrue(everything.buffered)

    def test_spellings(self) -> None:
        """The decorators are written with parentheses or without: it makes no difference."""
        for request in (onRequest(unused), onRequest()(unused)):
            self.assertEqual((request.function, type(request)), (unused, RequestFunction))
        for response in (onResponse(unused), onResponse()(unused)):
            self.assertEqual(response, onResponse(range(100, 1000))(unused))
        self.assertEqual(onResponse(404)(unused).statuses, {404})
        for send in (onSend(unused), onSend()(unused)):
            self.assertEqual((send.function, type(send)), (unused, SendFunction))
        for observer in (onFinish(unused), onFinish()(unused)):
            self.assertEqual((observer.function, type(observer)), (unused, FinishFunction))

    def test_wrongUse(self) -> None:
        """Wrong use of a decorator raises at once, and says what to write."""
        for attempt, hint in (
            (lambda: onResponse("404"), "write @onResponse(404)"),  # type: ignore[call-overload]
            (lambda: onRequest(404), "write @onRequest"),  # type: ignore[call-overload]
            (lambda: onFinish(404), "write @onFinish"),  # type: ignore[call-overload]
            (lambda: onFinish(unusedCoroutine), "write def, not async def"),  # type: ignore[type-var]
        ):
            self.assertIn(hint, str(self.assertRaises(TypeError, attempt)))
        self.assertIn("100 to 999", str(self.assertRaises(ValueError, onResponse, 4040)))
