"""
Tests of L{sitio.config.schema}, and of the documents that are made with it.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.file import readConfig
from sitio.config.keys import keyOf
from sitio.config.options import Options
from sitio.config.schema import documents, jsonSchema, reference
from sitio.config.structure import allTables, keysOf
from sitio.test.helpers.configurations import FILE, WHOLE

ROOT = Path(__file__).parent.parent.parent.parent
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))

_toml = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL).findall

#: Files that are right, for sitio and for the schema.
RIGHT = (
    "",
    WHOLE,
    FILE,
    'workers = "auto"\n[upstream]\naddress = 8087',
    'workers = "${WORKERS}"\n[limits]\ngrace = "${GRACE}"\nmax-body = "${MAX}"\n'
    '[forwarded]\nvia = "${VIA}"\nmode = "${MODE}"',
    'policies = "retry"\n[listeners.a]\n[listeners.b]\naddress = ":80"',
    '[upstream]\nendpoints = ["a:1", { address = "b:1" }]\nejection = { max-share = "50%" }',
    "[[routes]]\nfields = { X-A = true }\nlimits = { max-body = 0 }",
    'access-log = "off"\nfleet = "file:url"',
)
ENVIRON = {"WORKERS": "2", "GRACE": "5s", "MAX": "1MiB", "VIA": "true", "MODE": "append"}

#: Files that neither takes.
WRONG = (
    "wokers = 1",
    "workers = 0",
    'workers = "many"',
    "workers = true",
    "stats-interval = -1",
    'stats-interval = "5 s"',
    'access-log = "xml"',
    'log-level = "warning"',
    "policies = 5",
    "policies = [{ max-age = 5 }]",
    "listener = 8080",
    "[listener]\naddress = 99999",
    "[listener]\nport = 80",
    '[listener.tls]\ncertificate = "a"',
    '[listeners]\naddress = "a"',
    "[limits]\nmax-clients = 0",
    '[limits]\nmax-head = "5X"',
    "[limits]\nmax-head = 1.5",
    '[forwarded]\nvia = "yes"',
    '[upstream]\nproxy-protocol = "v3"',
    "[upstream]\nendpoints = [{ weight = 1 }]",
    '[upstream]\nendpoints = [{ address = "a:1", weight = 0 }]',
    "[upstream.health]\ninterval = 5",
    "[upstream.ejection]\npanic = 2",
    "[routes]\npath = '/'",
    "[[routes]]\nfields = { X-A = 1 }",
    "[[routes]]\nupstreams = { a = -1 }",
    '[[routes]]\nsticky = "path"',
    "[[routes]]\nlimits = { grace = 1 }",
)


class SchemaTests(SynchronousTestCase):
    """The JSON schema takes what sitio takes."""

    def setUp(self) -> None:
        schema = jsonSchema()
        Draft7Validator.check_schema(schema)
        self.validator = Draft7Validator(schema)

    def both(self, text: str) -> tuple[bool, bool]:
        """Whether sitio and the schema take a file."""
        path = Path(self.mktemp())
        path.write_text(text)
        _, mistakes = readConfig(str(path), ENVIRON)
        # A file of a secret is there or not.
        mistakes = [each for each in mistakes if "there is no file" not in each.sentence]
        return not mistakes, self.validator.is_valid(tomllib.loads(text))

    def test_right(self) -> None:
        """Both take what is right."""
        for text in RIGHT:
            self.assertEqual(self.both(text), (True, True), text)

    def test_wrong(self) -> None:
        """Both refuse unknown keys, missing ones, wrong types and values that don't exist."""
        for text in WRONG:
            self.assertEqual(self.both(text), (False, False), text)

    def test_explained(self) -> None:
        """Each key has its help, which editors show."""
        schema = jsonSchema()
        tables = [schema, *schema["definitions"].values()]
        count = 0
        for table in tables:
            self.assertIs(table["additionalProperties"], False)
            for name, each in table["properties"].items():
                self.assertTrue(each["description"], name)
                count += 1
        self.assertGreater(count, 100)

    def test_defaults(self) -> None:
        """Each default is a value that the schema takes."""

        def check(table: dict[str, Any]) -> None:
            for name, each in table["properties"].items():
                if "default" in each:
                    rest = {key: value for key, value in each.items() if key != "default"}
                    self.assertTrue(Draft7Validator(rest).is_valid(each["default"]), name)

        schema = jsonSchema()
        for table in (schema, *schema["definitions"].values()):
            check(table)


class ReferenceTests(SynchronousTestCase):
    """The reference has all keys."""

    def test_complete(self) -> None:
        """Each table has its section, with a row for each of its keys."""
        sections = dict(
            part.split("\n", 1) for part in ("\n" + reference()).split("\n### ") if part
        )
        for header, table in allTables():
            title = f"`{header}`" if header[0] == "[" else "The top of the file"
            rows = re.findall(r"^\| `([a-z-]+)` \|", sections.pop(title), re.MULTILINE)
            known = [keyOf(each) for each in keysOf(table)]
            expected = known if header[0] == "[" else known[: known.index("listeners")]
            self.assertEqual(rows, expected)
        self.assertEqual(sections, {})

    def test_plain(self) -> None:
        """It is for people: no names and marks of Python, and four cells in each row."""
        text = reference()
        self.assertNotRegex(text, r"[A-Z]\{|None|NOTHING|object at|\(\)")
        for line in text.splitlines():
            if line.startswith("|"):
                self.assertEqual(line.replace("\\|", "").count("|"), 5, line)


class DocumentTests(SynchronousTestCase):
    """The documents in the repository."""

    if not (ROOT / "docs/configuration.md").is_file():
        skip = "sitio is installed without its documents"

    def test_made(self) -> None:
        """They are as the model is now."""
        for path, text in documents(ROOT / "docs").items():
            self.assertEqual(
                path.read_text("utf-8"), text, f"{path.name} is stale: run make config-docs"
            )

    def test_schema(self) -> None:
        """The schema is JSON."""
        found = json.loads((ROOT / "docs/sitio.schema.json").read_text("utf-8"))
        self.assertEqual(found, jsonSchema())

    def test_examples(self) -> None:
        """Each example in the documents is right, for sitio and for the schema."""
        validator, count = Draft7Validator(jsonSchema()), 0
        for document in DOCUMENTS:
            for text in _toml(document.read_text("utf-8")):
                first = text.split("\n")[0]
                if "pyproject" in first:
                    continue
                path = Path(self.mktemp())
                path.write_text(text)
                if first.endswith(".toml"):
                    Options({}).parseOptions(["--config", str(path)])
                else:
                    # A part of a file.
                    self.assertEqual(readConfig(str(path), {})[1], [], document.name)
                validator.validate(tomllib.loads(text))
                count += 1
        self.assertGreater(count, 2)

    def test_mistakes(self) -> None:
        """The mistakes of docs/configuration.md are said as sitio says them."""
        text = (ROOT / "docs/configuration.md").read_text("utf-8")
        said = re.findall(r"^    sitio\.toml:\d+: (\S+): (.+)$", text, re.MULTILINE)
        self.assertEqual(len(said), 3)
        path = Path(self.mktemp())
        path.write_text(
            "wokers = 2\n[limits]\nresponse-timeout = 'soon'\n[upstreams.photos]\n"
            "address = 'a:1'\n[[routes]]\nupstream = 'fotos'\n"
        )
        options = Options({})
        error = self.assertRaises(SystemExit, options.parseOptions, ["--config", str(path)])
        for key, sentence in said:
            self.assertIn(f"{key}: {sentence}", str(error))
