"""
What policy authors implement, and what they are given.

A policy provides one or more of L{IRequestPolicy}, L{IResponsePolicy} and
L{IExchangeObserver}; each has one method.  One policy object serves every
exchange, many of them at a time: what belongs to one exchange goes into
L{IExchange.notes}.  A policy that also provides
L{twisted.application.service.IService} is started and stopped with sitio.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface


class ExchangeState:
    """
    The states of an exchange, in the order of its steps (docs/request.md).

    C{JUDGING} and C{RESTING} lead to another attempt where a policy asks for one.
    """

    DECIDING = "running the request policies"  # step 3
    CONNECTING = "waiting for a connection"  # step 4
    WAITING = "waiting for the response"  # steps 5 and 6
    JUDGING = "running the response policies"  # step 7
    RESTING = "waiting before another attempt"  # step 7, after a Retry
    SENDING = "sending the response"  # step 8
    TUNNELLING = "tunnelling another protocol"  # step 8, after an upgrade
    ENDED = "ended"  # step 9


class IExchange(Interface):
    """
    One request and all that became of it.  Policies get it; they read it, and
    write only into C{request} (before it is sent) and C{notes}.
    """

    request = Attribute("The L{Request<sitio.http.message.Request>} of the client.")
    state = Attribute("What it does now: a state of L{ExchangeState}.")
    response = Attribute(
        "The L{Response<sitio.http.message.Response>} whose head was sent to the client,"
        " or L{None} as long as none was."
    )
    upstreamStatus = Attribute(
        "The true status: what the upstream said last, or 502, 503, 504 for an attempt"
        " that failed; L{None} when the upstream was not asked."
    )
    status = Attribute(
        "The status that the client was sent; 499 when it went away before its response"
        " was whole; L{None} until then."
    )
    failure = Attribute(
        "The last L{SitioError<sitio.errors.SitioError>} of this exchange, be it masked"
        " or not, or L{None}."
    )
    attempts = Attribute(
        "How many times the upstream was asked, those counted that found no connection, as C{int}."
    )
    clientAddress = Attribute("The client's address as C{str}, without its port.")
    secure = Attribute("Whether the client came by TLS, as C{bool}.")
    began = Attribute("When the head of the request was read: seconds on sitio's clock.")
    duration = Attribute("Seconds from C{began} to the last byte; L{None} before the end.")
    upstreamTime = Attribute(
        "Seconds from the first byte sent upstream to the head of its last response, all"
        " attempts added up; C{0.0} when it was not asked."
    )
    connectTime = Attribute("Seconds of waiting for connections to the upstream.")
    policyTime = Attribute(
        "Seconds that policies took over their answers, their pauses before another"
        " attempt included."
    )
    bytesIn = Attribute("Bytes of the request's body that have come from the client.")
    bytesOut = Attribute("Bytes of the response's body that were written to the client.")
    acted = Attribute(
        "Names of the policies that answered, replaced or retried, in order, as C{tuple}."
    )
    answeredBy = Attribute(
        "Name of the policy that made the response; L{None} when the upstream made it, or"
        " sitio itself, which sets C{response.failure}."
    )
    notes = Attribute("A C{dict} for policies: what they remember about this exchange.")


class IRequestPolicy(Interface):
    """Sees each request before the upstream is asked."""

    def requestReceived(exchange):
        """
        Called once for each request, in the operator's order, when its head
        has come; its body may still be on its way.

        @param exchange: the L{IExchange}.

        @return: L{None} to go on to the next policy and then the upstream; a
            L{Response<sitio.http.message.Response>} to answer now, whereupon neither
            the upstream nor any other policy is asked; or a coroutine or
            L{Deferred<twisted.internet.defer.Deferred>} of either.  A Deferred is
            cancelled when the client goes away.

        @raise Exception: anything raised, or a Deferred that fails or takes
            longer than the policy timeout, answers 500: an access rule that
            crashes must not let people in.
        """


class IResponsePolicy(Interface):
    """Sees each response of the statuses it names before the client does."""

    statuses = Attribute(
        "A container of C{int}: the statuses that interest it.  A failed attempt has"
        " 502, 503 or 504.  Asked once for each status, then remembered."
    )
    buffered = Attribute(
        "C{bool}: whether C{response.body} is to be complete.  A body beyond the buffer"
        " limit passes unchanged, and this policy is not called.  Asked once."
    )

    def responseReceived(exchange, response):
        """
        Called in the operator's order, with the response as the policies before
        this one left it, once for every attempt.

        @param exchange: the L{IExchange}.
        @param response: the L{Response<sitio.http.message.Response>}; its headers may
            be changed, and its body too where C{buffered} is set.

        @return: L{None} to leave it; a L{Response<sitio.http.message.Response>} to send
            instead, which the policies after this one are shown; a
            L{Retry<sitio.http.message.Retry>}; or a coroutine or
            L{Deferred<twisted.internet.defer.Deferred>} of one.

        @raise Exception: anything raised lets the response as it was pass: a
            decoration that crashes must not take the service down.
        """


class IExchangeObserver(Interface):
    """Is told of each exchange that has ended."""

    def exchangeFinished(exchange):
        """
        Called once, after the last byte, whatever came of it; read only.

        What it raises is logged and goes no further.
        """


class IPolicyMaker(Interface):
    """
    A plugin, found by L{twisted.plugin}, that makes policies from a description
    such as C{error-page:404:file=404.html}.
    """

    name = Attribute("What stands before the first colon of a description.")
    usage = Attribute("One line for C{--help-policies}: arguments, then what it does.")

    def makePolicy(*arguments, **options):
        """
        Make a policy without side effects: no port, no thread, no timer.

        @param arguments: what stands between colons, as C{str}.
        @param options: what stands there as C{key=value}; C{max-age=60} arrives
            as C{maxAge="60"}.

        @raise ValueError: in one sentence, what is wrong with the description;
            it ends the start before any port is open.
        """


class ISelectivePolicy(IResponsePolicy):
    """
    A response policy that can tell from the head alone that a response is none of
    its business.  Worth it for a buffered one: what it does not want streams.
    """

    def isInterested(exchange, response):
        """
        Called with the head of each response of its C{statuses}, body not yet there.

        @return: C{False} if C{responseReceived} need not be called with it.
        """
