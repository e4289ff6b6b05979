"""
The limits of a message: L{Limits}.

A head over them is answered with status 431, a body with 413 (L{sitio.errors}).  Their
values are options; L{sitio.settings} has the defaults.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Limits:
    """
    The limits of a message.

    @ivar head: bytes of the head, and of the trailers.
    @ivar fields: number of fields in each of them.
    @ivar body: bytes of the body; L{None} for no limit.
    @ivar interim: bytes of all interim responses to one request.
    @ivar keepsFolded: whether requests keep fields that CGI takes for those of sitio
        (L{isFolded<sitio.http.head.isFolded>}).
    """

    head: int = 32 * 1024
    fields: int = 100
    body: int | None = None
    interim: int = 1024 * 1024
    keepsFolded: bool = False
