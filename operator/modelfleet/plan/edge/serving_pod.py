"""What a serving pod's status tells: does it run, is it ready, and if not, why, and will waiting help.

One pod at a time; what it means for its node is ``fleet.py``'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from modelfleet.api import names, wire
from modelfleet.plan import conditions
from modelfleet.plan.edge import workload
from modelfleet.plan.outcome import RawObject

PERMANENT: Final = frozenset({"HashMismatch", "SizeMismatch", "Invalid"})
"""What a program reports when the bytes themselves are wrong: trying again does not make them right."""

DEATHS: Final = 3
"""Of its serving container, from which a pod that dies again soon after its start is taken for one that goes on so."""
STEADY: Final = timedelta(minutes=10)
"""How long a container runs until its earlier deaths say nothing any more: as long as the kubelet takes to forget them
(its pauses before restarts begin anew after 10 minutes; Kubernetes documentation, "Pod Lifecycle")."""

_WAITING_IS_FINE: Final = frozenset({"", "PodInitializing", "ContainerCreating"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod is not ready."""

    reason: str
    """One CamelCase word: a program's report, the kubelet's or the scheduler's reason."""
    message: str
    permanent: bool = False
    """Whether waiting cannot help."""


@dataclass(frozen=True, slots=True)
class ServingPod:
    """What counts of one pod."""

    name: str
    node: str
    workload: str
    created: str
    """RFC 3339."""
    terminating: bool
    ready: bool
    running: bool
    """Whether the serving container runs, so that the verified model is in place."""
    unready_since: str
    """RFC 3339; since when it has not been ready, its creation at the earliest; empty while it is."""
    trouble: Trouble | None
    """What is wrong with it; of a ready one only that it died again and again."""
    no_room: bool = False
    """Whether its node has not enough of something for it, as long as its other pods are there."""
    gone_by: str = ""
    """RFC 3339; when a pod on its way out should have ended at the latest; empty for the others."""
    deaths: int = 0
    """How often its serving container died, where the last time was soon after its start; that it is ready at the
    moment says little then."""
    running_since: str = ""
    """RFC 3339; when its serving container was started last; empty where it does not run."""


def read(pod: RawObject, hint: Trouble | None = None) -> ServingPod:
    """The facts of a pod of ours, as the kubelet last reported them.

    ``hint`` is what its Events tell (a Secret that cannot be mounted, say); it counts where the status tells nothing.
    """
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready = conditions.find(status.get("conditions") or (), "Ready") or {}
    is_ready = ready.get("status") == "True" and status.get("phase") == "Running"
    created = metadata.get("creationTimestamp", "")
    serve: Mapping[str, Any] = next(iter(_of(status, workload.SERVE)), {})
    deaths = _deaths(serve)
    trouble = None if is_ready else _trouble(status) or hint
    if is_ready and deaths:
        trouble = _last_death(serve, deaths)
    return ServingPod(
        name=metadata["name"],
        node=(pod.get("spec") or {}).get("nodeName") or _pinned_node(pod),
        workload=(metadata.get("labels") or {}).get(names.WORKLOAD_LABEL, ""),
        created=created,
        terminating="deletionTimestamp" in metadata,
        ready=is_ready,
        running=is_ready or any("running" in (each.get("state") or {}) for each in _of(status, workload.SERVE)),
        unready_since="" if is_ready else max(created, ready.get("lastTransitionTime") or ""),
        trouble=trouble,
        no_room=not is_ready and _has_no_room(status),
        gone_by=metadata.get("deletionTimestamp") or "",
        deaths=deaths,
        running_since=((serve.get("state") or {}).get("running") or {}).get("startedAt") or "",
    )


def _deaths(container: Mapping[str, Any]) -> int:
    """Restarts of a container that died soon after its last start, and did so before; else 0."""
    deaths = int(container.get("restartCount") or 0)
    if deaths < DEATHS:
        return 0
    ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
    began, died = (ended or {}).get("startedAt"), (ended or {}).get("finishedAt")
    if not began or not died:
        return 0
    return deaths if conditions.parse_timestamp(died) - conditions.parse_timestamp(began) < STEADY else 0


def _last_death(container: Mapping[str, Any], deaths: int) -> Trouble:
    """What a container that runs once more has against it."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    why = conditions.shorten(str(ended.get("message") or ""))
    return Trouble("CrashLoopBackOff", f"died {deaths} times, last with exit code {ended.get('exitCode')}: {why}")


def _has_no_room(status: Mapping[str, Any]) -> bool:
    """By the words of the scheduler (``Insufficient <resource>``, ``Too many pods``) or the kubelet (``OutOf…``)."""
    scheduled = conditions.find(status.get("conditions") or (), "PodScheduled") or {}
    message = scheduled.get("message") or ""
    unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return (unschedulable and any(words in message for words in ("Insufficient ", "Too many pods"))) or (
        status.get("phase") == "Failed" and str(status.get("reason") or "").startswith("OutOf")
    )


def _pinned_node(pod: RawObject) -> str:
    """The node that a DaemonSet's pod waits for before it is bound: the controller names it in the affinity."""
    affinity = ((pod.get("spec") or {}).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def _trouble(status: Mapping[str, Any]) -> Trouble | None:
    for container in (*_of(status, workload.FETCH), *_of(status, workload.SERVE)):
        trouble = _container_trouble(container)
        if trouble is not None:
            return trouble
    scheduled = conditions.find(status.get("conditions") or (), "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return Trouble(scheduled.get("reason") or "Unschedulable", scheduled.get("message") or "")
    if status.get("phase") == "Failed":
        return Trouble(status.get("reason") or "PodFailed", status.get("message") or "the pod failed")
    return None


def _container_trouble(container: Mapping[str, Any]) -> Trouble | None:
    state, last = container.get("state") or {}, container.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated")
    if ended and ended.get("exitCode") and "running" not in state:
        return _ended_badly(container["name"], ended)
    waiting = state.get("waiting") or {}
    if waiting.get("reason", "") not in _WAITING_IS_FINE:
        return Trouble(waiting["reason"], waiting.get("message") or "")
    if ended and ended.get("exitCode"):
        # It runs again; what it died of last is the best that is known until it is ready. A check that it fails at
        # every start has to be seen also in the moments between two deaths.
        return _ended_badly(container["name"], ended)
    return None


def _ended_badly(name: str, ended: Mapping[str, Any]) -> Trouble:
    message = ended.get("message") or ""
    try:
        report = wire.FetchReport.model_validate_json(message)
    except ValueError:
        reason = ended.get("reason") or "Error"
        return Trouble(reason, f"container {name} ended with exit code {ended['exitCode']}: {message[-200:]}")
    return Trouble(report.reason, f"{report.file}: {report.message}", permanent=report.reason in PERMANENT)


def _of(status: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    for section in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(section) or ():
            if container.get("name") == name:
                yield container
