"""
What authors of policies implement, and what their policies receive.

A policy provides one or more of L{IRequestPolicy}, L{IResponsePolicy}, L{ISendPolicy} and
L{IExchangeObserver}; each has one method.  One policy object serves all exchanges,
many at a time.  Data of one exchange belongs into L{IExchange.notes}.  A policy that
also provides L{twisted.application.service.IService} is started and stopped with sitio.
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
    One request, and what came of it.  A policy reads it.  It writes only C{notes},
    C{labels}, C{timeout}, C{masking}, C{upstream}, and C{request} before that is sent.

    L{Exchange<sitio.policy.exchange.Exchange>} has the same attributes with types, for the
    annotations of functions.
    """

    request = Attribute("The L{Request<sitio.http.message.Request>} of the client.")
    state = Attribute("The state it is in: one of L{ExchangeState}.")
    response = Attribute(
        "The L{Response<sitio.http.message.Response>} whose head was sent to the client;"
        " L{None} before that."
    )
    upstreamStatus = Attribute(
        "The status of the upstream's last response; 502, 503 or 504 if the last attempt"
        " failed; L{None} if the upstream was not asked."
    )
    status = Attribute(
        "The status that was sent to the client; 499 if the client closed before the end"
        " of its response; L{None} before that."
    )
    failure = Attribute(
        "The last L{SitioError<sitio.errors.SitioError>} of this exchange, also if a"
        " policy masked it; else L{None}."
    )
    attempts = Attribute(
        "How many times sitio tried to send the request upstream, as C{int}.  An attempt"
        " that found no connection counts."
    )
    clientAddress = Attribute(
        "The client's address as C{str}, without its port.  Behind the proxies of C{--trusted} it"
        " is that of their client; else that of the connection.  C{unknown} for a UNIX socket."
    )
    peerAddress = Attribute(
        "The address of the connection's other end as C{str}, without its port: that of the client"
        " or of the proxy nearest to sitio."
    )
    secure = Attribute("Whether the client uses TLS, as C{bool}.")
    peer = Attribute(
        "The L{PeerCertificate<sitio.http.peer.PeerCertificate>} of the other end of the"
        " connection, which TLS has verified; L{None} if it has shown none."
    )
    began = Attribute("When the head of the request was read, in seconds on sitio's clock.")
    duration = Attribute("Seconds from C{began} to the last byte; L{None} before the end.")
    upstreamTime = Attribute(
        "Seconds of waiting for the upstream: from sending the request to the head of the"
        " response, summed over all attempts.  C{0.0} if it was not asked."
    )
    connectTime = Attribute("Seconds of waiting for connections to the upstream.")
    policyTime = Attribute(
        "Seconds that policies took for their decisions, with the pauses before retries."
    )
    bytesIn = Attribute("Bytes of the request's body that were received from the client.")
    bytesOut = Attribute("Bytes of the response's body that were written to the client.")
    acted = Attribute(
        "Names of the policies that answered, replaced or retried, in order, as C{tuple}."
    )
    answeredBy = Attribute(
        "Name of the policy that made the response; L{None} when the upstream made it, or"
        " sitio itself, which sets C{response.failure}."
    )
    id = Attribute(
        "The id of the request, as C{str}: its X-Request-Id or the trace id of its traceparent,"
        " if well formed; else one that sitio makes.  It is in the access log, in /exchanges and"
        " in log lines.  Decided at the first access."
    )
    timeout = Attribute(
        "Seconds from the end of the request to the head of its response, in place of"
        " C{--response-timeout}: a request policy may set it, above 0 to 86400.  Other values"
        " raise C{ValueError}."
    )
    masking = Attribute(
        "C{True}, unless a policy sets it to C{False}: then no policy masks a failure of this"
        " exchange with another response, as C{last-good} does."
    )
    upstream = Attribute(
        "The name of the upstream that gets the request, as C{str}; empty if the request takes no"
        " route.  A policy may set another name before an attempt begins.  A name that is not"
        " configured, or one that comes too late, raises C{ValueError}."
    )
    labels = Attribute(
        "The L{Labels<sitio.policy.labels.Labels>} with which policies mark the exchange, for the"
        " access log and /exchanges: at most 8, with names of 32 characters and values of 64."
        "  Others raise C{ValueError}."
    )
    ownLabels = Attribute("The same, or L{None} if there are none; for observers.")
    notes = Attribute("A C{dict} in which policies keep data of this exchange.")
    sentFields = Attribute(
        "Name and value of each field line of the request as the upstream gets it, as C{bytes}:"
        " with those that sitio adds, but not those of framing and connections."
    )
    now = Attribute("The time, in seconds on the clock of C{began}.")
    mayHaveArrived = Attribute(
        "Whether the upstream may have got some of the request: not if its connections were"
        " refused."
    )

    def isAsReceived(response):
        """
        Whether status and body of a response that a policy got are those that the upstream
        sent: no policy has replaced the response, its status or its body.  Filters don't count.
        """


