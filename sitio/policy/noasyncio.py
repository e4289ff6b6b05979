"""
Runs coroutines of policies on a reactor without asyncio: L{startedWithoutLoop}.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

from twisted.internet.defer import Deferred


class NoAsyncio(RuntimeError):
    """A coroutine awaits asyncio, and the reactor does not run it."""

    def __init__(self) -> None:
        RuntimeError.__init__(
            self,
            "this policy awaits asyncio, which this reactor does not run: start twistd with"
            " --reactor=uv (sitio's default where uvloop is installed) or --reactor=asyncio",
        )


#: What asyncio itself says without a loop.
_NO_LOOP = ("no running event loop", "There is no current event loop")

#: The errors of sniffio and anyio for that, which httpx raises.
_NO_LOOP_ERRORS = frozenset(("AsyncLibraryNotFoundError", "NoEventLoopError"))


def startedWithoutLoop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """
    Run a coroutine as far as it goes without waiting.  It may await Deferreds only, and fails
    with L{NoAsyncio} when it awaits something else.

    @return: a result that is there, else a L{Deferred} of it.
    """
    context = copy_context()
    try:
        waitsFor = context.run(coroutine.send, None)
    except StopIteration as stop:
        return stop.value
    except Exception as error:
        if _missesLoop(error):
            raise NoAsyncio from error
        raise
    return context.run(Deferred.fromCoroutine, _onlyDeferreds(coroutine, waitsFor))


def _onlyDeferreds(
    coroutine: Coroutine[Any, Any, Any], waitsFor: Any
) -> Generator[Deferred[Any], Any, Any]:
    """Run the rest of a coroutine; its wait for anything but a Deferred raises L{NoAsyncio}."""
    while True:
        error: BaseException | None = None
        if isinstance(waitsFor, Deferred):
            try:
                yield waitsFor
            except BaseException as thrown:
                error = thrown
        else:
            error = NoAsyncio()
        try:
            waitsFor = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        except Exception as raised:
            if _missesLoop(raised):
                raise NoAsyncio from raised
            raise


def _missesLoop(error: BaseException | None) -> bool:
    """Whether an error came about because no asyncio loop runs."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if type(error).__name__ in _NO_LOOP_ERRORS:
            return True
        if isinstance(error, RuntimeError) and str(error).startswith(_NO_LOOP):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
