"""Canaries on a real API server: what is written when, by which command it goes on, and what a Prometheus makes of it.

Nobody routes by the VirtualService here; a small HTTP server answers as Prometheus does.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from e2e import http_server
from e2e.cluster import crds
from e2e.cluster.cluster import Cluster
from modelfleet.plan.traffic import canary, confirmation
from modelfleet.settings import AnalysisSetting, TrafficSetting
from tests.integration.edge.conftest import Line
from tests.objects import RawObject

HEADER = {"name": "x-version", "value": "v2"}
POOL = {"name": "lab", "nodeSelector": {"pool": "x86", "site": "plant-d"}, "placement": "Replicas", "replicas": 2}
QUERY = 'errors{revision="{{revision}}",namespace="{{namespace}}",name="{{name}}"}'


@pytest.fixture(scope="module")
def istio(fleet: Cluster, say: Callable[[str], None]) -> Iterator[None]:
    """The CRDs of Istio; taken away after the module."""
    files = crds.istio(say)
    crds.install(fleet.kubectl, files)
    yield
    fleet.kubectl("delete", "--wait=true", *(f"--filename={file}" for file in files))


@pytest.fixture
def routed(line: Line, istio: None, monkeypatch: pytest.MonkeyPatch) -> Line:
    """A line whose replicas serve the first version; pods outlive the requests to them by less than usual."""
    monkeypatch.setattr(canary, "LINGER", timedelta(seconds=3))
    monkeypatch.setattr(confirmation, "PATIENCE", timedelta(seconds=6))
    line.register("1.0.0")
    line.register("2.0.0")
    return line


def deploy(line: Line, *steps: RawObject, **fields: Any) -> None:
    traffic = {"provider": "Istio", "hosts": [f"{line.namespace}.example"]}
    line.deploy([POOL], traffic=traffic, canary={"header": HEADER, "steps": list(steps), **fields})
    line.until_healthy("1.0.0")
    line.edit(modelVersion="m-2-0-0")


def until_paused(line: Line, reason: str) -> RawObject:
    def paused(status: RawObject) -> bool:
        found = next((each for each in status["conditions"] if each["type"] == "Paused"), {})
        return bool(status["phase"] == "Paused" and found.get("reason") == reason)

    return line.until(paused)


def obey(line: Line, message: str) -> None:
    """Run the command that a message ends with."""
    program, *words = shlex.split(message.partition("to go on: ")[2])
    assert program == "kubectl"
    line.kubectl(*words)


def rules(line: Line) -> list[RawObject]:
    """The VirtualService as matched header values and shares by revision."""
    service = line.kubectl.get("virtualservice", "line")
    found = []
    for rule in service["spec"]["http"] if service else ():
        match = [each["headers"]["x-version"]["exact"] for each in rule.get("match", [])]
        found.append({"match": match, **{to["destination"]["subset"]: to["weight"] for to in rule["route"]}})
    return found


def pods(line: Line, version: str) -> set[str]:
    return {each["metadata"]["uid"] for each in line.kubectl.list("pods", f"modelfleet.dev/model-version=m-{version}")}


def test_header_weight_and_promotion_by_the_command_in_the_message(routed: Line) -> None:
    line = routed
    deploy(line, {"weight": 0, "pause": "Manual"}, {"weight": 50, "pause": "3s"})
    status = until_paused(line, "AwaitingPromotion")
    old, new = status["stable"]["revision"], status["candidate"]["revision"]
    assert rules(line) == [{"match": ["v2"], new: 100}, {"match": [], old: 100}]
    assert {key: status["canary"][key] for key in ("revision", "stepIndex", "weight", "header")} == {
        "revision": new,
        "stepIndex": 0,
        "weight": 0,
        "header": True,
    }
    first = pods(line, "2-0-0")
    assert len(first) == 1
    assert len(pods(line, "1-0-0")) == 2
    obey(line, status["message"])
    status = line.until(lambda status: status.get("canary", {}).get("weight") == 50)
    assert status["lastCommand"] == f"promote {new}/1/0"
    assert rules(line) == [{"match": ["v2"], new: 100}, {"match": [], old: 50, new: 50}]
    line.until_healthy("2.0.0")
    assert first <= pods(line, "2-0-0"), "promotion restarts nothing"
    assert rules(line) == [{"match": [], new: 100}]
    line.eventually(lambda: not pods(line, "1-0-0"))


def test_an_abort_takes_the_requests_away_before_the_pods(routed: Line) -> None:
    line = routed
    deploy(line, {"weight": 50, "pause": "Manual"})
    status = until_paused(line, "AwaitingPromotion")
    old, new = status["stable"]["revision"], status["candidate"]["revision"]
    before = len(line.operator.writes())
    line.kubectl("annotate", "ed", "line", f"modelfleet.dev/abort={new}/1")
    line.until(lambda status: status["phase"] == "RolledBack" and "canary" not in status)
    assert rules(line) == [{"match": [], old: 100}]
    line.eventually(lambda: not pods(line, "2-0-0"))
    written = [(each["verb"], each["objectRef"]["resource"]) for each in line.operator.writes()[before:]]
    assert written.index(("patch", "virtualservices")) < written.index(("delete", "deployments"))
    assert len(pods(line, "1-0-0")) == 2


@dataclass
class FakePrometheus:
    """Answers every query with one sample."""

    value: str = "NaN"
    queries: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def prometheus(routed: Line) -> Iterator[FakePrometheus]:
    """A server that the operator may ask."""
    fake = FakePrometheus()

    class Handler(http_server.Handler):
        def post(self) -> None:
            fake.queries += parse_qs(self.body().decode())["query"]
            sample = {"metric": {}, "value": [0, fake.value]}
            answer = {"status": "success", "data": {"resultType": "vector", "result": [sample]}}
            self.answer(200, json.dumps(answer).encode())

    with http_server.answering(Handler) as fake.address:
        operator = routed.operator
        operator.stop()
        allowed = AnalysisSetting(prometheus_addresses=[fake.address])
        operator.settings = operator.settings.model_copy(update={"analysis": allowed})
        operator.start()
        yield fake


@dataclass
class FakeIngress:
    """Answers as pods do, by a route that it may not know of yet."""

    old: str = ""
    new: str = ""
    follows: bool = False
    hosts: set[str] = field(default_factory=set)
    address: str = ""


@pytest.fixture
def ingress(routed: Line) -> Iterator[FakeIngress]:
    """A data plane that the operator may ask."""
    fake = FakeIngress()

    class Handler(http_server.Handler):
        def get(self) -> None:
            fake.hosts.add(self.headers["Host"])
            chosen = fake.follows and self.headers["x-version"] == "v2"
            self.answer(200, headers={"x-model-revision": fake.new if chosen else fake.old})

    with http_server.answering(Handler) as fake.address:
        operator = routed.operator
        operator.stop()
        allowed = TrafficSetting(probe_addresses=[fake.address])
        operator.settings = operator.settings.model_copy(update={"traffic": allowed})
        operator.start()
        yield fake


def test_a_step_begins_when_the_data_plane_is_seen_to_follow(routed: Line, ingress: FakeIngress) -> None:
    line = routed
    host = f"{line.namespace}.example"
    probe = {"url": f"{ingress.address}/v2/health/ready", "host": host}
    traffic = {"provider": "Istio", "hosts": [host], "probe": probe}
    steps = [{"weight": 0, "pause": "Manual"}]
    line.deploy([POOL], traffic=traffic, canary={"header": HEADER, "steps": steps})
    status = line.until(lambda status: (status.get("traffic") or {}).get("route"))
    ingress.old = status["candidate"]["revision"]
    line.until_healthy("1.0.0")
    line.edit(modelVersion="m-2-0-0")
    status = line.until(lambda status: reason(status) == "ProbeFailed")
    assert "stepStartedAt" not in status["canary"]
    assert len(rules(line)) == 2, "the route is there, and nobody follows it"
    found = next(each for each in status["conditions"] if each["type"] == "TrafficRouted")
    assert f"a request with x-version: v2 is answered by revision {ingress.old}, not" in found["message"]
    assert "ProbeFailed" in line.events()
    ingress.new, ingress.follows = status["candidate"]["revision"], True
    status = until_paused(line, "AwaitingPromotion")
    assert status["traffic"]["confirmedRoute"] == status["traffic"]["route"]
    assert ingress.hosts == {host}


def reason(status: RawObject) -> str:
    """Of the condition TrafficRouted."""
    return str(next((each["reason"] for each in status["conditions"] if each["type"] == "TrafficRouted"), ""))


def judged_by(address: str) -> RawObject:
    metric = {"name": "errors", "prometheus": {"address": address, "query": QUERY}, "max": "0.01"}
    return {"interval": "1s", "failureLimit": 1, "inconclusiveLimit": 1, "metrics": [metric]}


def test_no_number_pauses_and_bad_ones_roll_back(routed: Line, prometheus: FakePrometheus) -> None:
    line = routed
    deploy(line, {"weight": 50}, {"weight": 50, "pause": "1h"}, analysis=judged_by(prometheus.address))
    status = until_paused(line, "AnalysisInconclusive")
    assert status["canary"]["analysis"][0]["result"] == "Inconclusive"
    new = status["candidate"]["revision"]
    assert set(prometheus.queries) == {f'errors{{revision="{new}",namespace="{line.namespace}",name="line"}}'}
    prometheus.value = "0.001"
    status = line.until(
        lambda status: status.get("canary", {}).get("stepIndex") == 1 and "analysis" in status["canary"]
    )
    assert status["canary"]["analysis"][0] | {"lastRunAt": ""} == {
        "name": "errors",
        "value": "0.001",
        "result": "Successful",
        "failures": 0,
        "inconclusive": 0,
        "errors": 0,
        "lastRunAt": "",
    }
    prometheus.value = "0.5"
    status = line.until(lambda status: status["phase"] == "RolledBack")
    assert "metric errors is 0.5, required at most 0.01" in status["message"]
    assert status["abortedRevision"] == new
    assert rules(line) == [{"match": [], status["stable"]["revision"]: 100}]


def test_a_server_that_is_not_allowed_is_not_asked(routed: Line) -> None:
    line = routed
    line.deploy([POOL], traffic={"provider": "Istio", "hosts": [f"{line.namespace}.example"]})
    line.until_healthy("1.0.0")
    steps = {"steps": [{"weight": 50}], "analysis": judged_by("http://127.0.0.1:1")}
    line.edit(modelVersion="m-2-0-0", canary=steps)
    status = line.until(lambda status: status["conditions"][2]["reason"] == "AnalysisAddressNotAllowed")
    assert "analysis.prometheusAddresses" in status["message"]
    assert not pods(line, "2-0-0")
