"""Which keys a change wakes, and which floods wake nobody."""

from collections.abc import Mapping
from typing import Any

from modelfleet.api import names
from modelfleet.cluster.view import View
from modelfleet.reconcile import routing
from modelfleet.reconcile.key import Key

_uids = iter(range(10**6))


def made(kind: str, name: str, spec: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    api_version = names.API_VERSION if kind in ("ModelVersion", "TrainingJob", "EdgeDeployment") else "v1"
    metadata = {
        "name": name,
        "namespace": "" if kind == "Node" else "n",
        "uid": str(next(_uids)),
        "resourceVersion": "1",
        "labels": more.pop("labels", {}),
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec or {}, **more}


def node(ready: str = "True", heartbeat: str = "1", **labels: str) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat, "lastTransitionTime": "0"}
    obj = made("Node", "x", labels=labels, status={"conditions": [condition], "allocatable": {"cpu": "4"}})
    obj["metadata"]["uid"] = "x"
    return obj


def a_view() -> View:
    view = View()
    pools = [{"name": "p", "nodeSelector": {"pool": "cuda"}}]
    for obj in (
        made("ModelVersion", "m-1", {"model": "m", "version": "1"}),
        made("ModelVersion", "m-2", {"model": "m", "version": "2"}),
        made("ModelVersion", "o-1", {"model": "o", "version": "1"}),
        made("EdgeDeployment", "on-1", {"modelVersion": "m-1", "pools": pools}),
        made(
            "EdgeDeployment", "was-1", {"modelVersion": "m-2", "pools": []}, status={"stable": {"modelVersion": "m-1"}}
        ),
        made("TrainingJob", "makes-1", {"output": {"modelVersionName": "m-1"}}),
        made("TrainingJob", "makes-2", {"output": {"modelVersionName": "m-2"}}),
    ):
        view.observe(obj)
    return view


def key(kind: str, name: str) -> Key:
    return Key(kind, "n", name)


def test_an_own_object_wakes_itself() -> None:
    assert key("TrainingJob", "t") in routing.keys(View(), None, made("TrainingJob", "t"))
    assert key("TrainingJob", "t") in routing.keys(View(), made("TrainingJob", "t"), None)


def test_a_child_wakes_its_owners_old_and_new() -> None:
    before = made("Pod", "p", labels={names.TRAINING_JOB_LABEL: "old"})
    after = made("Pod", "p", labels={names.TRAINING_JOB_LABEL: "new"})
    assert routing.keys(View(), before, after) == {key("TrainingJob", "old"), key("TrainingJob", "new")}


def test_the_counts_of_a_daemon_set_wake_nobody_until_pods_are_lacking() -> None:
    def daemon_set(desired: int, current: int, ready: int = 0, **more: Any) -> dict[str, Any]:
        status = {"desiredNumberScheduled": desired, "currentNumberScheduled": current, "numberReady": ready}
        obj = made("DaemonSet", "d", status=status, labels={names.EDGE_DEPLOYMENT_LABEL: "e"}, **more)
        obj["metadata"] |= {"uid": "d", "resourceVersion": str(next(_uids))}
        return obj

    woken = {key("EdgeDeployment", "e")}
    counted = daemon_set(2, 2)
    assert routing.keys(View(), None, counted) == woken
    assert routing.keys(View(), counted, None) == woken
    assert routing.keys(View(), counted, daemon_set(3, 3, 1)) == set()
    assert routing.keys(View(), counted, daemon_set(3, 2)) == woken
    assert routing.keys(View(), daemon_set(3, 2), daemon_set(4, 3)) == set()
    assert routing.keys(View(), daemon_set(3, 2), counted) == woken
    assert routing.keys(View(), counted, daemon_set(2, 2, spec={"updateStrategy": {}})) == woken
    unlabelled = daemon_set(2, 2)
    unlabelled["metadata"]["labels"] = {}
    assert routing.keys(View(), counted, unlabelled) == woken


