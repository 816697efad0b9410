"""What a node is to us: which builds of a model it could hold, whether it answers, whether a pod may go there.

Nothing here chooses; the choice of an artifact is ``precision.py``'s, the order of the nodes ``waves.py``'s.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from modelfleet.api import quantity
from modelfleet.plan import conditions

NFD_CPU_PREFIX: Final = "feature.node.kubernetes.io/cpu-cpuid."
"""Node Feature Discovery's labels for CPU features, named as Go's cpuid package names them."""

GPU_MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
"""GPU Feature Discovery: memory of one GPU in MiB."""

ARCHITECTURE_FEATURES: Final[Mapping[str, frozenset[str]]] = {
    "arm64": frozenset({"NEON", "ASIMD", "FP"}),
    "amd64": frozenset({"SSE", "SSE2"}),
}
"""What every CPU of an architecture has, with or without Node Feature Discovery (ARMv8-A, x86-64 psABI)."""

_FEATURE_ALIASES: Final = {"ASIMD": "NEON"}
_NOT_ALPHANUMERIC: Final = re.compile(r"[^A-Z0-9]")

_DAEMON_TOLERATED: Final = frozenset(
    f"node.kubernetes.io/{name}"
    for name in ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
)
"""Taints that the DaemonSet controller tolerates for every pod it makes."""


@dataclass(frozen=True)
class NodeClass:
    """All that the choice of an artifact depends on; equal for most nodes of a pool."""

    platform: str
    """``os/arch``."""
    accelerators: frozenset[str]
    """Extended resources that the node offers."""
    cpu_features: frozenset[str]
    """As :func:`feature` spells them."""
    memory: int
    """Allocatable memory in bytes."""
    accelerator_memory: int | None
    """Memory of one accelerator in bytes; ``None`` where nothing tells, as on boards that share it with the CPU."""


def classify(node: Mapping[str, Any]) -> NodeClass:
    """The class of a Node object (trimmed or whole)."""
    labels = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    allocatable = status.get("allocatable") or {}
    system = labels.get("kubernetes.io/os") or info.get("operatingSystem") or "linux"
    architecture = labels.get("kubernetes.io/arch") or info.get("architecture") or ""
    features = {feature(key[len(NFD_CPU_PREFIX) :]) for key in labels if key.startswith(NFD_CPU_PREFIX)}
    gpu_memory = labels.get(GPU_MEMORY_LABEL, "")
    return NodeClass(
        platform=f"{system}/{architecture}",
        accelerators=frozenset(name for name, amount in allocatable.items() if "/" in name and _positive(amount)),
        cpu_features=frozenset(features | ARCHITECTURE_FEATURES.get(architecture, frozenset())),
        memory=_bytes(allocatable.get("memory", "0")),
        accelerator_memory=int(gpu_memory) << 20 if gpu_memory.isdecimal() else None,
    )


@lru_cache(maxsize=1024)
def feature(name: str) -> str:
    """A CPU feature in one spelling: ``sse4.2``, ``SSE42`` and ``avx512_vnni`` differ in case and marks only."""
    plain = _NOT_ALPHANUMERIC.sub("", name.upper())
    return _FEATURE_ALIASES.get(plain, plain)


def ready_since(node: Mapping[str, Any]) -> tuple[bool, datetime | None]:
    """Whether the node is Ready, and since when it is so or not; no time where the node never said."""
    condition = conditions.find((node.get("status") or {}).get("conditions") or (), "Ready")
    if condition is None:
        return False, None
    moment = condition.get("lastTransitionTime")
    return condition.get("status") == "True", conditions.parse_timestamp(moment).astimezone(UTC) if moment else None


def untolerated_taint(node: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> str | None:
    """The first taint, as ``key=value:Effect``, that keeps a DaemonSet's pod with these tolerations off the node."""
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint.get("effect") not in ("NoSchedule", "NoExecute") or taint.get("key") in _DAEMON_TOLERATED:
            continue
        if not any(tolerates(toleration, taint) for toleration in tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"{taint.get('key')}{value}:{taint['effect']}"
    return None


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration matches a taint, by the rules of ``core/v1`` ``Toleration.ToleratesTaint``."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _positive(amount: Any) -> bool:
    try:
        return quantity.parse(str(amount)) > 0
    except ValueError:
        return False


def _bytes(amount: Any) -> int:
    try:
        return quantity.parse_bytes(str(amount))
    except ValueError:
        return 0
