"""What a pool serves, as objects. The hashes are pinned: if one changes, every fleet in the world restarts."""

import dataclasses
import json
from typing import Any

import pytest

from modelfleet.api import wire
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import naming
from modelfleet.plan.edge import revision, workload
from modelfleet.plan.edge.revision import Release, ReleaseArtifact
from modelfleet.plan.installation import Installation
from tests.unit.edge_world import GPU

INSTALLATION = Installation("modelfleet/fleet", "fleet", "modelfleet/runtime:1")
OWNER: dict[str, Any] = {
    "apiVersion": "modelfleet.dev/v1alpha1",
    "kind": "EdgeDeployment",
    "metadata": {"name": "line-a", "namespace": "vision", "uid": "0b5d9c1e-7f0a-4c55-9d7a-1c1f8d0f2b11"},
}
INT8 = ReleaseArtifact(
    name="int8",
    uri="s3://models/defect/int8.onnx",
    sha256="0f" * 32,
    size_bytes=8123456,
    format="onnx",
    precision="int8",
    secret="store",  # noqa: S106 (the name of a Secret)
)
MODEL = revision.Model(
    model_version="defect-1-4-0",
    model="defect",
    version="1.4.0",
    snapshot_hash="sha256:" + "1a" * 32,
    artifacts=(INT8,),
)
POOL: dict[str, Any] = {"name": "gateways", "nodeSelector": {"pool": "arm"}}


def spec(serving: dict[str, Any] | None = None, pools: list[dict[str, Any]] | None = None) -> EdgeDeploymentSpec:
    return EdgeDeploymentSpec.model_validate(
        {"modelVersion": "defect-1-4-0", "serving": serving or {}, "pools": pools or [POOL]}
    )


def release(serving: dict[str, Any] | None = None, pools: list[dict[str, Any]] | None = None) -> Release:
    return revision.resolve(spec(serving, pools), MODEL, INSTALLATION)


def daemon_set(made: Release, artifact: ReleaseArtifact = INT8) -> dict[str, Any]:
    return workload.daemon_set(workload.workload(made, "gateways", artifact), OWNER, INSTALLATION.name, [])


def pod(made: Release, artifact: ReleaseArtifact = INT8) -> dict[str, Any]:
    spec: dict[str, Any] = daemon_set(made, artifact)["spec"]["template"]["spec"]
    return spec


def test_the_hashes_of_format_1_are_what_they_have_always_been() -> None:
    assert revision.FORMAT == 1
    made = release()
    assert made.revision == "62fee6fca2"
    assert workload.workload(made, "gateways", INT8).hash == "e37fc61a28"
    # The templates of format 1: an operator of another age must build the same ones.
    assert naming.content_hash(daemon_set(made), 16) == "1abd491b064ad947"
    items = workload.workload(made, "gateways", INT8, workload.REPLICAS)
    assert items.hash == "08565da245"
    replicas = workload.deployment(items, OWNER, 2, {"pool": "arm"}, [], 300)
    assert naming.content_hash(replicas, 16) == "b17323162e58b133"
    own = release({"image": "registry.example/own:1", "ports": {"http": 9000, "grpc": 9001}, "command": ["serve"]})
    assert naming.content_hash(daemon_set(own), 16) == "d4837df1d7a8fafb"


def test_a_pod_passes_as_restricted_and_gets_the_model_read_only() -> None:
    made = pod(release())
    assert made["automountServiceAccountToken"] is False
    assert made["securityContext"]["runAsNonRoot"] is True
    (fetch,), (serve,) = made["initContainers"], made["containers"]
    for container in (fetch, serve):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in serve["volumeMounts"]
    assert not any("credentials" in mount["name"] for mount in serve["volumeMounts"]), "only fetch opens the store"


def order_of(container: dict[str, Any]) -> Any:
    (text,) = [each["value"] for each in container["env"] if each["name"] == wire.ORDER_ENV]
    return json.loads(text.replace("$$", "$"))


def test_fetch_and_serve_are_ordered_to_check_the_same_digest() -> None:
    made = pod(release())
    (file,) = order_of(made["initContainers"][0])["files"]
    assert file == {
        "name": "int8",
        "uri": "s3://models/defect/int8.onnx",
        "sha256": "0f" * 32,
        "sizeBytes": 8123456,
        "credentialsPath": "/var/run/modelfleet/credentials/store",
        "path": "/models/model.onnx",
    }
    assert order_of(made["containers"][0]) == {
        "model": "defect",
        "version": "1.4.0",
        "path": "/models/model.onnx",
        "sha256": "0f" * 32,
        "httpPort": 8080,
    }


def test_an_image_of_the_users_finds_the_model_by_its_environment() -> None:
    serving = {"image": "registry.example/own:1", "env": [{"name": "MODEL_PATH", "value": "/x"}]}
    (serve,) = pod(release(serving))["containers"]
    assert {each["name"]: each["value"] for each in serve["env"]} == {
        "MODEL_NAME": "defect",
        "MODEL_VERSION": "1.4.0",
        "MODEL_PATH": "/models/model.onnx",
    }
    assert serve["readinessProbe"]["tcpSocket"] == {"port": "http"}
    assert "args" not in serve


def test_a_replica_is_told_its_revision_and_a_gateway_which_outlives_one_is_not() -> None:
    serving = {"env": [{"name": "MODEL_REVISION", "value": "mine"}]}
    made = release(serving)
    item = workload.workload(made, "gateways", INT8, workload.REPLICAS)
    replica = workload.deployment(item, OWNER, 2, {"pool": "arm"}, [], 300)["spec"]["template"]["spec"]
    (told,) = [each["value"] for each in replica["containers"][0]["env"] if each["name"] == wire.REVISION_ENV]
    assert told == made.revision
    assert not [each for each in pod(made)["containers"][0]["env"] if each["name"] == wire.REVISION_ENV]


