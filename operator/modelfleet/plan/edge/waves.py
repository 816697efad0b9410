"""The order in which a fleet is moved: which nodes come next, and when a wave has passed.

A wave says how many of its pools' nodes are moved *when it ends*, those of earlier waves included. Its denominator is
honest: nodes that are reachable, and those that were tried. Nodes that are offline, or that no artifact fits, neither
count nor block; a pilot that is cut off for reasons of its own, or takes no label, is made up for by another. A wave
passes when as many nodes as it asks for were tried and all of them are healthy, but for those whose failure
``thresholds.py`` tolerates; then it soaks and, where asked for, waits for approval. After the user's last wave the rest
follows as one more. Replicas count as nodes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Generic, TypeVar

from modelfleet.api import duration
from modelfleet.api.edge_deployment import Strategy, Wave
from modelfleet.plan import naming
from modelfleet.plan.edge import thresholds
from modelfleet.plan.edge.thresholds import Failures


class State(Enum):
    """What became of a node (or replica) with regard to the wanted revision."""

    NO_ARTIFACT = "no build of the model fits it"
    WAITING = "reachable, and not moved yet"
    UNREACHABLE = "not moved yet, and out of reach"
    IN_FLIGHT = "moved, and not healthy yet"
    HEALTHY = "moved and healthy"
    FAILED = "moved, and did not come up"
    SUSPECT = "moved, and out of reach soon after"
    LOST = "moved, and out of reach for reasons of its own"
    REFUSED = "reachable, and the API server lets it take no label"


TRIED = frozenset({State.IN_FLIGHT, State.HEALTHY, State.FAILED, State.SUSPECT, State.LOST})
COUNTED = TRIED - {State.LOST} | {State.WAITING}
"""The reachable, and those of which the update may be the reason that they are not."""


@dataclass(slots=True)
class Place:
    """A node, or one replica of a Replicas pool, as the waves see it."""

    name: str
    pool: str
    state: State
    serves: bool = False
    """Whether the pod of what it carries is ready, so that there is a service to keep."""
    hurt: bool = False
    """Whether it waits and serves nothing because of a rollout of ours that was superseded: it is due first."""


AnyPlace = TypeVar("AnyPlace", bound=Place)


@dataclass(frozen=True)
class Standing:
    """How far a rollout was when last written down, and what was said of it since."""

    now: datetime
    wave: str | None = None
    """The wave that was reached; ``None`` where that is not known (any more)."""
    soaking_since: datetime | None = None
    """When that wave had all its nodes up for the first time."""
    promotes: Callable[[str], bool] = lambda _: False
    """Whether somebody lets the wave of this name pass without soak and approval."""


@dataclass(frozen=True)
class Progress(Generic[AnyPlace]):
    """Where a rollout stands."""

    wave: str | None
    """Name of the wave under way; ``None`` once all have passed."""
    next: Sequence[AnyPlace] = ()
    """The places to move now."""
    healthy: int = 0
    """Places of the wave that passed."""
    size: int = 0
    """Places that are moved when the wave ends."""
    failures: Failures = Failures.NONE
    """What the failures so far mean."""
    first_passed: bool = True
    """Whether the first wave has passed, soak and approval included."""
    soaking_since: datetime | None = None
    """When the wave had all its nodes up for the first time; ``None`` where it does not soak."""
    soaks_until: datetime | None = None
    """Set while all its nodes are up and the soak is what it waits for."""
    awaits_approval: bool = False
    """Whether approval is what it waits for."""


ALL = "all"
REST = "rest"
"""Names of the waves that nobody wrote: the only one, and the one after the user's last."""


def names(waves: Sequence[Wave]) -> list[str]:
    """The names of all waves in their order, the one that nobody wrote included."""
    return [wave.name for wave in _with_rest(waves)]


def progress(
    places: Sequence[AnyPlace], strategy: Strategy, standing: Standing, trying: Collection[str] | None = None
) -> Progress[AnyPlace]:
    """How far the rollout is, and which places are moved next.

    While the waves are held, ``trying`` are the pools of which more are tried all the same.
    The wave that was reached before is not gone back from: a pilot node that reboots later counts against
    ``maxUnavailable`` instead. Where it is not known, waves of which more was tried than they ask for have passed.
    """
    plan = _with_rest(strategy.waves)
    known = next((index for index, wave in enumerate(plan) if wave.name == standing.wave), None)
    for index, wave in enumerate(plan[known or 0 :], known or 0):
        found = _under_way(places, wave, strategy, trying)
        if known is None and found.overtaken:
            continue
        soaking_since = standing.soaking_since if wave.name == standing.wave else None
        gated = found.progress
        if found.complete or (found.deserted and standing.promotes(wave.name)):
            gated = _gate(found.progress, wave, soaking_since, standing, empty=found.empty)
            if gated.wave is None:
                continue
        elif soaking_since is not None:
            # A node that reboots during the soak does not begin it anew, but must be back when it ends.
            gated = replace(gated, soaking_since=soaking_since)
        return replace(gated, first_passed=index > 0)
    return Progress(None)


@dataclass(frozen=True)
class _Found(Generic[AnyPlace]):
    progress: Progress[AnyPlace]
    complete: bool
    overtaken: bool
    """Whether more was tried than the wave asks for."""
    empty: bool
    """Whether nothing of it can be reached or was tried, so that there is nothing to watch."""
    deserted: bool
    """Whether all that was tried is out of reach, and nothing else can be tried: nothing speaks for it yet."""


