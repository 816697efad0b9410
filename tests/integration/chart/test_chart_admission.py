"""The chart's admission policies on a real API server: each is tried from both sides, by impersonation."""

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.helm import Helm
from e2e.kubectl import Kubectl, KubectlError
from tests import contract
from tests.integration.training.conftest import model_version

LABEL = "node.modelfleet.dev/0123456789ab"
PLANT_ENGINEER = "engineer@plant.example"
AS_NODES = "--as-group=system:nodes"


@pytest.fixture
def node(chart_kubectl: Kubectl) -> Iterator[str]:
    """A node that carries one of the operator's labels, an annotation, a taint and a label of somebody else."""
    name = "gateway-of-the-policy-test"
    chart_kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {LABEL: "abc123-old", "pool": "line-a"},
                "annotations": {"plant.example/rack": "7"},
            },
            "spec": {"taints": [{"key": "node-role.kubernetes.io/edge", "effect": "NoSchedule"}]},
        }
    )
    yield name
    chart_kubectl("delete", "node", name)


@pytest.fixture
def operator(chart_kubectl: Kubectl, operator_user: str) -> Kubectl:
    return chart_kubectl.impersonating(operator_user)


@pytest.fixture
def node_writer(chart_kubectl: Kubectl) -> Kubectl:
    """A person with every right on nodes by RBAC."""
    chart_kubectl.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "node-writer"},
            "rules": [{"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["*"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "node-writer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "node-writer"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": PLANT_ENGINEER}],
        },
    )
    return chart_kubectl.impersonating(PLANT_ENGINEER)


def patch_node(kubectl: Kubectl, name: str, patch: dict[str, Any], *words: str) -> None:
    kubectl("patch", "node", name, "--type=merge", "--patch", json.dumps(patch), *words)


def labels(kubectl: Kubectl, name: str) -> dict[str, str]:
    node = kubectl.get("node", name)
    assert node is not None
    result: dict[str, str] = node["metadata"]["labels"]
    return result


class TestTheOperatorOnNodes:
    def test_moves_a_gateway(self, operator: Kubectl, chart_kubectl: Kubectl, node: str) -> None:
        patch_node(operator, node, {"metadata": {"labels": {LABEL: "abc123-new"}}})
        assert labels(chart_kubectl, node)[LABEL] == "abc123-new"
        patch_node(operator, node, {"metadata": {"labels": {LABEL: None}}})
        assert LABEL not in labels(chart_kubectl, node)

    @pytest.mark.parametrize(
        "patch",
        [
            {"metadata": {"labels": {"pool": "line-b"}}},
            {"metadata": {"labels": {"pool": None}}},
            {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
            {"metadata": {"labels": {"node.modelfleet.dev.evil/x": "1"}}},
            {"metadata": {"annotations": {"plant.example/rack": "8"}}},
            {"metadata": {"annotations": {"new.example/key": "1"}}},
            {"metadata": {"finalizers": ["evil.example/never"]}},
            {"spec": {"unschedulable": True}},
            {"spec": {"taints": None}},
        ],
        ids=json.dumps,
    )
    def test_changes_nothing_else(self, operator: Kubectl, node: str, patch: dict[str, Any]) -> None:
        with pytest.raises(KubectlError, match="the operator may change only the labels"):
            patch_node(operator, node, patch)


class TestOthersOnNodeLabels:
    def test_keep_off_the_prefix(self, node_writer: Kubectl, node: str) -> None:
        for value in ("abc123-stolen", None):
            with pytest.raises(KubectlError, match="written by modelfleet alone"):
                patch_node(node_writer, node, {"metadata": {"labels": {LABEL: value}}})
        with pytest.raises(KubectlError, match="written by modelfleet alone"):
            patch_node(node_writer, node, {"metadata": {"labels": {"node.modelfleet.dev/another": "x"}}})

    def test_keep_off_through_the_status_too(self, node_writer: Kubectl, node: str) -> None:
        with pytest.raises(KubectlError, match="written by modelfleet alone"):
            patch_node(node_writer, node, {"metadata": {"labels": {LABEL: "stolen"}}}, "--subresource=status")

    def test_everything_else_on_a_labelled_node_is_theirs(
        self, node_writer: Kubectl, chart_kubectl: Kubectl, node: str
    ) -> None:
        patch_node(node_writer, node, {"metadata": {"labels": {"pool": "line-b"}}, "spec": {"unschedulable": True}})
        ready = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]}
        patch_node(node_writer, node, {"status": ready}, "--subresource=status")
        assert labels(chart_kubectl, node) == {LABEL: "abc123-old", "pool": "line-b"}

    def test_a_node_without_labels_is_no_case(self, node_writer: Kubectl) -> None:
        node_writer("create", "-f", "-", stdin=json.dumps(bare_node("bare", {})))
        patch_node(node_writer, "bare", {"metadata": {"annotations": {"a.example/b": "c"}}})
        node_writer("delete", "node", "bare")

    def test_a_kubelet_cannot_take_a_model(self, chart_kubectl: Kubectl, node: str) -> None:
        kubelet = chart_kubectl.impersonating(f"system:node:{node}")
        with pytest.raises(KubectlError, match="written by modelfleet alone"):
            patch_node(kubelet, node, {"metadata": {"labels": {LABEL: "abc123-stolen"}}}, AS_NODES)
        patch_node(kubelet, node, {"metadata": {"annotations": {"kubelet.example/ok": "yes"}}}, AS_NODES)

    def test_a_kubelet_cannot_register_with_a_label(self, chart_kubectl: Kubectl) -> None:
        kubelet = chart_kubectl.impersonating("system:node:newcomer")
        with pytest.raises(KubectlError, match="written by modelfleet alone"):
            kubelet("create", AS_NODES, "-f", "-", stdin=json.dumps(bare_node("newcomer", {LABEL: "abc123-x"})))

    def test_the_break_glass_group_is_exempt(self, chart_kubectl: Kubectl, node: str) -> None:
        patch_node(chart_kubectl, node, {"metadata": {"labels": {LABEL: None}}})
        assert LABEL not in labels(chart_kubectl, node)


