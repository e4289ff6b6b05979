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
    """

    head: int = 32 * 1024
    fields: int = 100
    body: int | None = None
