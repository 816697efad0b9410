"""Taking ownerless labels off nodes: only the leader does it, slowly, and only after two fresh looks agree.

What counts as ownerless is ``plan/edge/sweep.py``'s. The view is not asked: a label taken off by mistake stops a
model on a gateway, so only fresh lists of the whole cluster count.
"""

import asyncio
import logging
from typing import Final

from modelfleet.cluster.client import Cluster
from modelfleet.cluster.errors import ClusterError
from modelfleet.plan.edge import sweep
from modelfleet.plan.outcome import NodeLabels, RawObject

PAUSE_SECONDS: Final = 0.1
"""Between two nodes: at most ten writes a second."""

logger = logging.getLogger(__name__)


async def look(cluster: Cluster, installation: str) -> set[sweep.Stray]:
    """The ownerless labels by one fresh look.

    Nodes are listed first: an owner made after that list can only make a label owned, never the reverse.
    """
    nodes: list[RawObject] = []
    daemon_sets: list[RawObject] = []
    deployments: list[RawObject] = []
    await cluster.list_watched("Node", lambda each: nodes.append(_named(each, "labels")))
    await cluster.list_watched("DaemonSet", lambda each: daemon_sets.append(_placing(each)))
    await cluster.list_watched("EdgeDeployment", lambda each: deployments.append(_named(each, "uid")))
    return sweep.strays(nodes, deployments, daemon_sets, installation)


def _named(obj: RawObject, key: str) -> RawObject:
    """Its name and one more of its metadata: ten thousand nodes as they come would be hundreds of megabytes."""
    metadata = obj["metadata"]
    return {"metadata": {"name": metadata["name"], key: metadata.get(key)}}


def _placing(daemon_set: RawObject) -> RawObject:
    """Only where its pods go."""
    spec = daemon_set["spec"]["template"]["spec"]
    return {"spec": {"template": {"spec": {key: spec.get(key) for key in ("nodeSelector", "affinity")}}}}


async def run(cluster: Cluster, installation: str, interval: float) -> None:
    """Look every ``interval`` seconds until cancelled; take off what two looks in a row found."""
    before: set[sweep.Stray] = set()
    while True:
        try:
            found = await look(cluster, installation)
            for stray in sorted(found & before):
                await cluster.label_node(NodeLabels(stray.node, {stray.key: None}))
                logger.info("Node %s: label %s=%s had no owner and was taken off", *stray)
                await asyncio.sleep(PAUSE_SECONDS)
            before = found
        except ClusterError as error:
            before = set()
            logger.warning("Sweeping node labels: %s; tried again in %.0f s", error, interval)
        await asyncio.sleep(interval)
