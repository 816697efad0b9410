"""The status of a TrainingJob: phase, steps and conditions from one report, and how steps read when a job ends early.

What is reported is decided in ``training_job.py``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from modelfleet.api.training_job import Step
from modelfleet.api.training_job_status import Phase
from modelfleet.plan import conditions
from modelfleet.plan.conditions import Condition
from modelfleet.plan.job_state import Trouble
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import termination

FINISHED: Final = frozenset({"Succeeded", "Failed"})
"""Phases that a job never leaves: it is not run again."""


@dataclass(frozen=True)
class Report:
    """What a plan has to say about a job."""

    phase: Phase
    reason: str
    """CamelCase and stable."""
    message: str
    """In one sentence, for a person."""
    steps: Sequence[Mapping[str, Any]]
    gate: Sequence[Mapping[str, Any]] = ()
    restarts: int = 0
    model_version: str | None = None
    stalled: bool = False
    """It cannot go on until somebody changes something; a failed job is always stalled."""
    trouble: Trouble | None = None
    pods_ready: int = 0
    pods_wanted: int = 0
    start_time: str | None = None
    admitted: Condition | None = None
    """What the queue said, for a job that is in one."""


def status(obj: RawObject, report: Report, now: datetime) -> dict[str, Any]:
    """The whole status, as JSON."""
    before, generation = obj.get("status") or {}, obj["metadata"]["generation"]
    finished = report.phase in FINISHED
    return {
        "observedGeneration": generation,
        "phase": report.phase,
        "startTime": before.get("startTime") if finished else report.start_time,
        "completionTime": conditions.timestamp(now) if finished else None,
        "restarts": report.restarts,
        "attempt": max((int(step.get("attempt", 0)) for step in report.steps), default=0),
        "steps": [dict(step) for step in report.steps],
        "gate": [dict(verdict) for verdict in report.gate],
        "source": before.get("source"),
        "modelVersion": report.model_version,
        "conditions": conditions.merge(before.get("conditions") or (), _conditions(report), generation, now),
    }


def _conditions(report: Report) -> Iterator[Condition]:
    """The one table of what each phase means to ``kubectl wait`` and to kstatus."""
    phase, stalled = report.phase, report.stalled or report.phase == "Failed"
    busy = phase in ("Pending", "Running") and not stalled
    yield _condition("Complete", phase == "Succeeded", report)
    yield _condition("Failed", phase == "Failed", report)
    yield _condition("Suspended", phase == "Suspended", report)
    yield _pods_ready(report)
    if report.admitted is not None:
        yield report.admitted
    if (stopped := termination.early_stopped(report.steps)) is not None:
        yield stopped
    ready: Literal["True", "False"] = "True" if phase == "Succeeded" else "False"
    yield Condition("Ready", ready, report.reason, report.message)
    yield _condition("Reconciling", busy, report)
    yield _condition("Stalled", stalled, report)


def _condition(type_: str, holds: bool, report: Report) -> Condition:
    """One that speaks where it holds; where it does not, it names the phase and nothing that changes often."""
    return Condition(type_, "True", report.reason, report.message) if holds else Condition(type_, "False", report.phase)


def _pods_ready(report: Report) -> Condition:
    if not report.pods_wanted:
        return Condition("PodsReady", "False", "NoPods", "no step is running")
    if report.trouble is not None:
        return Condition("PodsReady", "False", report.trouble.reason, report.trouble.message)
    if report.pods_ready < report.pods_wanted:
        return Condition("PodsReady", "False", "Starting", "the pods of the running steps are not all ready yet")
    return Condition("PodsReady", "True", "PodsReady", "the pods of the running steps are ready")


def known_steps(before: Mapping[str, Any], written: Sequence[Step]) -> list[dict[str, Any]]:
    """The steps as the last status had them, in the order they were written."""
    known = {step["name"]: dict(step) for step in before.get("steps") or ()}
    return [known.get(step.name) or not_run(step) for step in written]


def not_run(step: Step) -> dict[str, Any]:
    """A step that was never begun."""
    return {"name": step.name, "phase": "Pending"}


def stopped(statuses: Sequence[Mapping[str, Any]], message: str) -> list[dict[str, Any]]:
    """The steps when the job ends early: what was running is stopped, what had not begun never does."""
    return [
        {**step, "phase": "Failed", "message": message} if step["phase"] == "Running" else dict(step)
        for step in statuses
    ]


def unchanged(obj: RawObject, now: datetime) -> dict[str, Any]:
    """The status of a job that is over, as of this generation."""
    before, generation = obj["status"], obj["metadata"]["generation"]
    stated = [
        conditions.Condition(each["type"], each["status"], each["reason"], each.get("message", ""))
        for each in before.get("conditions") or ()
    ]
    merged = conditions.merge(before.get("conditions") or (), stated, generation, now)
    return {**before, "observedGeneration": generation, "conditions": merged}
