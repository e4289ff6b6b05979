#!/usr/bin/env python3
"""
Checks what kustomize has built, before a cluster sees it:

    kubectl kustomize . | python3 sitio/check.py my-service.yml

The arguments are the manifests as they were before, for what kustomize does not show: a later
patch of its can merge two containers of one name.  Each problem is a line that says what to do;
the exit status is 1 if there is one, or if there is nothing to check.  Lines that begin with
C{note:} are advice, and change no status.  Needs PyYAML (C{pip install PyYAML}, on Debian
C{python3-yaml}).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

try:
    import yaml
except ImportError:
    sys.exit("PyYAML is missing: pip install PyYAML, or apt install python3-yaml")

Document = dict[str, Any]

#: The name of the container of the components, and the beginning of the names of its ports.
SITIO = "sitio"
PROBES = "sitio-probes"
VOLUME = "sitio-policies"

#: The name of the component's NetworkPolicy.
NETWORK_POLICY = "sitio-probes"

#: Seconds that a Pod has by default.
DEFAULT_GRACE = 30

#: Names and values of appProtocol of a Service's port that carry HTTP/1.
HTTP_NAME = re.compile(r"(http|ws)(-.*)?|web")
HTTP_PROTOCOLS = {"http", "kubernetes.io/ws"}

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def containers(pod: Document) -> list[Document]:
    """All containers of a Pod, in the order of their start."""
    return [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]


def templateOf(document: Document) -> Document:
    """The Pod, or the template of Pods, in a document; C{{}} if it has none."""
    if document.get("kind") == "Pod":
        return document
    spec = document.get("spec") or {}
    spec = (spec.get("jobTemplate") or {}).get("spec") or spec
    template = spec.get("template")
    return template if isinstance(template, dict) and template.get("spec") else {}


def nameOf(document: Document) -> str:
    """Kind and name."""
    return f"{document['kind']} {document['metadata']['name']}"


def problems(documents: list[Document]) -> list[str]:
    """What keeps these documents from working, one sentence for each problem."""
    found = []
    for document in documents:
        template = templateOf(document)
        if template:
            said = PodCheck(template, documents).problems()
        elif document.get("kind") == "Service":
            said = serviceProblems(document, documents)
        else:
            continue
        found += [f"{nameOf(document)}: {each}" for each in said]
    return found


def notes(documents: list[Document]) -> list[str]:
    """What works, but hardly as it is meant: a sentence for each."""
    found = []
    for document in documents:
        template = templateOf(document)
        if template:
            said = PodCheck(template, documents).notes()
            found += [f"{nameOf(document)}: {each}" for each in said]
    return found + list(serviceNotes(documents))


def portNames(of: list[Document]) -> list[Any]:
    """The names of the ports of containers; C{None} for one without a name."""
    return [port.get("name") for each in of for port in each.get("ports") or ()]


def taken(documents: list[Document]) -> list[str]:
    """Names in manifests without sitio that the components use too, a sentence for each."""
    found = []
    for document in documents:
        pod = templateOf(document).get("spec") or {}
        every = containers(pod)
        where = f"{document.get('kind')} {(document.get('metadata') or {}).get('name')}"
        for what, names in (
            ("container", [each.get("name") for each in every]),
            ("port", portNames(every)),
            ("volume", [each.get("name") for each in pod.get("volumes") or ()]),
        ):
            found += [
                f"{where}: your {what} is called {name}, as one of sitio: rename yours"
                for name in names
                if name in (SITIO, PROBES, VOLUME)
            ]
    return found


def portNumbers(of: list[Document]) -> list[Any]:
    """The numbers of the ports of containers."""
    return [port.get("containerPort") for each in of for port in each.get("ports") or ()]


def configOf(sitio: Document) -> tuple[str, str]:
    """Folder and name of the file of C{--config} in the arguments; empty without one."""
    arguments = " ".join(map(str, sitio.get("args") or ()))
    found = re.search(r"--config[= ](\S*/)([^/\s]+)", arguments)
    return (found[1].rstrip("/"), found[2]) if found else ("", "")


def repeated(names: list[Any]) -> list[Any]:
    """The names that are there more than once, each once."""
    return sorted({each for each in names if names.count(each) > 1})


class PodCheck:
    """The checks of one Pod."""

    def __init__(self, template: Document, documents: list[Document]) -> None:
        self._template = template
        self._pod: Document = template["spec"]
        self._documents = documents

    def problems(self) -> Iterator[str]:
        """A sentence for each problem; none for a Pod without sitio."""
        every = containers(self._pod)
        if not any(each.get("name") == SITIO for each in every):
            return
        sitio = self.sitio()
        if sitio is None:
            yield "your container called sitio is in the place of sitio's: rename yours"
            return
        yield from self._names(every)
        yield from self._numbers(every, sitio)
        yield from self._target(sitio)
        yield from self._config(sitio)
        yield from self._grace(sitio)
        yield from self._hooks(every)
        yield from self._policies()
        yield from self._user(sitio)
        yield from self._default()

    def sitio(self) -> Document | None:
        """The container of the components; C{None} if there is none."""
        for each in containers(self._pod):
            if each.get("name") == SITIO and PROBES in portNames([each]):
                return each
        return None

    def notes(self) -> Iterator[str]:
        """A sentence for each piece of advice; none for a Pod without sitio."""
        sitio = self.sitio()
        if sitio is None:
            return
        native = sitio in (self._pod.get("initContainers") or ())
        others = [each for each in self._pod.get("containers") or () if each is not sitio]
        target = self.target()
        serving = [each for each in others if target in portNumbers([each])]
        if target is not None and others and portNumbers(others) and not serving:
            yield (
                f"TARGET_PORT is {target}, and your containers declare other ports"
                f" ({', '.join(map(str, portNumbers(others)))}): check it"
            )
        for each in serving or others[:1]:
            if not (each.get("lifecycle") or {}).get("preStop"):
                why = (
                    "clients may get 502 from its end until all nodes know"
                    if native
                    else "it ends while sitio still needs it, and clients get 502"
                )
                yield (
                    f"{each.get('name')} has no preStop: at each restart {why}; see Ending in"
                    " docs/kubernetes.md"
                )
        yield from self._configNotes(sitio)
        if self._pod.get("hostNetwork"):
            yield (
                "the Pod uses the network of its node: sitio's ports must be free there, and its"
                " admin pages are for all of the node"
            )

    def target(self) -> int | None:
        """The number in C{TARGET_PORT}; C{None} without a valid one, or with an upstream."""
        sitio = self.sitio() or {}
        if any(str(each).startswith("--upstream") for each in sitio.get("args") or ()):
            return None
        value = str(self._asked(sitio))
        return int(value) if value.isdecimal() else None

    def _names(self, every: list[Document]) -> Iterator[str]:
        for name in repeated([each.get("name") for each in every]):
            yield f"two containers are called {name}: rename your own, or list sitio only once"
        for name in repeated([each.get("name") for each in self._pod.get("volumes") or ()]):
            yield f"two volumes are called {name}: rename your own"
        for name in repeated([each for each in portNames(every) if each]):
            yield f"two ports are called {name}: rename your own"

    def _numbers(self, every: list[Document], sitio: Document) -> Iterator[str]:
        own = self._own(sitio)
        for each in every:
            if each is not sitio:
                for port in each.get("ports") or ():
                    if port.get("containerPort") in own:
                        yield (
                            f"{each.get('name')} listens on port {port['containerPort']}, and"
                            " sitio too: change sitio's, in its arguments and its ports"
                        )

    def _own(self, sitio: Document) -> set[int]:
        """The numbers of sitio's ports: those that are declared, and those in its arguments."""
        found = {port["containerPort"] for port in sitio.get("ports") or ()}
        for each in sitio.get("args") or ():
            option = re.fullmatch(r"--(?:port|admin|probes)=(?:tcp6?:)?(\d+)\b.*", str(each))
            if option:
                found.add(int(option[1]))
        return found

    def _target(self, sitio: Document) -> Iterator[str]:
        if any(str(each).startswith("--upstream") for each in sitio.get("args") or ()):
            return
        value = self._asked(sitio)
        if value is None and any(configOf(sitio)) and not sitio.get("env"):
            return  # the file has the upstream
        if value is None:
            yield (
                "nothing says which port your service has: add a configMapGenerator called sitio"
                " with TARGET_PORT"
            )
        elif not (str(value).isdecimal() and 0 < int(value) < 65536):
            yield f"TARGET_PORT is {value!r}: it must be the number of your service's port"
        elif int(value) in self._own(sitio):
            yield f"TARGET_PORT is {value}, which is sitio's own port: it must be your service's"

    def _config(self, sitio: Document) -> Iterator[str]:
        """The ConfigMap that is mounted as the folder of C{--config} has the file."""
        for mount, files in self._mapped(sitio):
            folder, name = configOf(sitio)
            if mount.get("mountPath") == folder and files is not None and name not in files:
                yield (
                    f"--config={folder}/{name}, and the ConfigMap that is mounted there has no"
                    f" {name}: add it to its files"
                )

    def _configNotes(self, sitio: Document) -> Iterator[str]:
        """Where the file of C{--config} does not follow its ConfigMap, or may be missing."""
        for mount, files in self._mapped(sitio):
            folder, name = configOf(sitio)
            if mount.get("subPath") and mount.get("mountPath") in (folder, f"{folder}/{name}"):
                yield (
                    f"{mount['mountPath']} is mounted by subPath, so sitio sees no change of its"
                    " ConfigMap: mount a folder"
                )
            elif mount.get("mountPath") == folder and files is None:
                yield f"the ConfigMap with {name} is not here: without it sitio does not start"

    def _mapped(self, sitio: Document) -> Iterator[tuple[Document, Document | None]]:
        """
        What is mounted of ConfigMaps, if there is a C{--config}, with their files; C{None} for one
        that is not in the documents.
        """
        volumes = {
            each.get("name"): each.get("configMap") for each in self._pod.get("volumes") or ()
        }
        for mount in sitio.get("volumeMounts") or () if any(configOf(sitio)) else ():
            asked = volumes.get(mount.get("name"))
            # Items have names of their own.
            if asked and not asked.get("items"):
                yield mount, self._maps().get(asked.get("name", ""))

    def _maps(self) -> dict[str, Document]:
        """The files of each ConfigMap."""
        return {
            each["metadata"]["name"]: {**(each.get("data") or {}), **(each.get("binaryData") or {})}
            for each in self._documents
            if each.get("kind") == "ConfigMap"
        }

    def _asked(self, sitio: Document) -> Any:
        """The value of C{TARGET_PORT}, of the container itself or of a ConfigMap."""
        variables = {each.get("name"): each for each in sitio.get("env") or ()}
        variable = variables.get("TARGET_PORT", {})
        asked = (variable.get("valueFrom") or {}).get("configMapKeyRef") or {}
        files = self._maps().get(asked.get("name", ""), {})
        return variable.get("value", files.get(asked.get("key", "")))

    def _grace(self, sitio: Document) -> Iterator[str]:
        hook = ((sitio.get("lifecycle") or {}).get("preStop") or {}).get("exec") or {}
        slept = re.search(r"sleep\((\d+)\)", " ".join(map(str, hook.get("command") or ())))
        arguments = " ".join(map(str, sitio.get("args") or ()))
        grace = re.search(r"--grace=(\d+)", arguments)
        needed = (int(slept[1]) if slept else 0) + (int(grace[1]) if grace else DEFAULT_GRACE)
        given = self._pod.get("terminationGracePeriodSeconds", DEFAULT_GRACE)
        if needed >= given:
            yield (
                f"the Pod ends after {given} s, and sitio may need {needed} s: lower --grace, or"
                " raise terminationGracePeriodSeconds"
            )

    def _hooks(self, every: list[Document]) -> Iterator[str]:
        for each in every:
            hook = (each.get("lifecycle") or {}).get("preStop") or {}
            if len(hook) > 1:
                both = " and ".join(sorted(hook))
                yield (
                    f"{each.get('name')} has a preStop of {both}: your own and that of a patch;"
                    " keep one"
                )

    def _policies(self) -> Iterator[str]:
        """NetworkPolicies add up: one that allows much undoes all others."""
        labels = ((self._template.get("metadata") or {}).get("labels") or {}).items()
        names = [
            each["metadata"]["name"]
            for each in self._documents
            if each.get("kind") == "NetworkPolicy" and self._selects(each["spec"], labels)
        ]
        if NETWORK_POLICY in names and len(names) > 1:
            others = " and ".join(sorted(set(names) - {NETWORK_POLICY}))
            yield (
                f"sitio/networkpolicy allows all that {others} forbids, as policies add up: leave"
                " it out, and allow sitio's ports in yours"
            )

    def _selects(self, spec: Document, labels: Any) -> bool:
        """A policy for what comes in is for Pods with these labels, as far as labels tell."""
        wanted = (spec.get("podSelector") or {}).get("matchLabels") or {}
        return "Ingress" in spec.get("policyTypes", ["Ingress"]) and wanted.items() <= labels

    def _user(self, sitio: Document) -> Iterator[str]:
        security = {
            **(self._pod.get("securityContext") or {}),
            **(sitio.get("securityContext") or {}),
        }
        if security.get("runAsUser") == 0:
            yield (
                "sitio would run as user 0, and the cluster refuses that: add runAsUser: 65532 to"
                " its securityContext"
            )

    def _default(self) -> Iterator[str]:
        annotations = (self._template.get("metadata") or {}).get("annotations") or {}
        first = (self._pod.get("containers") or [{}])[0].get("name")
        if annotations.get(DEFAULT_CONTAINER, first) == SITIO:
            yield (
                f"`kubectl logs` shows sitio: set the annotation {DEFAULT_CONTAINER} to the name"
                " of your container"
            )


