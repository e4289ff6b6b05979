"""sitio without its metrics: what counting costs.  Arguments: where, upstream, policies."""

import sys

from sitio.net.reactor import install

install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.endpoints import clientFromString, serverFromString  # noqa: E402
from twisted.python import log  # noqa: E402

from sitio.policy.loader import loadPolicies  # noqa: E402
from sitio.service import SidecarService  # noqa: E402

listen, upstream, *descriptions = sys.argv[1:]
policies = [each for text in descriptions for each in loadPolicies(text)]
service = SidecarService(
    reactor,
    serverFromString(reactor, listen),
    clientFromString(reactor, upstream),
    policies,
    statsInterval=0,
)
service.context.observers.clear()
log.startLogging(sys.stdout)
service.startService()
reactor.run()
