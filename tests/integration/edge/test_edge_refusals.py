"""What the cluster's owner may forbid, a node's labels or its pods: a real API server says no, all others go on."""

import json
import time
from collections.abc import Iterator

import pytest

from tests import objects
from tests.integration.edge.conftest import Line
from tests.objects import RawObject

SITE = "plant-a"
POOL = {"name": "x86", "nodeSelector": {"pool": "x86", "site": SITE}}
FORBIDDEN = "gw-x86-0008"
WORDS = "nobody labels this one"


def policy(name: str, rule: RawObject, *expressions: str) -> list[RawObject]:
    """A policy that denies what none of the expressions holds for, and its binding."""
    api_version = "admissionregistration.k8s.io/v1"
    return [
        {
            "apiVersion": api_version,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiVersions": ["v1"], **rule}]},
                "validations": [{"expression": " || ".join(expressions), "message": WORDS}],
            },
        },
        {
            "apiVersion": api_version,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


def is_denied(line: Line) -> bool:
    """Whether the API server has taken up the policy."""
    return WORDS in line.kubectl("label", "node", FORBIDDEN, "probe=yes", "--dry-run=server", check=False)


@pytest.fixture
def forbidding(line: Line) -> Iterator[Line]:
    """A line on the first version, 20 gateways; one of them takes no label any more."""
    line.register("1.0.0")
    line.register("2.0.0")
    waves = [{"name": "half", "nodes": "50%"}, {"name": "all", "nodes": "100%"}]
    line.deploy([POOL], strategy={"maxUnavailable": "50%", "waves": waves})
    line.until_healthy("1.0.0")
    rule = {"apiGroups": [""], "resources": ["nodes"], "operations": ["UPDATE"]}
    same = "object.metadata.labels == oldObject.metadata.labels"
    line.kubectl.apply(*policy(line.namespace, rule, f"object.metadata.name != '{FORBIDDEN}'", same))
    line.eventually(lambda: is_denied(line))
    yield line
    lift(line)


def lift(line: Line) -> None:
    kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"
    line.kubectl("delete", kinds, line.namespace, "--ignore-not-found")


def test_a_node_that_takes_no_label_holds_up_no_other_and_is_named(forbidding: Line) -> None:
    line = forbidding
    before = len(line.operator.writes())
    line.edit(modelVersion="m-2-0-0")
    status = line.until(lambda at: at["counts"]["healthy"] == 19 and at["conditions"][2]["status"] == "True")
    assert status["conditions"][2]["reason"] == "LabelRefused"
    assert FORBIDDEN in status["message"]
    assert WORDS in status["message"]
    assert status["failures"][0]["node"] == FORBIDDEN
    assert status["stable"]["modelVersion"] == "m-2-0-0"
    assert status["counts"]["failed"] == 0
    assert line.serving("1.0.0") == {FORBIDDEN}
    assert "LabelRefused" in line.events()
    asked = [each for each in line.operator.writes()[before:] if each["objectRef"]["name"] == FORBIDDEN]
    assert len(asked) <= 10, "with growing pauses"
    lift(line)
    line.until_healthy("2.0.0")
    assert len(line.serving("2.0.0")) == 20


def test_a_gateway_whose_pod_a_policy_refuses_fails_in_time_and_keeps_the_pod_it_has(line: Line) -> None:
    line.register("1.0.0")
    line.register("2.0.0")
    threshold = {"percentage": 10, "minSamples": 20}
    line.deploy([POOL], strategy={"maxUnavailable": "50%", "failureThreshold": threshold})
    line.until_healthy("1.0.0")
    kept = pods(line, "1.0.0")[FORBIDDEN]
    rule = {"apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]}
    terms = "object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    fields = f"{terms}.all(term, term.matchFields.all(field, !('{FORBIDDEN}' in field.values)))"
    line.kubectl.apply(*policy(line.namespace, rule, "!has(object.spec.affinity)", fields))
    try:
        line.eventually(lambda: WORDS in dry_run(line))
        line.edit(modelVersion="m-2-0-0")
        line.eventually(lambda: all_but_the_forbidden_serve(line))
        status = line.until(lambda at: at["counts"]["healthy"] == 19 and at["conditions"][2]["status"] == "True")
        assert status["conditions"][2]["reason"] == "PodsRefused"
        line.edit(strategy={"progressDeadlineSeconds": 1})
        status = line.until(lambda at: at["counts"]["failed"] == 1)
        assert status["failures"][0]["node"] == FORBIDDEN
        assert status["failures"][0]["reason"] == "PodsRefused"
        assert WORDS in status["failures"][0]["message"]
        assert pods(line, "1.0.0") == {FORBIDDEN: kept}, "the same pod, all along"
    finally:
        lift(line)


def all_but_the_forbidden_serve(line: Line) -> bool:
    """Also has the DaemonSet controller look again.

    It stops a round of creations at the first that is refused, at times before any was granted, and pauses for up to
    1,000 s then: its queue's back-off doubles with each round, and each pod that changes brings one.
    """
    line.kubectl("annotate", "daemonset", "--all", "--overwrite", f"looked-at={time.monotonic_ns()}")
    return len(line.serving("2.0.0")) == 19


def pods(line: Line, version: str) -> dict[str, str]:
    """By node: the uid of the pod of this version."""
    found = line.kubectl.list("pods", f"modelfleet.dev/model-version={objects.name_of('m', version)}")
    return {each["spec"]["nodeName"]: each["metadata"]["uid"] for each in found if "nodeName" in each["spec"]}


def dry_run(line: Line) -> str:
    """What the API server says to a pod for the forbidden node."""
    field = {"key": "metadata.name", "operator": "In", "values": [FORBIDDEN]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    spec = {"affinity": affinity, "containers": [{"name": "a", "image": "a"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    return line.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)


def test_going_back_in_mid_rollout_makes_no_pod_anew_where_the_version_still_runs(line: Line) -> None:
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([POOL], strategy={"maxUnavailable": 4})
    line.until_healthy("1.0.0")
    before = pods(line, "1.0.0")
    line.edit(modelVersion="m-2-0-0", strategy={"waves": [{"name": "long", "nodes": "50%", "soak": "1h"}]})
    line.until(lambda at: "soakStartedAt" in at)
    moved = line.serving("2.0.0")
    assert len(moved) == 10
    line.edit(modelVersion="m-1-0-0")
    line.until_healthy("1.0.0")
    after = pods(line, "1.0.0")
    assert {name for name in after if after[name] != before[name]} == moved
    line.eventually(lambda: line.kubectl.list("pods", "modelfleet.dev/model-version=m-2-0-0") == [])
