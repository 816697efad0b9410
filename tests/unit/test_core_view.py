"""The view: whichever way the two feeds interleave, it ends where the API server is."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api import names
from modelfleet.cluster import references
from modelfleet.cluster.view import View, trim


def job(name: str = "a", version: int = 1, uid: str = "u1", namespace: str = "n", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"version": version}}


def owned(by: str, **fields: Any) -> dict[str, Any]:
    obj = job(**fields)
    obj["metadata"]["labels"] = {names.TRAINING_JOB_LABEL: by}
    return obj


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_of_echoes_ends_at_the_latest(order: tuple[int, ...]) -> None:
    view = View()
    for version in order:
        view.observe(job(version=version + 9))
    held = view.get("Job", "n", "a")
    assert held is not None
    assert held["metadata"]["resourceVersion"] == "12"


def test_versions_compare_as_numbers_not_as_text() -> None:
    view = View()
    view.observe(job(version=10))
    assert not view.observe(job(version=9))
    assert view.observe(job(version=11))


def test_a_late_echo_does_not_bring_a_deleted_object_back() -> None:
    view = View()
    view.observe(job(version=5))
    assert view.forget("Job", job(version=8)["metadata"])
    assert not view.observe(job(version=7))
    assert view.get("Job", "n", "a") is None


def test_a_child_that_got_its_label_back_is_seen_again() -> None:
    view = View()
    view.observe(job(version=5))
    view.forget("Job", job(version=8)["metadata"])
    assert view.observe(job(version=9))


def test_the_late_deletion_of_a_predecessor_leaves_its_successor() -> None:
    view = View()
    view.observe(job(version=5, uid="old"))
    view.observe(job(version=9, uid="new"))
    assert not view.forget("Job", job(version=8, uid="old")["metadata"])
    held = view.get("Job", "n", "a")
    assert held is not None
    assert held["metadata"]["uid"] == "new"


def test_a_deletion_as_of_an_older_list_leaves_a_newer_state() -> None:
    view = View()
    view.observe(job(version=9))
    assert not view.forget("Job", job(version=9)["metadata"], version="8")
    assert view.get("Job", "n", "a") is not None


def test_labels_are_indexed_and_follow_changes() -> None:
    view = View()
    view.observe(owned("t1", name="b", uid="b", version=1))
    view.observe(owned("t1", name="a", uid="a", version=2))
    view.observe(owned("t1", name="a", uid="c", namespace="other", version=3))
    assert [obj["metadata"]["name"] for obj in view.labelled("Job", "n", names.TRAINING_JOB_LABEL, "t1")] == ["a", "b"]
    view.observe(owned("t2", name="a", uid="a", version=4))
    assert [obj["metadata"]["name"] for obj in view.labelled("Job", "n", names.TRAINING_JOB_LABEL, "t1")] == ["b"]
    view.forget("Job", owned("t1", name="b", uid="b", version=5)["metadata"])
    assert view.labelled("Job", "n", names.TRAINING_JOB_LABEL, "t1") == []
    with pytest.raises(KeyError):
        view.labelled("Job", "n", "not/indexed", "x")


def test_what_objects_name_is_indexed_and_follows_changes() -> None:
    view = View()
    version = job() | {"kind": "ModelVersion", "spec": {"model": "m"}}
    deployment = job() | {"kind": "EdgeDeployment", "spec": {"modelVersion": "m-1"}}
    view.observe(version)
    view.observe(deployment)
    assert view.naming("ModelVersion", references.model("n", "m")) == [version]
    assert view.naming("ModelVersion", references.model("other", "m")) == []
    asked, serves, moves = (references.model_version("n", name) for name in ("m-1", "m-2", "m-3"))
    assert view.naming("EdgeDeployment", asked, serves, asked) == [deployment]
    status = {"stable": {"modelVersion": "m-2"}, "candidate": {"modelVersion": "m-3"}}
    later = job(version=2) | {"kind": "EdgeDeployment", "spec": {"modelVersion": "m-3"}, "status": status}
    view.observe(later)
    assert view.naming("EdgeDeployment", asked) == []
    assert view.naming("EdgeDeployment", serves) == view.naming("EdgeDeployment", moves) == [later]
    view.forget("EdgeDeployment", later["metadata"])
    assert view.naming("EdgeDeployment", asked, serves, moves) == []


def test_listeners_hear_of_changes_only() -> None:
    heard: list[tuple[Any, Any]] = []
    view = View()
    view.listen(lambda before, after, own: heard.append((before, after)))
    view.observe(job(version=1))
    view.observe(job(version=1))
    view.observe(job(version=2))
    view.forget("Job", job(version=3)["metadata"])
    view.forget("Job", job(version=3)["metadata"])
    seen = [tuple(form and form["metadata"]["resourceVersion"] for form in pair) for pair in heard]
    assert seen == [(None, "1"), ("1", "2"), ("2", None)]


def test_texts_that_objects_have_alike_are_held_once() -> None:
    """Each event is decoded by itself, and brings texts of its own."""
    texts = [json.dumps(job(name=name, app="scan", of=name, note="x" * 65)) for name in ("a", "b")]
    one, other = (trim(json.loads(text)) for text in texts)
    assert [one, other] == [json.loads(text) for text in texts]
    keys = [list(each["metadata"]["labels"]) for each in (one, other)]
    assert all(mine is its for mine, its in zip(*keys, strict=True))
    assert one["metadata"]["labels"]["app"] is other["metadata"]["labels"]["app"]
    assert one["metadata"]["labels"]["note"] is not other["metadata"]["labels"]["note"], "long texts are rarely alike"


def test_what_a_later_state_says_just_the_same_is_held_once() -> None:
    view, raw = View(), {**job(), "spec": {"template": {"containers": [{"name": "a"}]}}, "status": {"active": 1}}
    view.observe(json.loads(json.dumps(raw)))
    before = view.get("Job", "n", "a")
    later = json.loads(json.dumps(raw | {"status": {"active": 2}}))
    later["metadata"]["resourceVersion"] = "2"
    view.observe(json.loads(json.dumps(later)))
    after = view.get("Job", "n", "a")
    assert before is not None
    assert after is not None
    assert after == later
    assert after["spec"] is before["spec"]
    assert before == raw, "whoever has the former state still has it"


def test_parts_that_objects_have_alike_are_held_once() -> None:
    def daemon_set(name: str) -> dict[str, Any]:
        container = {"name": "serve", "ports": [{"containerPort": 8080}], "resources": {"limits": {"cpu": "1"}}}
        spec = {"selector": {"matchLabels": {"name": name}}, "template": {"spec": {"containers": [container]}}}
        return {"kind": "DaemonSet", "metadata": {"name": name}, "spec": spec}

    one, other = (trim(daemon_set(name)) for name in ("a", "b"))
    assert one["spec"]["template"] is other["spec"]["template"]
    assert one == daemon_set("a")
    assert other == daemon_set("b")


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5]) | st.sampled_from(["", "a", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "1"]), inner, max_size=2),
    max_leaves=8,
)


@given(st.lists(PARTS, max_size=5), st.sampled_from([1, 4, 4_096]))
def test_whatever_is_held_once_says_what_it_said(specs: list[Any], remembered: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelfleet.cluster.view._ALIKE_KEPT", remembered)
        held = [trim({"kind": "Job", "metadata": {}, "spec": spec}) for spec in specs]
    assert [json.dumps(each["spec"]) for each in held] == [json.dumps(spec) for spec in specs]


def test_nodes_are_trimmed_to_what_decides() -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "x", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}, "managedFields": [{}]},
        "spec": {"taints": [{"key": "k"}], "podCIDR": "10.0.0.0/24"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}],
            "images": [{"names": ["x"] * 50}],
            "allocatable": {"cpu": "4"},
        },
    }
    trimmed = trim(node)
    assert trimmed["metadata"] == {"name": "x", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}}
    assert trimmed["spec"] == {"taints": [{"key": "k"}]}
    assert trimmed["status"] == {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "4"},
    }


def test_pods_are_trimmed_to_what_decides() -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    given = {"resources": {"limits": {"cpu": "1"}}, "imageID": "sha256:1", "volumeMounts": [{"name": "model"}]}
    said = {"name": "serve", "ready": True, "restartCount": 1, "state": {"running": {"startedAt": "now"}}}
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "uid": "u", "resourceVersion": "1", "annotations": {"a": "b"}, "managedFields": []},
        "spec": {
            "affinity": affinity,
            "containers": [{"name": "serve", "image": "i", "env": [{"name": "A"}]}],
            "initContainers": [{"name": "fetch", "image": "i"}],
            "volumes": [{"name": "model"}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready"}], "containerStatuses": [{**said, **given}]},
    }
    names_ = {"containers": [{"name": "serve"}], "initContainers": [{"name": "fetch"}]}
    trimmed = trim(pod)
    assert trimmed["metadata"] == {"name": "x", "uid": "u", "resourceVersion": "1", "annotations": {"a": "b"}}
    assert trimmed["spec"] == {"affinity": affinity, **names_}, "bound to no node yet"
    assert trimmed["status"] == {"phase": "Running", "conditions": [{"type": "Ready"}], "containerStatuses": [said]}
    pod["spec"]["nodeName"] = "gw"
    assert trim(pod)["spec"] == {"nodeName": "gw", **names_}


@given(st.permutations(list(range(1, 9))), st.integers(1, 8))
def test_deleted_at_some_point_it_is_gone_whatever_the_order(order: list[int], deletion: int) -> None:
    """Versions up to the deletion may be echoed before or after it; later ones do not exist."""
    view = View()
    for version in order:
        if version == deletion:
            view.forget("Job", job(version=version)["metadata"])
        elif version < deletion:
            view.observe(job(version=version))
    assert view.get("Job", "n", "a") is None


def test_a_routing_kind_is_held_as_long_as_it_is_served() -> None:
    view = View()
    service = job(uid="vs", **{names.EDGE_DEPLOYMENT_LABEL: "line"}) | {"kind": "VirtualService"}
    view.hold(["VirtualService"])
    view.observe(service)
    assert view.labelled("VirtualService", "n", names.EDGE_DEPLOYMENT_LABEL, "line")
    view.hold([])
    assert view.routing_kinds == frozenset()
    assert view.list("VirtualService") == []
    assert view.labelled("VirtualService", "n", names.EDGE_DEPLOYMENT_LABEL, "line") == []
    view.hold(["VirtualService"])
    assert view.observe(service), "installed again, it counts again"