def serviceProblems(service: Document, documents: list[Document]) -> Iterator[str]:
    """What is wrong with the ports of a Service that lead to sitio."""
    for port in (service.get("spec") or {}).get("ports") or ():
        if port.get("targetPort") != SITIO:
            continue
        protocol, name = port.get("appProtocol"), port.get("name", "")
        if not carriesHttp(port):
            yield (
                f"port {name or port.get('port')} ({protocol or 'no appProtocol'}) leads to sitio,"
                " which is for HTTP/1: if it carries HTTP/1, set appProtocol: http; else choose"
                " another port in sitio/service/service.yml"
            )
        for document in selected(service, documents):
            if SITIO not in portNames(containers(templateOf(document)["spec"])):
                yield f"it leads to sitio, and {document['metadata']['name']} has no sitio"


def carriesHttp(port: Document) -> bool:
    """By its appProtocol or else its name, a port of a Service may carry HTTP/1."""
    protocol, name = port.get("appProtocol"), port.get("name", "")
    return protocol in HTTP_PROTOCOLS if protocol else not name or bool(HTTP_NAME.fullmatch(name))


def selected(service: Document, documents: list[Document]) -> list[Document]:
    """The documents whose Pods a Service selects."""
    asked = ((service.get("spec") or {}).get("selector") or {}).items()
    found = [each for each in documents if asked and templateOf(each)]
    return [
        each
        for each in found
        if asked <= ((templateOf(each).get("metadata") or {}).get("labels") or {}).items()
    ]


