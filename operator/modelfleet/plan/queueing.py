"""Jobs in a queue: handed over suspended to Kueue, which alone says when their pods may be, and when they must go.

Sources: Kueue's integration of ``batch/v1`` Jobs (labels, the ``suspend`` protocol). A step reserves for itself what
its pods need, all of them or none; steps of one training job are admitted one by one. What keeps a Job waiting Kueue
says in its Workload.
"""

from collections.abc import Mapping
from typing import Any, Final

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
HANDED_DOWN: Final = (QUEUE_LABEL, "kueue.x-k8s.io/priority-class")
"""Labels of a TrainingJob that its Jobs get, too."""

OURS: Final = "modelfleet.dev/training-job"
"""The value of ``spec.managedBy`` that stands for this operator."""


def queue(obj: Mapping[str, Any]) -> str:
    """The LocalQueue of a TrainingJob or Job; empty: none."""
    return str((obj["metadata"].get("labels") or {}).get(QUEUE_LABEL, ""))


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    """The labels that a Job gets from its TrainingJob for the queue."""
    theirs = obj["metadata"].get("labels") or {}
    return {label: theirs[label] for label in HANDED_DOWN if label in theirs} if queue(obj) else {}


def held_back(job: Mapping[str, Any]) -> str:
    """Who keeps the Job from having pods, in words; empty: nobody."""
    if not (job.get("spec") or {}).get("suspend"):
        return ""
    if name := queue(job):
        return f"it waits for admission by queue {name} (kubectl describe workloads tells for what)"
    return "its Job is suspended by somebody else: set spec.suspend of the Job to false"


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether this operator runs the TrainingJob; else another controller does, and reports in its status."""
    return bool(obj["spec"].get("managedBy", OURS) == OURS)
