"""The part of the packaging that pyproject.toml can't express."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import setup

# A package index does not have the pictures that README.md shows.
readme = re.sub(
    r"^(<picture>.*?</picture>|!\[.*?\]\(.*?\))\n\n",
    "",
    (Path(__file__).parent / "README.md").read_text("utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)

with TemporaryDirectory() as elsewhere:
    setup(
        long_description=readme,
        long_description_content_type="text/markdown",
        # A module and not the package twisted.plugins, which is Twisted's own: sitio
        # adds one file to it, and never an __init__.py.
        py_modules=["twisted.plugins.sitio_plugin"],
        # The default, but said: then an editable install puts this directory on sys.path,
        # where Twisted finds plugins.  Otherwise it makes an import hook, which Twisted
        # can't search.
        package_dir={"": "."},
        # Not build/ in this directory: it would stay there, and its old files would get
        # into the next wheel.
        options={"build": {"build_base": elsewhere}},
    )
