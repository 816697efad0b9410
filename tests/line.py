"""An EdgeDeployment whose requests come in through the data plane, by one of the ways to route them."""

import json
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from e2e.cluster import mesh
from e2e.cluster.mesh import Mesh
from e2e.kubectl import Kubectl, condition, is_true
from e2e.project import Files
from tests import objects, onnx
from tests.objects import RawObject
from tests.traffic import Stream

LAB = objects.pool("lab", {"pool": "lab"}, placement="Replicas", replicas=2)
# A share of the processor of their own, or whatever else the machine does makes pods late for their probes; and no more
# than the node has for the pods of three lines.
SERVING = {"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "350m", "memory": "512Mi"}}}


@dataclass(frozen=True)
class Line:
    """An EdgeDeployment whose requests come in through the data plane."""

    kubectl: Kubectl
    files: Files
    namespace: str
    mesh: Mesh
    provider: str
    name: str = "line"

    @property
    def host(self) -> str:
        """The host name of its requests."""
        return f"{self.name}.{self.namespace}.example"

    @property
    def url(self) -> str:
        """Where its requests enter."""
        return self.mesh.istio_url if self.provider == "Istio" else self.mesh.gateway_api_url

    def traffic(self) -> RawObject:
        """``spec.traffic``."""
        match self.provider:
            case "Istio":
                gateway = f"{mesh.NAMESPACE}/{mesh.INGRESS}"
                return {"provider": "Istio", "hosts": [self.host], "gateways": [gateway]}
            case "GatewayAPI":
                parent = {"name": mesh.INGRESS, "namespace": mesh.NAMESPACE}
                return {"provider": "GatewayAPI", "hosts": [self.host], "parentRefs": [parent]}
            case _:
                return {"provider": "GatewayAPI", "routeRef": {"name": self.own}}

    @property
    def own(self) -> str:
        """The name of the user's own route."""
        return f"own-{self.name}"

    def foreign(self) -> list[RawObject]:
        """Routes of the user's own: for ``routeRef`` the one of the line itself, else one of another host."""
        if self.provider == "Istio":
            destination = {"host": f"other.{self.namespace}.svc.cluster.local", "port": {"number": 80}}
            spec: RawObject = {
                "hosts": ["other.example"],
                "gateways": [f"{mesh.NAMESPACE}/{mesh.INGRESS}"],
                "http": [{"route": [{"destination": destination}]}],
            }
            return [self._own("networking.istio.io/v1", "VirtualService", spec)]
        spec = {
            "parentRefs": [{"name": mesh.INGRESS, "namespace": mesh.NAMESPACE}],
            "hostnames": [self.host if self.provider == "routeRef" else "other.example"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/v2/models"}, "method": "POST"}],
                    "backendRefs": [{"name": self.name, "port": 8080}],
                    "timeouts": {"request": "20s"},
                }
            ],
        }
        return [self._own("gateway.networking.k8s.io/v1", "HTTPRoute", spec)]

    def register(self, models: Mapping[str, onnx.Model]) -> None:
        """ModelVersions by version, verified; once for all lines of a namespace."""
        for version, model in models.items():
            path = f"{self.namespace}/{version}.onnx"
            build = objects.artifact(self.files, path, model(producer=version), name="fp32", format="onnx")
            self.kubectl.apply(objects.model_version([build], version=version))
        for version in models:
            self.kubectl.wait_for("modelversion", objects.name_of("m", version), lambda each: is_true(each, "Ready"))

    def deploy(self, version: str, **spec: Any) -> None:
        """Put the EdgeDeployment and the foreign route in place."""
        fields = {"pools": [LAB], "serving": SERVING, "traffic": self.traffic(), **spec}
        line = objects.edge_deployment(objects.name_of("m", version), name=self.name, **fields)
        self.kubectl.apply(*self.foreign(), line)

    def until_routed(self) -> None:
        """Wait until requests are answered."""
        self.until(lambda line: is_true(line, "Ready") and condition(line, "TrafficRouted").get("status") == "True")

    def roll_out(self, version: str) -> None:
        """Change the version that the EdgeDeployment names."""
        self.edit(modelVersion=objects.name_of("m", version))

    def edit(self, **spec: Any) -> None:
        """Change fields of the spec."""
        self.kubectl("patch", "edgedeployment", self.name, "--type=merge", "--patch", objects.merge_patch(**spec))

    def command(self, verb: str, *scope: str) -> None:
        """Annotate the EdgeDeployment as a person does who read its status."""
        status = self.now()["status"]
        order = "/".join([status["candidate"]["revision"], str(status["attempt"]), *scope])
        self.kubectl("annotate", "--overwrite", "edgedeployment", self.name, f"modelfleet.dev/{verb}={order}")

    def in_force(self, step: int) -> RawObject:
        """Wait until the status says that a step of the canary is in force."""

        def reached(line: RawObject) -> bool:
            canary = line["status"].get("canary") or {}
            return canary.get("stepIndex") == step and bool(canary.get("stepStartedAt"))

        return self.until(reached)

    def until(self, reached: Callable[[RawObject], Any]) -> RawObject:
        """Wait for a state of the EdgeDeployment that its present generation has."""

        def seen(line: RawObject) -> bool:
            generation = line.get("status", {}).get("observedGeneration")
            return generation == line["metadata"]["generation"] and bool(reached(line))

        return self.kubectl.wait_for("edgedeployment", self.name, seen, timeout=400)

    def now(self) -> RawObject:
        """The EdgeDeployment."""
        line = self.kubectl.get("edgedeployment", self.name)
        assert line is not None
        return line

    def pods(self, version: str) -> set[str]:
        """The uids of a version's serving pods that are not on their way out."""
        return {each["metadata"]["uid"] for each in self._serving(version)}

    def ready(self, version: str) -> list[RawObject]:
        """A version's ready pods."""
        return [each for each in self._serving(version) if is_true(each, "Ready")]

    def _serving(self, version: str) -> list[RawObject]:
        of_it = (
            f"modelfleet.dev/model-version={objects.name_of('m', version)},modelfleet.dev/edge-deployment={self.name}"
        )
        found = self.kubectl.list("pods", of_it)
        serving = [each for each in found if "modelfleet.dev/revision" in each["metadata"]["labels"]]
        return [each for each in serving if "deletionTimestamp" not in each["metadata"]]

    def foreign_now(self) -> str:
        """The user's own route as it is, but for its status."""
        (route,) = self.foreign()
        kind = f"{route['kind']}.{route['apiVersion'].partition('/')[0]}"
        found = self.kubectl.get(kind, self.own)
        assert found is not None
        return json.dumps({key: value for key, value in found.items() if key != "status"}, sort_keys=True)

    def stream(self, rate: float = 20.0) -> Stream:
        """Clients of the line, for as long as the test wants them."""
        return Stream(self.url, self.host, rate=rate)

    def _own(self, api: str, kind: str, spec: RawObject) -> RawObject:
        return {"apiVersion": api, "kind": kind, "metadata": {"name": self.own}, "spec": spec}


def inferences(pod: RawObject) -> float:
    """How many requests a pod says that it answered, copies of others' included."""
    url = f"http://{pod['status']['podIP']}:8080/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(r"^modelfleet_inference_requests_total{.*} (\S+)$", text, re.MULTILINE)))
