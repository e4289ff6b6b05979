"""What sitio is, needs and ships.  The tools around it are set up in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# Read and not imported: what sitio imports may not be there yet.
root = Path(__file__).parent
source = (root / "sitio/__init__.py").read_text("utf-8")
# The pictures lie beside it, and not where a package index shows it.
readme = re.sub(
    r"^(<picture>.*?</picture>|!\[.*?\]\(.*?\))\n\n",
    "",
    (root / "README.md").read_text("utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)
version = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]

setup(
    name="sitio",
    version=version,
    description="The sidecar you program in Python: a small HTTP proxy on Twisted",
    long_description=readme,
    long_description_content_type="text/markdown",
    author="the sitio authors",
    license="MIT",
    python_requires=">=3.11",
    # A reason for each stands in docs/decisions/0001-dependencies.md.
    install_requires=[
        "twisted[tls]>=24.7",
        "treq>=24.9",
        "prometheus-client>=0.16",
        "zope.interface>=6",
        "attrs>=23.2",
        "httptools>=0.8",
        # sitio runs without it, and says so: where there is none, it is no reason to fail.
        'uvloop>=0.21; sys_platform != "win32" and platform_python_implementation == "CPython"',
    ],
    extras_require={
        "dev": [
            "build",
            "coverage[toml]>=7.6",
            "hypothesis>=6.100",
            "kubernetes-validate>=1.37",
            "mypy>=1.11",
            "mypy-zope>=1.0.8",
            "PyHamcrest>=2",
            "PyYAML>=6",
            "ruff>=0.8",
            "selenium>=4.20",
            # The first that builds wheels by itself: a test builds one, offline.
            "setuptools>=70.1",
            "websockets>=13",
        ],
    },
    packages=find_packages(include=["sitio", "sitio.*"]),
    # A module and not the package twisted.plugins, which is Twisted's own: sitio
    # adds one file to it, and never an __init__.py.
    py_modules=["twisted.plugins.sitio_plugin"],
    package_data={"sitio": ["py.typed", "demo/*", "demo/**/*", "admin/page/*", "**/*.html"]},
    # Says what holds anyway, so that an editable install puts this directory on
    # sys.path: Twisted looks for plugins there and can't see an import hook.
    package_dir={"": "."},
    zip_safe=False,
)
