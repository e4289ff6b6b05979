"""
An HTTP client for the calls that sitio makes itself: health checks, metrics for a fleet.

Its agents use a new connection for each call, as the peer may close a kept connection
while a request is under way.  Their connections are not logged.

Contract: reactors and endpoints are passed in.  This module imports C{twisted.web.client},
which takes memory: import it only when there is something to call.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class QuietEndpoint:
    """An endpoint whose connections are not logged."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)


class QuietPool(HTTPConnectionPool):
    """A pool that keeps no connection and logs none."""

    def __init__(self, reactor: Any) -> None:
        HTTPConnectionPool.__init__(self, reactor, persistent=False)

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Any:
        return HTTPConnectionPool.getConnection(self, key, QuietEndpoint(endpoint))


@implementer(IAgentEndpointFactory)
class FixedEndpointFactory:
    """Returns one endpoint for all URLs."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        """See C{IAgentEndpointFactory}."""
        return self._endpoint


#: The URL that stands for the base URL in requests to a L{BaseURLAgent}.
PLACEHOLDER_URL = "http://localhost"


@implementer(IAgent)
class BaseURLAgent:
    """
    Requests URLs below a base URL.

    Callers write L{PLACEHOLDER_URL} instead of the base URL.  So C{treq} never parses
    the base URL, which it can't do for an IPv6 address.
    """

    def __init__(self, agent: IAgent, url: str) -> None:
        """
        @param agent: sends the requests.
        @param url: the base URL, without a slash at its end.
        """
        self._agent = agent
        self._url = url.encode()

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None
    ) -> Deferred[Any]:
        """See C{IAgent}; L{PLACEHOLDER_URL} at the start is replaced by the base URL."""
        url = self._url + uri.removeprefix(PLACEHOLDER_URL.encode())
        response: Deferred[Any] = self._agent.request(method, url, headers, bodyProducer)
        return response


def agentFor(reactor: Any, endpoint: IStreamClientEndpoint) -> IAgent:
    """An agent that connects to this endpoint, whatever the URL says."""
    factory = FixedEndpointFactory(endpoint)
    agent: IAgent = Agent.usingEndpointFactory(reactor, factory, pool=QuietPool(reactor))
    return agent


def agentByURL(reactor: Any, timeout: float) -> IAgent:
    """
    An agent that connects to the host that the URL names.

    @param timeout: seconds for a connection.
    """
    agent: IAgent = Agent(reactor, connectTimeout=timeout, pool=QuietPool(reactor))
    return agent