def _under_way(
    places: Sequence[AnyPlace], wave: Wave, strategy: Strategy, trying: Collection[str] | None
) -> _Found[AnyPlace]:
    scope = [place for place in places if not wave.pools or place.pool in wave.pools]
    here, everywhere = (Counter(place.state for place in each) for each in (scope, places))
    tried = sum(here[state] for state in TRIED - {State.LOST})
    reachable = tried + here[State.WAITING]
    size = min(share(wave.nodes, reachable, up=True), reachable)
    waiting = sorted((place for place in scope if place.state is State.WAITING), key=_turn)
    hurt = [place for place in waiting if place.hurt]
    in_flight = everywhere[State.IN_FLIGHT] + everywhere[State.SUSPECT]
    failed = everywhere[State.FAILED]
    # Of what was tried and failed, only what is without service takes from what may be unavailable.
    down = sum(place.state is State.FAILED and not place.serves for place in places)
    unavailable = in_flight + sum(place.hurt and place.state is State.WAITING for place in places)
    room = max(0, size - tried)
    budget = max(1, share(strategy.max_unavailable, size)) - unavailable
    more = in_flight > 0 or (room > 0 and (bool(hurt) or (bool(waiting) and budget > down)))
    if trying is not None:
        left = any(place.state is State.WAITING and place.pool in trying for place in places)
        more = in_flight > 0 or (left and budget > down)
    failures = thresholds.judge(strategy.failure_threshold, failed, everywhere[State.HEALTHY], size, more=more)
    left_out = here[State.FAILED] if failures is Failures.TOLERATED else 0
    if failures is Failures.UNDECIDED:
        budget -= down
    following: list[AnyPlace] = []
    if failures is not Failures.EXCEEDED:
        # Those that serve nothing anyway take nothing from what may be unavailable.
        following = [*hurt, *[place for place in waiting if not place.hurt][: max(0, budget)]][:room]
    deserted = reachable == 0 and here[State.LOST] + here[State.REFUSED] > 0
    return _Found(
        Progress(wave.name, following, here[State.HEALTHY], max(size, tried), failures),
        complete=tried >= size and here[State.HEALTHY] + left_out == tried and not deserted,
        overtaken=tried > size,
        empty=reachable == 0,
        deserted=deserted,
    )


def _gate(
    found: Progress[AnyPlace], wave: Wave, soaking_since: datetime | None, standing: Standing, *, empty: bool
) -> Progress[AnyPlace]:
    """What a wave with all its nodes up waits for; one with ``wave=None`` has passed."""
    passed: Progress[AnyPlace] = Progress(None)
    if standing.promotes(wave.name):
        return passed
    soak = duration.parse(wave.soak or "0s")
    if soak and not empty:
        since = soaking_since or standing.now
        found = replace(found, next=(), soaking_since=since)
        if standing.now < since + soak:
            return replace(found, soaks_until=since + soak)
    return replace(found, next=(), awaits_approval=True) if wave.approval else passed


def catch_up(
    places: Sequence[AnyPlace], urgent: Collection[str], free: Collection[str], max_unavailable: int | str
) -> tuple[list[AnyPlace], list[AnyPlace]]:
    """The places to move to the revision that is stable already, most urgent first, waves or no waves.

    ``urgent`` names those on a revision that was rolled back and ``free`` those that serve nothing: they go at once
    (the first list). Others (returned from a long absence, moved between pools) go within ``max_unavailable``.
    """
    waiting = [place for place in places if place.state is State.WAITING]
    counted = sum(place.state in COUNTED for place in places)
    in_flight = sum(place.state is State.IN_FLIGHT for place in places)
    at_once = sorted((place for place in waiting if place.name in urgent), key=_turn)
    at_once += sorted((place for place in waiting if place.name in free and place.name not in urgent), key=_turn)
    budget = max(0, max(1, share(max_unavailable, counted)) - in_flight)
    others = (place for place in waiting if place.name not in urgent and place.name not in free)
    return at_once, sorted(others, key=_turn)[:budget]


def share(amount: int | str, total: int, *, up: bool = False) -> int:
    """A number, or the percentage of a total that a text such as ``10%`` means, rounded down (or up)."""
    if isinstance(amount, int):
        return amount
    hundredths = int(amount.removesuffix("%")) * total
    return -(-hundredths // 100) if up else hundredths // 100


def _with_rest(waves: Sequence[Wave]) -> list[Wave]:
    if not waves:
        return [Wave(name=ALL)]
    last = waves[-1]
    if not last.pools and last.nodes == "100%":
        return list(waves)
    # Waves are known by their names, in the status and in promotions: one of the user's may have this one.
    taken = {wave.name for wave in waves}
    name = next(each for each in (REST, *(f"{REST}-{number}" for number in range(2, 99))) if each not in taken)
    return [*waves, Wave(name=name)]


@lru_cache(maxsize=1 << 15)
def _order(name: str) -> str:
    return naming.text_hash(name, 16)


def _turn(place: Place) -> tuple[str, str]:
    """The same order in every rollout and on every replica of the operator, and spread over racks and lines."""
    return _order(place.name), place.name
