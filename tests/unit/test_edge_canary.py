"""A canary in the EdgeDeployment's plan, played out in a small world with an Istio that routes by what is written."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet.api import names
from modelfleet.api.edge_deployment_status import EdgeDeploymentStatus
from modelfleet.plan.edge.edge_deployment import Observed
from modelfleet.plan.traffic import canary_state
from modelfleet.plan.traffic.analysis import Measurement
from tests.unit.edge_world import World, model_version, node, pod_status, pool

V1, V2, V3 = "defect-1-0-0", "defect-2-0-0", "defect-3-0-0"
HEADER = {"name": "x-version", "value": "v2"}
STEPS = [{"weight": 0, "pause": "Manual"}, {"weight": 5, "pause": "10m"}, {"weight": 50, "pause": "10m"}]
TRAFFIC = {"provider": "Istio", "hosts": ["defect.plant.example"]}
ERRORS = {"name": "errors", "prometheus": {"address": "http://p:9090", "query": "up"}, "max": "0.01"}
WAVES = [{"name": "pilot", "pools": ["gw"], "nodes": 1}, {"name": "all"}]


class Line(World):
    """Four routed replicas and three gateways on version 1, converged; version 2 is verified."""

    def __init__(self, **spec: Any) -> None:
        nodes = [*(node(f"gw-{index}") for index in range(3)), node("lab-0", pool="lab")]
        pools = [pool(), pool("lab", placement="Replicas", replicas=4)]
        chosen = {"canary": {"header": HEADER, "steps": STEPS}, "strategy": {"waves": WAVES}, "traffic": TRAFFIC}
        super().__init__(nodes, pools, **{**chosen, **spec})
        object.__setattr__(self.installation, "prometheus_addresses", ("http://p:9090",))
        object.__setattr__(self.installation, "probe_addresses", ("http://ingress",))
        self.add_model(model_version("2.0.0"))
        self.add_model(model_version("3.0.0"))
        self.measured: Mapping[str, Measurement] = {}
        self.come_to_rest()
        assert self.condition("Ready")["status"] == "True"
        self.notes.clear()

    def observed(self) -> Observed:
        kinds = ("VirtualService", "DestinationRule", "PeerAuthentication")
        return replace(super().observed(), routes={kind: self.kind(kind) for kind in kinds}, measured=self.measured)

    def come_to_rest(self, seconds: float = 2) -> None:
        """Until nothing changes any more but by long waits, as for a step's end."""
        for _ in range(200):
            before = self.picture()
            wait = self.step().requeue_after
            self.check()
            self.play(seconds)
            self.check()
            if self.picture() != before:
                continue
            if wait is None or wait > 60:
                return
            self.play(wait)

    def check(self) -> None:
        """No request is ever routed to a version of which no pod is there, while there is another."""
        if any(map(self.ready, (V1, V2, V3))):
            for share, version, _ in self.routes():
                assert not share or self.ready(version), (share, version, self.status)

    def routes(self) -> list[tuple[int, str, str]]:
        """Share, model version and matched header of each destination of the VirtualService."""
        (service,) = self.kind("VirtualService") or [{"spec": {"http": []}}]
        found = []
        for rule in service["spec"]["http"]:
            match = rule.get("match", [{}])[0].get("headers", {}).get("x-version", {}).get("exact", "")
            for to in rule["route"]:
                found.append((to["weight"], self.version_of(to["destination"]["subset"]), match))
        return found

    def version_of(self, revision: str) -> str:
        return next(
            each["data"]["modelVersion"]
            for each in self.kind("ControllerRevision")
            if each["data"]["revision"] == revision
        )

    def ready(self, version: str) -> int:
        pods = [pod for pod in self.kind("Pod") if pod["metadata"]["labels"][names.MODEL_VERSION_LABEL] == version]
        routed = [pod for pod in pods if pod["metadata"]["labels"][names.POOL_LABEL] == "lab"]
        return sum(pod["status"]["conditions"][0]["status"] == "True" for pod in routed)

    def promote(self, scope: str) -> None:
        revision = self.status["candidate"]["revision"]
        self.deployment["metadata"]["annotations"] = {"modelfleet.dev/promote": f"{revision}/1/{scope}"}

    def measure(self, value: float | None) -> None:
        run = canary_state.running(self.status["canary"])
        assert run is not None
        self.play(30)
        self.measured = {"errors": Measurement(run, self.now, value)}
        self.come_to_rest()


