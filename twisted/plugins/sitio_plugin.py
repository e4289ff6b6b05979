"""
The plugins of sitio: the service C{twistd sitio}, the built-in policies, and the reactor.

C{twistd} loads this file at each start, for any service.  So nothing heavy is imported here:
modules of a plugin are imported when it is used.
"""

import gc
from typing import Any

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from sitio.policy.maker import PolicyMaker


class _SidecarMaker(ServiceMaker):
    """Imports the modules of the sidecar when C{twistd sitio} asks for its options."""

    @property
    def options(self) -> Any:
        """
        As of C{ServiceMaker}.

        To collect garbage again and again would take a tenth of the start, and there is next
        to none.  L{sitio.net.collector} enables the collector when everything has started.
        """
        gc.disable()
        return super().options


sitio = _SidecarMaker(
    "sitio",
    "sitio.assembly",
    "An HTTP proxy beside a service, with policies in Python.",
    "sitio",
)

errorPage = PolicyMaker(
    "error-page",
    "sitio.policies.errorpage",
    "error-page:STATUSES[:STATUSES...][:file=PATH][:keep=NAME,...][:json=replace|pass]"
    "  replace error responses such as 404,410 or 5xx by a page",
)

lastGood = PolicyMaker(
    "last-good",
    "sitio.policies.lastgood.options",
    "last-good[:max-age=DURATION][:budget=DURATION][:statuses=STATUSES][:max-bytes=SIZE]"
    "[:max-response=SIZE][:impersonal=NAME,...][:personal=NAME,...][:despite=WORD,...]"
    "  mask a failure with the last good response",
)

retry = PolicyMaker(
    "retry",
    "sitio.policies.retry",
    "retry[:times=N][:statuses=STATUSES][:after=DURATION]"
    "  send a request again after a failure, where that is safe",
)

headers = PolicyMaker(
    "headers",
    "sitio.policies.headers",
    "headers:CHANGE[:CHANGE...]"
    "  change fields, as in headers:set X-Team blue:remove Server:request add X-By sitio",
)

deny = PolicyMaker(
    "deny",
    "sitio.policies.deny",
    "deny:METHODS:PATTERN[:PATTERN...][:status=STATUS][:case=exact|ignore]"
    "  refuse requests by method and path, as in deny:PUT,DELETE:/admin/*",
)

token = PolicyMaker(
    "token",
    "sitio.policies.token",
    "token:FILE[:name=NAME][:scheme=SCHEME]"
    "  add a token from a file to requests, as in token:/run/secrets/api-token",
)

allow = PolicyMaker(
    "allow",
    "sitio.policies.allow",
    "allow[:name=NAME,...][:spiffe=ID,...][:subject=SUBJECT][:network=NETWORK,...]"
    "  let only some clients in, by certificate or address, as in allow:network=10.0.0.0/8",
)

uv = Reactor("uv", "sitio.net.reactor", "Reactor on the TCP and UNIX transports of uvloop")
