"""
Chromium, without a window, driven by selenium.
"""

from __future__ import annotations

import atexit
from functools import cache
from importlib import import_module
from shutil import rmtree, which
from tempfile import mkdtemp
from typing import Any

from twisted.trial.unittest import SkipTest

from sitio.test.helpers.loopback import LIMIT_SECONDS

try:
    # By name: types can be checked without selenium.
    webdriver: Any = import_module("selenium.webdriver")
except ImportError:
    webdriver = None

#: No window, no start page, no updates, no requests to other hosts.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@cache
def browser() -> Any:
    """
    The browser.  All tests of a process share it, as a start takes seconds.

    @raise SkipTest: Chromium, its driver or selenium is missing.
    """
    chromium = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), "")
    driver = which("chromedriver")
    if webdriver is None:
        raise SkipTest("selenium is not installed: pip install -e '.[dev]'")
    if not chromium or driver is None:
        raise SkipTest("there is no Chromium: apt install chromium chromium-driver")
    profile = mkdtemp()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    started.set_script_timeout(LIMIT_SECONDS)
    atexit.register(rmtree, profile, ignore_errors=True)
    atexit.register(started.quit)
    return started