def serving(phase: str, *, ready: str = "", node: str = "x", version: str = "1", **more: Any) -> dict[str, Any]:
    """A pod of a DaemonSet; ``ready`` names the moment since when it is."""
    conditions = [{"type": "PodScheduled", "status": "True"}]
    if phase == "Running":
        conditions.append({"type": "Ready", "status": str(bool(ready)), "lastTransitionTime": ready or "1"})
    fields = [{"key": "metadata.name", "operator": "In", "values": ["x"]}]
    required = {"nodeSelectorTerms": [{"matchFields": fields}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    spec = {"nodeName": node} if node else {"affinity": affinity}
    labels = {names.EDGE_DEPLOYMENT_LABEL: "e"}
    pod = made("Pod", "p", spec, labels=labels, status={"phase": phase, "conditions": conditions, **more})
    pod["metadata"].update(uid="p", resourceVersion=version)
    return pod


def test_of_a_serving_pods_start_only_what_a_plan_reads_wakes() -> None:
    woken = {key("EdgeDeployment", "e")}
    new, bound = serving("Pending", node=""), serving("Pending", version="2")
    running, ready = serving("Running", version="3"), serving("Running", ready="5", version="4")
    pulling = serving("Pending", version="2", containerStatuses=[waiting("ImagePullBackOff")])
    assert routing.keys(View(), None, new) == woken
    assert routing.keys(View(), new, bound) == set()
    assert routing.keys(View(), bound, running) == set()
    assert routing.keys(View(), bound, pulling) == woken
    assert routing.keys(View(), running, ready) == woken
    assert routing.keys(View(), ready, serving("Running", ready="5", version="5", podIP="10.0.0.1")) == set()
    assert routing.keys(View(), ready, serving("Running", ready="7", version="5")) == woken
    assert routing.keys(View(), ready, None) == woken
    going = serving("Running", ready="5", version="6")
    going["metadata"]["deletionTimestamp"] = "2026-11-22T00:00:00Z"
    assert routing.keys(View(), ready, going) == woken
    other = serving("Running", ready="5", version="6")
    other["metadata"]["annotations"] = {"sidecar.istio.io/status": "{}"}
    assert routing.keys(View(), ready, other) == woken


def test_every_event_of_a_training_pod_wakes_its_job() -> None:
    def pod(version: str) -> dict[str, Any]:
        obj = serving("Pending", version=version)
        obj["metadata"]["labels"] = {names.TRAINING_JOB_LABEL: "t"}
        return obj

    assert routing.keys(View(), pod("1"), pod("2")) == {key("TrainingJob", "t")}
    assert not routing.is_calm(key("TrainingJob", "t"), None, pod("1"))


def test_a_plan_that_is_not_waiting_for_a_change_is_not_hurried_by_it() -> None:
    deployment, version = key("EdgeDeployment", "e"), key("ModelVersion", "m-1")
    assert routing.is_calm(deployment, None, serving("Pending", node=""))
    assert not routing.is_calm(deployment, None, serving("Running", ready="5"))
    assert not routing.is_calm(deployment, None, serving("Pending", containerStatuses=[waiting("ErrImagePull")]))
    assert not routing.is_calm(deployment, serving("Pending"), None)
    assert not routing.is_calm(deployment, serving("Pending"), serving("Running", ready="5"))
    assert not routing.is_calm(deployment, None, made("DaemonSet", "d", labels={names.EDGE_DEPLOYMENT_LABEL: "e"}))
    lacking = made("DaemonSet", "d", status={"desiredNumberScheduled": 1})
    assert routing.is_calm(deployment, lacking, made("DaemonSet", "d"))
    assert not routing.is_calm(deployment, lacking, made("DaemonSet", "d", {"template": {}}))
    serves = made("EdgeDeployment", "e", {"modelVersion": "m-1"})
    assert routing.is_calm(version, None, serves)
    assert not routing.is_calm(version, serves, None)
    assert not routing.is_calm(deployment, None, serves)
    assert not routing.is_calm(version, None, made("ModelVersion", "m-1"))


def test_what_the_operator_itself_told_in_a_status_does_not_wake_who_told_it() -> None:
    def deployment(version: str, **status: Any) -> dict[str, Any]:
        obj = made("EdgeDeployment", "e", {"modelVersion": "m-1"}, status=status)
        obj["metadata"].update(uid="e", resourceVersion=version)
        return obj

    itself = key("EdgeDeployment", "e")
    before = deployment("1", phase="Pending", candidate={"revision": "a"}, counts={"healthy": 1})
    told = deployment("2", phase="Progressing", candidate={"revision": "a"}, counts={"healthy": 2}, message="m")
    decided = deployment("2", phase="Pending", stable={"revision": "a"}, counts={"healthy": 1})
    assert itself not in routing.keys(View(), before, told, own=True)
    assert itself in routing.keys(View(), before, told)
    assert itself in routing.keys(View(), before, decided, own=True)
    assert itself in routing.keys(View(), None, told, own=True)
    commanded = deployment("2", phase="Pending", candidate={"revision": "a"}, counts={"healthy": 1})
    commanded["metadata"]["annotations"] = {f"{names.GROUP}/pause": "now"}
    assert itself in routing.keys(View(), before, commanded, own=True)
    job, later = made("TrainingJob", "t"), made("TrainingJob", "t", status={"phase": "Running"})
    assert key("TrainingJob", "t") in routing.keys(View(), job, later, own=True)


def waiting(reason: str) -> dict[str, Any]:
    return {"name": "serve", "state": {"waiting": {"reason": reason, "message": "no such image"}}}


def test_an_owner_reference_is_enough() -> None:
    job = made("Job", "j")
    job["metadata"]["ownerReferences"] = [{"apiVersion": names.API_VERSION, "kind": "ModelVersion", "name": "m-1"}]
    assert routing.keys(View(), None, job) == {key("ModelVersion", "m-1")}


def test_a_serving_pod_does_not_wake_the_version_it_serves() -> None:
    labels = {names.EDGE_DEPLOYMENT_LABEL: "e", names.MODEL_VERSION_LABEL: "m-1"}
    assert routing.keys(View(), None, made("Pod", "p", labels=labels)) == {key("EdgeDeployment", "e")}
    labels = {names.VERIFICATION_LABEL: "true", names.MODEL_VERSION_LABEL: "m-1"}
    assert routing.keys(View(), None, made("Pod", "p", labels=labels)) == {key("ModelVersion", "m-1")}


def test_a_model_version_wakes_who_serves_or_makes_it() -> None:
    view = a_view()
    held = view.get("ModelVersion", "n", "m-1")
    assert held is not None
    verified = {**held, "status": {"conditions": [{"type": "Verified", "status": "True"}]}}
    denied = {**held, "status": {"conditions": [{"type": "Verified", "status": "False", "reason": "HashMismatch"}]}}
    hashed = {**held, "status": {"snapshotHash": "sha256:1"}}
    deprecated = {**held, "spec": {**held["spec"], "deprecated": True}}
    for before, after in ((held, verified), (verified, denied), (held, hashed), (held, deprecated), (None, held)):
        assert routing.keys(view, before, after) >= {
            key("ModelVersion", "m-1"),
            key("EdgeDeployment", "on-1"),
            key("EdgeDeployment", "was-1"),
            key("TrainingJob", "makes-1"),
        }


def test_who_uses_a_model_version_wakes_only_itself() -> None:
    view = a_view()
    held = view.get("ModelVersion", "n", "m-1")
    assert held is not None
    verified = {"type": "Verified", "status": "True", "lastTransitionTime": "1"}
    ready = {"type": "Ready", "status": "True"}
    before = {**held, "status": {"conditions": [verified], "stage": "Verified"}}
    used = {"stage": "Online", "usedBy": [{"name": "on-1"}], "history": [{"stage": "Online"}]}
    after = {**held, "status": {"conditions": [{**verified, "lastTransitionTime": "2"}, ready], **used}}
    assert routing.keys(view, before, after) == {key("ModelVersion", "m-1")}


def test_a_moved_alias_wakes_the_other_versions_of_the_model() -> None:
    view = a_view()
    held = view.get("ModelVersion", "n", "m-1")
    assert held is not None
    claimed = {**held, "spec": {**held["spec"], "aliases": ["latest"]}}
    shown = {**held, "status": {"aliases": ["latest"]}}
    for after in (claimed, shown):
        woken = {found.name for found in routing.keys(view, held, after) if found.kind == "ModelVersion"}
        assert woken == {"m-1", "m-2"}


def test_the_counts_of_a_rollout_do_not_wake_model_versions() -> None:
    before = made("EdgeDeployment", "e", {"modelVersion": "m-2"}, status={"counts": {"updated": 1}})
    after = {**before, "status": {"counts": {"updated": 2}}}
    assert routing.keys(View(), before, after) == {key("EdgeDeployment", "e")}
    stable = {**before, "status": {"stable": {"modelVersion": "m-1"}}}
    assert routing.keys(View(), before, stable) >= {key("ModelVersion", "m-1"), key("ModelVersion", "m-2")}


def test_a_heartbeat_wakes_nobody() -> None:
    assert routing.keys(a_view(), node(pool="cuda"), node(pool="cuda", heartbeat="2")) == set()


def test_a_node_wakes_the_deployments_whose_pools_it_is_or_was_in() -> None:
    view, wanted = a_view(), {key("EdgeDeployment", "on-1")}
    assert routing.keys(view, node(pool="cuda"), node(pool="cuda", ready="False")) == wanted
    assert routing.keys(view, node(pool="cuda"), node(pool="other")) == wanted
    assert routing.keys(view, node(pool="other"), node(pool="cuda")) == wanted
    assert routing.keys(view, None, node(pool="cuda")) == wanted
    assert routing.keys(view, node(pool="cuda"), None) == wanted
    assert routing.keys(view, node(pool="other"), node(pool="other", ready="False")) == set()


def test_a_node_must_carry_all_labels_of_a_pool_and_may_be_in_several() -> None:
    view = View()
    selectors: dict[str, list[dict[str, str]]] = {
        "both": [{"line": "1", "site": "a"}],
        "either": [{"line": "2"}, {"site": "a"}],
        "every": [{}],
        "none": [],
    }
    for name, each in selectors.items():
        pools = [{"name": str(number), "nodeSelector": selector} for number, selector in enumerate(each)]
        view.observe(made("EdgeDeployment", name, {"modelVersion": "m-1", "pools": pools}))

    def woken(**labels: str) -> set[str]:
        return {found.name for found in routing.keys(view, None, node(**labels))}

    assert woken(line="1", site="a") == {"both", "either", "every"}
    assert woken(line="1") == {"every"}
    assert woken(line="2") == {"either", "every"}
    assert woken() == {"every"}


def test_a_deployment_is_found_by_what_it_selects_now() -> None:
    view = View()
    before = made("EdgeDeployment", "e", {"pools": [{"name": "p", "nodeSelector": {"pool": "cuda"}}]})
    after = {**before, "spec": {"pools": [{"name": "p", "nodeSelector": {"pool": "x86"}}]}}
    after["metadata"] = {**before["metadata"], "resourceVersion": "2"}
    view.observe(before)
    view.observe(after)
    assert routing.keys(view, None, node(pool="cuda")) == set()
    assert routing.keys(view, None, node(pool="x86")) == {key("EdgeDeployment", "e")}
    view.forget("EdgeDeployment", after["metadata"])
    assert routing.keys(view, None, node(pool="x86")) == set()


def test_a_route_wakes_its_owner_and_a_changed_one_all_who_route_that_way() -> None:
    view = View()
    by = {"istio": "Istio", "gateway": "GatewayAPI", "none": "None"}
    for name, provider in by.items():
        view.observe(made("EdgeDeployment", name, {"traffic": {"provider": provider}}))
    view.observe(made("EdgeDeployment", "untold", {}))
    ours = made("VirtualService", "x", {"hosts": ["a"]}, labels={names.EDGE_DEPLOYMENT_LABEL: "untold"})
    theirs = made("HTTPRoute", "y", {"hostnames": ["a"]})
    assert routing.keys(view, None, ours) == {Key("EdgeDeployment", "n", each) for each in ("istio", "untold")}
    assert routing.keys(view, ours, {**ours, "status": {}}) == {Key("EdgeDeployment", "n", "untold")}
    assert routing.keys(view, theirs, None) == {Key("EdgeDeployment", "n", "gateway")}
    assert routing.keys(view, theirs, {**theirs, "status": {"parents": []}}) == set()
    assert routing.routed(view) == {Key("EdgeDeployment", "n", each) for each in ("istio", "gateway")}


def test_a_step_of_a_canary_wakes_no_other_deployment() -> None:
    view = View()
    for name in ("line", "other"):
        view.observe(made("EdgeDeployment", name, {"traffic": {"provider": "Istio"}}))
    owner = {"apiVersion": names.API_VERSION, "kind": "EdgeDeployment", "name": "line", "uid": "u", "controller": True}

    def ours(kind: str, weight: int, host: str = "a") -> dict[str, Any]:
        obj = made(kind, "line", {"hosts": [host], "http": [{"route": [{"weight": weight}]}]})
        obj["metadata"]["ownerReferences"] = [owner]
        return obj

    line, everyone = {key("EdgeDeployment", "line")}, {key("EdgeDeployment", name) for name in ("line", "other")}
    assert routing.keys(view, ours("VirtualService", 5), ours("VirtualService", 50)) == line
    assert routing.keys(view, ours("VirtualService", 5), ours("VirtualService", 5, host="b")) == everyone
    assert routing.keys(view, ours("VirtualService", 5), None) == everyone
    assert routing.keys(view, None, ours("DestinationRule", 5)) == line
