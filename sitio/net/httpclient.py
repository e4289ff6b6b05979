"""
HTTP calls of sitio's own: agents that keep no connection, and whose
connections are no lines in the log.

Contract: reactors and endpoints are passed in.  Whoever calls imports this when there
is something to call: it takes memory that nobody else should pay for.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class _Quiet:
    """An endpoint whose factories don't log each of their connections."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)


class _QuietPool(HTTPConnectionPool):
    """Keeps no connection: one that was kept may be closed as a request goes out on it."""

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Any:
        return HTTPConnectionPool.getConnection(self, key, _Quiet(endpoint))


@implementer(IAgentEndpointFactory)
class _Always:
    """Leads to one place, whatever the address says."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        """See C{IAgentEndpointFactory}."""
        return self._endpoint


#: Where L{Below} is asked for pages.
NOWHERE = "http://localhost"


@implementer(IAgent)
class Below:
    """Asks for pages below an address that C{treq} may not read: it takes none of IPv6."""

    def __init__(self, agent: IAgent, url: str) -> None:
        """
        @param agent: what asks.
        @param url: the address, without a slash at its end.
        """
        self._agent = agent
        self._url = url.encode()

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None
    ) -> Deferred[Any]:
        """See C{IAgent}; what is below L{NOWHERE} is below the address."""
        url = self._url + uri.removeprefix(NOWHERE.encode())
        response: Deferred[Any] = self._agent.request(method, url, headers, bodyProducer)
        return response


def agentFor(reactor: Any, endpoint: IStreamClientEndpoint) -> IAgent:
    """An agent whose connections all go there, whatever the address says."""
    pool = _QuietPool(reactor, persistent=False)
    agent: IAgent = Agent.usingEndpointFactory(reactor, _Always(endpoint), pool=pool)
    return agent


def agentAnywhere(reactor: Any, timeout: float) -> IAgent:
    """
    An agent whose connections go where the address says.

    @param timeout: seconds for a connection.
    """
    agent: IAgent = Agent(
        reactor, connectTimeout=timeout, pool=_QuietPool(reactor, persistent=False)
    )
    return agent
