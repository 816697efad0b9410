"""What an edge platform is known by, and what its nodes need: KubeEdge, OpenYurt, and plain Kubernetes.

All of it is data: labels and versions that are read from nodes, tolerations, labels and annotations that are set on
pods and Services. A pool may have nodes of several platforms; then each gets its own. Nothing is written on nodes:
whether a node is autonomous is the platform's business.

Sources: KubeEdge's webhook for autonomous pods and its NodeGroup controller (1.20), OpenYurt's YurtHub filters
and pod-binding controller (1.7).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

KUBE_EDGE: Final = "KubeEdge"
OPEN_YURT: Final = "OpenYurt"
KUBERNETES: Final = "Kubernetes"

YURT_LABEL: Final = "openyurt.io/is-edge-worker"
EDGE_LABEL: Final = "node-role.kubernetes.io/edge"
KUBE_EDGE_VERSION: Final = "-kubeedge-"
"""In the kubelet version that an edge node of KubeEdge reports, as in ``v1.32.10-kubeedge-v1.23.1``."""

EDGE_TAINT: Final = {"key": EDGE_LABEL, "operator": "Exists", "effect": "NoSchedule"}
"""What keeps pods of the cloud off edge nodes, where somebody set it."""

AUTONOMY_LABEL: Final = {"app-offline.kubeedge.io": "autonomy"}
"""On pods: KubeEdge's webhook lets them stay on a node that is unreachable."""

POOL_LOCAL: Final[Mapping[str, Mapping[str, str]]] = {
    KUBE_EDGE: {"apps.kubeedge.io/service-topology": "range-nodegroup"},
    OPEN_YURT: {"openyurt.io/topologyKeys": "openyurt.io/nodepool"},
}
"""Annotations of a Service whose requests stay within the NodeGroup or NodePool that they come from."""

STAY_SECONDS: Final = 10 * 365 * 24 * 3600
"""For how long replicas stay on an unreachable node of OpenYurt: ten years. Its pod-binding controller expects a number
of seconds on every pod of an autonomous node (1.7.0 crashes without), and then writes its own on the pods."""


@dataclass(frozen=True)
class Platform:
    """The platforms that a pool's nodes are of."""

    providers: frozenset[str] = frozenset()

    @property
    def tolerations(self) -> list[dict[str, Any]]:
        """What pods on these nodes tolerate, beside the pool's own."""
        return [dict(EDGE_TAINT)] if self.is_edge else []

    @property
    def pod_labels(self) -> dict[str, str]:
        """Labels of the pods on these nodes, beside ours."""
        return dict(AUTONOMY_LABEL) if KUBE_EDGE in self.providers else {}

    @property
    def service_annotations(self) -> dict[str, str]:
        """Annotations that keep a Service's requests within the pool; empty where no platform can."""
        found: dict[str, str] = {}
        for name in sorted(self.providers):
            found |= POOL_LOCAL.get(name, {})
        return found

    @property
    def is_edge(self) -> bool:
        """Whether any of the nodes is of an edge platform."""
        return bool(self.providers - {KUBERNETES})

    def leaving(self, offline_after_seconds: int) -> list[dict[str, Any]]:
        """The tolerations that say when replicas leave a node that is not ready or not reachable.

        Replicas on plain nodes move after ``offlineAfterSeconds``. On the edge they stay: an uplink that is cut stops
        no model, and a replica that was replaced meanwhile would be killed when the uplink is back.
        """
        seconds: dict[str, int] = {"tolerationSeconds": offline_after_seconds}
        if self.is_edge:
            seconds = {"tolerationSeconds": STAY_SECONDS} if OPEN_YURT in self.providers else {}
        return [
            {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", **seconds}
            for taint in ("not-ready", "unreachable")
        ]


PLAIN: Final = Platform()


def of_pool(told: str | None, nodes: Iterable[Mapping[str, Any]]) -> Platform:
    """The platforms of a pool's nodes; ``told`` is what the spec says, which settles it."""
    return Platform(frozenset({told} if told else map(of_node, nodes)))


def of_node(node: Mapping[str, Any]) -> str:
    """The platform that a node's labels or its kubelet's version tell of; ``Kubernetes`` where none does.

    OpenYurt's label is its own; the role ``edge`` is what KubeEdge sets, and others may set by hand.
    """
    labels = node["metadata"].get("labels") or {}
    info = (node.get("status") or {}).get("nodeInfo") or {}
    if labels.get(YURT_LABEL) == "true":
        return OPEN_YURT
    if KUBE_EDGE_VERSION in str(info.get("kubeletVersion") or "") or labels.get(EDGE_LABEL, "false") != "false":
        return KUBE_EDGE
    return KUBERNETES
