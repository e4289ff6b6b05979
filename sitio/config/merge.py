"""
The command line, the environment and a file, as one configuration: L{merged}.

An option wins over the file, and the file over an environment variable.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from attrs import evolve, fields

from sitio.config.limits import optionName
from sitio.config.listeners import LISTENER, ListenerConfig
from sitio.config.model import Config, RouteConfig
from sitio.config.places import Places
from sitio.config.policies import PolicyConfig
from sitio.config.upstreams import DEMO, UPSTREAM, EndpointConfig, UpstreamConfig
from sitio.http.routes import Routes
from sitio.settings import Settings

#: Options whose values are those of an attribute of L{Config}.
_SAME = {
    "workers": "workers",
    "worker-timeout": "workerTimeout",
    "stats-interval": "statsInterval",
    "access-log": "accessLog",
    "access-log-query": "accessLogQuery",
    "log-level": "logLevel",
    "log-format": "logFormat",
}

#: The same for the tables C{forwarded} and C{admin}, and what their values are made with.
_FORWARDED = {
    "forwarded": ("mode", str),
    "forwarded-style": ("style", str),
    "trusted": ("trusted", lambda text: tuple(filter(None, text.split(",")))),
    "via": ("via", bool),
    "keep-underscores": ("keepUnderscores", bool),
}
_ADMIN = {
    "admin": ("address", str),
    "probes": ("probes", lambda text: text or None),
    "admin-hosts": ("hosts", lambda text: tuple(filter(None, text.split(",")))),
    "health-path": ("healthPath", str),
}


#: The same for the only upstream.
_OF_UPSTREAM = {"upstream-host": "host", "proxy-protocol": "proxyProtocol"}


class Contradiction(ValueError):
    """
    An option that does not go with the file; the message is a sentence.

    @ivar option: C{--port}.
    """

    def __init__(self, option: str, sentence: str) -> None:
        super().__init__(sentence)
        self.option = option


def merged(options: Mapping[str, Any], given: Collection[str], config: Config) -> Config:
    """
    One configuration.

    @param options: the parsed values of all options.
    @param given: the names of those that were given.
    @param config: what the file says; the default one without a file.

    @raise Contradiction: an option can't be brought together with the file.
    """
    changes: dict[str, Any] = {
        name: options[option] for option, name in _SAME.items() if option in given
    }
    if "fleet" in given or config.fleet is None:
        changes["fleet"] = options["fleet"]
    if "policy" in given:
        changes["policies"] = tuple(
            PolicyConfig(each, folder=options["folder"], place=f"policies[{at}]")
            for at, each in enumerate(options["descriptions"])
        )
    if "no-watch" in given:
        changes["watch"] = False
    if "route" in given:
        changes["templates"] = options["routes"].templates
    changes["limits"] = evolve(
        config.limits,
        **{
            each.name: getattr(options["settings"], each.name)
            for each in fields(Settings)
            if optionName(each.name) in given
        },
    )
    changes["forwarded"] = _table(config.forwarded, _FORWARDED, options, given)
    changes["admin"] = _table(config.admin, _ADMIN, options, given)
    changes["listeners"] = _listeners(options, given, config)
    changes["demo"], upstreams = _upstreams(options, given, config)
    changes["upstreams"] = upstreams
    changes["routes"] = tuple(_route(each, upstreams) for each in config.routes)
    changes["places"] = _places(given, config.places)
    return evolve(config, **changes)


def _table(
    table: Any,
    names: Mapping[str, tuple[str, Any]],
    options: Mapping[str, Any],
    given: Collection[str],
) -> Any:
    """A table with the values of options."""
    changes = {}
    for option, (name, make) in names.items():
        if option in given:
            value = options[option]
            changes[name] = None if value is None else make(value)
    return evolve(table, **changes) if changes else table


def _listeners(
    options: Mapping[str, Any], given: Collection[str], config: Config
) -> tuple[ListenerConfig, ...]:
    found = config.listeners or (ListenerConfig(place=LISTENER),)
    if "port" not in given:
        return tuple(
            each if each.address else evolve(each, address=options["port"]) for each in found
        )
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise Contradiction(
            "--port", f"there are several listeners ({names}): change their addresses in the file"
        )
    return (evolve(found[0], address=options["port"]),)


def _upstreams(
    options: Mapping[str, Any], given: Collection[str], config: Config
) -> tuple[bool, tuple[UpstreamConfig, ...]]:
    """Whether the photo site is served, and the upstreams."""
    found = config.upstreams
    own = {name: options[each] for each, name in _OF_UPSTREAM.items() if each in given}
    if own and len(found) > 1:
        option = next(each for each in _OF_UPSTREAM if each in given)
        raise Contradiction(
            f"--{option}",
            f"there are several upstreams: write {optionName(_OF_UPSTREAM[option])} in the file",
        )
    if "demo" in given and found:
        raise Contradiction(
            "--demo", "it is a service of its own, and the file has upstreams: leave out one"
        )
    if "upstream" in given:
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise Contradiction(
                "--upstream", f"there are several ({names}): change their addresses in the file"
            )
        [only] = found or (UpstreamConfig(place=UPSTREAM),)
        only = evolve(only, endpoints=(), dns=None, srv=None, **own)
        return False, (_listed(evolve(only, address=options["upstream"])),)
    if options["demo"] or config.demo:
        return True, (UpstreamConfig(DEMO, place=DEMO),)
    if not found and options["upstream"] is not None:
        found = (UpstreamConfig(address=options["upstream"], place=UPSTREAM),)
    return False, tuple(_listed(evolve(each, **own) if own else each) for each in found)


def _listed(upstream: UpstreamConfig) -> UpstreamConfig:
    """An upstream whose only address is listed, as others are."""
    if upstream.address is None or upstream.endpoints:
        return upstream
    place = f"{upstream.place}.address"
    return evolve(upstream, endpoints=(EndpointConfig(upstream.address, place=place),))


def _route(route: RouteConfig, upstreams: tuple[UpstreamConfig, ...]) -> RouteConfig:
    """A route with a name, and with upstreams if it is clear which."""
    shares = route.upstreams
    if route.upstream is not None:
        shares = ((route.upstream, 1.0),)
    elif not shares and len(upstreams) == 1:
        shares = ((upstreams[0].name, 1.0),)
    name = route.name or route.path or route.prefix or ", ".join(route.hosts)
    return evolve(route, name=name, upstreams=shares)


#: Where the values of options stand in the model.
PLACES = {
    "port": f"{LISTENER}.address",
    "upstream": f"{UPSTREAM}.address",
    **{option: f"{UPSTREAM}.{optionName(name)}" for option, name in _OF_UPSTREAM.items()},
    "policy": "policies",
    "route": "templates",
    **{option: f"forwarded.{optionName(name)}" for option, (name, _) in _FORWARDED.items()},
    **{option: f"admin.{optionName(name)}" for option, (name, _) in _ADMIN.items()},
    "no-watch": "watch",
    **{option: option for option in (*_SAME, "fleet", "demo")},
    **{optionName(each.name): f"limits.{optionName(each.name)}" for each in fields(Settings)},
}


def _places(given: Collection[str], places: Places) -> Places:
    """The places with those that options have given."""
    return evolve(places, given={PLACES[name]: f"--{name}" for name in given if name in PLACES})


def itemsOf(config: Config) -> dict[str, Any]:
    """
    What the items of L{Options<sitio.config.options.Options>} are with a configuration: of
    several listeners and upstreams, those of the first one.
    """
    endpoints = config.upstreams[0].endpoints if config.upstreams else ()
    items: dict[str, Any] = {option: getattr(config, name) for option, name in _SAME.items()}
    for table, names in ((config.forwarded, _FORWARDED), (config.admin, _ADMIN)):
        for option, (name, _) in names.items():
            value = getattr(table, name)
            # An empty list means that no proxy is trusted, and not the default.
            empty = "" if option == "trusted" else None
            items[option] = (",".join(value) or empty) if isinstance(value, tuple) else value
    items |= {
        "port": config.listeners[0].address,
        "upstream": endpoints[0].address if endpoints else None,
        **{
            option: getattr(config.upstreams[0], name) if config.upstreams else None
            for option, name in _OF_UPSTREAM.items()
        },
        "demo": config.demo,
        "no-watch": not config.watch,
        "fleet": config.fleet or None,
        "settings": config.limits,
    }
    if config.places.line(PLACES["fleet"]) and not config.places.option(PLACES["fleet"]):
        items["fleet-source"] = config.where(PLACES["fleet"])
    for each in fields(Settings):
        items[optionName(each.name)] = str(getattr(config.limits, each.name)).removesuffix(".0")
    templates = dict.fromkeys(each.path for each in config.routes if each.path is not None)
    items["routes"] = Routes((*templates, *(t for t in config.templates if t not in templates)))
    items["descriptions"] = [each.description for each in config.policies]
    return items
