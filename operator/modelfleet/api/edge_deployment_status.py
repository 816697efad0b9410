"""Status of an EdgeDeployment: how far the fleet is; what users write is in ``edge_deployment.py``."""

from typing import Annotated, Literal

from pydantic import Field

from modelfleet.api import common
from modelfleet.api.canary import CanaryStatus
from modelfleet.api.rules import Contract
from modelfleet.api.traffic import TrafficStatus

Phase = Literal["Pending", "Progressing", "Paused", "Healthy", "Degraded", "RolledBack"]
Count = Annotated[int, Field(ge=0)]


class RevisionStatus(Contract):
    """A revision: what the user asked for, by hash."""

    model_version: Annotated[str, Field(max_length=63)]
    """ModelVersion that it serves."""
    revision: Annotated[str, Field(max_length=63)]
    """Hash of the revision; a ControllerRevision of that name holds it."""


class Counts(Contract):
    """Nodes and replicas by what became of them."""

    desired: Count = 0
    """Nodes and replicas that shall serve."""
    updated: Count = 0
    """Those that run the wanted digest."""
    healthy: Count = 0
    """Those that are ready."""
    failed: Count = 0
    """Those that were tried and did not come up."""
    suspect: Count = 0
    """Those that became unreachable soon after their update."""
    pending_offline: Count = 0
    """Those that are unreachable and wait for their return."""
    no_artifact: Count = 0
    """Those that no artifact fits."""


class PoolStatus(Contract):
    """How far one pool is."""

    name: common.ShortName
    """Name of the pool."""
    artifacts: Annotated[dict[str, Count], Field(max_length=16)] = Field(default_factory=dict)
    """Number of nodes by artifact; the most frequent ones where there are many pools."""
    desired: Count = 0
    """Nodes or replicas that shall serve."""
    updated: Count = 0
    """Those that run the wanted digest."""
    healthy: Count = 0
    """Those that are ready."""
    message: Annotated[str, Field(max_length=256)] = ""
    """What is wrong with the pool, and the remedy: it matches no node, say, or no artifact fits."""


class Failure(Contract):
    """A node that failed."""

    node: Annotated[str, Field(max_length=253)]
    """Name of the node."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, as one word."""
    message: Annotated[str, Field(max_length=256)] = ""
    """Why, for a person."""


class EdgeDeploymentStatus(Contract):
    """How far the fleet is."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """metadata.generation that this status speaks of."""
    phase: Phase | None = None
    """How the deployment is doing."""
    message: Annotated[str, Field(max_length=256)] = ""
    """The same in a sentence."""
    stable: RevisionStatus | None = None
    """Revision that serves."""
    candidate: RevisionStatus | None = None
    """Revision that is being rolled out."""
    attempt: Annotated[int, Field(ge=1)] | None = None
    """Which attempt at its revision this is; the annotation modelfleet.dev/retry begins the next one."""
    last_command: Annotated[str, Field(max_length=128)] = ""
    """The command that was obeyed last: promote, abort or retry, with revision, attempt, and wave or step."""
    refused_command: common.Message = ""
    """Why an annotation that is a command cannot be obeyed, and how it must read."""
    aborted_revision: Annotated[str, Field(max_length=63)] = ""
    """Revision that was aborted or rolled back; it is not started again without modelfleet.dev/retry."""
    wave: Annotated[str, Field(max_length=30)] | None = None
    """Wave that is under way."""
    wave_started_at: common.Timestamp | None = None
    """When it began."""
    soak_started_at: common.Timestamp | None = None
    """When all its nodes were healthy for the first time: its soak counts from here."""
    counts: Counts | None = None
    """Nodes and replicas by what became of them, over all pools."""
    pools: Annotated[list[PoolStatus], Field(max_length=100)] = Field(default_factory=list)
    """How far each pool is."""
    failures: Annotated[list[Failure], Field(max_length=10)] = Field(default_factory=list)
    """Samples of the nodes that failed, or that the API server lets take no label, at most 10; the counts are
    complete."""
    canary: CanaryStatus | None = None
    """How far the requests have gone over to the new version; absent where no canary is under way."""
    traffic: TrafficStatus | None = None
    """How requests are routed; absent where spec.traffic is."""
    conditions: common.Conditions = Field(default_factory=list)
    """Ready, Reconciling, Stalled, Progressing, Paused, TrafficRouted."""
