"""One place of a fleet, a node or a replica: what is wanted of it, what was found. Judging is ``judgement.py``'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelfleet.plan.edge.serving_pod import Trouble
from modelfleet.plan.edge.waves import Place, State
from modelfleet.plan.edge.workload import Workload


@dataclass(slots=True)
class Member(Place):
    """A node, or one replica, with what is wanted of it and what was found."""

    wanted: Workload | None = None
    """What it shall run; ``None`` where no artifact fits."""
    on_stable: Workload | None = None
    """What a reachable node that carries nothing shall run until its turn; ``None`` without a stable release."""
    carried: str = ""
    """Hash of the workload that its label names now; empty for none of ours."""
    updated: bool = False
    """Whether it runs the wanted digest."""
    started: str | None = None
    """When the pod of what it was moved to was made (RFC 3339); empty where there is none yet."""
    trouble: Trouble | None = None
    """Why it is not healthy, as far as is known."""
    offline: bool = False
    """Whether it has been out of reach for longer than ``offlineAfterSeconds``."""
    podless: bool = False
    """Whether it was moved and no pod came of it yet."""
    allocatable: Mapping[str, Any] = field(default_factory=dict)
    """What the node offers to pods."""
    gateway: bool = False
    """Whether it is a node, and not a replica."""
    reachable: bool = False
    """Whether the node is Ready."""
    changed: datetime | None = None
    """Since when it is so, or not."""
    next: str = ""
    """Hash of the workload that its label names to come next; empty for none."""
    noted: bool = False
    """Whether its label notes a failure, of whatever workload."""
    prepared: bool = False
    """Whether the pod of what it wants is ready beside the one that serves."""
    cramped: bool = False
    """Whether that pod cannot start as long as the one that serves is there."""
    drains: bool = False
    """Whether it only waits for its previous pod to end."""
    stuck: bool = False
    """Whether it failed only because its previous pod does not end."""
    stricken: bool = False
    """Whether it is out of reach, since soon after it got what it carries now."""
    refused: bool = False
    """Whether the API server would not let it be labelled a moment ago, so that it is left as it is for now."""
    back: Workload | None = None
    """What it returns to where the wanted workload failed in the place of stable."""
    shown: str = ""
    """Name of the node or pod that a person would look at."""
    look_again: datetime | None = None
    """When its state changes by the clock alone."""

    @property
    def is_given_up(self) -> bool:
        """Whether the wanted workload failed here and goes, or went, for what was there before."""
        beside = self.wanted is not None and self.next == self.wanted.hash
        undone = self.back is not None and not self.stuck
        return self.gateway and self.state is State.FAILED and (self.noted or beside or undone)


@dataclass(frozen=True)
class Clock:
    """The times by which a member is judged."""

    now: datetime
    progress_deadline: timedelta
    offline_after: timedelta
