"""When a TrainingJob ends, restarts or gives way on its own: what its pods tell of their training decides.

What it runs is in ``training_job.py``; what failures mean, in ``training_policy.py``.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelfleet.api import common
from modelfleet.api.rules import Contract, Rule, Rules, matches

Share = Annotated[
    str,
    Field(max_length=8),
    Rules(matches(r"^(0\.[0-9]{1,6}|1(\.0)?)$", "must be a share from 0.0 to 1 as text, such as '0.85'")),
]
Direction = Literal["Maximize", "Minimize"]


class ResourcePressure(Contract):
    """What a distributed step does when the node it trains on runs short."""

    rules: ClassVar = (
        Rule(
            "self.action == 'LowerPriority' ? has(self.priorityClassName) && !has(self.yieldSeconds)"
            " : !has(self.priorityClassName)",
            "action LowerPriority needs priorityClassName; yieldSeconds belongs to action CheckpointAndYield",
            lambda self: (
                self.has("priority_class_name") and not self.has("yield_seconds")
                if self.action == "LowerPriority"
                else not self.has("priority_class_name")
            ),
        ),
    )

    cpu: Share = "0.85"
    """Share of the node's CPU time that is in use, by whomever, from which on the node is short of it."""
    memory: Share = "0.9"
    """Share of the node's memory, or of the pod's own limit, that is in use, from which on it is short of it. A node
    whose kubelet reports MemoryPressure is, too."""
    seconds: common.Seconds = 60
    """How long that must last without a pause."""
    action: Literal["CheckpointAndYield", "LowerPriority"] = "CheckpointAndYield"
    """CheckpointAndYield: the step saves a checkpoint, gives its nodes back and goes on after yieldSeconds.
    LowerPriority: it saves a checkpoint and goes on at once with priorityClassName, for good; a running pod's priority
    cannot be changed. Neither counts as a failure."""
    yield_seconds: common.Seconds | None = None
    """How long the nodes are left to others; absent: 600."""
    priority_class_name: common.SecretName | None = None
    """PriorityClass of the pods from then on; for a job in a queue of Kueue, a WorkloadPriorityClass."""


class Termination(Contract):
    """Adaptive stop, for distributed steps whose pods tell how they are doing."""

    rules: ClassVar = (
        Rule(
            "has(self.metric) || has(self.maxStallSeconds) || has(self.resourcePressure)",
            "termination needs metric, maxStallSeconds or resourcePressure",
            lambda self: self.has("metric") or self.has("max_stall_seconds") or self.has("resource_pressure"),
        ),
        Rule(
            "has(self.metric) ? has(self.direction) && has(self.patience)"
            " : !has(self.direction) && !has(self.patience) && !has(self.minDelta)",
            "metric needs direction (Maximize or Minimize) and patience; direction, patience and minDelta need metric",
            lambda self: (
                self.has("direction") and self.has("patience")
                if self.has("metric")
                else not (self.has("direction") or self.has("patience") or self.has("min_delta"))
            ),
        ),
    )

    metric: common.MetricName | None = None
    """Metric that must go on getting better; when it does not, the training is told to finish with the best so far."""
    direction: Direction | None = None
    """Whether a greater (Maximize) or a smaller metric (Minimize) is better."""
    patience: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many evaluations in a row may bring nothing better; the last of them ends the training, as in Keras."""
    min_delta: common.Amount | None = None
    """What counts as better: more than this, in the metric's own unit; absent: anything."""
    max_stall_seconds: common.Seconds | None = None
    """Seconds without a report after which a step that has reported before begins again from its checkpoint, which
    counts as a failure. Only the time in which all of its pods are ready counts."""
    stop_grace_seconds: common.Seconds = 600
    """Seconds that the training has to finish, or to save a checkpoint, once it was told; then its pods are stopped."""
    resource_pressure: ResourcePressure | None = None
    """What to do when the node runs short."""
