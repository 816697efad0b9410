"""The nodes of a plan: exactly those that match one of its pools or carry one of its labels, in whatever order."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api import names
from modelfleet.cluster.node_index import NodeIndex
from modelfleet.cluster.view import View

OURS, OTHERS = f"{names.NODE_LABEL_PREFIX}aaa", f"{names.NODE_LABEL_PREFIX}bbb"
LABELS = st.dictionaries(st.sampled_from(["pool", "site", OURS, OTHERS]), st.sampled_from(["", "a", "b"]))
SELECTORS = st.lists(st.dictionaries(st.sampled_from(["pool", "site", "none"]), st.sampled_from(["", "a", "b"])))


def node(name: str, labels: Mapping[str, str], version: int = 1) -> dict[str, object]:
    metadata = {"name": name, "uid": name, "resourceVersion": str(version), "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": {}}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), LABELS))), SELECTORS, st.integers(0, 20))
def test_it_finds_what_a_pass_over_all_nodes_would(
    history: list[tuple[str, dict[str, str] | None]], selectors: list[dict[str, str]], asked_first_after: int
) -> None:
    """``None`` in the history: the node goes. Labels are indexed from when they were first asked for."""
    index, there = NodeIndex(), {}
    for number, (name, labels) in enumerate(history):
        if number == asked_first_after:
            index.find(selectors, [OURS])
        if labels is None:
            index.drop(name)
            there.pop(name, None)
        else:
            index.put(node(name, labels))
            there[name] = labels
    expected = [
        name
        for name, labels in sorted(there.items())
        if OURS in labels or any(selector.items() <= labels.items() for selector in selectors)
    ]
    assert index.find(selectors, [OURS]) == expected


def test_the_view_keeps_it_as_nodes_come_change_and_go() -> None:
    view = View()
    selectors = [{"pool": "a"}]
    view.observe(node("n1", {"pool": "a"}))
    view.observe(node("n2", {"pool": "b"}))
    assert [each["metadata"]["name"] for each in view.nodes_of(selectors, [OURS])] == ["n1"]
    view.observe(node("n2", {"pool": "b", OURS: "x"}, version=2))
    assert [each["metadata"]["name"] for each in view.nodes_of(selectors, [OURS])] == ["n1", "n2"]
    view.forget("Node", node("n1", {}, version=3)["metadata"])  # type: ignore[arg-type]
    assert [each["metadata"]["name"] for each in view.nodes_of(selectors, [OURS])] == ["n2"]
