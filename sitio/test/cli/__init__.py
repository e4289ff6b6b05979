"""Tests of L{sitio.cli}."""
