"""Tests of sitio: C{test_<module>} for each module, and L{sitio.test.test_rooms} for its rules."""

import os

# What hypothesis writes goes to where trial runs the tests, not into the checkout.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")
