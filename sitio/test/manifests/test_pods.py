"""
Tests of the rules for each Pod.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sitio.config.memory import MEBIBYTE, memoryLimit
from sitio.config.options import Options
from sitio.policy.loader import loadPolicies
from sitio.test.helpers import manifests
from sitio.test.helpers.manifests import (
    MANIFESTS,
    Document,
    containers,
    isSitio,
    named,
    podOf,
    pods,
    valueOf,
)
from sitio.testing import request, response, runPolicy

with contextlib.suppress(ImportError):
    import yaml

if manifests.missing:
    skip = manifests.missing


def preStop(container: Document) -> str:
    """The script that a container runs when the end of its Pod begins."""
    return str(container["lifecycle"]["preStop"]["exec"]["command"][-1])


class PodTests(SynchronousTestCase):
    """Rules for each Pod."""

    def test_restricted(self) -> None:
        """
        Each Pod satisfies Pod Security's level I{restricted} and OpenShift's
        I{restricted-v2}, and all file systems are read-only.
        """
        for name, pod, _ in pods():
            self.assertEqual(
                pod["securityContext"],
                {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                name,
            )
            self.assertIs(pod["automountServiceAccountToken"], False, name)
            self.assertEqual([key for key in pod if key.startswith("host")], [], name)
            for each in containers(pod):
                whole = {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                # sitio's is complete whatever the Pod's says.
                if isSitio(each):
                    whole |= pod["securityContext"]
                self.assertEqual(each["securityContext"], whole, name)
                self.assertNotIn("hostPort", str(each.get("ports")), name)

    def test_resources(self) -> None:
        """Each container requests CPU and memory, and limits its memory."""
        for name, pod, _ in pods():
            for each in containers(pod):
                resources = each["resources"]
                self.assertEqual(set(resources["requests"]), {"cpu", "memory"}, name)
                self.assertIn("memory", resources["limits"], name)

    def test_options(self) -> None:
        """sitio accepts the arguments and policies of each of its containers."""
        count = 0
        for name, pod, documents in pods():
            for each in filter(isSitio, containers(pod)):
                options = self.options(each, documents)
                if "readinessProbe" in each:
                    # The photo site has this page; the components know of none.
                    self.assertEqual(options["health-path"], "/", name)
                if "ports" in each:
                    # Only the pages for probes are on the Pod's address.
                    self.assertIn(options["admin"], ("", "tcp:9901:interface=127.0.0.1"), name)
                    self.assertEqual(options["probes"], "tcp:9902", name)
                count += 1
        self.assertGreaterEqual(count, 3)

    def test_memory(self) -> None:
        """
        The memory limit of sitio is what L{memoryLimit} says of its arguments and policies.
        """
        wrong = []
        checked = [
            (name, each, documents)
            for name, pod, documents in pods()
            for each in filter(isSitio, containers(pod))
        ]
        # As a stranger gets them, without the policies of the photo site.
        for form in ("container", "native"):
            path = MANIFESTS / f"components/{form}/sitio.yml"
            (added, _) = yaml.safe_load(path.read_text("utf-8"))
            checked.append((f"components/{form}", {**added["value"], "env": []}, []))
        for name, each, documents in checked:
            options = self.options(each, documents)
            needed = f"{memoryLimit(options) // MEBIBYTE}Mi"
            if each["resources"]["limits"]["memory"] != needed:
                wrong.append(f"{name} needs {needed}")
        self.assertEqual(wrong, [])

    def options(self, container: Document, documents: list[Document]) -> Options:
        """The options of a container, from its arguments and environment."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for made in named(documents, "ConfigMap").values():
            for name, text in made["data"].items():
                (folder / name).write_text(text, "utf-8")
        names = [each["name"] for each in container.get("env", ())]
        options = Options({each: valueOf(container, each, documents) for each in names})
        options.parseOptions(
            [each.replace("/etc/sitio/", f"{folder}/") for each in container["args"]]
        )
        return options

    def test_config(self) -> None:
        """
        The photo site's sitio.toml can change while sitio runs: its ConfigMap keeps its name, and
        is mounted as a folder.  What needs a restart is in the arguments.
        """
        count = 0
        for name, pod, documents in pods():
            for each in filter(isSitio, containers(pod)):
                if "--config=/etc/sitio/sitio.toml" not in each["args"]:
                    continue
                (mount,) = (one for one in each["volumeMounts"] if one["mountPath"] == "/etc/sitio")
                self.assertNotIn("subPath", mount, name)
                (volume,) = (one for one in pod["volumes"] if one["name"] == mount["name"])
                self.assertEqual(volume["configMap"]["name"], "sitio-policies", name)
                text = named(documents, "ConfigMap")["sitio-policies"]["data"]["sitio.toml"]
                self.assertEqual(set(tomllib.loads(text)), {"policies", "upstream", "routes"}, name)
                count += 1
        self.assertGreaterEqual(count, 2)

    def test_grace(self) -> None:
        """
        A Pod's grace period, 30 seconds by default, is longer than its preStop and sitio's
        C{--grace} together.
        """
        count = 0
        for name, pod, documents in pods():
            for each in filter(isSitio, pod["containers"]):
                if "lifecycle" not in each:
                    continue  # a Job's, which has no clients outside its Pod
                (seconds,) = re.findall(r"time.sleep\((\d+)\)", preStop(each))
                grace = self.options(each, documents)["settings"].grace
                period = pod.get("terminationGracePeriodSeconds", 30)
                self.assertGreater(period, int(seconds) + grace, name)
                count += 1
        self.assertGreaterEqual(count, 1)

    def test_drains(self) -> None:
        """
        sitio drains when the end of its Pod begins: an ordinary container serves on for some
        seconds, a native sidecar as long as the service runs.
        """
        forms = set()
        for name, pod, _ in pods():
            for each in filter(isSitio, containers(pod)):
                if "lifecycle" in each:
                    self.assertIn('"POST", "/drain"', preStop(each), name)
                    isNative = each.get("restartPolicy") == "Always"
                    self.assertEqual("sleep" in preStop(each), not isNative, name)
                    forms.add(isNative)
        self.assertEqual(forms, {True, False})

    def test_native(self) -> None:
        """
        An init container has C{restartPolicy: Always}, which makes it a native sidecar; its
        startup probe is C{/live}, as C{/ready} waits for containers that start after it.
        """
        count = 0
        for name, pod, _ in pods():
            for each in pod.get("initContainers", ()):
                self.assertEqual(each["restartPolicy"], "Always", name)
                self.assertEqual(each["startupProbe"]["httpGet"]["path"], "/live", name)
                count += 1
        self.assertGreaterEqual(count, 1)

    def test_same(self) -> None:
        """
        Both forms run the same sitio: they differ in its start and its end only, with the
        photo site and without it.
        """
        forms = []
        for form, overlay in (("container", "plain"), ("native", "native-sidecar")):
            path = MANIFESTS / f"components/{form}/sitio.yml"
            (added, _) = yaml.safe_load(path.read_text("utf-8"))
            (patched,) = (
                each
                for part in ("containers", "initContainers")
                for each in podOf(
                    yaml.safe_load((MANIFESTS / f"overlays/{overlay}/sitio.yml").read_text("utf-8"))
                ).get(part, ())
            )
            own = {"lifecycle", "restartPolicy", "startupProbe"}
            sitio = {key: value for key, value in added["value"].items() if key not in own}
            # The overlay repeats the component's arguments, and adds its own.
            self.assertEqual(patched["args"][: len(sitio["args"])], sitio["args"])
            forms.append((sitio, patched))
        self.assertEqual(*forms)

    def test_jobs(self) -> None:
        """The sidecar of a Job ends: it is native, or the work sends POST /quit."""
        count = 0
        for name, pod, _ in pods():
            if pod.get("restartPolicy") == "Never":
                if any(map(isSitio, pod["containers"])):
                    self.assertRegex(str(pod["containers"][0]["command"]), "/quit.*POST", name)
                count += 1
        self.assertGreaterEqual(count, 2)

    def test_policy(self) -> None:
        """The policy in the ConfigMap adds its field."""
        path = MANIFESTS / "demo/config/marked.py"
        ((_, policy),) = loadPolicies(f"file:{path}")
        outcome = runPolicy(policy, request("/"), response(200, text="hello"))
        self.assertEqual(outcome.headers["X-Decorated-By"], "sitio")
