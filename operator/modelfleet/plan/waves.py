"""The order in which a fleet is moved: which nodes come next, and when a wave has passed.

A wave says how many of its pools' nodes are moved *when it ends*, those of earlier waves included. Its denominator is
honest: nodes that are reachable, and those that were tried. Nodes that are offline, or that no artifact fits, neither
count nor block. After the user's last wave the rest follows as one more. Replicas count as nodes.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Generic, TypeVar

from modelfleet.api.edge_deployment import Wave
from modelfleet.plan import naming


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


TRIED = frozenset({State.IN_FLIGHT, State.HEALTHY, State.FAILED, State.SUSPECT, State.LOST})
PASSING = frozenset({State.HEALTHY, State.LOST})
COUNTED = TRIED | {State.WAITING}


@dataclass(slots=True)
class Place:
    """A node, or one replica of a Replicas pool, as the waves see it."""

    name: str
    pool: str
    state: State


AnyPlace = TypeVar("AnyPlace", bound=Place)


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


ALL = "all"
REST = "rest"
"""Names of the waves that nobody wrote: the only one, and the one after the user's last."""


def progress(
    places: Sequence[AnyPlace], waves: Sequence[Wave], max_unavailable: int | str, at_least: str | None = None
) -> Progress[AnyPlace]:
    """How far the rollout is, and which places are moved next.

    ``at_least`` is the wave that was reached before: a pilot node that reboots later does not set the rollout back
    to the pilot, it counts against ``max_unavailable``. Where that is not known (any more), waves of which more was
    tried than they ask for have passed. Any failed place holds everything.
    """
    plan = _with_rest(waves)
    names = [wave.name for wave in plan]
    held = any(place.state is State.FAILED for place in places)
    in_flight = sum(place.state in (State.IN_FLIGHT, State.SUSPECT) for place in places)
    for wave in plan[names.index(at_least) if at_least in names else 0 :]:
        scope = _scope(places, wave.pools)
        tried = sum(place.state in TRIED for place in scope)
        size = min(share(wave.nodes, len(scope), up=True), len(scope))
        passed = sum(place.state in PASSING for place in scope)
        if (tried >= size and passed == tried) or (tried > size and at_least not in names):
            continue
        waiting = sorted((place for place in scope if place.state is State.WAITING), key=_turn)
        budget = 0 if held else max(1, share(max_unavailable, size)) - in_flight
        return Progress(wave.name, waiting[: max(0, min(size - tried, budget))], passed, max(size, tried))
    return Progress(None)


def catch_up(
    places: Sequence[AnyPlace], urgent: Collection[str], free: Collection[str], max_unavailable: int | str
) -> list[AnyPlace]:
    """The places to move to the revision that is stable already, most urgent first, waves or no waves.

    ``urgent`` names those on a revision that was rolled back and ``free`` those that serve nothing: they go at once.
    Others (returned from a long absence, moved between pools) go within ``max_unavailable``.
    """
    waiting = [place for place in places if place.state is State.WAITING]
    counted = sum(place.state in COUNTED for place in places)
    in_flight = sum(place.state is State.IN_FLIGHT for place in places)
    at_once = sorted((place for place in waiting if place.name in urgent), key=_turn)
    at_once += sorted((place for place in waiting if place.name in free and place.name not in urgent), key=_turn)
    budget = max(0, max(1, share(max_unavailable, counted)) - in_flight)
    others = (place for place in waiting if place.name not in urgent and place.name not in free)
    return at_once + sorted(others, key=_turn)[:budget]


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
    return list(waves) if not last.pools and last.nodes == "100%" else [*waves, Wave(name=REST)]


def _scope(places: Iterable[AnyPlace], pools: Collection[str]) -> list[AnyPlace]:
    chosen = frozenset(pools)
    return [place for place in places if place.state in COUNTED and (not chosen or place.pool in chosen)]


@lru_cache(maxsize=1 << 15)
def _order(name: str) -> str:
    return naming.text_hash(name, 16)


def _turn(place: Place) -> tuple[str, str]:
    """The same order in every rollout and on every replica of the operator, and spread over racks and lines."""
    return _order(place.name), place.name
