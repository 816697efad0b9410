"""How the Replicas pools are scaled: the candidate up, stable down, and never below what serves.

A replica of the candidate must be ready before one of stable goes; one that fails takes none away.
"""

from collections.abc import Callable, Mapping
from typing import Any

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan.edge import workload
from modelfleet.plan.edge.aim import Aim
from modelfleet.plan.edge.fleet import Chooser, Observation, PoolFleet
from modelfleet.plan.edge.waves import TRIED, State
from modelfleet.plan.edge.workload import Workload
from modelfleet.plan.outcome import ObjectRef, RawObject
from modelfleet.plan.traffic import traffic
from modelfleet.plan.traffic.canary_state import Decision, share
from modelfleet.plan.traffic.traffic import Routing

Find = Callable[[str], Workload | None]


def scale(
    observation: Observation,
    aim: Aim,
    moves: Mapping[str, Workload],
    live: Mapping[str, RawObject],
    find: Find,
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    routing: Routing,
    canary: Decision | None = None,
) -> tuple[list[RawObject], list[ObjectRef]]:
    """The Deployments to apply and those to delete; ``live`` are the ones that exist, by workload.

    What requests are routed to keeps its replicas until they are routed elsewhere.
    """
    applied: list[RawObject] = []
    needed: set[str] = set()
    for fleet in observation.pools:
        if fleet.pool.placement != workload.REPLICAS:
            continue
        counts = _counts(fleet, aim, moves, live, find)
        if traffic.takes_requests(spec, fleet.pool.name):
            counts |= _routed(fleet, counts, live, find, routing, canary)
            counts |= _canary(fleet, aim, counts, live, canary)
            counts = {item: count for item, count in counts.items() if not _is_idle(item, fleet, aim, routing, canary)}
        for item, count in counts.items():
            needed.add(item.hash)
            if count > 0 or item.hash in live:
                applied.append(
                    workload.deployment(
                        item,
                        owner,
                        count,
                        fleet.pool.node_selector,
                        fleet.tolerations,
                        spec.strategy.offline_after_seconds,
                        fleet.platform,
                    )
                )
        needed |= _unknown_but_serving(fleet, live, find)
    unneeded = [_reference(each) for hash_, each in live.items() if hash_ not in needed]
    return applied, unneeded


def _counts(
    fleet: PoolFleet, aim: Aim, moves: Mapping[str, Workload], live: Mapping[str, RawObject], find: Find
) -> dict[Workload, int]:
    """Replicas by workload of one pool; what is not named here has none and is not kept."""
    total = len(fleet.members)
    ready = sum(member.state is State.HEALTHY for member in fleet.members)
    tried = sum(member.state in TRIED for member in fleet.members)
    moved = sum(member.name in moves and moves[member.name] == fleet.wanted for member in fleet.members)
    counts: dict[Workload, int] = {}
    if fleet.wanted is not None:
        counts[fleet.wanted] = tried + moved
    missing = total - ready
    stable = None
    if aim.stable is not None and not aim.settled:
        stable, _ = Chooser(aim.stable, fleet.pool).for_all(fleet.nodes, live)
        if stable is not None and stable != fleet.wanted:
            counts[stable] = missing
            missing -= _available(live.get(stable.hash))
    for hash_, each in sorted(live.items()):
        item = find(hash_)
        if _pool_of(each) != fleet.pool.name or item is None or item in counts or missing <= 0:
            continue
        keep = min(_available(each), missing)
        if keep > 0:
            counts[item] = keep
            missing -= keep
    return counts


def _routed(
    fleet: PoolFleet,
    counts: Mapping[Workload, int],
    live: Mapping[str, RawObject],
    find: Find,
    routing: Routing,
    canary: Decision | None,
) -> dict[Workload, int]:
    """What requests may still reach of other revisions, by as many replicas as it has, or the pool is to have."""
    held = {}
    for hash_, each in live.items():
        item = find(hash_)
        if item is None or _pool_of(each) != fleet.pool.name or item == fleet.wanted:
            continue
        if not routing.released(item.release.revision) or (canary is not None and canary.lingers):
            present = int(each["spec"].get("replicas", 1))
            held[item] = max(counts.get(item, 0), min(present, len(fleet.members)))
    return held


def _canary(
    fleet: PoolFleet, aim: Aim, counts: Mapping[Workload, int], live: Mapping[str, RawObject], canary: Decision | None
) -> dict[Workload, int]:
    """What the canary asks for: the candidate's pods for its share of the requests, and stable's for all of them."""
    asked: dict[Workload, int] = {}
    if canary is None or aim.stable is None or aim.settled:
        return asked
    total = len(fleet.members)
    if canary.demand is not None and fleet.wanted is not None:
        # Another one in the stead of each that failed, as far as there are any.
        failed = sum(member.state is State.FAILED for member in fleet.members)
        asked[fleet.wanted] = max(counts.get(fleet.wanted, 0), min(total, share(total, canary.demand) + failed))
    stable, _ = Chooser(aim.stable, fleet.pool).for_all(fleet.nodes, live)
    if canary.keeps_stable and stable is not None and stable != fleet.wanted:
        asked[stable] = max(counts.get(stable, 0), total)
    return asked


def _is_idle(item: Workload, fleet: PoolFleet, aim: Aim, routing: Routing, canary: Decision | None) -> bool:
    """Whether nothing is routed to a revision any more, nor will be: it stands in for no replica that is missing."""
    lingers = canary is not None and canary.lingers
    return item != fleet.wanted and aim.settled and routing.released(item.release.revision) and not lingers


def _unknown_but_serving(fleet: PoolFleet, live: Mapping[str, RawObject], find: Find) -> set[str]:
    """Deployments of a revision that is not kept any more, as long as nothing else serves in their stead."""
    if all(member.state is State.HEALTHY for member in fleet.members):
        return set()
    return {hash_ for hash_, each in live.items() if _pool_of(each) == fleet.pool.name and find(hash_) is None}


def _available(deployment: RawObject | None) -> int:
    return int(((deployment or {}).get("status") or {}).get("availableReplicas", 0))


def _pool_of(deployment: Mapping[str, Any]) -> str:
    return str((deployment["metadata"].get("labels") or {}).get(names.POOL_LABEL, ""))


def _reference(obj: RawObject) -> ObjectRef:
    metadata = obj["metadata"]
    return ObjectRef(obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"], metadata.get("uid", ""))
