"""Tests of sitio: C{test_<module>} for each module, and L{sitio.test.test_rooms} for its rules."""
