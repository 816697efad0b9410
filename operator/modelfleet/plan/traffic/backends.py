"""The pods that requests can go to, counted by version for a canary; and those that are not waited for.

Requests go over make-before-break: to a version that has the ready replicas to bear them. A replica that does not come
up must not hold them for ever: one of the new version is left out where the rollout as a whole goes on without it
(``failureThreshold``); one of the stable version, on the way back, where it has had ``progressDeadlineSeconds``, or has
no room as long as the new version's replicas, which are to go, are there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import conditions
from modelfleet.plan.edge.fleet import Clock, PoolFleet
from modelfleet.plan.edge.serving_pod import ServingPod
from modelfleet.plan.edge.waves import State
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import traffic
from modelfleet.plan.traffic.canary_state import Backends, ReplicasPool


def count(
    spec: EdgeDeploymentSpec,
    fleets: Sequence[PoolFleet],
    pods: Mapping[str, Sequence[ServingPod]],
    live: Mapping[str, RawObject],
    refused: Collection[str],
    clock: Clock,
    stable: str,
    candidate: str,
    *,
    tolerated: bool,
) -> Backends:
    """The backends of two revisions.

    ``pods`` and ``live`` (Deployments) are by workload, ``refused`` names the workloads of which the API server makes
    no pods, ``tolerated`` tells whether the rollout goes on without those of its places that failed.
    """
    pools = {
        fleet.pool.name: ReplicasPool(
            len(fleet.members), 0, 0, left_out=_failed(fleet) if tolerated and _runs(fleet, candidate) else 0
        )
        for fleet in fleets
        if traffic.takes_requests(spec, fleet.pool.name)
    }
    for hash_, each in live.items():
        labels = each["metadata"].get("labels") or {}
        pool = pools.get(labels.get(names.POOL_LABEL, ""))
        if pool is None:
            continue
        ready = int((each.get("status") or {}).get("availableReplicas", 0))
        if labels.get(names.REVISION_LABEL) == stable:
            there = [pod for pod in pods.get(hash_, ()) if not pod.terminating]
            late = sum(_is_not_back(pod, clock) for pod in there)
            late += max(0, pool.total - len(there)) if each["metadata"]["name"] in refused else 0
            pool = replace(pool, stable=pool.stable + ready, not_back=pool.not_back + late)
        elif labels.get(names.REVISION_LABEL) == candidate:
            pool = replace(pool, candidate=pool.candidate + ready)
        pools[labels[names.POOL_LABEL]] = pool
    return Backends(list(pools.values()))


def _failed(fleet: PoolFleet) -> int:
    return sum(member.state is State.FAILED for member in fleet.members)


def _runs(fleet: PoolFleet, revision: str) -> bool:
    return fleet.wanted is not None and fleet.wanted.release.revision == revision


def _is_not_back(pod: ServingPod, clock: Clock) -> bool:
    if pod.ready:
        return False
    permanent = pod.trouble is not None and pod.trouble.permanent
    since = pod.unready_since
    late = bool(since) and conditions.parse_timestamp(since) + clock.progress_deadline <= clock.now
    return permanent or pod.no_room or late
