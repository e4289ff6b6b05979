"""
What builds images and plays Pods on this machine.

L{find} takes the scripts of C{../shared/pods} where they are; else the podman or
the docker that is installed, with L{e2e.kubelet} for what a kubelet does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from attrs import define, field

from e2e import kubelet
from e2e.manifests import ROOT, Document, podSpec, written

SCRIPTS = ROOT.parent / "shared" / "pods"

#: Seconds for a build, on a slow machine that has to make the base image first.
BUILD = 900

#: Seconds for anything else.
PATIENCE = 180


class NoRuntime(Exception):
    """Pods can't be run here; in one sentence, why, and what to do."""


@define
class Pod:
    """
    A Pod that runs.

    @ivar documents: what it was played from.
    @ivar address: where it can be reached from this machine, at any port.
    """

    name: str
    documents: list[Document]
    address: str

    def container(self, name: str) -> str:
        """What the runtime calls one of its containers."""
        return f"{self.name}-{name}"


@define
class Runtime(ABC):
    """
    @ivar command: C{podman} or C{docker}; both take what is given to them here.
    """

    command: str

    def run(self, *arguments: str, timeout: float = PATIENCE) -> str:
        """Give it arguments; what it prints on standard output."""
        return succeed(self.command, *arguments, timeout=timeout)

    @abstractmethod
    def build(self, tag: str, dockerfile: str) -> None:
        """Make an image of the project."""

    @abstractmethod
    def play(
        self, documents: list[Document], publish: dict[int, int], anyUser: bool = False
    ) -> Pod:
        """
        Run the one Pod of these documents, and wait until it is ready.

        @param publish: ports of this machine, and which of the Pod's each leads to.
        @param anyUser: with a user that the image has never heard of, in group 0.
        """

    @abstractmethod
    def end(self, pod: Pod) -> dict[str, int]:
        """
        End it as a kubelet does: preStop, SIGTERM, and SIGKILL after the grace.

        @return: the exit code of each container, in the order of their ends; 0 for one
            that ended while it was in its preStop.
        """

    @abstractmethod
    def remove(self, pod: Pod) -> None:
        """End it at once, where nobody wants to see how it ends."""

    @abstractmethod
    def stopPod(self, pod: Pod, grace: int) -> None:
        """C{podman pod stop}, or what comes next to it."""

    def stop(self, pod: Pod, grace: int) -> None:
        """Send SIGTERM to all of its containers at once, with no preStop before."""
        names = [
            pod.container(each["name"])
            for document in pod.documents
            for each in podSpec(document).get("containers", ())
        ]
        self.run("stop", "-t", str(grace), *names)

    def logs(self, container: str) -> str:
        """What a container has said, on either output."""
        ended = subprocess.run(
            [self.command, "logs", container], capture_output=True, text=True, timeout=PATIENCE
        )
        return ended.stdout + ended.stderr

    def exitCode(self, container: str) -> int:
        """How a container has ended."""
        return int(self.run("inspect", "--format", "{{.State.ExitCode}}", container))


@define
class Scripts(Runtime):
    """By C{../shared/pods}."""

    folder: Path = SCRIPTS

    def build(self, tag: str, dockerfile: str) -> None:
        """See L{Runtime}."""
        self._script("build", "-q", "-t", tag, "-f", dockerfile, str(ROOT), timeout=BUILD)

    def play(
        self, documents: list[Document], publish: dict[int, int], anyUser: bool = False
    ) -> Pod:
        """See L{Runtime}."""
        options = [f"--publish={here}:{there}" for here, there in publish.items()]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(written(documents))
            file.flush()
            said = self._script("play", *options, *["--openshift"] * anyUser, file.name)
        (name,) = (each["metadata"]["name"] for each in documents if podSpec(each))
        # Each line is POD CONTAINER PORT URL; the last has the Pod's own address.
        address = re.search(r"http://(.+):\d+/\n\Z", said)
        return Pod(name, documents, address[1] if address else "")

    def end(self, pod: Pod) -> dict[str, int]:
        """See L{Runtime}."""
        said = self._script("down", "--pod", pod.name)
        ends = re.findall(
            rf"^{pod.name} (.+): (?:.*exit code (-?\d+)|ended during its preStop)",
            said,
            re.MULTILINE,
        )
        return {name: int(code or 0) for name, code in ends}

    def remove(self, pod: Pod) -> None:
        """See L{Runtime}."""
        self._script("down", "--pod", pod.name, "--grace", "0")

    def stopPod(self, pod: Pod, grace: int) -> None:
        """See L{Runtime}."""
        self.run("pod", "stop", "-t", str(grace), pod.name)

    def _script(self, name: str, *arguments: str, timeout: float = PATIENCE) -> str:
        return succeed(str(self.folder / name), *arguments, timeout=timeout)


@define
class Plain(Runtime):
    """By docker or podman alone."""

    _kubelets: dict[str, kubelet.Kubelet] = field(factory=dict)

    def build(self, tag: str, dockerfile: str) -> None:
        """See L{Runtime}."""
        self.run("build", "-q", "-t", tag, "-f", dockerfile, str(ROOT), timeout=BUILD)

    def play(
        self, documents: list[Document], publish: dict[int, int], anyUser: bool = False
    ) -> Pod:
        """See L{Runtime}."""
        made = kubelet.Kubelet(self.run, documents, publish, anyUser)
        made.begin()
        self._kubelets[made.name] = made
        return Pod(made.name, documents, made.address)

    def end(self, pod: Pod) -> dict[str, int]:
        """See L{Runtime}."""
        made = self._kubelets.pop(pod.name, None)
        return made.end() if made is not None else {}

    def remove(self, pod: Pod) -> None:
        """See L{Runtime}."""
        made = self._kubelets.pop(pod.name, None)
        if made is not None:
            made.remove()

    def stopPod(self, pod: Pod, grace: int) -> None:
        """See L{Runtime}."""
        self.stop(pod, grace)


def succeed(*command: str, timeout: float = PATIENCE) -> str:
    """Run a command to its good end, or raise with what it had to say."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    if ended.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        )
    return ended.stdout


def find() -> Runtime:
    """
    The first of these that is here.

    @raise NoRuntime: none is.
    """
    root = os.geteuid() == 0
    reason = ""
    if SCRIPTS.is_dir() and root:
        try:
            succeed(str(SCRIPTS / "setup"), timeout=BUILD)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            reason = f"; {str(error).strip().splitlines()[-1]}"
        else:
            return Scripts("podman")
    # A Pod is asked at its own address, which podman gives only where it is root.
    for command in ("podman", "docker") if root else ("docker",):
        if shutil.which(command):
            try:
                succeed(command, "ps")
            except (RuntimeError, subprocess.TimeoutExpired):
                continue
            return Plain(command)
    raise NoRuntime(
        "nothing here runs Pods: install podman and be root, or install docker, start it,"
        f" and see that `docker ps` works{reason}"
    )
