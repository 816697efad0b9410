"""Bringing each step of a training job on: what starts now, what is tried again and when, what failed for good.

The status is the record of what was decided; Jobs say what became of it. Which attempt comes next follows from those
two alone, and an attempt's Job has a fixed name: so a plan made twice starts nothing twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from modelfleet.api import wire
from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.plan import backoff, conditions, job_state, rendezvous, step_job, steps
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Note, RawObject
from modelfleet.plan.refusal import Refusal

RESULTS_LENGTH: Final = 16 * 1024
"""Bytes that the results of all steps may take in the status, as JSON; it shall stay below 32 KiB as a whole."""

StepStatus = dict[str, Any]
"""As ``status.steps[]`` has it."""


@dataclass(frozen=True)
class Halt:
    """Why the job as a whole cannot go on."""

    reason: str
    message: str


@dataclass(frozen=True)
class Setting:
    """What steps are run by: the same for all steps of one plan."""

    obj: RawObject
    spec: TrainingJobSpec
    installation: Installation
    attempts: Mapping[str, steps.Attempt]
    """By step name: the latest attempt at each step that was begun and is not done."""
    refusals: Mapping[str, Refusal]
    """What the API server would not take, by name."""
    now: datetime


@dataclass
class Progress:
    """How far the steps are, and what is to be done; filled in step by step, in the order of the DAG."""

    setting: Setting
    restarts: int
    statuses: dict[str, StepStatus] = field(default_factory=dict)
    create: list[RawObject] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    failure: Halt | None = None
    """A step failed for good."""
    blocked: Halt | None = None
    """A step cannot be started until somebody changes something outside of the job."""
    trouble: job_state.Trouble | None = None
    """Why a pod does not run."""
    pods_ready: int = 0
    pods_wanted: int = 0
    due: list[float] = field(default_factory=list)
    """Seconds until something is to be done or looked at again."""

    @property
    def done(self) -> list[str]:
        """Names of the steps that are done, in the order of the DAG."""
        return [name for name, status in self.statuses.items() if status["phase"] == "Succeeded"]

    def results(self) -> list[Mapping[str, Any]]:
        """What the steps that are done handed on, in the order of the DAG."""
        return [self.statuses[name].get("results") or {} for name in self.done]


def advance(order: Sequence[Step], setting: Setting) -> Progress:
    """Bring every step on. ``order`` is that of the DAG."""
    before = setting.obj.get("status") or {}
    known = {status["name"]: status for status in before.get("steps") or ()}
    progress = Progress(setting, restarts=int(before.get("restarts", 0)))
    for step in order:
        progress.statuses[step.name] = _advance(step, known.get(step.name, {}), progress)
    return progress


def _advance(step: Step, before: Mapping[str, Any], progress: Progress) -> StepStatus:
    if before.get("phase") == "Succeeded":
        return dict(before)
    attempt = int(before.get("attempt", 0))
    if attempt == 0:
        waits_for = [item.name for item in step.depends_on if item.name not in progress.done]
        if waits_for:
            return _status(step, "Pending", message=f"waiting for {', '.join(waits_for)}")
        return _start(step, 1, progress)
    seen = progress.setting.attempts.get(step.name, steps.Attempt(None))
    verdict = steps.look(step.name, seen)
    if isinstance(verdict, steps.Succeeded):
        return _succeed(step, attempt, verdict, progress)
    if isinstance(verdict, steps.Over):
        return _begin_again(step, before, verdict, progress)
    if progress.setting.spec.suspend:
        return _status(step, "Pending", attempt, before["jobName"], "suspended")
    return _go_on(step, attempt, before["jobName"], verdict, progress)


def _go_on(step: Step, attempt: int, job_name: str, running: steps.Running, progress: Progress) -> StepStatus:
    progress.pods_ready += running.ready
    progress.pods_wanted += running.wanted
    if running.ready < running.wanted:
        progress.due.append(backoff.LOOK_AGAIN_SECONDS if running.trouble else job_state.QUIET_SECONDS + 1.0)
    message = ""
    if running.trouble is not None:
        message = running.trouble.message
        progress.trouble = progress.trouble or job_state.Trouble(
            running.trouble.reason, f"step {step.name}: {running.trouble.message}"
        )
    return _status(step, "Running", attempt, job_name, message)


def _succeed(step: Step, attempt: int, verdict: steps.Succeeded, progress: Progress) -> StepStatus:
    known = {status["name"]: status for status in (progress.setting.obj.get("status") or {}).get("steps") or ()}
    others = [each.get("results") for each in {**known, **progress.statuses}.values() if each["name"] != step.name]
    if sum(len(json.dumps(results)) for results in [*others, verdict.results] if results) > RESULTS_LENGTH:
        message = (
            f"its results and those of the other steps take more than {RESULTS_LENGTH} bytes: report metrics and"
            " artifacts once, in the step that makes them, and the rest as files"
        )
        progress.failure = progress.failure or Halt("ResultsTooLarge", f"step {step.name}: {message}")
        return _status(step, "Failed", attempt, _job_name(step, attempt, progress), message)
    dropped = ", ".join(verdict.dropped)
    message = f"metrics that are no finite numbers were dropped: {dropped}" if dropped else ""
    progress.notes.append(Note("Normal", "StepSucceeded", f"step {step.name} succeeded in attempt {attempt}"))
    status = _status(step, "Succeeded", attempt, _job_name(step, attempt, progress), message)
    return {**status, "results": dict(verdict.results)}


def _begin_again(step: Step, before: Mapping[str, Any], over: steps.Over, progress: Progress) -> StepStatus:
    """After an attempt that came to nothing: fail for good, wait for the next attempt's time, or start it."""
    attempt, setting = int(before["attempt"]), progress.setting
    what = f"attempt {attempt} of step {step.name}: {over.message}"
    exhausted = over.kind == "Failed" and progress.restarts >= setting.spec.backoff_limit
    if exhausted or over.kind == "Final":
        limit = f" (backoffLimit {setting.spec.backoff_limit} is used up)" if exhausted else ""
        progress.failure = progress.failure or Halt(over.reason, f"step {step.name}{limit}: {over.message}")
        return _status(step, "Failed", attempt, before.get("jobName"), over.message)
    if before.get("phase") == "Running" and not setting.spec.suspend:
        progress.notes.append(Note("Warning", "StepFailed" if over.kind == "Failed" else over.reason, what))
    due = over.at + backoff.delay(attempt) if over.at is not None else setting.now
    if setting.now < due:
        progress.due.append(backoff.seconds_until(due, setting.now))
        message = f"{what}; the next attempt starts at {conditions.timestamp(due)}"
        return _status(step, "Pending", attempt, before.get("jobName"), message)
    started = len(progress.create)
    status = _start(step, attempt + 1, progress)
    if len(progress.create) == started:
        return {**status, "attempt": attempt, "jobName": before.get("jobName")}
    progress.restarts += over.kind == "Failed"
    progress.notes.append(
        Note("Normal", "Restarting", f"step {step.name} begins attempt {attempt + 1}: {over.message}")
    )
    return status


