"""A canary through Istio's routes under faults: death before and after every write, and answers that are lost.

The oracle is the end of a rollout without faults: the same route, Services, pods and status. And in no order of lives
is a request sent where nothing answers: subsets are there before a route uses them and as long as one does, and pods
go after the route that led to them.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from e2e.cluster import crds
from e2e.cluster.cluster import Cluster
from modelfleet.cluster.connection import Connection
from modelfleet.plan.installation import Installation
from modelfleet.plan.traffic import canary, routed_pods, traffic
from modelfleet.reconcile import edge_deployment
from modelfleet.reconcile.key import Key
from tests.integration.edge.conftest import Line
from tests.lives import Lossy, Memory, Mortal, Witness
from tests.objects import RawObject

POOL = {"name": "lab", "nodeSelector": {"pool": "x86", "site": "plant-a"}, "placement": "Replicas", "replicas": 2}
CANARY = {
    "header": {"name": "x-version", "value": "v2"},
    "mirror": {"percentage": 20},
    "steps": [{"weight": 0}, {"weight": 50, "pause": "Manual"}],
}
SHORT = timedelta(milliseconds=500)


@pytest.fixture(scope="module")
def istio(fleet: Cluster, say: Callable[[str], None]) -> Iterator[None]:
    """The CRDs of Istio; taken away after the module."""
    files = crds.istio(say)
    crds.install(fleet.kubectl, files)
    yield
    fleet.kubectl("delete", "--wait=true", *(f"--filename={file}" for file in files))


@pytest.fixture
def alone(line: Line, istio: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line with three versions and no operator but the test's own, whose waits are short."""
    for module, name in ((canary, "LINGER"), (traffic, "SETTLE"), (routed_pods, "ENDPOINTS")):
        monkeypatch.setattr(module, name, SHORT)
    line.operator.stop()
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        line.register(version)
    Witness.written.clear()
    Mortal.deaths.clear()
    Lossy.lost.clear()
    line.deploy([POOL], traffic={"provider": "Istio", "hosts": [f"{line.namespace}.example"]}, canary=CANARY)
    yield line
    # The namespace goes; nobody else may finish what is left of it.
    line.operator.start()


class Operator:
    """The test's own: a life each time it is asked to go on."""

    def __init__(self, line: Line, connection: type[Connection], *, remembers: bool = False) -> None:
        self._line = line
        self._connection = connection
        self._installation = Installation(line.namespace, line.namespace, "modelfleet/runtime:none")
        self._memory = Memory(self._installation) if remembers else None

    def until(self, reached: Callable[[RawObject], Any]) -> RawObject:
        """Live on and on until the EdgeDeployment is so."""
        line, deadline = self._line, time.monotonic() + 240
        key = Key("EdgeDeployment", line.namespace, "line")
        while time.monotonic() < deadline:
            memory = self._memory or Memory(self._installation)
            asyncio.run(memory.work(key, edge_deployment.reconcile, self._connection))
            found = line.kubectl.get("edgedeployment", "line")
            assert found is not None
            status = found.get("status") or {}
            if status.get("observedGeneration") == found["metadata"]["generation"] and reached(status):
                return dict(status)
        raise AssertionError(f"it did not get there: {status}")


def is_healthy(version: str) -> Callable[[RawObject], bool]:
    return lambda at: at["phase"] == "Healthy" and at["stable"]["modelVersion"] == f"m-{version}"


def in_force(step: int) -> Callable[[RawObject], bool]:
    return lambda at: (at.get("canary") or {}).get("stepIndex") == step and "stepStartedAt" in at["canary"]


def command(line: Line, verb: str, status: RawObject, *scope: str) -> None:
    order = "/".join([status["candidate"]["revision"], str(status["attempt"]), *scope])
    line.kubectl("annotate", "--overwrite", "ed", "line", f"modelfleet.dev/{verb}={order}")


def go_through(line: Line, operator: Operator) -> None:
    """A rollout by header, copies and weight that is promoted, and one that is aborted."""
    operator.until(is_healthy("1-0-0"))
    line.edit(modelVersion="m-2-0-0")
    at = operator.until(in_force(1))
    old, new = at["stable"]["revision"], at["candidate"]["revision"]
    assert shares(line) == [{new: 100}, {old: 50, new: 50}]
    kept = pods(line, "2-0-0")
    command(line, "promote", at, "1")
    operator.until(is_healthy("2-0-0"))
    assert kept <= pods(line, "2-0-0"), "promotion keeps the candidate's pods"
    line.edit(modelVersion="m-3-0-0")
    at = operator.until(in_force(1))
    command(line, "abort", at)
    operator.until(lambda at: at["phase"] == "RolledBack" and "canary" not in at)
    # What is left over goes in the lives after.
    operator.until(lambda _: settled(line, new))