def rolling(**spec: Any) -> Line:
    line = Line()
    line.edit(modelVersion=V2, **spec)
    line.come_to_rest()
    return line


def gateways(line: Line) -> Counter[str]:
    return Counter(version for name, version in line.serving().items() if name.startswith("gw"))


def test_the_order_is_first_wave_header_weights_remaining_waves() -> None:
    line = rolling()
    assert gateways(line) == {V1: 2, V2: 1}, "the first wave, and no other"
    assert line.routes() == [(100, V2, "v2"), (100, V1, "")]
    assert line.replicas() == {V1: 4, V2: 1}
    line.promote("0")
    line.come_to_rest()
    assert line.routes() == [(100, V2, "v2"), (95, V1, ""), (5, V2, "")]
    line.play(600)
    line.come_to_rest()
    assert line.routes() == [(100, V2, "v2"), (50, V1, ""), (50, V2, "")]
    assert line.replicas() == {V1: 4, V2: 2}
    assert gateways(line) == {V1: 2, V2: 1}
    kept = pods_of(line, V2)
    line.play(600)
    line.come_to_rest()
    assert line.routes() == [(100, V2, "")]
    assert gateways(line) == {V2: 3}
    assert line.replicas() == {V2: 4}
    assert kept <= pods_of(line, V2), "promotion restarts nothing"
    assert line.condition("Ready")["status"] == "True"
    assert line.status["stable"]["modelVersion"] == V2
    assert "canary" not in line.status
    assert [note.reason for note in line.notes].count("CanaryStepStarted") == 3


def pods_of(line: Line, version: str) -> set[str]:
    pods = line.kind("Pod")
    return {pod["metadata"]["name"] for pod in pods if pod["metadata"]["labels"][names.MODEL_VERSION_LABEL] == version}


def test_the_header_waits_for_a_pod_and_the_weight_for_as_many_as_it_needs() -> None:
    line = Line()
    behaviour = line.behaviour
    line.behaviour = lambda pod, name: (
        pod_status("False") if V2 in pod["metadata"]["labels"].values() and name == "lab-0" else behaviour(pod, name)
    )
    line.edit(modelVersion=V2)
    line.come_to_rest()
    assert line.routes() == [(100, V1, "")]
    assert "canary step 0 of 3, weight 0%: waits for its pods (0 are ready)" in line.status["message"]
    line.behaviour = behaviour
    line.come_to_rest()
    assert line.routes() == [(100, V2, "v2"), (100, V1, "")]


def test_going_back_takes_the_requests_away_before_the_pods() -> None:
    line = rolling()
    line.promote("full")
    line.step()
    line.edit(modelVersion=V1)
    line.step()
    assert line.routes() == [(100, V1, "")]
    assert line.replicas()[V2] >= 1
    line.play(5)
    line.step()
    gone = line.now
    while V2 in line.replicas():
        line.play(1)
        line.step()
    assert 30 <= (line.now - gone).total_seconds() <= 40
    line.come_to_rest()
    assert line.condition("Ready")["status"] == "True"
    assert line.replicas() == {V1: 4}
    assert gateways(line) == {V1: 3}


def test_going_back_after_the_requests_went_over_waits_for_stables_pods() -> None:
    line = rolling(strategy={"waves": [*WAVES[:1], {"name": "half", "nodes": "50%", "approval": "Manual"}]})
    for scope in ("0", "1", "2"):
        line.promote(scope)
        line.come_to_rest()
    assert line.condition("Paused")["reason"] == "AwaitingApproval"
    assert line.routes() == [(100, V2, "v2"), (100, V2, "")]
    assert line.replicas().get(V1, 0) == 0
    line.edit(modelVersion=V1)
    line.come_to_rest()
    assert line.routes() == [(100, V1, "")]
    assert line.replicas() == {V1: 4}


def test_a_third_version_never_waits_for_the_second() -> None:
    line = rolling()
    line.edit(modelVersion=V3)
    line.come_to_rest()
    assert line.routes() == [(100, V3, "v2"), (100, V1, "")]
    assert line.replicas() == {V1: 4, V3: 1}
    assert gateways(line)[V2] == 0


def test_a_first_rollout_has_no_canary() -> None:
    line = Line()
    assert line.routes() == [(100, V1, "")]
    assert "canary" not in line.status


def test_without_replicas_nothing_waits_for_requests() -> None:
    line = Line()
    line.edit(pools=[pool(), pool("lab", placement="Replicas", replicas=0)])
    line.come_to_rest()
    line.edit(modelVersion=V2)
    line.come_to_rest()
    assert line.status["stable"]["modelVersion"] == V2
    assert gateways(line) == {V2: 3}