def serviceNotes(documents: list[Document]) -> Iterator[str]:
    """What to write into C{service/service.yml}, for each Service that it does not fit yet."""
    services = [each for each in documents if each.get("kind") == "Service"]
    every = [port for each in services for port in (each.get("spec") or {}).get("ports") or ()]
    if any(port.get("targetPort") == SITIO for port in every):
        return
    if len(services) > 1:
        yield (
            f"there are {len(services)} Services: before you add sitio/service, name one in the"
            " target of sitio/service/kustomization.yml"
        )
    for service in services:
        ports = (service.get("spec") or {}).get("ports")
        if not ports:
            continue
        where = f"Service {service['metadata']['name']}"
        for document in selected(service, documents):
            check = PodCheck(templateOf(document), documents)
            if check.sitio() is None:
                continue
            every = containers(templateOf(document)["spec"])
            leading = [
                index for index, port in enumerate(ports) if targetOf(port, every) == check.target()
            ]
            if len(leading) == 1:
                yield from (f"{where}: {each}" for each in patchNotes(ports, leading[0]))
            elif check.target() is not None:
                which = "no port" if not leading else "more than one port"
                yield (
                    f"{where}: {which} leads to TARGET_PORT, so look which one"
                    " sitio/service/service.yml changes"
                )


