"""
Tests of what type checkers say of policies: nothing of the examples and of the blocks of
docs/policies.md, and an error for each mistake of L{PLANTED}.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio
from sitio.test.helpers.documents import blocks

ROOT = Path(sitio.__file__).parent.parent

if not (ROOT / "examples").exists():
    skip = "this is no checkout, and only a checkout has examples and documents"

#: Seconds for one checker.  Without a cache mypy takes 20 on an idle machine.
TIMEOUT_SECONDS = 300

#: mypy's cache, which C{make clean} removes with that of C{make lint}.
CACHE = ROOT / ".mypy_cache" / "policies"

#: Of basedpyright: all that is wrong, but not that a type of a library is unknown.
STRICT = {
    "typeCheckingMode": "strict",
    "reportUnknownArgumentType": False,
    "reportUnknownLambdaType": False,
    "reportUnknownMemberType": False,
    "reportUnknownVariableType": False,
}

HEADER = """\
from asyncio import Future, ensure_future
from collections.abc import Awaitable

from sitio import Exchange, Response, Retry, SentHead, onFinish, onRequest, onResponse, onSend
from twisted.internet.defer import Deferred, succeed
"""

#: Right code, which is no error.
RIGHT = """\
@onRequest
def plain(exchange: Exchange, more: int = 1) -> None:
    exchange.timeout = 5
    exchange.labels["kind"] = "report"

@onRequest(failOpen=True)
async def coroutine(exchange: Exchange) -> Response | None:
    return None

@onResponse
def deferred(exchange: Exchange, response: Response) -> Deferred[Response]:
    return succeed(response)

@onResponse(404, range(500, 600), buffered=True)
async def retries(exchange: Exchange, response: Response) -> Response | Retry | None:
    return Retry(after=1) if exchange.attempts < 2 else None

@onRequest
def awaitable(exchange: Exchange) -> Awaitable[Response | None]:
    return coroutine(exchange)

@onRequest
def future(exchange: Exchange) -> Future[Response | None]:
    return ensure_future(coroutine.function(exchange))

@onSend
def sends(exchange: Exchange, response: SentHead) -> None:
    response.headers["X-Id"] = exchange.id

@onFinish()
def finishes(exchange: Exchange) -> None:
    print(exchange.status, exchange.request.path)

async def calls(exchange: Exchange, response: Response) -> Response | Retry | None:
    plain(exchange, more=2)
    plain.function(exchange, 3)
    return await retries(exchange, response)