def bare_node(name: str, node_labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": node_labels}}


OWNER = {
    "apiVersion": "modelfleet.dev/v1alpha1",
    "kind": "EdgeDeployment",
    "name": "line-a",
    "uid": "5c9e0b62-3c4a-4b62-9a0e-3f0f5a1d2c3b",
    "controller": True,
}
SECURITY = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def child(kind: str) -> dict[str, Any]:
    """A workload as the operator makes them, at its smallest."""
    pod = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never" if kind == "Job" else "Always",
        "initContainers": [{"name": "fetch", "image": "modelfleet/runtime:1", "securityContext": SECURITY}],
        "containers": [{"name": "serve", "image": "modelfleet/runtime:1", "securityContext": SECURITY}],
        "volumes": [{"name": "model", "emptyDir": {}}, {"name": "store", "secret": {"secretName": "store"}}],
    }
    template = {"metadata": {"labels": {"app": "x"}}, "spec": pod}
    spec: dict[str, Any] = {"template": template}
    if kind != "Job":
        spec["selector"] = {"matchLabels": {"app": "x"}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {
            "name": "child",
            "labels": {"app.kubernetes.io/managed-by": "modelfleet"},
            "ownerReferences": [OWNER],
        },
        "spec": spec,
    }


def service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child("Job")["metadata"],
        "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]},
    }


def create(kubectl: Kubectl, obj: dict[str, Any]) -> None:
    kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(obj))


