"""Simulated gateways: Node objects of three pools whose kubelets KWOK plays.

A gateway is created Ready. Taken offline it is as a gateway without uplink is, seen from the API server: Ready is
Unknown, no pod on it starts, reports or goes away. Everything else about it is the real control plane's doing.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster import programs
from e2e.cluster.commands import Report
from e2e.cluster.folders import Folder
from e2e.cluster.processes import Processes
from e2e.kubectl import Kubectl, KubectlError

PART = "kwok"
STAGES = Path(__file__).with_name("stages.yaml")
SELECTOR = "modelfleet.dev/simulated=true"
TAINT = {"key": "node-role.kubernetes.io/edge", "value": "", "effect": "NoSchedule"}

_AT_ONCE = 500


@dataclass(frozen=True)
class GatewayPool:
    """A pool's hardware. ``variant`` gives the further labels and resources of its n-th gateway."""

    name: str
    percent: int
    architecture: str
    cpu: str
    memory: str
    variant: Callable[[int], tuple[Mapping[str, str], Mapping[str, str]]]


def _cuda(number: int) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Every other gateway has a card of 40 GiB, the rest cards of 16 GiB that report a little less."""
    memory = "40960" if number % 2 == 0 else "16376"
    return {"nvidia.com/gpu.memory": memory, "nvidia.com/gpu.present": "true"}, {"nvidia.com/gpu": "1"}


def _arm(_: int) -> tuple[Mapping[str, str], Mapping[str, str]]:
    return {"feature.node.kubernetes.io/cpu-cpuid.ASIMD": "true"}, {}


def _x86(number: int) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Two of three gateways are recent enough for AVX-512."""
    features = ["AVX2"] if number % 3 == 0 else ["AVX2", "AVX512F"]
    return {f"feature.node.kubernetes.io/cpu-cpuid.{feature}": "true" for feature in features}, {}


POOLS = (
    GatewayPool("cuda", 20, "amd64", "16", "64Gi", _cuda),
    GatewayPool("arm-edge", 40, "arm64", "4", "4Gi", _arm),
    GatewayPool("x86", 40, "amd64", "8", "16Gi", _x86),
)


def node(pool: GatewayPool, number: int, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The Node object of a pool's gateway, Ready from the start."""
    name = f"gw-{pool.name}-{number:04d}"
    extra_labels, extra_resources = pool.variant(number)
    resources = {"cpu": pool.cpu, "memory": pool.memory, "ephemeral-storage": "100Gi", "pods": "110", **extra_resources}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok",
                "modelfleet.dev/simulated": "true",
                "pool": pool.name,
                "site": f"plant-{'abcd'[number % 4]}",
                "node-role.kubernetes.io/edge": "",
                "kubernetes.io/arch": pool.architecture,
                "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": name,
                **extra_labels,
                **(labels or {}),
            },
        },
        "spec": {"taints": [TAINT]},
        "status": {
            "phase": "Running",
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": "Hostname", "address": name}],
            "conditions": [_ready("True", "KubeletReady", "kubelet is posting ready status")],
            "nodeInfo": {
                "architecture": pool.architecture,
                "operatingSystem": "linux",
                "osImage": "simulated",
                "kernelVersion": "simulated",
                "kubeletVersion": f"v{programs.KUBERNETES_VERSION}",
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "containerd://simulated",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }


def fleet(count: int) -> list[dict[str, Any]]:
    """``count`` gateways, shared out over the pools."""
    sizes = [count * pool.percent // 100 for pool in POOLS]
    sizes[-1] = count - sum(sizes[:-1])
    return [node(pool, number) for pool, size in zip(POOLS, sizes, strict=True) for number in range(size)]


@dataclass(frozen=True)
class Gateways:
    """The simulated gateways of a cluster."""

    folder: Folder
    kubectl: Kubectl
    simulated_pods: str = "10.0.0.0/16"
    """The range of the made-up pod addresses."""

    def start(self, kubeconfig: Path, report: Report, stages: Iterable[Path] = ()) -> None:
        """Start KWOK if it does not run; ``stages``: files with further stages for it to play."""
        processes = Processes(self.folder)
        if not processes.alive(PART):
            processes.start(
                PART,
                [
                    programs.find("kwok", report),
                    f"--kubeconfig={kubeconfig}",
                    *(f"--config={file}" for file in (STAGES, *stages)),
                    f"--cidr={self.simulated_pods}",
                ],
            )

    def names(self) -> list[str]:
        """The names of all simulated gateways, sorted."""
        text = self.kubectl("get", "nodes", f"--selector={SELECTOR}", "--output=jsonpath={.items[*].metadata.name}")
        return sorted(text.split())

    def scale(self, count: int) -> None:
        """Make the fleet what ``fleet(count)`` says; gateways that a test added by itself go too."""
        wanted = {each["metadata"]["name"]: each for each in fleet(count)}
        present = set(self.names())
        self.add([each for name, each in wanted.items() if name not in present])
        self.remove(present - wanted.keys())

    def add(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Create gateways, as ``node`` makes them."""
        items = list(nodes)
        batches = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._create, batches))

    def remove(self, names: Iterable[str]) -> None:
        """Delete gateways, and with them, by the control plane, their pods."""
        words = sorted(names)
        for start in range(0, len(words), _AT_ONCE):
            self.kubectl("delete", "nodes", "--ignore-not-found", "--wait=false", *words[start : start + _AT_ONCE])

    def take_offline(self, *names: str) -> None:
        """Cut the uplink: Ready turns Unknown, and what happens on the gateway is not seen any more."""
        self._each(names, self._take_offline)

    def bring_back(self, *names: str) -> None:
        """Restore the uplink: the gateway is Ready, its pods report, and what was asked of it meanwhile happens."""
        self._each(names, self._bring_back)

    def _create(self, nodes: list[Mapping[str, Any]]) -> None:
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))

    def _each(self, names: Iterable[str], change: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(change, names))

    def _take_offline(self, name: str) -> None:
        # KWOK plays the nodes of its selector only: without the label nobody acts for the kubelet any more.
        self._label(name, "offline")
        # What the node controller would write after its grace period.
        self._set_ready(name, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")

    def _bring_back(self, name: str) -> None:
        self._set_ready(name, "True", "KubeletReady", "kubelet is posting ready status")
        self._label(name, "kwok")
        pods = json.loads(
            self.kubectl("get", "pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}", "--output=json")
        )
        for pod in pods["items"]:
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                self._report_pod_ready(pod)

    def _report_pod_ready(self, pod: Mapping[str, Any]) -> None:
        """What a kubelet does on its return: the node controller had marked its pods not ready."""
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": _now()}
        try:
            self.kubectl.within(pod["metadata"]["namespace"])(
                "patch",
                "pod",
                pod["metadata"]["name"],
                "--subresource=status",
                "--type=strategic",
                f"--patch={json.dumps({'status': {'conditions': [condition]}})}",
            )
        except KubectlError as error:
            # What was to go while it was away goes as soon as it is back.
            if "(NotFound)" not in str(error):
                raise

    def _label(self, name: str, value: str) -> None:
        self.kubectl("label", "node", name, "--overwrite", f"type={value}")

    def _set_ready(self, name: str, status: str, reason: str, message: str) -> None:
        patch = {"status": {"conditions": [_ready(status, reason, message)]}}
        self.kubectl("patch", "node", name, "--subresource=status", "--type=strategic", f"--patch={json.dumps(patch)}")


def _ready(status: str, reason: str, message: str) -> dict[str, str]:
    now = _now()
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
