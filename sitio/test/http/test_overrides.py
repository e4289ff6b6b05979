"""
Tests of L{sitio.http.overrides}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.overrides import (
    AUTHORITY_FIELDS,
    METHOD_FIELDS,
    OVERRIDE_FIELDS,
    PATH_FIELDS,
    PREFIX_FIELDS,
    foldedName,
    overridesOf,
)

OBEYED = (
    "X-HTTP-Method-Override X-HTTP-Method X-Method-Override X-Original-URI X-Original-URL"
    " X-Rewrite-URL X-Forwarded-Scheme X-Forwarded-Ssl X-Forwarded-Server X-Original-Host"
    " X-Forwarded-Prefix X-Forwarded-Uri X-Script-Name SCRIPT_NAME PATH_INFO X-Host"
)
ORDINARY = (
    "Host Accept User-Agent Referer Origin Forwarded X-Forwarded-For X-Forwarded-Host"
    " X-Forwarded-Proto X-Forwarded-Port X-Envoy-Original-Path"
    " X-Request-Id X-Requested-With X-Method-Name Method Url"
)


class OverrideTests(SynchronousTestCase):
    """The fields that replace method, path, host or scheme, in any spelling."""

    def test_folded(self) -> None:
        """Case counts nothing, and each byte that is no letter or digit is a hyphen."""
        for name in (b"X-Original-URL", b"x_original_url", b"X_Original-url", b"X.Original~URL"):
            self.assertEqual(foldedName(name), b"x-original-url")
        self.assertEqual(foldedName(bytes(range(128, 256))), b"-" * 128)
        self.assertEqual(foldedName(b"X-7a"), b"x-7a")

    def test_tables(self) -> None:
        """Each name is folded, and stands in one table only."""
        tables = (METHOD_FIELDS, PATH_FIELDS, PREFIX_FIELDS, AUTHORITY_FIELDS)
        self.assertEqual(sum(map(len, tables)), len(OVERRIDE_FIELDS))
        for name in OVERRIDE_FIELDS:
            self.assertEqual(foldedName(name), name)

    def test_names(self) -> None:
        """Names that services are known to obey are in the table."""
        for name in OBEYED.split():
            for spelling in (name, name.replace("-", "_"), name.lower(), name.upper()):
                found = overridesOf([(b"Host", b"a"), (spelling.encode(), b"v")])
                self.assertEqual(found, [(foldedName(name.encode()), b"v")], spelling)

    def test_others(self) -> None:
        """Fields of proxies and of ordinary requests override nothing."""
        for name in ORDINARY.split():
            self.assertEqual(overridesOf([(name.encode(), b"v")]), [], name)