def targetOf(port: Document, of: list[Document]) -> Any:
    """The number of the container's port to which a port of a Service leads."""
    target = port.get("targetPort", port.get("port"))
    named = [one for each in of for one in each.get("ports") or () if one.get("name") == target]
    return named[0].get("containerPort") if named else target


def patchNotes(ports: list[Document], index: int) -> Iterator[str]:
    """What C{service/service.yml}, which is for a first port called http, lacks for this port."""
    port = ports[index]
    name = port.get("name")
    if not carriesHttp(port):
        yield (
            f"port {name} leads to TARGET_PORT, and is not HTTP/1 by its name or appProtocol: sitio"
            " is for HTTP/1"
        )
    elif name is None:
        yield (
            f"port {port.get('port')} has no name: in sitio/service/service.yml, test"
            f" /spec/ports/{index}/port for {port.get('port')}"
        )
    elif (index, name) != (0, "http"):
        paths = f"/spec/ports/{index}/ instead of /spec/ports/0/, and " if index else ""
        yield (
            f"port {name} is to lead to sitio: in sitio/service/service.yml, write {paths}the name"
            f" {name}"
        )


def main(text: str, before: list[str]) -> int:
    """Check documents in YAML; the exit status."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    if not documents:
        print("nothing to check: kustomize has built nothing, and its error says why")
        return 1
    found = problems(documents)
    for each in before:
        try:
            with open(each, encoding="utf-8") as file:
                found += taken([one for one in yaml.safe_load_all(file) if one])
        except OSError as error:
            found.append(f"{each}: {error.strerror}: name the manifests of your service")
    for each in notes(documents):
        print(f"note: {each}")
    for each in found:
        print(each)
    if not found:
        print(f"{len(documents)} documents: no problem found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read(), sys.argv[1:]))
