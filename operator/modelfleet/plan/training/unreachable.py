"""Pods on nodes that are out of reach: when an attempt is given up for them, and when they are deleted by force.

Kubernetes marks such a pod for deletion and then waits for a kubelet that does not answer; a Job waits with it, for
ever. A gang cannot go on without it: the attempt is given up, the next one begins elsewhere, and what is left of the
pod is taken out of the API, so that it holds no quota and no volume. Should its node come back, its kubelet stops the
container; what that wrote meanwhile lies in the old attempt's folders.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.plan import backoff, conditions, job_state, node_class
from modelfleet.plan.outcome import ObjectRef, RawObject

LOST_SECONDS: Final = 300
"""How long a node may be out of reach before its pods are given up: as long as Kubernetes tolerates it by default."""

Nodes = Mapping[str, RawObject]
"""By name."""


def lost(pods: Iterable[RawObject], nodes: Nodes, now: datetime) -> str:
    """Which pod that should be running is lost with its node, in words; empty: none.

    That it is being deleted is enough: whoever decided that (a taint's toleration ran out, say), it will not end
    by itself.
    """
    for pod, since in _on_dead_nodes(pods, nodes):
        if _is_over(pod):
            continue
        if pod["metadata"].get("deletionTimestamp") or now - since >= timedelta(seconds=LOST_SECONDS):
            return _words(pod, since)
    return ""


def blamed(pods: Iterable[RawObject], nodes: Nodes) -> str:
    """For whose node's sake the others of a gang may have failed, in words; empty: no node is out of reach."""
    return next((_words(pod, since) for pod, since in _on_dead_nodes(pods, nodes) if not _is_over(pod)), "")


def until_lost(pods: Iterable[RawObject], nodes: Nodes, now: datetime) -> float | None:
    """Seconds until a pod will count as lost if its node stays away; ``None``: all nodes are within reach."""
    waits = [
        backoff.seconds_until(since + timedelta(seconds=LOST_SECONDS), now)
        for pod, since in _on_dead_nodes(pods, nodes)
        if not _is_over(pod)
    ]
    return min(waits, default=None)


def to_be_forced(pods: Iterable[RawObject], nodes: Nodes, now: datetime) -> tuple[list[ObjectRef], float | None]:
    """The pods to delete by force, and in how many seconds there may be more; their own time to end is over first."""
    refs, waits = [], []
    for pod, _ in _on_dead_nodes(pods, nodes):
        metadata = pod["metadata"]
        ends = metadata.get("deletionTimestamp")
        if not ends or metadata.get("deletionGracePeriodSeconds") == 0:
            continue
        due = conditions.parse_timestamp(ends) + timedelta(seconds=job_state.STUCK_SECONDS)
        if due <= now:
            refs.append(ObjectRef("v1", "Pod", metadata["namespace"], metadata["name"], metadata["uid"], by_force=True))
        else:
            waits.append(backoff.seconds_until(due, now))
    return refs, min(waits, default=None)


def _on_dead_nodes(pods: Iterable[RawObject], nodes: Nodes) -> Iterator[tuple[RawObject, datetime]]:
    """Pods whose node is not Ready, and since when. One whose Node is gone is Kubernetes' own to clean up."""
    for pod in pods:
        node = nodes.get((pod.get("spec") or {}).get("nodeName") or "")
        if node is None:
            continue
        ready, since = node_class.ready_since(node)
        if not ready and since is not None:
            yield pod, since


def _is_over(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _words(pod: RawObject, since: datetime) -> str:
    node = pod["spec"]["nodeName"]
    return f"pod {pod['metadata']['name']} is lost: node {node} is out of reach since {conditions.timestamp(since)}"
