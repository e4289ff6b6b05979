"""
Tests of sitio.

  - C{test_*.py} here: rules of the source tree, packaging, examples, docs.
  - a folder for each package: tests of one module each, in memory.
  - C{functional}: whole exchanges in memory, byte by byte.
  - C{integration}: on loopback, with real sockets.
  - C{system}: whole processes, and a real browser.
  - C{helpers}: what tests share.
"""

import os

# What hypothesis writes goes to where trial runs the tests, not into the checkout.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")

try:
    from hypothesis import HealthCheck, settings
except ImportError:
    # Tests of properties need it, all others run without.
    pass
else:
    # Here, as each process of a parallel run needs it.  The short profile makes the
    # same examples in each run.  Nothing is stored: a failure that was found becomes
    # an ordinary test.
    settings.register_profile(
        "short",
        max_examples=100,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.register_profile(
        "long", settings.get_profile("short"), max_examples=5_000, derandomize=False
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