def test_a_pause_without_numbers_is_told_once() -> None:
    chosen = {"header": HEADER, "steps": [{"weight": 50}], "analysis": {"inconclusiveLimit": 0, "metrics": [ERRORS]}}
    line = rolling(canary=chosen)
    for _ in range(4):
        line.measure(None)
    assert line.condition("Paused")["reason"] == "AnalysisInconclusive"
    assert [note.reason for note in line.notes].count("AnalysisInconclusive") == 1


def test_a_route_or_pods_removed_by_hand_come_back_as_they_were() -> None:
    line = rolling()
    line.promote("0")
    line.come_to_rest()
    picture = line.picture()
    for kind in ("VirtualService", "DestinationRule", "Deployment"):
        for each in line.kind(kind):
            del line.children[kind, each["metadata"]["name"]]
    line.step()
    line.step()
    assert line.picture()["children"].keys() >= {key for key in picture["children"] if key[0] != "Pod"}
    line.come_to_rest()
    assert line.routes() == [(100, V2, "v2"), (95, V1, ""), (5, V2, "")]


def test_an_analysis_that_fails_rolls_back_or_pauses() -> None:
    chosen = {"header": HEADER, "steps": STEPS, "analysis": {"failureLimit": 0, "metrics": [ERRORS]}}
    line = rolling(canary=chosen, strategy={"waves": WAVES, "onFailure": "Pause"})
    line.measure(0.0)
    assert line.status["canary"]["analysis"][0]["result"] == "Successful"
    line.measure(0.5)
    assert line.status["phase"] == "Paused"
    assert line.condition("Paused")["reason"] == "AnalysisFailed"
    assert "metric errors is 0.5, required at most 0.01" in line.status["message"]
    assert line.routes() == [(100, V2, "v2"), (100, V1, "")]
    line.edit(strategy={"waves": WAVES, "onFailure": "Rollback"})
    line.come_to_rest()
    assert line.routes() == [(100, V1, "")]
    assert line.status["phase"] == "RolledBack"
    assert line.condition("Progressing")["reason"] == "AnalysisFailed"
    assert line.replicas() == {V1: 4}
    assert gateways(line) == {V1: 3}


def test_an_address_that_is_not_allowed_stalls_before_anything_moves() -> None:
    source = {"address": "http://169.254.169.254", "query": "up"}
    line = rolling(canary={"steps": STEPS, "analysis": {"metrics": [{**ERRORS, "prometheus": source}]}})
    assert line.condition("Stalled")["reason"] == "AnalysisAddressNotAllowed"
    assert "analysis.prometheusAddresses" in line.condition("Stalled")["message"]
    assert gateways(line) == {V1: 3}
    assert line.replicas() == {V1: 4}


def test_a_converged_line_costs_no_write_in_any_step() -> None:
    line = rolling()
    for scope in ("0", "full"):
        picture = line.picture()
        line.step()
        assert line.picture() == picture
        EdgeDeploymentStatus.model_validate(line.status)
        line.promote(scope)
        line.come_to_rest()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_interrupted_between_any_two_writes_it_ends_the_same(data: st.DataObject) -> None:
    """Some of an outcome's writes are lost, specs change, pods fail: no request is ever routed to nothing."""
    steps = [{"weight": 0}, {"weight": 25, "pause": "20s"}, {"weight": 50, "pause": "20s"}]
    line = Line(canary={"header": HEADER, "steps": steps})
    for _ in range(data.draw(st.integers(1, 40))):
        event = data.draw(st.sampled_from(["step", "step", "step", "play", "play", "wait", "spec", "lost"]))
        if event == "step":
            line.step(writes=data.draw(st.integers(0, 12)))
        elif event == "play":
            line.play(data.draw(st.integers(1, 6)))
        elif event == "wait":
            line.play(60)
        elif event == "spec":
            line.edit(modelVersion=data.draw(st.sampled_from([V1, V2, V3])))
        else:
            line.deployment.pop("status", None)
        line.check()
    line.come_to_rest()
    wanted = line.deployment["spec"]["modelVersion"]
    assert line.routes() == [(100, wanted, "")]
    assert line.replicas() == {wanted: 4}
    assert gateways(line) == {wanted: 3}
    assert line.condition("Ready")["status"] == "True"
    assert len(line.kind("DestinationRule")[0]["spec"]["subsets"]) == 1