class IRequestPolicy(Interface):
    """
    Gets each request before the upstream does.

    Two attributes are optional.  With C{failOpen = True}, a request goes on as it was before
    when the policy fails; by default it fails closed.  With C{buffered = True}, the policy is
    called when the whole body is in C{request.body}; a body over the request buffer limit is
    answered with 413, or passes without this policy if that fails open.  C{buffered} of a
    policy that also provides L{IResponsePolicy} speaks of responses; C{requestBuffered} speaks
    of requests.  In place of C{True}, a function or method of the exchange tells it for each
    request, by its head; if it raises, that counts as C{True}.
    """

    def requestReceived(exchange):
        """
        Called once for each request, in the operator's order, when its head has
        arrived.  The body may still be on its way: without C{buffered}, to read
        C{request.body} raises.

        @param exchange: the L{IExchange}.

        @return: L{None} to go on to the next policy, and then to the upstream; a
            L{Response<sitio.http.message.Response>} to answer now, so that neither the
            upstream nor another policy gets the request; or an awaitable of either: a
            coroutine, a L{Deferred<twisted.internet.defer.Deferred>}, or on a reactor with
            asyncio a Future.  It is cancelled when the client disconnects.

        @raise Exception: the client gets 500: an access rule that fails must not let a
            request in.  So it does if an awaitable fails or takes longer than the policy
            timeout.
        """


class IResponsePolicy(Interface):
    """
    Gets the responses of the statuses it names before the client does.

    One attribute is optional.  With C{failOpen = False}, the client gets 502 when the policy
    raises or takes too long, and with C{buffered} also when the body is over a buffer limit.  By
    default the response passes as it was before.
    """

    statuses = Attribute(
        "A container of C{int}: the statuses it is interested in.  A failed attempt has"
        " 502, 503 or 504.  Read once for each status."
    )
    buffered = Attribute(
        "C{bool}: whether it needs the whole C{response.body}.  A body over the buffer"
        " limit passes unchanged, and this policy is not called.  Read once."
    )

    def responseReceived(exchange, response):
        """
        Called once for each attempt, in the operator's order, with the response as the
        policies before this one left it.

        @param exchange: the L{IExchange}.
        @param response: the L{Response<sitio.http.message.Response>}.  Its headers may be
            changed, and with C{buffered} its body.

        @return: L{None} to pass it on; a L{Response<sitio.http.message.Response>} that
            replaces it, also for the policies after this one; a
            L{Retry<sitio.http.message.Retry>}; or an awaitable of one of these: a coroutine, a
            L{Deferred<twisted.internet.defer.Deferred>}, or on a reactor with asyncio a Future.

        @raise Exception: the response passes as it was before: a policy that fails must
            not take the service down.
        """


class ISendPolicy(Interface):
    """
    Gets the head of each response that a client gets, whoever made it: the upstream, a policy,
    or sitio itself.  Interim responses (1xx, and the 101 of a tunnel) are none.
    """

    def responseSending(exchange, response):
        """
        Called once for each response, in the operator's order, just before its head is sent.

        @param exchange: the L{IExchange}.
        @param response: a L{SentHead<sitio.policy.sending.SentHead>}.  Its C{headers} may be
            changed; C{status}, C{reason} and C{failure} can be read.

        @return: L{None}.  Nothing waits for a send policy.

        @raise Exception: the head is sent as it was before.
        """


class IExchangeObserver(Interface):
    """Gets each exchange that has ended."""

    def exchangeFinished(exchange):
        """
        Called once, after the last byte, whatever came of the exchange; read only.

        @raise Exception: it is logged, and has no other effect.
        """


class IPolicyMaker(Interface):
    """
    A plugin, found by L{twisted.plugin}, that makes policies from a description
    such as C{error-page:404:file=404.html}.
    """

    name = Attribute("The part of a description before its first colon.")
    usage = Attribute("One line for C{--help-policies}: the arguments, then what it does.")

    def makePolicy(*arguments, **options):
        """
        Make a policy without side effects: no port, no thread, no timer.

        @param arguments: the parts of the description between colons.
        @param options: those of the form C{key=value}; C{max-age=60} arrives as
            C{maxAge}.  Parameters with types get values of these, as the function declares
            them (L{sitio.policy.declaration}); others get C{str}.

        @raise ValueError: one sentence that says what is wrong with the description.
            sitio then ends before any port is open.
        """


class ISelectivePolicy(IResponsePolicy):
    """
    A response policy that can tell from the head whether it is interested in a response.
    Useful for a buffered policy: a response that it does not need is streamed.
    """

    def isInterested(exchange, response):
        """
        Called with the head of each response of its C{statuses}, before the body is there.

        @return: C{False} if C{responseReceived} need not be called with it.
        """


class ISelfTest(Interface):
    """A policy that can tell whether it can work, before a reload puts it in place."""

    def selfTest():
        """
        Called when the configuration was read anew, before any request: C{startService} was
        called before, if it is a service.  It is not called at the start of sitio.

        @return: L{None}, or an awaitable, as request policies return it.  It has ten seconds.

        @raise Exception: it can't work.  The old configuration stays, and the message is told
            to the operator.
        """


class IHandover(Interface):
    """
    A policy with a state that the one which takes its place may go on with.

    At a reload, the old policy gives its state to the new one of the same name and class in
    the same route.  The old one still serves requests that began before.
    """

    def giveState():
        """
        Return what the new policy needs.  Called once, just before the new one is in place.
        """

    def takeState(state):
        """
        Take what the old policy gave; it may have had other options.

        @raise Exception: it can't be used.  That is logged, and this policy begins without:
            so change nothing before it is clear that all of it can be used.
        """
