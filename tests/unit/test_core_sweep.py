"""Which node labels are ownerless: only ours by value, without a living owner, selected by nothing."""

from typing import Any

import pytest

from modelfleet.plan import naming
from modelfleet.plan.edge import sweep

KEY = naming.node_label_key("uid-1")
OURS = naming.node_label_value("here", "w1")
STRAY = sweep.Stray("x", KEY, OURS)


def node(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "x", "labels": labels}}


def daemon_set(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def by_affinity(key: str, value: str) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}]}
    return daemon_set(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})


@pytest.mark.parametrize(
    ("nodes", "deployments", "daemon_sets", "found"),
    [
        ([node(**{KEY: OURS, "pool": "cuda"})], [], [], {STRAY}),
        ([node(**{KEY: OURS})], [{"metadata": {"uid": "uid-1"}}], [], set()),
        ([node(**{KEY: OURS})], [{"metadata": {"uid": "uid-2"}}], [], {STRAY}),
        ([node(**{KEY: OURS})], [], [daemon_set(nodeSelector={KEY: OURS})], set()),
        ([node(**{KEY: OURS})], [], [by_affinity(KEY, OURS)], set()),
        ([node(**{KEY: OURS})], [], [by_affinity(KEY, "other")], {STRAY}),
        ([node(**{KEY: naming.node_label_value("elsewhere", "w1")})], [], [], set()),
        ([node(**{KEY: "by-hand"})], [], [], set()),
        ([{"metadata": {"name": "bare"}}], [], [], set()),
    ],
    ids=[
        "stray",
        "owner lives",
        "other lives",
        "selector",
        "affinity",
        "other value",
        "other install",
        "foreign",
        "bare",
    ],
)
def test_strays(nodes: Any, deployments: Any, daemon_sets: Any, found: set[sweep.Stray]) -> None:
    assert sweep.strays(nodes, deployments, daemon_sets, "here") == found
