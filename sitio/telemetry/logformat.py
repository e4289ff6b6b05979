"""
The line formats of the access log: JSON and the common log format.

L{sitio.telemetry.accesslog} notes an L{Entry} when an exchange ends; a L{LineFormat}
makes one line of it.  What clients send cannot forge a line: a line is printable
ASCII, quotes and backslashes are escaped, long texts are cut, and no line is longer
than L{ATOMIC_BYTES<sitio.telemetry.logfile.ATOMIC_BYTES>}.

Contract: pure, but for the cached date.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _escaped
from typing import Any

from sitio.errors import SitioError
from sitio.telemetry.records import stepsOf

#: Characters of texts in a line, quotes and escapes included; longer ones are cut.
#: Together they fit into L{ATOMIC_BYTES<sitio.telemetry.logfile.ATOMIC_BYTES>}.
MAX_PATH = 1024
MAX_FAILURE = 256
MAX_AGENT = 256
MAX_NAME = 64
MAX_LABEL = 66  # That of a label whose characters are plain.

#: Names of policies in a line.  Only a policy that retries again and again makes more.
MAX_ACTED = 8

#: What a line is made of, in the order in which the access log notes it.
Entry = tuple[Any, ...]


@lru_cache(512)
def quoted(text: str, most: int = MAX_NAME) -> str:
    """
    A text in double quotes, escaped as in JSON, in printable ASCII.

    @param most: characters, quotes included; the text is cut to fit.
    """
    whole: str = _escaped(text[: most - 2])
    # An escape has up to six characters, or twelve beyond the first 65536 of Unicode, so a cut
    # by the text's own length may not do.
    for each in (6, 12):
        if len(whole) > most:
            whole = _escaped(text[: most // each - 1])
    return whole


class LineFormat:
    """
    Makes lines of entries.
    """

    #: The time of day, to the second, as this format writes it.
    dated: Callable[[float], str]

    def __init__(self, query: bool = False) -> None:
        """
        @param query: write targets with their query, which may hold secrets.
        """
        self._query = query
        self._second = -1
        self._date = ""

    def line(self, entry: Entry, offset: float) -> str:
        """
        The line of one exchange, with its line end.

        @param offset: seconds to add to the times in the entry to get seconds since 1970.
        """
        raise NotImplementedError

    def date(self, second: int) -> str:
        """The time of day; cached, as most lines have the same as the one before."""
        if second != self._second:
            self._second = second
            self._date = self.dated(second)
        return self._date

    def target(self, line: Any) -> str:
        """The target of a request line, or its path only."""
        target: str = line.target if self._query else line.path
        return target


# Cached, as most requests repeat; the cache takes less than a megabyte.
@lru_cache(512)
def _jsonRequest(
    method: str,
    target: str,
    version: str,
    status: int | None,
    upstream: int | None,
    answeredBy: str | None,
) -> str:
    return (
        f'"method":{quoted(method)},"path":{quoted(target, MAX_PATH)},"protocol":"HTTP/{version}"'
        f',"status":{status or "null"},"upstreamStatus":{upstream or "null"}'
        f',"answeredBy":{quoted(answeredBy) if answeredBy else "null"}'
    )


@lru_cache(512)
def _commonRequest(method: str, target: str, version: str, status: int | None) -> str:
    request = f"{quoted(method)[1:-1]} {quoted(target, MAX_PATH)[1:-1]} HTTP/{version}"
    return f'"{request}" {status or 0:03d}'


# Faster than an f-string.
_OBJECT = (
    '{"time":"%s.%03dZ","id":"%s","client":%s,%s,"duration":%.6f,"steps":{"policies":%.6f'
    ',"connection":%.6f,"upstream":%.6f,"transfer":%.6f},"bytesIn":%d,"bytesOut":%d'
    ',"attempts":%d%s}\n'
)


class JsonFormat(LineFormat):
    """
    One JSON object a line.  What an L{ExchangeRecord<sitio.telemetry.records.ExchangeRecord>}
    also has is named as there.  A value that does not exist is left out, or C{null}.
    """

    @staticmethod
    def dated(when: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))

    def line(self, entry: Entry, offset: float) -> str:
        """See L{LineFormat}."""
        began, client, version, line, id, headers, answeredBy, acted, labels, *rest = entry
        failure, *numbers = rest
        status, upstreamStatus, attempts, duration, policies, connection, upstream, *sizes = numbers
        second, millis = divmod(int((began + offset) * 1000), 1000)
        agent = headers.bytesOf(b"user-agent")
        more = f',"userAgent":{quoted(agent.decode("latin-1"), MAX_AGENT)}' if agent else ""
        if acted:
            more += f',"acted":[{",".join([quoted(each) for each in acted[:MAX_ACTED]])}]'
        if labels:
            pairs = [f'"{name}":{quoted(labels[name], MAX_LABEL)}' for name in labels]
            more += f',"labels":{{{",".join(pairs)}}}'
        if failure is not None:
            side = failure.side.value if isinstance(failure, SitioError) else "sitio"
            more += f',"side":"{side}","failure":{quoted(str(failure), MAX_FAILURE)}'
        target = self.target(line)
        request = _jsonRequest(line.method, target, version, status, upstreamStatus, answeredBy)
        return _OBJECT % (
            self.date(second),
            millis,
            id,
            quoted(client),
            request,
            duration,
            *stepsOf(policies, connection, upstream, duration).values(),
            *sizes,
            attempts,
            more,
        )


_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class CommonFormat(LineFormat):
    """
    The common log format of NCSA httpd and the web servers after it.

    Its status is the status that was sent to the client.  If the upstream's status was
    another, that status and the name of the replacing policy follow the seven fields.
    """

    @staticmethod
    def dated(when: float) -> str:
        day, month, rest = time.strftime("%d %m %Y:%H:%M:%S", time.gmtime(when)).split()
        # Not by strftime's %b, which follows the locale of the process.
        return f"[{day}/{_MONTHS[int(month) - 1]}/{rest} +0000]"

    def line(self, entry: Entry, offset: float) -> str:
        """See L{LineFormat}."""
        began, client, version, line, _, _, answeredBy, _, labels, *rest, size = entry
        _, status, upstream, *_ = rest
        more = ""
        if status != upstream and upstream is not None:
            more = f" upstreamStatus={upstream} answeredBy={quoted(answeredBy or '-')}"
        for name in labels or ():
            more += f" label.{name}={quoted(labels[name], MAX_LABEL)}"
        date = self.date(int(began + offset))
        request = _commonRequest(line.method, self.target(line), version, status)
        return f"{quoted(client)[1:-1]} - - {date} {request} {size or '-'}{more}\n"


#: The formats by the names that C{--access-log} knows.
FORMATS: dict[str, type[LineFormat]] = {"json": JsonFormat, "common": CommonFormat}