def test_a_dollar_in_a_uri_is_not_expanded_by_the_kubelet() -> None:
    odd = INT8.model_copy(update={"uri": "https://m/$(HOME)"})
    (text,) = [each["value"] for each in pod(release(), odd)["initContainers"][0]["env"]]
    assert "$$(HOME)" in text


def test_a_build_for_an_accelerator_asks_for_one_of_it() -> None:
    build = INT8.model_copy(update={"accelerators": (GPU,)})
    assert pod(release(), build)["containers"][0]["resources"] == {"limits": {GPU: "1"}}
    two = release({"resources": {"limits": {GPU: 2, "memory": "2Gi"}}})
    assert pod(two, build)["containers"][0]["resources"]["limits"][GPU] == "2"
    assert pod(two, build)["initContainers"][0]["resources"] == {"limits": {"memory": "2Gi"}}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # What a default fills in, and what says nothing, is not what the user wrote.
        ({}, {"modelMountPath": "/models", "ports": {"http": 8080}, "command": [], "resources": {}}, True),
        ({}, {"ports": {"http": 8081}}, False),
        ({}, {"image": "registry.example/own:1"}, False),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, False),
    ],
)
def test_what_makes_another_revision(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert (release(one).revision == release(other).revision) is same


def test_another_default_image_makes_no_other_revision() -> None:
    newer = dataclasses.replace(INSTALLATION, runtime_image="modelfleet/runtime:2")
    assert revision.resolve(spec(), MODEL, newer).revision == release().revision


def test_what_the_same_revision_resolved_to_elsewhere_is_another_workload() -> None:
    one = release()
    other = revision.resolve(spec(), MODEL, dataclasses.replace(INSTALLATION, runtime_image="modelfleet/runtime:2"))
    assert one.revision == other.revision
    assert workload.workload(one, "gateways", INT8) != workload.workload(other, "gateways", INT8)


def test_where_a_pool_is_makes_no_other_revision_and_no_other_workload() -> None:
    moved = [{**POOL, "nodeSelector": {"pool": "x"}, "tolerations": [{"operator": "Exists"}]}, {**POOL, "name": "new"}]
    one, other = release(), release(pools=moved)
    assert one.revision == other.revision
    assert workload.workload(one, "gateways", INT8) == workload.workload(other, "gateways", INT8)


def test_an_override_makes_another_workload_in_its_pool_only() -> None:
    env = [{"name": "LOG_LEVEL", "value": "debug"}]
    one, other = release(), release(pools=[POOL, {**POOL, "name": "new", "overrides": {"env": env}}])
    assert one.revision != other.revision
    assert workload.workload(one, "gateways", INT8) == workload.workload(other, "gateways", INT8)
    assert workload.workload(one, "new", INT8) != workload.workload(other, "new", INT8)
    replicas = [workload.workload(each, "gateways", INT8, workload.REPLICAS) for each in (one, other)]
    assert replicas[0] != replicas[1], "requests are routed by revision, so replicas of two are two"
    assert (
        order_of(
            workload.daemon_set(workload.workload(other, "new", INT8), OWNER, "i", [])["spec"]["template"]["spec"][
                "containers"
            ][0]
        )["model"]
        == "defect"
    )


def test_a_release_is_read_back_as_it_was_kept() -> None:
    made = release({"env": [{"name": "A"}]}, [{**POOL, "artifact": "int8"}])
    kept = json.loads(json.dumps(revision.stored(made, OWNER, 3)))
    uid = OWNER["metadata"]["uid"]
    assert revision.kept([kept], uid) == {made.revision: (3, made)}
    assert revision.kept([kept], "another owner") == {}
    assert revision.kept([kept | {"data": {"nonsense": 1}}], uid) == {}


def test_replicas_leave_a_lost_node_and_keep_off_a_wrong_one() -> None:
    build = INT8.model_copy(update={"platforms": ("linux/arm64",)})
    made = workload.deployment(workload.workload(release(), "gateways", build), OWNER, 2, {"pool": "arm"}, [], 60)
    pod_spec = made["spec"]["template"]["spec"]
    assert {each["tolerationSeconds"] for each in pod_spec["tolerations"]} == {60}
    terms = pod_spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"][1]["values"] == ["arm64"]
    assert made["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_node_label_names_install_owner_and_workload() -> None:
    made = daemon_set(release())
    affinity = made["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (serves,), (following,) = (term["matchExpressions"] for term in terms)
    key, (value,) = serves["key"], serves["values"]
    assert following == {**serves, "key": f"{key}-next"}
    assert key == naming.node_label_key(OWNER["metadata"]["uid"])
    assert naming.workload_of(INSTALLATION.name, value) == made["metadata"]["labels"]["modelfleet.dev/workload"]
    assert naming.workload_of("another/install", value) is None
    assert len(key.removeprefix("node.modelfleet.dev/")) == naming.OWNER_LENGTH


@pytest.mark.parametrize("parts", [("a" * 40, "b" * 40), ("a" * 62, "b"), ("a",) * 50])
def test_long_names_are_cut_and_told_apart(parts: tuple[str, ...]) -> None:
    name = naming.joined(*parts)
    assert len(name) <= 63
    assert name != naming.joined(*parts[:-1], parts[-1] + "x")
    assert name[-1] != "-"
