"""Jobs in a queue: handed over suspended to Kueue, which alone says when their pods may be, and when they must go.

Sources: Kueue's integration of ``batch/v1`` Jobs (labels, the ``suspend`` protocol). A step reserves for itself what
its pods need, all of them or none; steps of one training job are admitted one by one. What keeps a Job waiting Kueue
says in its Workload.
"""

from collections.abc import Mapping
from typing import Any, Final

from modelfleet.plan import conditions

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
HANDED_DOWN: Final = (QUEUE_LABEL, PRIORITY_LABEL)
"""Labels of a TrainingJob that its Jobs get, too."""

JOB_UID_LABEL: Final = "kueue.x-k8s.io/job-uid"
"""Label of a Workload: whose pods it reserves for."""

LOOK_AGAIN_SECONDS: Final = 120.0
"""Between looks at a Workload that said what it waits for. Workloads are not watched: there are others' among them."""

OURS: Final = "modelfleet.dev/training-job"
"""The value of ``spec.managedBy`` that stands for this operator."""


def queue(obj: Mapping[str, Any]) -> str:
    """The LocalQueue of a TrainingJob or Job; empty: none."""
    return str((obj["metadata"].get("labels") or {}).get(QUEUE_LABEL, ""))


def labels(obj: Mapping[str, Any], priority_class: str = "") -> dict[str, str]:
    """The labels that a Job gets from its TrainingJob for the queue, with another priority class where one is given."""
    if not queue(obj):
        return {}
    theirs = obj["metadata"].get("labels") or {}
    handed_down = {label: theirs[label] for label in HANDED_DOWN if label in theirs}
    return handed_down | ({PRIORITY_LABEL: priority_class} if priority_class else {})


def held_back(job: Mapping[str, Any], waits_for: str = "") -> str:
    """Who keeps the Job from having pods, in words; empty: nobody. ``waits_for``: see :func:`waits_for`."""
    if not (job.get("spec") or {}).get("suspend"):
        return ""
    if name := queue(job):
        why = f": {waits_for}" if waits_for else " (kubectl describe workloads tells for what)"
        return f"it waits for admission by queue {name}{why}"
    return "its Job is suspended by somebody else: set spec.suspend of the Job to false"


def waits_for(workload: Mapping[str, Any]) -> str:
    """What a Job's Workload says that it waits for; empty: nothing yet, or nothing any more."""
    stated = (workload.get("status") or {}).get("conditions") or ()
    for type_ in ("QuotaReserved", "Admitted"):
        condition = conditions.find(stated, type_)
        if condition is not None and condition["status"] != "True":
            return str(condition.get("message", ""))
    return ""


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether this operator runs the TrainingJob; else another controller does, and reports in its status."""
    return bool(obj["spec"].get("managedBy", OURS) == OURS)
