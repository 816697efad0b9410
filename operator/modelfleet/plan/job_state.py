"""Reading a Job and its pods: how it ended, what a container reported, and why one does not start.

Works on raw objects; what follows from it is decided by the plans that run Jobs (``verification.py``, ``steps.py``).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from modelfleet.api import wire
from modelfleet.plan import conditions
from modelfleet.plan.outcome import RawObject

JOB_NAME_LABEL: Final = "batch.kubernetes.io/job-name"
COMPLETION_INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""Annotation of an Indexed Job's pods: the rank."""

FETCH: Final = "fetch"
"""Name of the init containers that run ``fetch``."""

SOURCE: Final = "source-at-commit"
"""Name of the init container that runs ``checkout``; longer than a step's name may be, so no step has it."""

QUIET_SECONDS: Final = 10
"""How long a Job may be without pods, or a pod without a word, before its Events are asked for the reason."""

GIVEN_UP_SECONDS: Final = 180
"""How long the pods of a Job that failed may take to go; on a node that answers they have 30 s."""

STUCK_SECONDS: Final = 60
"""How long a pod may be overdue before that is told."""

_WAITING: Final = {
    "ErrImagePull": "ImagePullFailed",
    "ImagePullBackOff": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "RegistryUnavailable": "ImagePullFailed",
    "CreateContainerConfigError": "ContainerRefused",
    "CreateContainerError": "ContainerRefused",
    "RunContainerError": "ContainerRefused",
}


_EXIT_CODE: Final = re.compile(r"failed with exit code ([0-9]+)")
"""In the message of a Job that one of its rules on exit codes failed (``pod_failure_policy.go``)."""


_NO_SECRET: Final = re.compile(r"image pull secrets \(([^)]+)\)")
"""In the kubelet's Event about it (``kubelet_pods.go``)."""


@dataclass(frozen=True)
class Ending:
    """How a Job ended."""

    succeeded: bool
    at: datetime
    reason: str
    """The Job controller's word, as ``BackoffLimitExceeded`` or ``DeadlineExceeded``; empty for success."""
    message: str


@dataclass(frozen=True)
class Trouble:
    """Why a pod is not running, as a condition tells it."""

    reason: str
    message: str
    pod: str = ""
    """The pod, where its Events may tell more."""


@dataclass(frozen=True)
class Exit:
    """How a container of a pod ended."""

    pod: str
    container: str
    code: int
    reason: str
    """The kubelet's word, as ``Error`` or ``OOMKilled``."""
    message: str
    """Its termination message: a report of ours, or the end of its log."""
    finished_at: str


def ending(job: Mapping[str, Any]) -> Ending | None:
    """How the Job ended; ``None`` while any of its pods may still run."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            succeeded = condition["type"] == "Complete"
            at = conditions.parse_timestamp(condition["lastTransitionTime"])
            return Ending(succeeded, at, "" if succeeded else condition.get("reason", ""), condition.get("message", ""))
    return None


def was_suspended(job: Mapping[str, Any]) -> bool:
    """Whether a Job that failed was suspended first.

    Its pods were stopped, then, and what failed it was a rule that took their exit codes for failures. Once it is to
    fail, the Job controller leaves this condition as it is, also when the Job is resumed meanwhile (job_controller.go).
    """
    return conditions.is_true((job.get("status") or {}).get("conditions") or (), "Suspended")


def given_up(job: Mapping[str, Any], now: datetime) -> Ending | None:
    """How a Job is about to end that failed a while ago and waits for a pod which does not go; ``None`` for any other.

    The Job controller says ``FailureTarget`` first and ``Failed`` when the last pod is gone: on a node that is dead for
    good, never.
    """
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] == "FailureTarget" and condition["status"] == "True":
            at = conditions.parse_timestamp(condition["lastTransitionTime"])
            if now - at >= timedelta(seconds=GIVEN_UP_SECONDS):
                return Ending(False, at, condition.get("reason", ""), condition.get("message", ""))
    return None


def pods_of(job: Mapping[str, Any], pods: Iterable[RawObject]) -> list[RawObject]:
    """The pods of this Job, by rank.

    Not those of a predecessor of the same name, whose owner was deleted and created again: its pods may outlive it
    by a moment (on a node out of reach, by days), and their reports are about other bytes.
    """
    metadata = job["metadata"]
    mine = [
        pod
        for pod in pods
        if (pod["metadata"].get("labels") or {}).get(JOB_NAME_LABEL) == metadata["name"]
        and all(
            owner["uid"] == metadata["uid"]
            for owner in pod["metadata"].get("ownerReferences") or ()
            if owner.get("controller")
        )
    ]
    return sorted(mine, key=lambda pod: (rank(pod), pod["metadata"]["name"]))


def rank(pod: Mapping[str, Any]) -> int:
    """The pod's completion index; 0 in a Job that is not Indexed."""
    return int((pod["metadata"].get("annotations") or {}).get(COMPLETION_INDEX, "0"))


def exits(pod: Mapping[str, Any]) -> list[Exit]:
    """The containers of the pod that ended, init containers first."""
    found = []
    for status in _container_statuses(pod):
        ended = (status.get("state") or {}).get("terminated")
        if ended is not None:
            found.append(
                Exit(
                    pod=pod["metadata"]["name"],
                    container=status["name"],
                    code=ended["exitCode"],
                    reason=ended.get("reason", ""),
                    message=ended.get("message", "").strip(),
                    finished_at=ended.get("finishedAt") or "",
                )
            )
    return found


