"""Requests to a Service of ours reach the leader: its one EndpointSlice names the leader's address.

The Service has no selector, so no controller of Kubernetes writes that slice. A label on the leader's pod would need
the right to change pods, and a leader that froze would keep it; the slice is one object, and whoever leads writes it.
"""

from typing import Any

from modelfleet.api import names
from modelfleet.cluster import difference
from modelfleet.cluster.client import Cluster
from modelfleet.plan.outcome import RawObject


async def claim(cluster: Cluster, service: RawObject, address: str, port: int) -> bool:
    """Have the Service lead to this address; whether that took a write."""
    metadata = service["metadata"]
    wanted = _slice(service, address, port)
    held = await cluster.read("EndpointSlice", metadata["namespace"], metadata["name"])
    if held is not None and difference.covers(held, wanted):
        return False
    await cluster.apply(wanted)
    return True


def _slice(service: RawObject, address: str, port: int) -> dict[str, Any]:
    metadata = service["metadata"]
    owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {
                "kubernetes.io/service-name": metadata["name"],
                "endpointslice.kubernetes.io/managed-by": names.MANAGED_BY,
            },
            "ownerReferences": [owner],
        },
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": service["spec"]["ports"][0].get("name", ""), "port": port, "protocol": "TCP"}],
    }
