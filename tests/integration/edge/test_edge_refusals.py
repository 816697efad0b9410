"""What the cluster's owner may forbid, labels on a node say: a real API server says no, and all others go on."""

from collections.abc import Iterator

import pytest

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
