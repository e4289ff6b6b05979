"""
What a soak is to do.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Order:
    """
    What is to be run.

    @ivar requests: the number of requests.
    @ivar clients: the number of connections at the same time.
    @ivar deadline: seconds for a response, and for all that must end after the last one.
    @ivar restart: requests between two restarts of the service.
    @ivar tolerance: bytes by which memory may grow after the first quarter.
    @ivar halfClose: seconds for C{--half-close}; 0 for none.
    @ivar more: more arguments for C{twistd sitio}.
    @ivar fault: faults that the policy of the soak makes; for tests.
    """

    seed: str
    requests: int
    reactor: str
    clients: int = 100
    deadline: float = 20.0
    restart: int = 4000
    tolerance: int = 16 * 1024 * 1024
    tls: bool = False
    halfClose: int = 0
    more: tuple[str, ...] = ()
    fault: str = ""
