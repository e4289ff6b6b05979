"""
Counts what one proxy buffers of responses: L{Buffers}.
"""

from __future__ import annotations

from attrs import define


@define(eq=False)
class Buffers:
    """
    How many bytes of responses are in memory beyond what streams.

    These are the parts of bodies that policies wait for or decide about, and the whole
    bodies that clients have not taken yet.  Only what a policy wants to be collected can be
    refused.  The rest is there already: it is counted, so that less is collected.

    @ivar limit: the largest number of bytes at which more is collected.
    @ivar held: the number of bytes now.
    """

    limit: int
    held: int = 0

    def reserve(self, size: int) -> bool:
        """Count so many bytes more, if they are within the limit."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def hold(self, size: int) -> None:
        """Count so many bytes more, which are there already."""
        self.held += size

    def release(self, size: int) -> None:
        """Count so many bytes less."""
        self.held -= size
