"""
The parts of a kubelet that this project's Pods need, for a plain docker or podman:
containers that share one network, ConfigMaps and empty folders, native sidecars, startup and
readiness probes by HTTP and TCP, preStop, SIGTERM and the grace period.

It never restarts a container, and has no liveness probes.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from e2e.configmaps import switch
from e2e.manifests import Document, podSpec

#: Seconds until a Pod must be ready.
READY_SECONDS = 90

#: A user that is in no image, like those of OpenShift.
ANY_USER = "1000620000:0"

#: A process that does nothing but keep the Pod's network.
HOLD = ["--entrypoint", "sleep"]

#: The format for C{inspect} that shows the address of a container.
ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"


class Kubelet:
    """
    One Pod.

    @ivar address: of the Pod, as this machine sees it.
    @ivar containers: the names of its containers in the runtime.
    """

    def __init__(
        self,
        run: Callable[..., str],
        documents: list[Document],
        publish: dict[int, int],
        anyUser: bool,
    ) -> None:
        """
        @param run: L{e2e.runtime.Runtime.run}.
        """
        (self._pod,) = (each for each in documents if podSpec(each))
        self._configMaps = {
            each["metadata"]["name"]: each["data"]
            for each in documents
            if each["kind"] == "ConfigMap"
        }
        self.name: str = self._pod["metadata"]["name"]
        self.address = ""
        self._spec = podSpec(self._pod)
        self._run = run
        self._publish = publish
        self._anyUser = anyUser
        self._folder = Path(tempfile.mkdtemp(prefix="sitio-e2e-"))
        # Readable for the user of any container.
        self._folder.chmod(0o755)

    @property
    def containers(self) -> list[str]:
        return [f"{self.name}-{each['name']}" for each in self._all()]

    @property
    def _network(self) -> str:
        return f"{self.name}-network"

    def _all(self) -> Iterator[Document]:
        """Containers in the order of their start."""
        yield from self._spec.get("initContainers", ())
        yield from self._spec["containers"]

    # Start.

    def begin(self) -> None:
        """Start the containers in order, and wait until all are ready."""
        self.remove()
        ports = [f"--publish=127.0.0.1:{here}:{there}" for here, there in self._publish.items()]
        image = self._spec["containers"][0]["image"]
        self._run("run", "-d", "--name", self._network, *ports, *HOLD, image, "infinity")
        self.address = self._run("inspect", "--format", ADDRESS, self._network).split()[0]
        until = time.monotonic() + READY_SECONDS
        for each in self._all():
            self._start(each)
            self._wait(each, "startupProbe", until)
        for each in self._all():
            self._wait(each, "readinessProbe", until)

    def _start(self, each: Document) -> None:
        options = ["--name", f"{self.name}-{each['name']}", f"--network=container:{self._network}"]
        security = each.get("securityContext", {})
        if security.get("readOnlyRootFilesystem"):
            options += ["--read-only"]
        if security.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt=no-new-privileges"]
        options += [
            f"--cap-drop={name}" for name in security.get("capabilities", {}).get("drop", ())
        ]
        if self._anyUser:
            options += [f"--user={ANY_USER}"]
        if "memory" in each.get("resources", {}).get("limits", {}):
            options += [f"--memory={each['resources']['limits']['memory'].removesuffix('i')}"]
        options += [f"--env={one['name']}={self._value(one)}" for one in each.get("env", ())]
        for mount in each.get("volumeMounts", ()):
            options += [self._mounted(mount["name"], mount["mountPath"])]
        command = [str(word) for word in each.get("command", ())]
        if command:
            options += ["--entrypoint", command.pop(0)]
        words = command + [str(word) for word in each.get("args", ())]
        self._run("run", "-d", *options, each["image"], *words)

    def _value(self, variable: Document) -> str:
        """The value of an environment variable: its own, or that of a key of a ConfigMap."""
        if "value" in variable:
            return str(variable["value"])
        asked = variable["valueFrom"]["configMapKeyRef"]
        return str(self._configMaps[asked["name"]][asked["key"]])

    def _mounted(self, volume: str, path: str) -> str:
        """
        The option for a volume: a folder with the files of a ConfigMap, which may be missing if
        it is optional, or an empty one.
        """
        (found,) = (each for each in self._spec["volumes"] if each["name"] == volume)
        folder = self._folder / volume
        folder.mkdir(exist_ok=True)
        if "emptyDir" in found:
            folder.chmod(0o777)
            return f"--volume={folder}:{path}"
        wanted = found["configMap"]
        missing: Document | None = {} if wanted.get("optional") else None
        files = self._configMaps.get(wanted["name"], missing)
        if files is None:
            raise LookupError(f"there is no ConfigMap {wanted['name']}")
        if not any(folder.iterdir()):
            # Two containers may have the same volume.
            switch(folder, files)
        return f"--volume={folder}:{path}:ro"

    def _wait(self, each: Document, kind: str, until: float) -> None:
        if kind not in each:
            return
        while not self._passes(each, each[kind]):
            if time.monotonic() > until:
                said = self._run("logs", f"{self.name}-{each['name']}")
                raise TimeoutError(f"{each['name']} did not pass its {kind}:\n{said}")
            time.sleep(0.2)

    def _passes(self, each: Document, probe: Document) -> bool:
        asked = probe.get("httpGet") or probe["tcpSocket"]
        ports = {one.get("name"): one["containerPort"] for one in each.get("ports", ())}
        port = ports.get(asked["port"], asked["port"])
        client = http.client.HTTPConnection(self.address, port, timeout=3)
        try:
            if "tcpSocket" in probe:
                client.connect()
                return True
            client.request("GET", asked["path"])
            return 200 <= client.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()

    # Stop.

    def end(self) -> dict[str, int]:
        """
        Stop the Pod and remove it; the exit code of each container.

        All preStop hooks begin at once.  A container gets SIGTERM after its own hook; a
        native sidecar also waits for the containers, and for the sidecars that started
        after it (KEP-753).
        """
        until = time.monotonic() + self._spec.get("terminationGracePeriodSeconds", 30)
        sidecars = self._spec.get("initContainers", [])[::-1]
        with ThreadPoolExecutor() as threads:
            hooks = [threads.submit(self._preStop, each, until) for each in sidecars]
            list(threads.map(lambda each: self._stop(each, until), self._spec["containers"]))
            for each, hook in zip(sidecars, hooks, strict=True):
                hook.result()
                self._terminate(each, until)
        codes = {
            each["name"]: int(
                self._run(
                    "inspect", "--format", "{{.State.ExitCode}}", f"{self.name}-{each['name']}"
                )
            )
            for each in (*self._spec["containers"], *sidecars)
        }
        self.remove()
        return codes

    def _stop(self, each: Document, until: float) -> None:
        self._preStop(each, until)
        self._terminate(each, until)

    def _preStop(self, each: Document, until: float) -> None:
        hook = each.get("lifecycle", {}).get("preStop", {})
        left = max(2, until - time.monotonic())
        if "exec" in hook:
            # SIGTERM follows even if this fails; and the container may have ended.
            with suppress(RuntimeError, subprocess.TimeoutExpired):
                name = f"{self.name}-{each['name']}"
                self._run("exec", name, *hook["exec"]["command"], timeout=left)
        elif "sleep" in hook:
            time.sleep(min(hook["sleep"]["seconds"], left))

    def _terminate(self, each: Document, until: float) -> None:
        left = max(2, round(until - time.monotonic()))
        self._run("stop", "-t", str(left), f"{self.name}-{each['name']}")

    def remove(self) -> None:
        """Remove all containers at once."""
        for name in (*self.containers, self._network):
            # Otherwise podman waits for containers that ignore SIGTERM.
            with suppress(RuntimeError):
                self._run("kill", name)
            try:
                self._run("rm", "-f", name)
            except RuntimeError as error:
                # Some versions report an error if there is no such container.
                if "no such" not in str(error).lower():
                    raise
        if self.address:
            shutil.rmtree(self._folder, ignore_errors=True)
