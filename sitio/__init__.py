"""
sitio, the sidecar you program in Python.

The packages, in the order in which a request meets them:

  - C{proxy}: connections of clients, and exchanges.
  - C{policy}: finds, orders and runs policies; C{policies}: those that come with sitio.
  - C{upstream}: connections to the upstream.
  - C{telemetry}: metrics, stats line, history, access log.
  - C{admin}: the admin port and the live dashboard.
  - C{fleet}: posts metrics to a central dashboard.

and those that they stand on:

  - C{http}: messages and their bytes.
  - C{net}: reactor, transports, timers, ports, HTTP client.
  - C{errors}, C{interfaces}, C{settings}: failures; what policies implement and receive;
    limits and timeouts.
  - C{redact}: removes secrets from options that are shown.

C{twistd sitio} starts here:

  - C{config}: the options.
  - C{assembly}: makes services from the options; C{service}: one sidecar as a service.
  - C{endpoints}: where sitio listens, and what connects to upstreams; C{tlsplan}: their
    TLS; C{fitting}: limits of the
    process; C{adminports}: the ports for operators.
  - C{replacement}, C{reloading}: another configuration in place of a running one.
  - C{workers}: several processes behind one port.
  - C{demo}: a photo site.

The command C{sitio}, C{python -m sitio}, starts in C{cli}.

C{testing} is the test kit for policies.  The names that a policy needs can be imported
from C{sitio}.
"""

from sitio.http.codings import UnreadableBody
from sitio.http.message import Headers, Request, Response, Retry
from sitio.http.multidict import MultiDict
from sitio.http.peer import PeerCertificate
from sitio.interfaces import (
    IExchange,
    IExchangeObserver,
    IHandover,
    IPolicyMaker,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
    ISelfTest,
    ISendPolicy,
)
from sitio.policy.exchange import Exchange
from sitio.policy.functions import onFinish, onRequest, onResponse, onSend
from sitio.policy.labels import Labels
from sitio.policy.sending import SentHead
from sitio.policy.threads import inThread

__version__ = "0.1.0"

__all__ = [
    "Exchange",
    "Headers",
    "IExchange",
    "IExchangeObserver",
    "IHandover",
    "IPolicyMaker",
    "IRequestPolicy",
    "IResponsePolicy",
    "ISelectivePolicy",
    "ISelfTest",
    "ISendPolicy",
    "Labels",
    "MultiDict",
    "PeerCertificate",
    "Request",
    "Response",
    "Retry",
    "SentHead",
    "UnreadableBody",
    "inThread",
    "onFinish",
    "onRequest",
    "onResponse",
    "onSend",
]