def settled(line: Line, revision: str) -> bool:
    rule = line.kubectl.get("destinationrule", "line")
    assert rule is not None
    return [each["name"] for each in rule["spec"]["subsets"]] == [revision] and not pods(line, "3-0-0")


def shares(line: Line) -> list[dict[str, int]]:
    service = line.kubectl.get("virtualservice", "line")
    assert service is not None
    return [{to["destination"]["subset"]: to["weight"] for to in rule["route"]} for rule in service["spec"]["http"]]


def pods(line: Line, version: str) -> set[str]:
    found = line.kubectl.list("pods", f"modelfleet.dev/model-version=m-{version}")
    return {each["metadata"]["uid"] for each in found if "deletionTimestamp" not in each["metadata"]}


def end_state(line: Line) -> dict[str, Any]:
    """What a run comes to, without what differs from run to run."""

    def specs(kind: str) -> dict[str, Any]:
        return {each["metadata"]["name"]: each["spec"] for each in line.kubectl.list(kind)}

    deployment = line.kubectl.get("edgedeployment", "line")
    assert deployment is not None
    status = deployment["status"]
    services = {name: spec["selector"] for name, spec in specs("services").items()}
    events = [each for each in line.kubectl.list("events.events.k8s.io") if each["regarding"]["name"] == "line"]
    text = json.dumps(
        {
            "virtual services": specs("virtualservices"),
            "destination rules": specs("destinationrules"),
            "services": services,
            "replicas": {name: spec["replicas"] for name, spec in specs("deployments").items()},
            "stable": status["stable"],
            "counts": status["counts"],
            "conditions": [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
            "aborted": status["abortedRevision"],
            "commands": status["lastCommand"],
            "events": sorted({each["reason"] for each in events if each["regarding"]["kind"] == "EdgeDeployment"}),
        }
    )
    found: dict[str, Any] = json.loads(text.replace(line.namespace, "line"))
    return found


def assert_order(written: list[tuple[str, str, Any]], namespace: str) -> None:
    """Make before break, as it was written in fact: replayed one by one."""
    subsets: set[str] = set()
    routed: set[str] = set()
    changes = 0
    for method, path, body in written:
        if f"/namespaces/{namespace}/" not in path:
            continue
        kind = path.split(f"/namespaces/{namespace}/")[1].split("/")[0]
        if kind == "destinationrules":
            subsets = {each["name"] for each in body["spec"]["subsets"]}
        elif kind == "virtualservices":
            targets = [to for rule in body["spec"]["http"] for to in [*rule["route"], *rule.get("mirrors", [])]]
            changes += 1
            routed = {each["destination"]["subset"] for each in targets}
        elif kind == "deployments" and method == "PATCH":
            revision = body["metadata"]["labels"]["modelfleet.dev/revision"]
            assert body["spec"]["replicas"] > 0 or revision not in routed
        assert routed <= subsets, "a subset is there before a route uses it, and as long as one does"
    assert changes >= 6


@pytest.fixture(scope="module")
def oracle() -> dict[str, dict[str, Any]]:
    """The end of the run without faults, once there is one."""
    return {}


def test_a_rollout_without_faults(alone: Line, oracle: dict[str, dict[str, Any]]) -> None:
    """The oracle of the others."""
    go_through(alone, Operator(alone, Witness))
    assert_order(Witness.written, alone.namespace)
    oracle["end"] = end_state(alone)
    writes = len(Witness.written)
    Operator(alone, Witness).until(lambda _: True)
    assert len(Witness.written) == writes, "nothing is left to write"


def test_an_operator_that_dies_before_and_after_each_of_its_writes(
    alone: Line, oracle: dict[str, dict[str, Any]]
) -> None:
    go_through(alone, Operator(alone, Mortal))
    assert_order(Witness.written, alone.namespace)
    assert end_state(alone) == oracle["end"]
    assert len(Mortal.deaths) >= 40


def test_an_answer_lost_to_each_write(alone: Line, oracle: dict[str, dict[str, Any]]) -> None:
    go_through(alone, Operator(alone, Lossy, remembers=True))
    assert_order(Witness.written, alone.namespace)
    assert end_state(alone) == oracle["end"]
    assert len(Lossy.lost) >= 40
