"""
Builds images and runs Pods on this machine.

L{find} selects the scripts of C{../shared/pods} if they exist, else podman or docker
with L{e2e.kubelet}.
"""

from __future__ import annotations

import json
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
BUILD_SECONDS = 900

#: Seconds for any other command.
COMMAND_SECONDS = 180


class NoRuntime(Exception):
    """This machine can't run Pods; the text says why, and what to do."""


@define
class Pod:
    """
    A running Pod.

    @ivar documents: its manifests.
    @ivar address: its address for this machine, for all ports.
    """

    name: str
    documents: list[Document]
    address: str

    def container(self, name: str) -> str:
        """The name of a container in the runtime."""
        return f"{self.name}-{name}"


@define
class Runtime(ABC):
    """
    Runs images and Pods.

    @ivar command: C{podman} or C{docker}; both accept the arguments that are used here.
    """

    command: str

    def run(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        """Run the command with arguments; its standard output."""
        return succeed(self.command, *arguments, timeout=timeout)

    @abstractmethod
    def build(self, tag: str, dockerfile: str) -> None:
        """Build an image from the project."""

    @abstractmethod
    def play(
        self, documents: list[Document], publish: dict[int, int], anyUser: bool = False
    ) -> Pod:
        """
        Run the Pod in these documents, and wait until it is ready.

        @param publish: ports of this machine, and the port of the Pod for each.
        @param anyUser: run as a user that is not in the image, in group 0.
        """

    @abstractmethod
    def end(self, pod: Pod) -> dict[str, int]:
        """
        Stop a Pod as a kubelet does: preStop, SIGTERM, and SIGKILL after the grace period.

        @return: the exit code of each container, in the order of their ends; 0 for one
            that ended during its preStop.
        """

    @abstractmethod
    def remove(self, pod: Pod) -> None:
        """Remove a Pod at once, without the grace period."""

    @abstractmethod
    def stopPod(self, pod: Pod, grace: int) -> None:
        """Stop a Pod with C{podman pod stop}, or the nearest that the runtime has."""

    def stop(self, pod: Pod, grace: int) -> None:
        """Send SIGTERM to all containers of a Pod at once, without preStop."""
        names = [
            pod.container(each["name"])
            for document in pod.documents
            for each in podSpec(document).get("containers", ())
        ]
        self.run("stop", "-t", str(grace), *names)

    def logs(self, container: str) -> str:
        """The standard output and error output of a container."""
        ended = subprocess.run(
            [self.command, "logs", container],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        return ended.stdout + ended.stderr

    def mounted(self, container: str, path: str) -> Path:
        """The folder of this machine that a container has at a path."""
        (found,) = json.loads(self.run("inspect", container))
        (source,) = (each["Source"] for each in found["Mounts"] if each["Destination"] == path)
        return Path(source)

    def starts(self, container: str) -> tuple[str, int]:
        """When a container has started, and how often it was restarted before."""
        (found,) = json.loads(self.run("inspect", container))
        return found["State"]["StartedAt"], found["RestartCount"]

    def exitCode(self, container: str) -> int:
        """The exit code of a container."""
        return int(self.run("inspect", "--format", "{{.State.ExitCode}}", container))


@define
class Scripts(Runtime):
    """Uses the scripts of C{../shared/pods}."""

    folder: Path = SCRIPTS

    def build(self, tag: str, dockerfile: str) -> None:
        """See L{Runtime}."""
        self._script("build", "-q", "-t", tag, "-f", dockerfile, str(ROOT), timeout=BUILD_SECONDS)

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

    def _script(self, name: str, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        return succeed(str(self.folder / name), *arguments, timeout=timeout)


@define
class Plain(Runtime):
    """Uses docker or podman alone."""

    _kubelets: dict[str, kubelet.Kubelet] = field(factory=dict)

    def build(self, tag: str, dockerfile: str) -> None:
        """See L{Runtime}."""
        self.run("build", "-q", "-t", tag, "-f", dockerfile, str(ROOT), timeout=BUILD_SECONDS)

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


def succeed(*command: str, timeout: float = COMMAND_SECONDS) -> str:
    """Run a command; its standard output.  Raises L{RuntimeError} with its output if it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    if ended.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        )
    return ended.stdout


def find() -> Runtime:
    """
    The first runtime that works on this machine.

    @raise NoRuntime: none works.
    """
    root = os.geteuid() == 0
    reason = ""
    if SCRIPTS.is_dir() and root:
        try:
            succeed(str(SCRIPTS / "setup"), timeout=BUILD_SECONDS)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            reason = f"; {str(error).strip().splitlines()[-1]}"
        else:
            return Scripts("podman")
    # Tests use the address of a Pod, which exists only if podman runs as root.
    for command in ("podman", "docker") if root else ("docker",):
        if shutil.which(command):
            try:
                succeed(command, "ps")
            except (RuntimeError, subprocess.TimeoutExpired):
                continue
            return Plain(command)
    raise NoRuntime(
        "this machine can't run Pods: install podman and run as root, or install docker, start"
        f" it, and check that `docker ps` works{reason}"
    )
