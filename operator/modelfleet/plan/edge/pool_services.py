"""The pool-local Services: one for each pool on the edge, so that whoever asks is answered within reach.

``<name>-pool-<pool>`` selects the pods of one pool, of whatever revision. Annotations of the edge platform keep its
requests within the NodeGroup or NodePool that they come from. Plain Kubernetes knows no such groups, so pools of plain
nodes have none. The Services of replicas that routes use are not made here.
"""

from collections.abc import Iterable, Sequence

from modelfleet.api import names
from modelfleet.api.edge_deployment import Ports
from modelfleet.plan import naming
from modelfleet.plan.edge import workload
from modelfleet.plan.edge.fleet import PoolFleet
from modelfleet.plan.outcome import RawObject


def services(owner: RawObject, wanted: Ports, fleets: Iterable[PoolFleet]) -> list[RawObject]:
    """The pool-local Services that there shall be."""
    found = []
    for fleet in fleets:
        annotations = fleet.platform.service_annotations
        if annotations:
            found.append(_service(owner, wanted, fleet.pool.name, annotations))
    return found


def is_one(service: RawObject) -> bool:
    """Whether a Service of ours is a pool-local one."""
    return names.POOL_LABEL in (service["metadata"].get("labels") or {})


def unneeded(there: Iterable[RawObject], wanted: Sequence[RawObject], fleets: Iterable[PoolFleet]) -> list[RawObject]:
    """Those of our Services ``there`` that are pool-local ones, and not ``wanted`` any more.

    A pool without nodes may get some again: its Service keeps its address until then.
    """
    keep = {each["metadata"]["name"] for each in wanted}
    empty = {fleet.pool.name for fleet in fleets if not fleet.nodes}
    gone = [each for each in there if is_one(each) and each["metadata"]["name"] not in keep]
    return [each for each in gone if each["metadata"]["labels"][names.POOL_LABEL] not in empty]


def _service(owner: RawObject, wanted: Ports, pool: str, annotations: dict[str, str]) -> RawObject:
    metadata = owner["metadata"]
    base = workload.service(owner, wanted.http, wanted.grpc)
    chosen = {names.EDGE_DEPLOYMENT_LABEL: metadata["name"], names.POOL_LABEL: pool}
    base["metadata"] |= {
        "name": naming.joined(metadata["name"], "pool", pool),
        "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, **chosen},
        "annotations": annotations,
    }
    base["spec"]["selector"] = chosen
    return base
