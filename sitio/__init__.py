"""
sitio, the sidecar you program in Python.

The rooms, in the order in which a request meets them:

  - C{server}: a client's connection; reads requests, writes responses.
  - C{exchange}: one request's whole life; the only room that knows both halves.
  - C{policy}: orders and runs policies; contains their failures.
  - C{pool}, C{client}: connections to the upstream, one request in flight on each.
  - C{stats}, C{metrics}, C{line}: metrics, and the line every two seconds.
  - C{accesslog}, C{logFile}: a line for each request, where that is asked for.
  - C{recent}: single exchanges, while somebody looks.
  - C{adminport}, C{admin}, C{live}, C{feed}, C{metrics}, C{health}, C{redact}: the admin port.
  - C{mothership}, C{backlog}, C{resources}, C{address}: metrics for a dashboard elsewhere.

and what they stand on:

  - C{interfaces}: what authors of policies implement and are given.
  - C{message}, C{fields}, C{errors}: requests, responses, failures.
  - C{wire}, C{heads}, C{framing}: bytes to messages and back.
  - C{splice}: long bodies, moved by the kernel.
  - C{sidecar}, C{sweep}, C{settings}: what exchanges share; deadlines, limits and timeouts.
  - C{service}: options and wiring for C{twistd sitio}.
  - C{workers}, C{worker}, C{talk}, C{sharing}: several processes behind one port.
  - C{process}, C{uvreactor}, C{uvtransport}: the reactor of a process that is all sitio's.
  - C{testing}: runs a policy without a socket.
  - C{policies}, C{demo}: the policies that come with sitio, the photo site.

What a policy needs is importable from here.
"""

from sitio.http.message import Headers, Request, Response, Retry
from sitio.interfaces import (
    IExchange,
    IExchangeObserver,
    IPolicyMaker,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.functions import onFinish, onRequest, onResponse

__version__ = "0.1.0"

__all__ = [
    "Headers",
    "IExchange",
    "IExchangeObserver",
    "IPolicyMaker",
    "IRequestPolicy",
    "IResponsePolicy",
    "ISelectivePolicy",
    "Request",
    "Response",
    "Retry",
    "onFinish",
    "onRequest",
    "onResponse",
]
