"""Results of a step whose pod's report nobody read: asked for in the store, before anything is run again.

A step is done when its Job is Complete, whether an operator was there to see it or not. The pod that reports may be
gone by then (its node was removed, old pods were collected, somebody deleted it), or the whole Job. But the results lie
in the folder of that attempt alone, and ``results.json`` is the last that a step writes there: a small Job reads it
and reports what the pod had reported. What follows for the step is decided in ``progress.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from modelfleet.api import names, wire
from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.plan import job_state, naming, pods
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import errand, placement, step_job, steps

RECALL: Final = "recall"
"""Name of the container that reads the results."""

_ENDLESS: Final = 2**31 - 1
"""A store that is out of reach is asked again by the kubelet, after pauses of 5 min at most."""


@dataclass(frozen=True)
class Missing:
    """The store has no results of this attempt: it never came to its end, or left them elsewhere."""

    message: str


@dataclass(frozen=True)
class Asking:
    """There is no answer yet."""

    trouble: job_state.Trouble | None = None
    worthless: bool = False
    """The Job that asks is over without an answer, and is to be made again."""


def job_name(training_job: str, step: str, attempt: int) -> str:
    """Name of the Job that asks for an attempt's results. It ends with no number, so it is never that of a step."""
    return naming.joined(training_job, step, str(attempt), RECALL)


def job(obj: RawObject, spec: TrainingJobSpec, step: Step, attempt: int, installation: Installation) -> RawObject:
    """The Job that asks. Raises :class:`~modelfleet.plan.training.placement.UnknownNodePoolError`.

    It runs where the step ran, whose way to the store is known to be open.
    """
    held = [spec.output.secret_ref.name if spec.output.secret_ref else None]
    order = wire.RecallOrder(
        uri=wire.results_uri(step_job.output_uri(obj, spec, step.name, attempt)),
        credentials_path=pods.credentials_path(held[0]),
    )
    return errand.job(
        obj,
        spec,
        installation,
        name=job_name(obj["metadata"]["name"], step.name, attempt),
        labels={names.STEP_LABEL: step.name, names.ATTEMPT_LABEL: str(attempt)},
        program=RECALL,
        verb="recall",
        order=order,
        held=held,
        memory_limit="512Mi",
        limits={"backoffLimit": _ENDLESS},
        restart="OnFailure",
        placement=placement.fields(spec, placement.pool_of(spec, step, installation)),
    )


def answer(asked: steps.Attempt | None, *, is_gone: bool) -> steps.Succeeded | steps.Over | Missing | Asking:
    """What the store says by the Job that asks; ``is_gone``: the step's own Job was deleted.

    A store that refuses access says nothing about the results, and may mean no more than that there are none: to a key
    without the right to list, S3 answers so. A step whose Job is Complete has some, and waits; another begins again.
    """
    if asked is None or asked.job is None:
        return Asking()
    if (ended := job_state.ending(asked.job)) is not None:
        said = _said(asked.pods) if ended.succeeded else ""
        if (missing := _report(said)) is not None:
            return Missing(missing.message)
        return steps.read(said, ended.at) if said else Asking(worthless=True)
    refused = next((report for pod in asked.pods if (report := _report(_last_said(pod))) is not None), None)
    if refused is not None and refused.reason == "Unauthorized" and is_gone:
        return Missing(refused.message)
    if refused is not None:
        return Asking(job_state.Trouble(refused.reason, refused.message))
    return Asking(asked.trouble or job_state.trouble(asked.pods))


def _said(job_pods: Sequence[RawObject]) -> str:
    return next((each.message for pod in job_pods for each in job_state.exits(pod) if each.container == RECALL), "")


def _last_said(pod: Mapping[str, Any]) -> str:
    """What the container said before it was started once more, or now that it ended."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            if "terminated" in state:
                return str(state["terminated"].get("message", ""))
    return ""


def _report(message: str) -> wire.FetchReport | None:
    try:
        return wire.FetchReport.model_validate_json(message)
    except ValidationError:
        return None
