"""What a canary's decision is made from and what it answers; the vocabulary of ``canary.py`` and ``canary_step.py``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api.canary import Canary
from modelfleet.plan import conditions
from modelfleet.plan.edge.commands import Orders
from modelfleet.plan.traffic.analysis import Measurement, Run

LINGER: Final = timedelta(seconds=30)
"""How long pods outlive the routing to them: proxies take the last change in their own time, and requests end."""

LOOK_AGAIN: Final = timedelta(seconds=5)
"""Between looks at routing that is not in force yet."""

ALL: Final = 100


@dataclass(frozen=True)
class Split:
    """How requests are shared out between the stable version and the new one."""

    weight: int = 0
    """Share of the new version, in percent."""
    header: bool = False
    """Whether requests with the header go to the new version."""
    mirror: int = 0
    """Share of stable's requests that the new version gets copies of, in percent."""


@dataclass(frozen=True)
class ReplicasPool:
    """Pods of a routed pool whose pods are counted."""

    total: int
    """Replicas that the spec asks for."""
    stable: int
    """Ready ones of the stable version."""
    candidate: int
    """Ready ones of the new version."""
    left_out: int = 0
    """Replicas of the new version that did not come up, where the rollout goes on without them."""
    not_back: int = 0
    """Replicas of the stable version that do not come up in time, or have no room beside the new one's."""

    def needs(self, percent: int) -> int:
        """Ready replicas of the new version that bear this share of the requests, as far as there can be so many."""
        return min(share(self.total, percent), max(1, self.total - self.left_out))


@dataclass(frozen=True)
class Backends:
    """The pods that requests are routed to."""

    replicas: Sequence[ReplicasPool] = ()

    @property
    def stable(self) -> int:
        """Ready pods of the stable version."""
        return sum(pool.stable for pool in self.replicas)

    @property
    def candidate(self) -> int:
        """Ready pods of the new version."""
        return sum(pool.candidate for pool in self.replicas)

    def bears(self, percent: int) -> bool:
        """Whether the new version has the pods for this share of the requests.

        A replica that failed, and whose failure ``failureThreshold`` tolerates, is not waited for: below all requests
        another one is asked for in its stead, and all requests go to as many as there can be, one at least a pool.
        """
        return all(pool.candidate >= pool.needs(percent) for pool in self.replicas)

    @property
    def nowhere(self) -> bool:
        """Whether no pods are asked for that requests could go to."""
        return not any(pool.total for pool in self.replicas)

    @property
    def stable_is_whole(self) -> bool:
        """Whether the stable version has the pods for all requests, as far as there can be so many."""
        return all(pool.stable >= min(pool.total, max(1, pool.total - pool.not_back)) for pool in self.replicas)


@dataclass(frozen=True)
class Situation:
    """What a decision is made from."""

    spec: Canary | None
    """``None``: all requests move at once."""
    before: Mapping[str, Any]
    """``status.canary``; empty where there is none."""
    stable: str
    """Revision that is stable; empty while there is none."""
    target: str
    """Revision that the fleet shall be on; the stable one where that is so, or where it goes back."""
    orders: Orders
    backends: Backends
    first_wave_passed: bool
    paused: bool
    annotate: str
    """The command that a person annotates this EdgeDeployment with."""
    accepted: Callable[[Split], bool]
    """Whether the routing in the cluster is this one, and in force."""
    measured: Mapping[str, Measurement]
    now: datetime


@dataclass(frozen=True)
class Told:
    """Why the canary does not go on by itself."""

    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """What follows for routes, pods and waves."""

    split: Split = Split()
    status: Mapping[str, Any] | None = None
    """``status.canary`` from now on; ``None``: there is none."""
    demand: int | None = None
    """Share of its replicas that the new version has at least, in percent; ``None``: as the waves have it."""
    keeps_stable: bool = False
    """Whether the stable version keeps all its replicas in routed pools."""
    lingers: bool = False
    """Whether no replica in a routed pool may go yet."""
    holds_waves: bool = False
    """Whether the waves wait for the canary."""
    promotable: bool = True
    """Whether the new version may become the stable one, as far as requests are concerned."""
    pause: Told | None = None
    """It waits for a person."""
    failure: Told | None = None
    """The new version is not good enough; where that rolls nothing back, it waits, as ``pause`` says."""
    message: str = ""
    """How far it is, for a person."""
    look_again: datetime | None = None
    """When the decision changes by the clock alone."""


def share(total: int, percent: int) -> int:
    """Replicas that bear this share of the requests: rounded up, and one at least where there are any."""
    return min(total, max(1, -(-total * percent // 100)))


def scopes(spec: Canary | None) -> list[str]:
    """What a promotion may name: the steps by number."""
    return [str(index) for index in range(len(spec.steps))] if spec else []


def running(status: Mapping[str, Any]) -> Run | None:
    """The step that is in force, by a ``status.canary``; ``None`` where none is."""
    if not status.get("stepStartedAt") or status.get("endedAt"):
        return None
    return Run(status["revision"], status["stepIndex"], conditions.parse_timestamp(status["stepStartedAt"]))


def new_state(at: Situation, index: int, weight: int) -> dict[str, Any]:
    """The state of a canary that begins at this step."""
    attempt = at.orders.attempt
    return {"revision": at.target, "attempt": attempt, "stepIndex": index, "weight": weight, "header": False}


def at_step(state: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The state at the beginning of a step: nothing is in force or measured yet, and requests go where they went."""
    kept = ("revision", "attempt", "weight", "header")
    return {**{key: state[key] for key in kept}, "stepIndex": index}
