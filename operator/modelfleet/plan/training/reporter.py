"""Whether a pod may tell the progress of a training job: it must be of the attempt that runs.

That the pod is who it says it is was found out before, by its token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelfleet.api import names
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training.training_status import FINISHED


@dataclass(frozen=True)
class Reporter:
    """The attempt that a pod belongs to."""

    step: str
    attempt: int


@dataclass(frozen=True)
class NotTaken:
    """Why nothing is taken from this pod."""

    reason: Literal["Forbidden", "NotFound", "Conflict"]
    message: str


def admit(
    training_job: RawObject | None, job: RawObject | None, pod: RawObject, namespace: str, name: str
) -> Reporter | NotTaken:
    """The attempt that ``pod`` speaks for; ``job`` is the Job that its label names, ``name`` the TrainingJob's."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    if metadata["namespace"] != namespace or labels.get(names.TRAINING_JOB_LABEL) != name:
        return NotTaken("Forbidden", f"pod {metadata['name']} is none of TrainingJob {namespace}/{name}")
    if training_job is None:
        return NotTaken("NotFound", f"there is no TrainingJob {namespace}/{name}")
    if job is None or not _controls(job, pod) or not _controls(training_job, job):
        return NotTaken("Forbidden", f"pod {metadata['name']} is not of a Job of TrainingJob {namespace}/{name}")
    status = training_job.get("status") or {}
    if status.get("phase") in FINISHED:
        return NotTaken("Conflict", f"TrainingJob {namespace}/{name} is over: {status['phase']}")
    named, attempt = labels.get(names.STEP_LABEL, ""), labels.get(names.ATTEMPT_LABEL, "")
    step = next((step for step in status.get("steps") or () if step["name"] == named), None)
    if step is None or str(step.get("attempt", "")) != attempt or step.get("jobName") != job["metadata"]["name"]:
        latest = step.get("attempt", 0) if step is not None else 0
        return NotTaken("Conflict", f"attempt {attempt} at step {named} is over: the latest one is {latest}")
    if step["phase"] in ("Succeeded", "Failed") or step.get("nextAttemptTime"):
        return NotTaken("Conflict", f"attempt {attempt} at step {named} is over")
    return Reporter(named, int(attempt))


def _controls(owner: Mapping[str, Any], obj: Mapping[str, Any]) -> bool:
    uid = owner["metadata"]["uid"]
    return any(each["uid"] == uid and each.get("controller") for each in obj["metadata"].get("ownerReferences") or ())
