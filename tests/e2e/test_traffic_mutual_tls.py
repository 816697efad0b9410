"""What Istio's real control plane makes of ``spec.traffic.mtls``, told to the sidecars of our pods and of others.

No connection is made: nobody hands out certificates here.
"""

from e2e.cluster import sidecar
from e2e.cluster.commands import wait_until
from e2e.kubectl import condition
from tests import objects, onnx
from tests.line import Line
from tests.objects import RawObject

LAB = objects.pool("lab", {"pool": "x86", "site": "plant-a"}, placement="Replicas", replicas=1)
GATEWAYS = objects.pool("gateways", {"pool": "cuda", "site": "plant-a"})
"""Of the same deployment, and not routed to: what their pods take is the mesh's to say."""
PORT = 8080
ANYBODY = {"mtls", "open"}
"""What a sidecar takes that no policy speaks of."""


def pod_of(line: Line, placement: str) -> RawObject:
    """One running pod of a placement."""

    def running() -> list[RawObject]:
        pods = line.kubectl.list("pods", f"modelfleet.dev/placement={placement}")
        return [each for each in pods if each.get("status", {}).get("podIP") and each["status"]["phase"] == "Running"]

    wait_until(running, f"a pod with placement {placement}", 120)
    return running()[0]


def test_the_control_plane_has_our_pods_demand_certificates_and_nobody_elses(line: Line) -> None:
    line.register({"1.0.0": onnx.identity})
    line.deploy("1.0.0", pools=[LAB, GATEWAYS], traffic=line.traffic() | {"mtls": "Strict"})
    line.until(lambda each: condition(each, "TrafficRouted").get("reason") == "NoSidecar")
    ours, other = pod_of(line, "Replicas"), pod_of(line, "EveryNode")
    with sidecar.of(line.mesh, ours) as told:
        wait_until(lambda: told.takes(PORT) == {"mtls"}, "the control plane to demand certificates", 60)

        line.edit(traffic={"mtls": "Permissive"})
        wait_until(lambda: told.takes(PORT) == ANYBODY, "the control plane to let others in", 60)

        line.edit(traffic={"mtls": "Strict"})
        wait_until(lambda: told.takes(PORT) == {"mtls"}, "the control plane to demand them again", 60)
    with sidecar.of(line.mesh, other) as told:
        assert told.takes(PORT) == ANYBODY
    line.edit(traffic={"mtls": None})
    line.until(lambda each: condition(each, "TrafficRouted").get("status") == "True")
    assert line.kubectl.get("peerauthentication", "line") is None