def first_failure(pods: Iterable[Mapping[str, Any]]) -> Exit | None:
    """The container that failed first: in a gang, the others fail because of it."""
    failed = [ended for pod in pods for ended in exits(pod) if ended.code != 0]
    return min(failed, key=lambda ended: ended.finished_at, default=None)


def exit_code(ended: Ending) -> int | None:
    """The exit code that failed the Job, by its own words: they are there though the pods are gone."""
    found = _EXIT_CODE.search(ended.message)
    return int(found[1]) if found else None


def is_disrupted(pods: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a pod was preempted, evicted or drained, or is about to be."""
    return any(
        conditions.is_true((pod.get("status") or {}).get("conditions") or (), "DisruptionTarget") for pod in pods
    )


def fetch_report(ended: Exit) -> wire.FetchReport | None:
    """The report of ``fetch`` or ``checkout``, if it was one of them that failed and it could still report."""
    if ended.container not in (FETCH, SOURCE):
        return None
    try:
        return wire.FetchReport.model_validate_json(ended.message)
    except ValidationError:
        return None


def describe(ended: Exit) -> str:
    """A failed container in words."""
    report = fetch_report(ended)
    if report is not None:
        return f"{report.file} could not be fetched: {report.reason}: {report.message}"
    cause = f"exit code {ended.code}"
    if ended.reason == "OOMKilled":
        cause = "it was killed for using more memory than its limit (OOMKilled): raise resources.limits.memory"
    tail = ended.message.splitlines()[-1] if ended.message else f"see kubectl logs {ended.pod} -c {ended.container}"
    return f"container {ended.container} of pod {ended.pod} failed, {cause}: {tail}"


def trouble(pods: Iterable[Mapping[str, Any]]) -> Trouble | None:
    """Why a pod does not run, where its status says so."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                why = condition.get("message", "")
                return Trouble("Unschedulable", f"no node takes pod {pod['metadata']['name']}: {why}")
        for status in _container_statuses(pod):
            waiting = (status.get("state") or {}).get("waiting") or {}
            reason = _WAITING.get(waiting.get("reason", ""))
            if reason == "ImagePullFailed":
                detail = waiting.get("message") or waiting["reason"]
                return Trouble(
                    reason,
                    f"image {status['image']} cannot be pulled: check its name and imagePullSecrets: {detail}",
                    pod["metadata"]["name"],
                )
            if reason is not None:
                return Trouble(reason, f"container {status['name']} cannot start: {waiting.get('message', '')}")
    return None


def without_secret(unpulled: Trouble, events: Iterable[Mapping[str, Any]]) -> Trouble:
    """The trouble of an image that cannot be pulled, with the Secret named that its namespace does not have.

    The registry's refusal alone does not tell it: without the Secret the kubelet asks as nobody.
    """
    for event in events:
        found = _NO_SECRET.search(str(event.get("note", "")))
        if event.get("reason") == "FailedToRetrieveImagePullSecret" and found:
            image = unpulled.message.partition(" cannot be pulled")[0]
            message = (
                f"{image} cannot be pulled: its namespace has no Secret {found[1]}, which imagePullSecrets name (the"
                " object's, or the chart's runtime.imagePullSecrets): create it there; the pod goes on by itself"
            )
            return Trouble(unpulled.reason, message, unpulled.pod)
    return unpulled


def is_quiet(job: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], now: datetime) -> str | None:
    """Whose Events may tell why nothing runs: ``"Job"`` when it has no pods, a pod's name when that one says nothing.

    ``None`` while everything runs, says itself why it does not, or is younger than :data:`QUIET_SECONDS`.
    """
    pods = list(pods)
    if ending(job) is not None or trouble(pods) is not None or _age(job, now) < QUIET_SECONDS:
        return None
    if not pods:
        return "Job"
    for pod in pods:
        started = any(not (status.get("state") or {}).get("waiting") for status in _container_statuses(pod))
        if (pod.get("status") or {}).get("phase") == "Pending" and not started and _age(pod, now) >= QUIET_SECONDS:
            return str(pod["metadata"]["name"])
    return None


def stuck(pods: Iterable[Mapping[str, Any]], now: datetime) -> Trouble | None:
    """A pod that is overdue to end by more than :data:`STUCK_SECONDS`; its Job waits for it.

    A pod's deletionTimestamp is the moment by which it should have ended.
    """
    for pod in pods:
        metadata, node = pod["metadata"], (pod.get("spec") or {}).get("nodeName")
        ends = metadata.get("deletionTimestamp")
        if node and ends and (now - conditions.parse_timestamp(ends)).total_seconds() > STUCK_SECONDS:
            return Trouble(
                "PodStuck",
                f"pod {metadata['name']} does not end on node {node}: look at that node's kubelet, or delete the Node"
                " where it is gone for good",
            )
    return None


def event_trouble(events: Iterable[Mapping[str, Any]]) -> Trouble | None:
    """What the latest Warning Event says, without the random names in it that would make each one look new."""
    for event in events:
        note = re.sub(r'pods? "[^"]*"', "pods", str(event.get("note", "")))
        reason = "QuotaExceeded" if "exceeded quota" in note else str(event.get("reason", "")) or "PodsNotCreated"
        return Trouble(reason, note)
    return None


def ready_count(pods: Iterable[Mapping[str, Any]]) -> int:
    """How many of the pods are running and ready, or done."""
    return sum(_is_up(pod) for pod in pods)


def _is_up(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    return status.get("phase") == "Succeeded" or conditions.is_true(status.get("conditions") or (), "Ready")


def _container_statuses(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _age(obj: Mapping[str, Any], now: datetime) -> float:
    return (now - conditions.parse_timestamp(obj["metadata"]["creationTimestamp"])).total_seconds()
