"""Status of a TrainingJob: how far the operator is with it; what users write is in ``training_job.py``."""

from typing import Annotated, Literal

from pydantic import Field

from modelfleet.api import common
from modelfleet.api.model_version import Artifact, Channel, Dvc, Metrics
from modelfleet.api.rules import Contract, Unique

Phase = Literal["Pending", "Suspended", "Running", "Succeeded", "Failed"]


class StepResultsStatus(Contract):
    """What a step reported."""

    uri: Annotated[str, Field(max_length=2048)]
    """Where its results.json lies."""
    sha256: common.Sha256
    """SHA-256 of results.json."""
    metrics: Metrics = Field(default_factory=dict)
    """Its metrics, by name, as decimal strings."""
    artifacts: Annotated[list[Artifact], Field(max_length=16)] = Field(default_factory=list)
    """Builds of the model that it wrote."""


class WatchStatus(Contract):
    """What spec.termination made of a step's reports; of the latest attempt, but for lastReportTime."""

    attempt: Annotated[int, Field(ge=1)]
    """Attempt that the rest is about. Each begins anew: after a restart, the same evaluations may come again."""
    last_report_time: common.Timestamp | None = None
    """When its pods last told anything."""
    value: Annotated[str, Field(max_length=64)] | None = None
    """The metric's latest value."""
    best_value: Annotated[str, Field(max_length=64)] | None = None
    """The best one."""
    best_time: common.Timestamp | None = None
    """When it was told."""
    without_improvement: Annotated[int, Field(ge=0)] | None = None
    """Evaluations in a row since that brought nothing better."""
    pressure_since: common.Timestamp | None = None
    """Since when the node is short of CPU time or memory."""


class RequestStatus(Contract):
    """What a step's pods were told to do."""

    action: Literal["Finish", "Yield"]
    """Finish: end with the best results so far. Yield: save a checkpoint and end."""
    attempt: Annotated[int, Field(ge=1)]
    """Attempt that was told first."""
    time: common.Timestamp
    """When that was decided."""
    message: common.Message = ""
    """Why."""


class StepStatus(Contract):
    """How far a step is."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the step."""
    phase: Literal["Pending", "Running", "Succeeded", "Failed"]
    """How far it is."""
    attempt: Annotated[int, Field(ge=0)] | None = None
    """Number of its latest attempt."""
    job_name: Annotated[str, Field(max_length=63)] | None = None
    """Job of its latest attempt."""
    restarts: Annotated[int, Field(ge=0)] | None = None
    """How often it began again after a failure."""
    next_attempt_time: common.Timestamp | None = None
    """When its next attempt begins, while it waits for that."""
    message: common.Message = ""
    """Why it waits or failed."""
    watch: WatchStatus | None = None
    """What spec.termination goes by."""
    request: RequestStatus | None = None
    """What its pods were told to do."""
    priority_class_name: Annotated[str, Field(max_length=253)] | None = None
    """Priority class that its attempts have since the node ran short."""
    results: StepResultsStatus | None = None
    """What it reported."""


class GateStatus(Contract):
    """How the results did against one rule."""

    metric: common.MetricName
    """Name of the metric."""
    value: Annotated[str, Field(max_length=32)] | None = None
    """Value that was reported."""
    required: Annotated[str, Field(max_length=64)]
    """What it had to be."""
    baseline: Annotated[str, Field(max_length=63)] | None = None
    """ModelVersion that it was compared with."""
    message: common.Message = ""
    """What the verdict rests on, where the values do not say it."""
    passed: bool
    """Whether it was."""


class SourceStatus(Contract):
    """The commit of the source: found once, and the same for all steps and the ModelVersion."""

    revision: common.Commit | None = None
    """Full hash of the commit; absent while it is looked for."""
    refs: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=16)] = Field(default_factory=list)
    """Branch or tag it was found by; for a commit, the branches and tags that end in it."""
    channel: Channel | None = None
    """Channel of that branch or tag; absent: a commit that no branch or tag ends in."""
    dvc: Dvc | None = None
    """What DVC recorded at that commit."""
    attempt: Annotated[int, Field(ge=0)] | None = None
    """Number of the latest attempt at finding it."""
    job_name: Annotated[str, Field(max_length=63)] | None = None
    """Job of that attempt."""
    message: common.Message = ""
    """Why it is not found yet, or what was left out of what DVC recorded."""


class TrainerMetric(Contract):
    """A number that a training told of itself on the way."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """As the training calls it."""
    value: Annotated[str, Field(min_length=1, max_length=64)]
    """Its latest value, as the training wrote it."""


class TrainerStatus(Contract):
    """What the pods of a distributed step tell while they train; written at most every 10 seconds."""

    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    """How much of the training is done; within an attempt it never goes back."""
    estimated_remaining_seconds: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """How long it still takes: by the training's own word, else by its pace in this attempt."""
    metrics: Annotated[list[TrainerMetric], Field(max_length=32), Unique("name")] = Field(default_factory=list)
    """The latest value of each metric; those that gate and termination name first, then the others by name."""
    last_updated_time: common.Timestamp | None = None
    """When the operator was last told, by its own clock."""
    step: Annotated[str, Field(max_length=63)] | None = None
    """Step that this is about: of those whose pods told anything, the last one in spec.steps."""
    attempt: Annotated[int, Field(ge=1)] | None = None
    """Attempt at it that this is about. When another begins, this stays until its pods tell something."""
    start_time: common.Timestamp | None = None
    """When this attempt first told its percentage."""
    start_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    """What it was then: more than 0 where it goes on from a checkpoint."""


class TrainingJobStatus(Contract):
    """How far the job is."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """metadata.generation that this status speaks of."""
    phase: Phase | None = None
    """How far the job is."""
    start_time: common.Timestamp | None = None
    """When its first step was started."""
    completion_time: common.Timestamp | None = None
    """When it succeeded or failed."""
    restarts: Annotated[int, Field(ge=0)] | None = None
    """How often steps began again after a failure, all steps together."""
    attempt: Annotated[int, Field(ge=0)] | None = None
    """Number of the latest attempt."""
    steps: Annotated[list[StepStatus], Field(max_length=16), Unique("name")] = Field(default_factory=list)
    """How far the steps are."""
    source: SourceStatus | None = None
    """The commit the steps run."""
    trainer_status: TrainerStatus | None = None
    """How far the training is, by its pods' own word; absent where they tell nothing."""
    gate: Annotated[list[GateStatus], Field(max_length=16)] = Field(default_factory=list)
    """How the results did against the gate."""
    model_version: Annotated[str, Field(max_length=63)] | None = None
    """ModelVersion that was registered."""
    conditions: common.Conditions = Field(default_factory=list)
    """Complete, Failed, Suspended, PodsReady, Admitted (where there is a queue), EarlyStopped (where one was), Ready,
    Reconciling, Stalled."""
