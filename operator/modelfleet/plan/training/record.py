"""What a plan of a training job's steps is made with, and what it comes to: filled in by ``progress.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.plan import conditions, job_state
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Note, ObjectRef, RawObject
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.training import steps, trainer_status

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
    listening_since: datetime | None = None
    """Since when this operator could be told anything; ``None``: always."""
    reports: Mapping[str, trainer_status.Report] = field(default_factory=dict)
    """By step name: what its pods told of their progress."""


@dataclass
class Progress:
    """How far the steps are, and what is to be done; filled in step by step, in the order of the DAG."""

    setting: Setting
    known: Mapping[str, StepStatus]
    """The steps as the last status had them, by name."""
    statuses: dict[str, StepStatus] = field(default_factory=dict)
    create: list[RawObject] = field(default_factory=list)
    delete: list[ObjectRef] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    failure: Halt | None = None
    """A step failed for good."""
    blocked: Halt | None = None
    """A step cannot be started until somebody changes something outside of the job."""
    trouble: job_state.Trouble | None = None
    """Why a pod does not run."""
    held_back: Halt | None = None
    """A step's Job is there and may not have pods yet."""
    up: set[str] = field(default_factory=set)
    """The steps whose pods are all ready."""
    pods_ready: int = 0
    pods_wanted: int = 0
    due: list[float] = field(default_factory=list)
    """Seconds until something is to be done or looked at again."""

    @property
    def restarts(self) -> int:
        """How often steps began again after a failure."""
        return sum(int(status.get("restarts", 0)) for status in {**self.known, **self.statuses}.values())

    @property
    def done(self) -> list[str]:
        """Names of the steps that are done, in the order of the DAG."""
        return [name for name, status in self.statuses.items() if status["phase"] == "Succeeded"]

    def results(self) -> list[Mapping[str, Any]]:
        """What the steps that are done handed on, in the order of the DAG."""
        return [self.statuses[name].get("results") or {} for name in self.done]


def step_status(
    step: Step, phase: str, attempt: int | None = None, job_name: str | None = None, message: str = ""
) -> StepStatus:
    """``status.steps[]`` of a step; what is not known is left out."""
    status = {
        "name": step.name,
        "phase": phase,
        "attempt": attempt,
        "jobName": job_name,
        "message": conditions.shorten(message) or None,
    }
    return {key: value for key, value in status.items() if value is not None}