def changed(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path (numbers index lists) replaced."""
    copied = copy.deepcopy(obj)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at: Any = copied
    for part in parents:
        at = at.setdefault(part, {}) if isinstance(part, str) else at[part]
    at[last] = value
    return copied


class TestTheOperatorsChildren:
    @pytest.mark.parametrize("kind", ["Job", "DaemonSet", "Deployment"])
    def test_workloads_as_it_makes_them_pass(self, operator: Kubectl, kind: str) -> None:
        create(operator, child(kind))

    def test_services_as_it_makes_them_pass(self, operator: Kubectl) -> None:
        create(operator, service())
        create(operator, changed(service(), "spec.clusterIP", "None"))

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("metadata.ownerReferences", [], "owns"),
            ("metadata.ownerReferences.0.apiVersion", "apps/v1", "owns"),
            ("metadata.labels", {}, "app.kubernetes.io/managed-by=modelfleet"),
            ("spec.template.spec.automountServiceAccountToken", None, "service account token"),
            ("spec.template.spec.automountServiceAccountToken", True, "service account token"),
            ("spec.template.spec.serviceAccountName", "cluster-admin", "service account token"),
            ("spec.template.spec.hostNetwork", True, "host's namespaces"),
            ("spec.template.spec.hostPID", True, "host's namespaces"),
            ("spec.template.spec.hostIPC", True, "host's namespaces"),
            ("spec.template.spec.nodeName", "control-plane", "host's namespaces"),
            (
                "spec.template.spec.volumes.0",
                {"name": "model", "hostPath": {"path": "/"}},
                "persistentVolumeClaim volumes only",
            ),
            (
                "spec.template.spec.volumes.0",
                {"name": "model", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                "persistentVolumeClaim volumes only",
            ),
            ("spec.template.spec.containers.0.securityContext", None, "non-root"),
            ("spec.template.spec.containers.0.securityContext.runAsNonRoot", None, "non-root"),
            ("spec.template.spec.containers.0.securityContext.allowPrivilegeEscalation", True, "non-root"),
            ("spec.template.spec.containers.0.securityContext.capabilities", {}, "non-root"),
            ("spec.template.spec.containers.0.securityContext.capabilities.add", ["SYS_ADMIN"], "non-root"),
            ("spec.template.spec.initContainers.0.securityContext.allowPrivilegeEscalation", None, "non-root"),
        ],
    )
    def test_harmful_workloads_are_refused(self, operator: Kubectl, path: str, value: Any, message: str) -> None:
        for kind in ("Job", "DaemonSet", "Deployment"):
            with pytest.raises(KubectlError, match=message):
                create(operator, changed(child(kind), path, value))

    def test_non_root_may_be_said_once_for_the_pod(self, operator: Kubectl) -> None:
        workload = changed(child("Job"), "spec.template.spec.securityContext.runAsNonRoot", True)
        for containers in ("containers", "initContainers"):
            workload = changed(workload, f"spec.template.spec.{containers}.0.securityContext.runAsNonRoot", None)
        create(operator, workload)

    @pytest.mark.parametrize(
        ("path", "value"),
        [("spec.type", "LoadBalancer"), ("spec.type", "NodePort"), ("spec.externalIPs", ["192.0.2.7"])],
    )
    def test_services_that_open_outwards_are_refused(self, operator: Kubectl, path: str, value: Any) -> None:
        with pytest.raises(KubectlError, match="of type ClusterIP"):
            create(operator, changed(service(), path, value))

    def test_what_belongs_to_others_is_left_alone(self, operator: Kubectl, chart_kubectl: Kubectl) -> None:
        foreign = changed(child("Deployment"), "metadata", {"name": "of-another", "namespace": "default"})
        chart_kubectl.apply(foreign)
        with pytest.raises(KubectlError, match="the operator may write and delete only"):
            operator("delete", "deployment", "of-another")
        with pytest.raises(KubectlError, match="the operator may write and delete only"):
            operator("patch", "deployment", "of-another", "--type=merge", "--patch", '{"spec": {"replicas": 0}}')
        with pytest.raises(KubectlError, match="the operator may write and delete only"):
            taken = {"metadata": {key: child("Job")["metadata"][key] for key in ("labels", "ownerReferences")}}
            operator("patch", "deployment", "of-another", "--type=merge", "--patch", json.dumps(taken))
        chart_kubectl("delete", "deployment", "of-another")

    @pytest.mark.usefixtures("routing_kinds")
    def test_routes_of_others_are_left_alone(self, operator: Kubectl, chart_kubectl: Kubectl) -> None:
        route = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "theirs", "namespace": "default"},
            "spec": {"hosts": ["shop.example"]},
        }
        chart_kubectl.apply(route)
        for words in (("delete",), ("patch", "--type=merge", '--patch={"spec": {"hosts": ["other.example"]}}')):
            with pytest.raises(KubectlError, match="the operator may write and delete only"):
                operator(words[0], "virtualservice", "theirs", *words[1:])
        chart_kubectl("delete", "virtualservice", "theirs")

    def test_its_own_go_again(self, operator: Kubectl) -> None:
        for obj in (child("DaemonSet"), service()):
            operator("create", "-f", "-", stdin=json.dumps(obj))
            # The garbage collector may be quicker, as their owner does not exist; what counts is that nobody refuses.
            try:
                operator("delete", obj["kind"], "child")
            except KubectlError as error:
                assert "(NotFound)" in str(error), error

    def test_other_people_are_not_held_to_it(self, chart_kubectl: Kubectl) -> None:
        create(chart_kubectl, changed(child("Job"), "spec.template.spec.hostNetwork", True))


class TestVersionsInUse:
    @pytest.fixture
    def used(self, chart_kubectl: Kubectl) -> Iterator[Kubectl]:
        """A namespace with the version ``m-1-0-0``, which six EdgeDeployments use."""
        space = chart_kubectl.within("in-use")
        chart_kubectl("create", "namespace", "in-use")
        space.apply(model_version())
        users = [{"kind": "EdgeDeployment", "name": f"line-{index}", "role": "Stable"} for index in range(6)]
        patch = json.dumps({"status": {"usedBy": users}})
        space("patch", "mv", "m-1-0-0", "--subresource=status", "--type=merge", f"--patch={patch}")
        yield space
        chart_kubectl("delete", "namespace", "in-use", "--ignore-not-found", "--timeout=120s")

    def test_are_not_deleted_by_accident(self, used: Kubectl) -> None:
        for words in (["m-1-0-0"], ["--all"]):
            with pytest.raises(
                KubectlError, match=r"m-1-0-0 is used by EdgeDeployment line-0, .* and others: let them"
            ):
                used("delete", "mv", *words)
        used("annotate", "mv", "m-1-0-0", "modelfleet.dev/allow-deletion=true")
        used("delete", "mv", "m-1-0-0")

    def test_go_when_nothing_uses_them(self, used: Kubectl) -> None:
        used("patch", "mv", "m-1-0-0", "--subresource=status", "--type=merge", '--patch={"status": {"usedBy": null}}')
        used("delete", "mv", "m-1-0-0")

    def test_go_with_their_namespace(self, used: Kubectl, chart_kubectl: Kubectl) -> None:
        chart_kubectl("delete", "namespace", "in-use", "--timeout=120s")
        assert chart_kubectl.get("namespace", "in-use") is None


def test_every_expression_passes_the_type_check(chart_kubectl: Kubectl) -> None:
    """The control plane reports expressions that cannot be right for a kind they match; where it does, none is."""
    for policy in chart_kubectl.list("validatingadmissionpolicies", "app.kubernetes.io/name=modelfleet"):
        assert policy.get("status", {}).get("typeChecking", {}).get("expressionWarnings", []) == []


def training_pod(name: str, **metadata: Any) -> dict[str, Any]:
    """A pod of a training Job, bound to a node that does not answer; a finalizer keeps it, as the Job's does."""
    labels = {"app.kubernetes.io/managed-by": "modelfleet", "modelfleet.dev/training-job": "nightly"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "finalizers": ["test.example/held"], **metadata},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "train", "image": "modelfleet/train:1"}]},
    }


