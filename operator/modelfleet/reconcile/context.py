"""What every reconcile is given: the key it is for, and the hands and eyes it works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from modelfleet.cluster.client import Cluster
from modelfleet.cluster.view import View
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Outcome

if TYPE_CHECKING:
    from modelfleet.reconcile.measurements import Measurements


class Key(NamedTuple):
    """The object a reconcile is for: one of our three kinds, by name. It may be gone by the time it is looked at."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As logs and errors show it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Context:
    """Everything a reconcile may use; nothing else is global."""

    view: View
    """What was observed, our own writes folded in. The first place to look."""
    cluster: Cluster
    """For the few fresh reads that a stale view would make dangerous. Reconciles write through their Outcome only."""
    installation: Installation
    measurements: "Measurements"
    """What analyses ask of Prometheus, measured beside the reconciles."""
    now: Callable[[], datetime]
    """The clock: aware, in UTC."""


Reconcile = Callable[[Key, Context], Awaitable[Outcome | None]]
"""``reconcile/<kind>.py`` has one: gather, plan, answer. ``None``: the object is gone and there is nothing to do."""