"""

#: Mistakes, each in a file of its own.
PLANTED = {
    "typo": "def f(exchange: Exchange) -> None:\n    print(exchange.reqest)",
    "typoOfRequest": "def f(exchange: Exchange) -> None:\n    print(exchange.request.metod)",
    "readOnly": "def f(exchange: Exchange) -> None:\n    exchange.attempts = 3",
    "bytes": "def f() -> Response:\n    return Response(200, body='text')",
    "bytesLater": "def f(response: Response) -> None:\n    response.body = 'text'",
    "field": "def f(response: Response) -> None:\n    response.headers['X-Count'] = 4",
    "label": "def f(exchange: Exchange) -> None:\n    exchange.labels['count'] = 4",
    "retry": "def f() -> Retry:\n    return Retry(after='1s')",
    "tooMany": "@onRequest\ndef f(exchange: Exchange, response: Response) -> None: ...",
    "tooFew": "@onResponse(404)\ndef f(exchange: Exchange) -> None: ...",
    "tooFewPlain": "@onResponse\ndef f(exchange: Exchange) -> None: ...",
    "tooFewSend": "@onSend\ndef f(exchange: Exchange) -> None: ...",
    "none": "@onFinish\ndef f() -> None: ...",
    "text": "@onRequest\ndef f(exchange: Exchange) -> str:\n    return 'no'",
    "textLater": "@onRequest()\nasync def f(exchange: Exchange) -> str:\n    return 'no'",
    "retryOfRequest": "@onRequest\ndef f(exchange: Exchange) -> Retry:\n    return Retry()",
    "coroutineSends": "@onSend\nasync def f(e: Exchange, r: SentHead) -> None: ...",
    "coroutineFinishes": "@onFinish\nasync def f(e: Exchange) -> None: ...",
    "awaitableText": "@onRequest\ndef f(e: Exchange) -> Awaitable[str]: ...",
    "fieldOfTest": "from sitio.testing import request\n\nrequest('/', headers={'X-Count': 4})",
    "status": "@onResponse('404')\ndef f(e: Exchange, r: Response) -> None: ...",
    "statusSent": "@onSend\ndef f(e: Exchange, r: SentHead) -> None:\n    r.status = 404",
    "option": "@onRequest(bufered=True)\ndef f(e: Exchange) -> None: ...",
    "call": "@onRequest\ndef f(e: Exchange) -> None: ...\n\nf()",
}


class TypeTests(SynchronousTestCase):
    """An author of policies who uses a type checker is told of mistakes, and of nothing else."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        shutil.copytree(ROOT / "examples", self.folder / "examples")
        # Apart, as some examples have the names of blocks.
        for name, block in blocks((ROOT / "docs" / "policies.md").read_text("utf-8")):
            self.write(f"blocks/{name}", block)
        self.write("blocks/right.py", f"{HEADER}\n{RIGHT}")
        for name, mistake in PLANTED.items():
            self.write(f"blocks/planted_{name}.py", f"{HEADER}\n{mistake}\n")

    def write(self, name: str, text: str) -> None:
        """Write a file, which is not there yet: modules of one name would hide each other."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)

    def output(self, folder: str, *command: str) -> str:
        """What a checker says of a folder, in its time."""
        # Coverage is that of sitio, and not of a checker.
        env = {name: each for name, each in os.environ.items() if "COVERAGE" not in name}
        result = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder / folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        self.assertIn(result.returncode, (0, 1), result.stdout + result.stderr)
        return result.stdout

    def verify(self, errors: list[tuple[str, str]]) -> None:
        """Each planted mistake has an error, and nothing else has."""
        planted = {f"planted_{each}.py" for each in PLANTED}
        wrong = [f"{name}:{said}" for name, said in errors if name not in planted]
        if wrong:
            self.fail("\n".join(wrong))
        self.assertEqual(planted - {name for name, _ in errors}, set())

    def test_mypy(self) -> None:
        """C{mypy --strict} finds the mistakes, and nothing else but that Twisted lacks types."""
        errors: list[tuple[str, str]] = []
        for folder in ("blocks", "examples"):
            top = self.folder / folder
            said = self.output(
                folder,
                *("mypy", "--strict", "--allow-untyped-calls", "--config-file="),
                *(f"--cache-dir={CACHE}", "--no-error-summary", "--no-color-output"),
                *(os.fspath(each.relative_to(top)) for each in sorted(top.rglob("*.py"))),
            )
            errors += re.findall(r"^(\S+?):(\d+: error: .*)", said, re.MULTILINE)
        self.verify(errors)

    def test_basedpyright(self) -> None:
        """basedpyright finds the mistakes, and nothing else but that Twisted lacks types."""
        if find_spec("basedpyright") is None:
            raise SkipTest("basedpyright is not installed")
        errors: list[tuple[str, str]] = []
        for folder in ("blocks", "examples"):
            top = self.folder / folder
            self.write(f"{folder}/pyrightconfig.json", json.dumps(STRICT))
            said = self.output(
                folder, "basedpyright", "--outputjson", "--pythonpath", sys.executable
            )
            errors += [
                (
                    os.path.relpath(each["file"], top),
                    f"{each['range']['start']['line'] + 1}: {each['message']}",
                )
                for each in json.loads(said)["generalDiagnostics"]
            ]
        self.verify(errors)
