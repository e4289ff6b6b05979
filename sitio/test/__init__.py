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