def _start(step: Step, attempt: int, progress: Progress) -> StepStatus:
    """Create the Job of an attempt, unless the job is suspended, or somebody refuses it."""
    setting = progress.setting
    if setting.spec.suspend:
        return _status(step, "Pending", message="suspended")
    try:
        job = step_job.job(setting.obj, setting.spec, step, attempt, _inputs(step, progress), setting.installation)
    except step_job.UnknownNodePoolError as error:
        progress.blocked = Halt("UnknownNodePool", f"step {step.name}: {error}")
        return _status(step, "Pending", message=str(error))
    name = job["metadata"]["name"]
    refusal = setting.refusals.get(name)
    if refusal is not None:
        halt = Halt("JobRefused", f"step {step.name}: the API server refuses its Job: {refusal.message}")
        if refusal.final:
            progress.failure = progress.failure or halt
            return _status(step, "Failed", message=halt.message)
        progress.blocked = halt
        progress.due.append(backoff.LOOK_AGAIN_SECONDS)
        return _status(step, "Pending", message=halt.message)
    progress.create.append(job)
    progress.due.append(job_state.QUIET_SECONDS + 1.0)
    progress.notes.append(Note("Normal", "StepStarted", f"step {step.name} started: Job {name}"))
    return _status(step, "Running", attempt, name)


def _inputs(step: Step, progress: Progress) -> dict[str, wire.StepInput]:
    inputs = {}
    for dependency in step.depends_on:
        results = progress.statuses[dependency.name]["results"]
        inputs[dependency.name] = wire.StepInput(uri=results["uri"], sha256=results["sha256"])
    return inputs


def _job_name(step: Step, attempt: int, progress: Progress) -> str:
    return rendezvous.job_name(progress.setting.obj["metadata"]["name"], step.name, attempt)


def _status(
    step: Step, phase: str, attempt: int | None = None, job_name: str | None = None, message: str = ""
) -> StepStatus:
    status = {
        "name": step.name,
        "phase": phase,
        "attempt": attempt,
        "jobName": job_name,
        "message": conditions.shorten(message) or None,
    }
    return {key: value for key, value in status.items() if value is not None}


def is_begun(before: Mapping[str, Any]) -> bool:
    """Whether any step was ever started, by the status."""
    return any(status.get("attempt") for status in before.get("steps") or ())
