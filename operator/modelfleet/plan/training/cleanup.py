"""What of a training job's children goes, and when: what still runs but should not, what is old, what is finished."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api import names
from modelfleet.plan import backoff, conditions, job_state
from modelfleet.plan.outcome import ObjectRef, RawObject
from modelfleet.plan.training import recall, rendezvous

KEPT_ATTEMPTS: Final = 3
"""Attempts at a step whose Jobs stay while it goes on, for their logs to be read."""

_TRACKED_BY_LABEL: Final = frozenset(
    {
        "app.kubernetes.io/instance",
        "argocd.argoproj.io/instance",
        "kustomize.toolkit.fluxcd.io/name",
        "helm.toolkit.fluxcd.io/name",
    }
)
_TRACKED_BY_ANNOTATION: Final = frozenset(
    {
        "argocd.argoproj.io/tracking-id",
        "meta.helm.sh/release-name",
        "config.k8s.io/owning-inventory",
        "objectset.rio.cattle.io/id",
    }
)
"""By which Argo CD, Flux, Helm, cli-utils and Fleet know the objects that they keep as they are in Git."""


def unfinished(jobs: Sequence[RawObject]) -> list[ObjectRef]:
    """The Jobs that have pods, or may get them; one that ended a moment ago, unseen yet, stays: its results count."""
    return [
        replace(ref(job), resource_version=job["metadata"].get("resourceVersion", ""))
        for job in jobs
        if job_state.ending(job) is None
    ]


def strays(obj: RawObject, statuses: Sequence[Mapping[str, Any]], jobs: Sequence[RawObject]) -> list[ObjectRef]:
    """Unfinished Jobs of attempts that are over: not the latest of their step, or given up."""
    current = {step.get("jobName") for step in statuses if "nextAttemptTime" not in step} | {_of_source(obj)}
    current |= {_recalling(obj, step) for step in statuses if "nextAttemptTime" not in step}
    return [each for each in unfinished(_known(statuses, jobs)) if each.name not in current]


def outdated(obj: RawObject, statuses: Sequence[Mapping[str, Any]], jobs: Sequence[RawObject]) -> list[ObjectRef]:
    """Jobs of attempts long over: a store that is down for a week is tried a thousand times."""
    kept = {
        rendezvous.job_name(obj["metadata"]["name"], step["name"], int(step.get("attempt", 0)) - age)
        for step in statuses
        for age in range(KEPT_ATTEMPTS)
    }
    kept |= {_of_source(obj), *(_recalling(obj, step) for step in statuses)}
    ended = [job for job in _known(statuses, jobs) if job_state.ending(job) is not None]
    return [ref(job) for job in ended if job["metadata"]["name"] not in kept]


def _known(statuses: Sequence[Mapping[str, Any]], jobs: Sequence[RawObject]) -> list[RawObject]:
    """The Jobs but for those of attempts that have not begun by the status.

    It was lost, or is an old one: such Jobs are no strays, and are taken up when it is their turn.
    """
    attempts = {step["name"]: int(step.get("attempt") or 0) for step in statuses}

    def began(job: RawObject) -> bool:
        labels = job["metadata"].get("labels") or {}
        step, attempt = labels.get(names.STEP_LABEL), labels.get(names.ATTEMPT_LABEL, "")
        return step not in attempts or not attempt.isdecimal() or int(attempt) <= attempts[step]

    return [job for job in jobs if began(job)]


def of_finished(
    obj: RawObject, jobs: Sequence[RawObject], services: Sequence[RawObject], now: datetime
) -> tuple[list[ObjectRef], float | None]:
    """What goes of a job that is over, and in how many seconds there is more.

    After ttlSecondsAfterFinished that is the TrainingJob itself, unless somebody would create it again: a job that
    failed would then train anew. Of such a one only the children go.
    """
    ttl, completed = obj["spec"].get("ttlSecondsAfterFinished"), (obj.get("status") or {}).get("completionTime")
    if ttl is None or completed is None:
        return unfinished(jobs), None
    due = conditions.parse_timestamp(completed) + timedelta(seconds=ttl)
    if now < due:
        return unfinished(jobs), backoff.seconds_until(due, now)
    return ([ref(child) for child in (*jobs, *services)] if is_tracked(obj) else [ref(obj)]), None


def is_tracked(obj: RawObject) -> bool:
    """Whether another controller keeps this object in being, and would create it again."""
    metadata = obj["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return bool(
        metadata.get("ownerReferences")
        or _TRACKED_BY_LABEL & labels.keys()
        or _TRACKED_BY_ANNOTATION & annotations.keys()
        or labels.get("app.kubernetes.io/managed-by") == "Helm"
    )


def _of_source(obj: RawObject) -> str:
    """The Job of the latest attempt at finding the source's commit."""
    return str(((obj.get("status") or {}).get("source") or {}).get("jobName", ""))


def _recalling(obj: RawObject, step: Mapping[str, Any]) -> str:
    """The Job that asks the store for the results of the step's latest attempt."""
    return recall.job_name(obj["metadata"]["name"], step["name"], int(step.get("attempt", 0)))


def ref(obj: RawObject) -> ObjectRef:
    """The reference by which exactly this object is deleted."""
    metadata = obj["metadata"]
    return ObjectRef(obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"], metadata["uid"])
