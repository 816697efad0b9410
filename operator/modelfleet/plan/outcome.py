"""What a plan answers: the writes that bring the observed state to the desired one, and when to look again.

A plan is a pure function; ``reconcile/execute.py`` carries an Outcome out, in the order of its fields. Each
write is idempotent, so an Outcome that was carried out only half is simply planned again. The executor leaves out
every write whose effect is already observed: a plan states the whole desired state and never compares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from modelfleet.plan.traffic.probe import Question

RawObject = dict[str, Any]
"""A Kubernetes object as its JSON reads. Treated as read-only wherever it was not just built."""


@dataclass(frozen=True)
class ObjectRef:
    """One object of one kind; ``uid`` guards a delete against an object recreated under the same name."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""
    by_force: bool = False
    """For a pod whose node is out of reach: it goes at once, without its kubelet's word."""
    resource_version: str = ""
    """Guards a delete that rests on what was seen of the object: it stays where it has changed since."""


@dataclass(frozen=True)
class NodeLabels:
    """Labels that a node shall carry, set in one write; ``None`` takes one off."""

    node: str
    values: Mapping[str, str | None]


@dataclass(frozen=True)
class Note:
    """A Kubernetes Event about the reconciled object, for a transition worth telling a person.

    ``reason`` is CamelCase and stable, ``message`` names the field or object and the remedy (at most 1024
    characters are kept). The executor derives the Event's name from uid, generation, reason and message, so that
    the same transition planned twice makes one Event.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Waiting:
    """What a place of a fleet waits for."""

    workload: str
    """Hash of the workload that is to come up there."""
    since: datetime
    """When it was first found so, or got its first pod."""
    first_pod: str = ""
    """When that pod was made (RFC 3339); empty where there was none yet."""
    trouble: tuple[str, str] | None = None
    """The last that was known to be wrong with a pod of it: reason and message."""


@dataclass(frozen=True)
class Outcome:
    """The writes, carried out top to bottom; the first error stops the rest and the key is retried with backoff."""

    create: list[RawObject] = field(default_factory=list)
    """Create-only objects (Jobs, ControllerRevisions, ModelVersions). An object of that name that is already there
    and belongs to the same owner (uid), or has none, is left as it is."""

    apply: list[RawObject] = field(default_factory=list)
    """Objects to server-side apply, each with everything we own in it; skipped when the live object has it all."""

    label_nodes: list[NodeLabels] = field(default_factory=list)
    """Node labels to write: after the workloads they select exist."""

    delete: list[ObjectRef] = field(default_factory=list)
    """Objects to delete with background propagation; a missing one is fine."""

    status: Mapping[str, Any] | None = None
    """The whole desired status as JSON; ``None`` leaves it alone. Written as a merge patch of the difference,
    guarded by the resourceVersion that the plan saw."""

    settle_status_seconds: float = 0.0
    """When the status differs in counts or messages only (no condition's status or reason, phase, wave, revision
    or step changed), the write may wait until this long after the last one: a big rollout does not write per pod."""

    notes: list[Note] = field(default_factory=list)
    """Events, created before the status is written (so none is lost to a crash between the two)."""

    probe: Question | None = None
    """What to ask the data plane, beside everything else; ``None``: nothing."""

    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    """By place of a fleet: what it waits for, to be handed in with the next plan."""

    requeue_after: float | None = None
    """Seconds until the plan must be made again though nothing happens; ``None``: only when something changes."""
