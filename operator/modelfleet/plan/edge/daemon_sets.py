"""The DaemonSets of an EdgeDeployment's gateways: one for each workload that any node carries."""

from collections.abc import Collection, Mapping

from modelfleet.api import names
from modelfleet.plan.edge import workload
from modelfleet.plan.edge.catalogue import Catalogue
from modelfleet.plan.edge.fleet import Observation
from modelfleet.plan.outcome import ObjectRef, RawObject
from modelfleet.plan.traffic.route import reference


def state(
    owner: RawObject,
    running: Mapping[str, RawObject],
    observation: Observation,
    needed: Collection[str],
    catalogue: Catalogue,
    installation: str,
) -> tuple[list[RawObject], list[ObjectRef]]:
    """The DaemonSets of all that any node carries or is about to; the others go, once no node carries them."""
    fleets = {fleet.pool.name: fleet for fleet in observation.pools}
    items = [item for item in map(catalogue.find, sorted(needed)) if item is not None]
    applied = [
        workload.daemon_set(
            item,
            owner,
            installation,
            fleets[item.pool].tolerations,
            _made_for(running.get(item.hash)),
            fleets[item.pool].platform,
        )
        for item in items
    ]
    return applied, [reference(each) for hash_, each in running.items() if hash_ not in needed]


def lacks_pods(daemon_set: RawObject) -> bool:
    """Whether it has fewer pods than nodes: all that is ever read of its status."""
    status = daemon_set.get("status") or {}
    return int(status.get("desiredNumberScheduled", 0)) > int(status.get("currentNumberScheduled", 0))


def _made_for(daemon_set: RawObject | None) -> str:
    """The revision whose name the pods of a DaemonSet carry; empty where there is none yet."""
    labels = daemon_set["metadata"].get("labels") or {} if daemon_set else {}
    return str(labels.get(names.REVISION_LABEL, ""))
