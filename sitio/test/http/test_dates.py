"""
Tests of L{sitio.http.dates}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.dates import DateLine, formatDate, parseDate

#: Texts and the seconds since 1970 that they mean; L{None} for no date.
DATES: list[tuple[str, int | None]] = [
    # The three forms of RFC 9110, section 5.6.7.
    ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
    ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
    ("Sun Nov  6 08:49:37 1994", 784111777),
    # The end of the epoch's first second, a leap day, a year beyond 32 bits.
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
    ("Thu, 29 Feb 2024 12:00:00 GMT", 1709208000),
    ("Fri, 01 Jan 2100 00:00:00 GMT", 4102444800),
    # Years of two digits.
    ("Sunday, 06-Nov-68 00:00:00 GMT", 3119385600),
    ("Sunday, 06-Nov-69 00:00:00 GMT", -4838400),
    # Time zones are ignored.
    ("Sun, 06 Nov 1994 08:49:37 +0200", 784111777),
    # No dates.
    ("", None),
    ("0", None),
    ("-1", None),
    ("soon", None),
    ("Sun, 06 Nov", None),
    ("Sun, 06 Foo 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
    ("Sun, 06 Nov 1994 08:xx:37 GMT", None),
    ("\xff", None),
]


class ParseDateTests(SynchronousTestCase):
    """What texts mean as dates."""

    def test_table(self) -> None:
        """Each text gives its seconds, or L{None} where it is not a date."""
        for text, seconds in DATES:
            self.assertEqual(parseDate(text), seconds, text)


class FormatDateTests(SynchronousTestCase):
    """Dates as they are sent."""

    def test_form(self) -> None:
        """Dates have the form that RFC 9110 prescribes to senders; fractions are cut off."""
        for seconds, text in (
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784111777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784111777.999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (4102444800, "Fri, 01 Jan 2100 00:00:00 GMT"),
        ):
            self.assertEqual(formatDate(seconds), text)

    def test_roundTrip(self) -> None:
        """A date that was written is read as the same time."""
        for seconds in range(0, 5_000_000_000, 123_456_789):
            self.assertEqual(parseDate(formatDate(seconds)), seconds)


class DateLineTests(SynchronousTestCase):
    """The field line of a response that is sent now."""

    def test_line(self) -> None:
        """It has the wall clock's time, and is formatted once in a second."""
        times = [784111777.0, 784111777.9, 784111778.0, 784111700.0]
        line = DateLine(lambda: times.pop(0))
        first = line()
        self.assertEqual(first, b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        self.assertIs(line(), first)
        self.assertEqual(line(), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n")
        # Also when the clock was set back.
        self.assertEqual(line(), b"Date: Sun, 06 Nov 1994 08:48:20 GMT\r\n")
