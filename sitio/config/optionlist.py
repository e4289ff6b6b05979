"""
The options of C{twistd sitio}, with their defaults and their help: L{PARAMETERS}, L{FLAGS},
L{CHOICES}.

Limits and timeouts are not listed here: L{sitio.settings} has their names, defaults and help.
"""

from __future__ import annotations

from typing import Any

import attrs

from sitio.config.limits import optionName
from sitio.config.values import LOG_FORMATS, LOG_LEVELS
from sitio.http.claims import APPEND, MODES, STYLES, X_FORWARDED
from sitio.settings import Settings

_PORT_HELP = (
    "port for clients: a number, on all addresses of IPv4 and IPv6, an address such as"
    " 127.0.0.1:8080, or an endpoint description; default $PORT, else 8080"
)
_UPSTREAM_HELP = (
    "the service behind sitio, such as localhost:8087 or https://api.example, or an endpoint"
    " description; default $TARGET_PORT on localhost, or --demo"
)
_WORKERS_HELP = (
    "number of processes that share the port; auto for one on each core that sitio may use; in"
    " a Pod without a CPU limit that is one"
)
_WORKER_TIMEOUT_HELP = (
    "seconds after which a worker that does not answer is ended and replaced; 0 for never"
)
_STATS_HELP = "seconds between two stats lines in the log; 0 for none"
_ACCESS_HELP = "write a line for each request: json, common or off; json:PATH writes to a file"
_LOG_LEVEL_HELP = "lowest level of lines in the log: debug, info, warn or error"
_LOG_FORMAT_HELP = "form of the lines in the log: text, or json for an object on each line"
_FLEET_HELP = (
    "post metrics to this central dashboard, such as http://dashboard:8080; default"
    " $DASHBOARD, $MOTHERSHIP or $DASHBOARD_URL; empty for none"
)
_KEEP_HELP = (
    "pass request fields that CGI and WSGI take for those of sitio, such as X_Forwarded_For"
)
_FORWARDED_HELP = (
    "what becomes of X-Forwarded fields and the like in requests: append, preserve or replace;"
    " append believes peers in private networks and adds the peer to X-Forwarded-For"
)
_STYLE_HELP = (
    "fields by which the upstream learns who the client is: x-forwarded, forwarded (RFC 7239) or"
    " both"
)
_TRUSTED_HELP = (
    "proxies whose claims are believed, as networks such as 10.0.0.0/8 and unix for UNIX sockets,"
    " separated by commas: the client is then whom they name; default private networks, whose"
    " claims only pass"
)
_UPSTREAM_HOST_HELP = (
    "Host of requests for the upstream: client for the client's, upstream for its own, or a host;"
    " default upstream with https, whose requests tell nothing of the client, else client"
)
_PROXY_HELP = (
    "v2 to begin each connection to the upstream with a PROXY header that names the client"
)
_QUERY_HELP = "show query strings in the access log; they may hold secrets"
_ADMIN_HELP = (
    "port for the admin pages: a port of this host, an endpoint description, or empty"
    " for none; default tcp:9901:interface=127.0.0.1, or another port if that is taken"
)
_ADMIN_HOSTS_HELP = (
    "names under which the admin pages may be asked for, separated by commas, besides IP"
    " addresses, localhost, names without a dot and names of private domains"
)
_PROBES_HELP = (
    "port for probes and Prometheus with /live, /ready and /metrics only: a number, or an"
    " endpoint description such as tcp:9902; default none"
)
_HEALTH_HELP = (
    "health check of the upstream: a path such as /healthz that sitio requests every two"
    " seconds; sitio is ready while the status is 200 to 399"
)
_WATCH_HELP = (
    "do not look whether the configuration, policy files or certificates change; SIGHUP and POST"
    " /reload read them"
)
_MEMORY_HELP = "list the most memory that sitio takes with these options, and exit"
_DEMO_HELP = "serve a small photo site that comes with sitio, instead of an upstream"
_VIA_HELP = "add Via to requests and responses; it makes some services stop compressing"


def _limit(each: attrs.Attribute) -> list[Any]:
    """The option for one of the L{Settings}."""
    default = str(each.default).removesuffix(".0")
    return [optionName(each.name), None, default, each.metadata["help"]]


_CONFIG_HELP = (
    "a configuration file in TOML, such as sitio.toml; the options here win over it, and"
    " docs/configuration.md has its keys"
)

#: Name, letter, default and help of each option with a value.
PARAMETERS: list[list[Any]] = [
    ["config", "c", None, _CONFIG_HELP],
    ["port", "p", None, _PORT_HELP],
    ["upstream", "u", None, _UPSTREAM_HELP],
    ["workers", "w", "1", _WORKERS_HELP],
    ["worker-timeout", None, "10", _WORKER_TIMEOUT_HELP],
    ["stats-interval", None, "2", _STATS_HELP],
    ["access-log", None, "off", _ACCESS_HELP],
    ["log-level", None, LOG_LEVELS[1], _LOG_LEVEL_HELP],
    ["log-format", None, LOG_FORMATS[0], _LOG_FORMAT_HELP],
    ["admin", None, None, _ADMIN_HELP],
    ["probes", None, None, _PROBES_HELP],
    ["admin-hosts", None, None, _ADMIN_HOSTS_HELP],
    ["health-path", None, None, _HEALTH_HELP],
    ["fleet", None, None, _FLEET_HELP],
    ["upstream-host", None, None, _UPSTREAM_HOST_HELP],
    ["proxy-protocol", None, None, _PROXY_HELP],
    ["forwarded", None, APPEND, _FORWARDED_HELP],
    ["forwarded-style", None, X_FORWARDED, _STYLE_HELP],
    ["trusted", None, None, _TRUSTED_HELP],
    *(_limit(each) for each in attrs.fields(Settings)),
]

#: The values of options that have few.
CHOICES: dict[str, tuple[str, ...]] = {
    "log-level": LOG_LEVELS,
    "log-format": LOG_FORMATS,
    "forwarded": tuple(MODES),
    "forwarded-style": tuple(STYLES),
}

#: Name, letter and help of the others.
FLAGS = [
    ["demo", None, _DEMO_HELP],
    ["access-log-query", None, _QUERY_HELP],
    ["help-memory", None, _MEMORY_HELP],
    ["keep-underscores", None, _KEEP_HELP],
    ["no-watch", None, _WATCH_HELP],
    ["via", None, _VIA_HELP],
]
