"""What every reconcile is given beside its key: the hands and eyes it works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from modelfleet.cluster.client import Cluster
from modelfleet.cluster.view import View
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Outcome
from modelfleet.reconcile.confirmations import Confirmations
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.measurements import Measurements
from modelfleet.reconcile.refused_labels import RefusedLabels
from modelfleet.reconcile.reports import Reports
from modelfleet.reconcile.waits import Waits


@dataclass(frozen=True)
class Context:
    """Everything a reconcile may use; nothing else is global."""

    view: View
    """What was observed, our own writes folded in. The first place to look."""
    cluster: Cluster
    """For the few fresh reads that a stale view would make dangerous. Reconciles write through their Outcome only."""
    installation: Installation
    measurements: Measurements
    """What analyses ask of Prometheus, measured beside the reconciles."""
    confirmations: Confirmations
    """What the data plane answered when it was asked whether it follows a route."""
    reports: Reports
    """What the pods of training jobs told of their progress."""
    now: Callable[[], datetime]
    """The clock: aware, in UTC."""
    waits: Waits = field(default_factory=Waits)
    """Since when places of fleets wait for a pod that comes up."""
    refused_labels: RefusedLabels = field(default_factory=RefusedLabels)
    """The nodes that the executor could not label; its own."""


Reconcile = Callable[[Key, Context], Awaitable[Outcome | None]]
"""``reconcile/<kind>.py`` has one: gather, plan, answer. ``None``: the object is gone and there is nothing to do."""