class TestWhatTheOperatorDeletes:
    def test_pods_of_its_training_jobs_once_they_are_to_end(self, operator: Kubectl, chart_kubectl: Kubectl) -> None:
        job = changed(child("Job"), "metadata", {"name": "nightly-train-1"}) | {"spec": child("Job")["spec"]}
        chart_kubectl.apply(changed(job, "spec.suspend", True))
        held = chart_kubectl.get("job", "nightly-train-1")
        assert held is not None
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-train-1", "uid": held["metadata"]["uid"]}
        owned = {"ownerReferences": [owner]}
        chart_kubectl.apply(training_pod("running", **owned), training_pod("of-nobody"))
        unlabelled = training_pod("another", **owned)
        unlabelled["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "modelfleet"}
        chart_kubectl.apply(unlabelled)
        names = ("running", "of-nobody", "another")
        force = ("--grace-period=0", "--force", "--wait=false")
        try:
            for name in names:
                with pytest.raises(KubectlError, match="only pods of its training Jobs"):
                    operator("delete", "pod", name, *force)
                chart_kubectl("delete", "pod", name, "--wait=false")
            for name in names[1:]:
                with pytest.raises(KubectlError, match="only pods of its training Jobs"):
                    operator("delete", "pod", name, *force)
            operator("delete", "pod", "running", *force)
        finally:
            for name in names:
                free = '--patch={"metadata":{"finalizers":null}}'
                chart_kubectl("patch", "pod", name, "--type=merge", free, check=False)
            chart_kubectl("delete", "job", "nightly-train-1")

    def test_training_jobs_that_are_over_and_may_expire(self, operator: Kubectl, chart_kubectl: Kubectl) -> None:
        obj = contract.short_training_job()
        name = obj["metadata"]["name"]
        chart_kubectl.apply(contract.edited(obj, {"spec.ttlSecondsAfterFinished": contract.REMOVED}))
        over = '--patch={"status":{"phase":"Succeeded"}}'
        with pytest.raises(KubectlError, match="only TrainingJobs that are over"):
            operator("delete", "trainingjob", name)
        chart_kubectl("patch", "trainingjob", name, "--subresource=status", "--type=merge", over)
        with pytest.raises(KubectlError, match="only TrainingJobs that are over"):
            operator("delete", "trainingjob", name)
        expire = '--patch={"spec":{"ttlSecondsAfterFinished":1}}'
        chart_kubectl("patch", "trainingjob", name, "--type=merge", expire)
        operator("delete", "trainingjob", name)


FLEETS = {"default": [{"plant.example/line": "a"}, {"plant.example/line": "b", "kubernetes.io/arch": "arm64"}]}


class TestWhichNodesANamespaceMayUse:
    @pytest.fixture
    def fleets(self, chart_helm: Helm, chart_kubectl: Kubectl) -> Iterator[Kubectl]:
        """The policy in force, as the chart renders it for these values."""
        rendered = chart_helm.template("--set-json", f"admission.fleets={json.dumps(FLEETS)}")
        objects = [each for each in rendered if each["metadata"]["name"] == "modelfleet-fleets"]
        assert len(objects) == 2
        chart_kubectl("create", "namespace", "unlisted")
        chart_kubectl.apply(*objects)
        for _ in range(240):
            if "no nodes are assigned" in deploy(chart_kubectl.within("unlisted"), {"plant.example/line": "a"}):
                break
            time.sleep(0.25)
        yield chart_kubectl
        chart_kubectl("delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", "modelfleet-fleets")
        chart_kubectl("delete", "namespace", "unlisted", "--timeout=180s")

    def test_only_those_that_the_chart_assigns_to_it(self, fleets: Kubectl) -> None:
        line_b = {"plant.example/line": "b", "kubernetes.io/arch": "arm64"}
        assert deploy(fleets, {"plant.example/line": "a", "more": "x"}, line_b) == ""
        for wrong in ({"plant.example/line": "c"}, {"plant.example/line": "b"}, {"kubernetes.io/os": "linux"}):
            assert "assigned to this namespace" in deploy(fleets, {"plant.example/line": "a"}, wrong)
        assert "no nodes are assigned to this namespace" in deploy(fleets.within("unlisted"), line_b)

    def test_what_was_there_before_can_be_annotated_and_deleted(self, fleets: Kubectl) -> None:
        policy = "validatingadmissionpolicybindings", "modelfleet-fleets"
        binding = fleets.get(*policy)
        assert binding is not None
        fleets("delete", *policy)
        for _ in range(240):
            if not deploy(fleets, {"elsewhere": "x"}):
                break
            time.sleep(0.25)
        obj = deployment({"elsewhere": "x"})
        fleets.apply(obj)
        fleets.apply({key: binding[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": policy[1]}})
        for _ in range(240):
            if deploy(fleets, {"elsewhere": "x"}):
                break
            time.sleep(0.25)
        name = obj["metadata"]["name"]
        fleets("annotate", "edgedeployment", name, "modelfleet.dev/pause=abc/1")
        with pytest.raises(KubectlError, match="assigned to this namespace"):
            fleets("patch", "edgedeployment", name, "--type=merge", '--patch={"spec":{"paused":true}}')
        fleets("delete", "edgedeployment", name)


def deployment(*selectors: dict[str, str]) -> dict[str, Any]:
    pools = [{"name": f"p-{index}", "nodeSelector": selector} for index, selector in enumerate(selectors)]
    metadata = {"name": "line-of-the-policy-test"}
    spec = {"modelVersion": "defect-1-0-0", "pools": pools}
    return {"apiVersion": "modelfleet.dev/v1alpha1", "kind": "EdgeDeployment", "metadata": metadata, "spec": spec}


def deploy(kubectl: Kubectl, *selectors: dict[str, str]) -> str:
    """Why an EdgeDeployment of pools with these selectors is refused, in a dry run under a name of its own."""
    obj = deployment(*selectors)
    obj["metadata"]["name"] = "line-of-a-dry-run"
    try:
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(obj))
    except KubectlError as error:
        return str(error)
    return ""
