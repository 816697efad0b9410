"""The Job of a step: what its pods are told, where they run, and how they find each other."""

import json
from dataclasses import replace
from typing import Any

import pytest

from modelfleet.api.training_job import TrainingJobSpec
from modelfleet.plan import pods
from modelfleet.plan.installation import NodePool
from modelfleet.plan.job_state import Trouble
from modelfleet.plan.training import dag, placement, registration, rendezvous, step_job
from tests.unit.job_world import COMMIT, DIGEST, INSTALLATION, World, job, step

TRAINER = {"image": "registry.example/train:1", "command": ["torchrun", "train.py"], "numNodes": 2, "numProcPerNode": 4}


def built(obj: dict[str, Any], attempt: int = 1) -> dict[str, Any]:
    """The Job of the first step."""
    obj = World(obj).obj
    spec = TrainingJobSpec.model_validate(obj["spec"])
    return step_job.job(obj, spec, dag.steps_of(spec)[0], attempt, {}, INSTALLATION)


def pod(obj: dict[str, Any], attempt: int = 1) -> dict[str, Any]:
    return dict(built(obj, attempt)["spec"]["template"]["spec"])


def environment(spec: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in spec["containers"][0]["env"]}


def test_torchrun_finds_rank_zero_of_its_own_attempt() -> None:
    made = built(job(trainer=TRAINER), attempt=2)
    assert made["metadata"]["name"] == "nightly-train-2"
    assert (made["spec"]["completions"], made["spec"]["parallelism"], made["spec"]["backoffLimit"]) == (2, 2, 0)
    variables = environment(made["spec"]["template"]["spec"])
    assert {name: value for name, value in variables.items() if name.startswith("PET_")} == {
        "PET_NODE_RANK": {
            "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
        },
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_MASTER_ADDR": "nightly-train-2-0.nightly-training",
        "PET_MASTER_PORT": "29500",
        "PET_RDZV_BACKEND": "static",
        "PET_RDZV_ID": "nightly-train-2",
    }
    assert made["spec"]["template"]["spec"]["subdomain"] == "nightly-training"
    service = rendezvous.service(World(job(trainer=TRAINER)).obj)
    assert service["metadata"]["name"] == "nightly-training"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= made["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("framework", ["plain", "mpi"])
def test_plain_ranks_and_addresses(framework: str) -> None:
    variables = environment(pod(job(trainer=TRAINER | {"framework": framework})))
    assert not any(name.startswith("PET_") for name in variables)
    assert variables["MASTER_ADDR"] == "nightly-train-1-0.nightly-training"
    assert (variables["NNODES"], variables["WORLD_SIZE"]) == ("2", "8")


def test_deepspeed_finds_its_hostfile_and_both_sets_of_variables() -> None:
    made = built(job(trainer=TRAINER | {"framework": "deepspeed"}), attempt=2)
    template = made["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "modelfleet.dev/hostfile": "nightly-train-2-0.nightly-training slots=4\n"
        "nightly-train-2-1.nightly-training slots=4\n"
    }
    assert {"name": "hostfile", "mountPath": "/job", "readOnly": True} in template["spec"]["containers"][0][
        "volumeMounts"
    ]
    item = {
        "path": "hostfile",
        "fieldRef": {"fieldPath": "metadata.annotations['modelfleet.dev/hostfile']"},
    }
    assert {"name": "hostfile", "downwardAPI": {"items": [item]}} in template["spec"]["volumes"]
    variables = environment(template["spec"])
    assert variables["MASTER_ADDR"] == variables["PET_MASTER_ADDR"] == "nightly-train-2-0.nightly-training"
    assert variables["NODE_RANK"] == variables["PET_NODE_RANK"]
    assert (variables["WORLD_SIZE"], variables["PET_NPROC_PER_NODE"]) == ("8", "4")
    assert "annotations" not in built(job(trainer=TRAINER))["spec"]["template"]["metadata"]


@pytest.mark.parametrize(
    ("pool", "limits", "backend"),
    [
        (NodePool(), {}, "gloo"),
        (NodePool(), {"nvidia.com/gpu": 2}, "nccl"),
        (NodePool(backend="gloo"), {"nvidia.com/gpu": 2}, "gloo"),
        (NodePool(backend="nccl"), {}, "nccl"),
    ],
)
def test_the_pool_or_else_the_gpus_say_what_a_gang_talks_by(pool: NodePool, limits: Any, backend: str) -> None:
    obj = World(job(trainer=TRAINER | {"resourcesPerNode": {"limits": limits}}, nodePool="p")).obj
    spec = TrainingJobSpec.model_validate(obj["spec"])
    installation = replace(INSTALLATION, node_pools={"p": pool})
    made = step_job.job(obj, spec, dag.steps_of(spec)[0], 1, {}, installation)
    assert environment(made["spec"]["template"]["spec"])["DISTRIBUTED_BACKEND"] == backend


def test_the_pools_environment_reaches_distributed_steps_and_theirs_wins() -> None:
    pool = NodePool(env={"NCCL_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "INFO"})
    installation = replace(INSTALLATION, node_pools={"p": pool})
    theirs = TRAINER | {"env": [{"name": "NCCL_DEBUG", "value": "WARN"}]}
    obj = World(job(step("plain"), step("train", trainer=theirs), nodePool="p")).obj
    spec = TrainingJobSpec.model_validate(obj["spec"])
    plain, train = (
        environment(step_job.job(obj, spec, each, 1, {}, installation)["spec"]["template"]["spec"])
        for each in spec.steps
    )
    assert (train["NCCL_SOCKET_IFNAME"], train["NCCL_DEBUG"]) == ("eth0", "WARN")
    assert not plain.keys() & {"NCCL_SOCKET_IFNAME", "DISTRIBUTED_BACKEND"}


def test_labels_that_no_node_has_are_named() -> None:
    trouble = Trouble("Unschedulable", "no node takes pod p: 0/2 nodes are available: 2 node(s) didn't match")
    made = built(job(step("train"), nodePool="cuda"))
    nodes = [{"metadata": {"name": "n", "labels": {"pool": "cpu"}}}, {"metadata": {"name": "m"}}]
    assert placement.explained(trouble, made, nodes).message == (
        "no node takes pod p: no node has the labels pool=cuda of its nodePool or nodeSelector:"
        " 0/2 nodes are available: 2 node(s) didn't match"
    )
    nodes[1]["metadata"]["labels"] = {"pool": "cuda"}
    assert placement.explained(trouble, made, nodes) == trouble
    assert placement.explained(trouble, built(job(step("train"))), []) == trouble


def test_one_node_needs_no_service() -> None:
    spec = pod(job(trainer=TRAINER | {"numNodes": 1}))
    assert environment(spec)["PET_MASTER_ADDR"] == "localhost"
    assert "subdomain" not in spec


def test_the_users_variables_win_but_not_over_the_order() -> None:
    theirs = [{"name": "PET_RDZV_BACKEND", "value": "c10d"}, {"name": "HOME", "value": "/workspace"}]
    spec = pod(job(trainer=TRAINER | {"env": theirs}))
    listed = [each["name"] for each in spec["containers"][0]["env"]]
    assert len(listed) == len(set(listed))
    assert environment(spec)["PET_RDZV_BACKEND"] == "c10d"
    assert environment(spec)["HOME"] == "/workspace"
    assert listed[0] == "MODELFLEET_ORDER"


def test_an_order_says_where_each_attempt_writes() -> None:
    spec = pod(job(step("train")), attempt=3)
    order = json.loads(environment(spec)["MODELFLEET_ORDER"])
    assert order["outputUri"] == "s3://models/m/nightly-0a1b2c3d/train/3"
    assert order["credentialsPath"] == "/var/run/modelfleet/credentials/store"
    assert (order["model"], order["version"], order["step"], order["attempt"]) == ("m", "1.0.0", "train", 3)
    assert environment(spec)["HOME"] == pods.TMP_MOUNT["mountPath"]


def test_the_dataset_is_brought_to_the_first_steps_only() -> None:
    dataset = {"storageUri": "https://data.example/d.npz?x=1", "digest": f"sha256:{DIGEST}", "secretRef": {"name": "d"}}
    obj = World(job(step("a"), step("b", "a"), initializer={"dataset": dataset})).obj
    spec = TrainingJobSpec.model_validate(obj["spec"])
    first, second = (
        step_job.job(obj, spec, each, 1, {}, INSTALLATION)["spec"]["template"]["spec"] for each in spec.steps
    )
    (fetch,) = first["initContainers"]
    assert fetch["image"] == INSTALLATION.runtime_image
    order = json.loads(fetch["env"][0]["value"])
    assert order["files"][0] == {
        "name": "dataset",
        "uri": "https://data.example/d.npz?x=1",
        "sha256": DIGEST,
        "credentialsPath": "/var/run/modelfleet/credentials/d",
        "path": "/workspace/dataset/d.npz",
    }
    assert json.loads(environment(first)["MODELFLEET_ORDER"])["datasetPath"] == "/workspace/dataset"
    assert "initContainers" not in second
    assert "datasetPath" not in json.loads(environment(second)["MODELFLEET_ORDER"])
    # The dataset's Secret is fetch's; the step's own code does not see it.
    mounted = [mount["mountPath"] for mount in first["containers"][0]["volumeMounts"]]
    assert "/var/run/modelfleet/credentials/d" not in mounted


def test_secrets_for_our_image_go_where_our_image_does() -> None:
    installation = replace(INSTALLATION, image_pull_secrets=("plant", "registry"))
    theirs = {"imagePullSecrets": [{"name": "registry"}]}
    dataset = {"dataset": {"storageUri": "https://d.example/d.npz", "digest": f"sha256:{DIGEST}"}}

    def named(**fields: Any) -> list[str]:
        obj = World(job(step("a"), **fields)).obj
        spec = TrainingJobSpec.model_validate(obj["spec"])
        template = step_job.job(obj, spec, spec.steps[0], 1, {}, installation)["spec"]["template"]["spec"]
        return [each["name"] for each in template.get("imagePullSecrets", ())]

    assert named() == []
    assert named(**theirs) == ["registry"]
    assert named(initializer=dataset) == ["plant", "registry"]
    assert named(initializer=dataset, **theirs) == ["registry", "plant"]


def test_what_runs_before_a_step_has_the_steps_own_resources_but_no_devices() -> None:
    """The scheduler counts the larger of the two; a quota that demands limits demands them of every container."""
    wants = {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"},
    }
    brought = {
        "source": {"git": {"repository": "https://git.example/m", "revision": "main"}},
        "initializer": {"dataset": {"storageUri": "https://d.example/d.npz", "digest": f"sha256:{DIGEST}"}},
    }
    for each in (step("a", resources=wants), step("a", trainer=TRAINER | {"resourcesPerNode": wants})):
        obj = World(job(each, **brought)).obj
        obj["status"] = {"source": {"revision": "4f" * 20}}
        spec = TrainingJobSpec.model_validate(obj["spec"])
        template = step_job.job(obj, spec, spec.steps[0], 1, {}, INSTALLATION)["spec"]["template"]["spec"]
        assert [before["resources"] for before in template["initContainers"]] == 2 * [
            {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"cpu": "8", "memory": "32Gi"}}
        ]
        assert template["containers"][0]["resources"] == wants
    obj = World(job(step("a"), **brought)).obj
    spec = TrainingJobSpec.model_validate(obj["spec"])
    template = step_job.job(obj, spec, spec.steps[0], 1, {}, INSTALLATION)["spec"]["template"]["spec"]
    assert all("resources" not in each for each in (*template["initContainers"], *template["containers"]))


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://data/2026-11/", "2026-11"),
        ("s3://data", "dataset"),
        ("s3://data/..", "dataset"),
        ("https://[::ffff:]/d.npz#part", "d.npz"),
    ],
)
def test_the_dataset_lies_under_its_own_name_where_it_has_one(uri: str, name: str) -> None:
    dataset = {"storageUri": uri, "digest": f"sha256:{DIGEST}"}
    obj = World(job(step("a"), initializer={"dataset": dataset})).obj
    spec = TrainingJobSpec.model_validate(obj["spec"])
    template = step_job.job(obj, spec, spec.steps[0], 1, {}, INSTALLATION)["spec"]["template"]
    order = json.loads(template["spec"]["initContainers"][0]["env"][0]["value"])
    assert order["files"][0]["path"] == f"/workspace/dataset/{name}"


def test_a_users_image_runs_under_the_same_rules_as_ours() -> None:
    spec = pod(job(trainer=TRAINER, imagePullSecrets=[{"name": "registry"}]))
    container = spec["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsUser"] == 65532
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory"}} in spec["volumes"]
    assert spec["restartPolicy"] == "Never"


def test_a_node_pool_gives_selector_and_tolerations_and_the_job_adds_its_own() -> None:
    toleration = {"key": "extra", "operator": "Exists"}
    spec = pod(job(step("train"), nodePool="cuda", nodeSelector={"zone": "a"}, tolerations=[toleration]))
    assert spec["nodeSelector"] == {"pool": "cuda", "zone": "a"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}, toleration]
    assert "nodeSelector" not in pod(job(step("train")))


def test_resources_and_words_reach_the_container() -> None:
    resources = {"limits": {"nvidia.com/gpu": "2", "memory": "64Gi"}}
    container = pod(job(trainer=TRAINER | {"resourcesPerNode": resources, "args": ["--epochs", "1"]}))["containers"][0]
    assert container["resources"] == resources
    assert (container["command"], container["args"]) == (["torchrun", "train.py"], ["--epochs", "1"])


CHECKPOINT = {"volumeClaimName": "ckpt", "path": "/checkpoints", "intervalSeconds": 60, "keep": 2}


def test_each_attempt_of_a_distributed_step_has_a_folder_of_its_own_on_the_checkpoint_volume() -> None:
    spec = pod(job(trainer=TRAINER, checkpoint=CHECKPOINT), attempt=2)
    assert {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "ckpt"}} in spec["volumes"]
    assert {"name": "checkpoints", "mountPath": "/checkpoints"} in spec["containers"][0]["volumeMounts"]
    variables = environment(spec)
    root = "/checkpoints/nightly-0a1b2c3d/train"
    assert json.loads(variables["MODELFLEET_ORDER"])["checkpoint"] == {
        "root": root,
        "intervalSeconds": 60,
        "keep": 2,
    }
    assert (variables["CHECKPOINT_ROOT"], variables["CHECKPOINT_FOLDER"]) == (root, f"{root}/2")


def test_other_steps_see_no_checkpoints() -> None:
    spec = pod(job(step("train"), checkpoint=CHECKPOINT))
    assert "checkpoint" not in json.loads(environment(spec)["MODELFLEET_ORDER"])
    assert not any("persistentVolumeClaim" in volume for volume in spec["volumes"])


def fetch_order(spec: dict[str, Any]) -> dict[str, Any]:
    (fetch,) = [each for each in spec["initContainers"] if each["name"] == "fetch"]
    return dict(json.loads(fetch["env"][0]["value"]))


def test_a_model_to_begin_with_is_brought_to_the_first_steps() -> None:
    model = {"storageUri": "s3://models/backbone", "secretRef": {"name": "hub"}}
    spec = pod(job(step("a"), initializer={"model": model}))
    assert fetch_order(spec)["folders"] == [
        {
            "name": "model",
            "uri": "s3://models/backbone",
            "path": "/workspace/model",
            "credentialsPath": "/var/run/modelfleet/credentials/hub",
        }
    ]
    order = json.loads(environment(spec)["MODELFLEET_ORDER"])
    assert order["modelPath"] == "/workspace/model"
    assert "datasetPath" not in order
    exact = pod(job(step("a"), initializer={"model": {**model, "digest": f"sha256:{DIGEST}"}}))
    assert fetch_order(exact)["files"][0]["sha256"] == DIGEST
    assert fetch_order(exact)["files"][0]["path"] == "/workspace/model/backbone"
    assert "folders" not in fetch_order(exact)


def test_dvcs_data_is_brought_to_the_first_steps_only() -> None:
    origin = {
        "git": {"repository": "https://git.example/defect", "revision": "main"},
        "dvc": {"targets": ["data"], "secretRef": {"name": "data"}},
    }
    obj = World(job(step("a"), step("b", "a"), source=origin)).obj
    obj["status"] = {"source": {"revision": COMMIT}}
    spec = TrainingJobSpec.model_validate(obj["spec"])
    first, second = (
        step_job.job(obj, spec, each, 1, {}, INSTALLATION)["spec"]["template"]["spec"] for each in spec.steps
    )
    orders = [json.loads(each["initContainers"][0]["env"][0]["value"]) for each in (first, second)]
    assert orders[0]["pull"] == {
        "remote": "",
        "targets": ["data"],
        "credentialsPath": "/var/run/modelfleet/credentials/data",
    }
    assert "pull" not in orders[1]
    assert any(volume.get("secret", {}).get("secretName") == "data" for volume in first["volumes"])
    assert not any(volume.get("secret", {}).get("secretName") == "data" for volume in second["volumes"])


@pytest.mark.parametrize("attempt", [1, 99, 100_000])
def test_names_leave_room_for_the_rank(attempt: int) -> None:
    name = rendezvous.job_name("n" * 40, "s" * 15, attempt)
    assert len(f"{name}-63") <= 63
    assert name != rendezvous.job_name("n" * 40, "s" * 15, attempt + 1)


def test_the_hash_of_a_spec_is_pinned_and_passes_over_suspension_and_defaults() -> None:
    def hashed(**spec: Any) -> str:
        return registration.spec_hash(TrainingJobSpec.model_validate(job(step("train"), **spec)["spec"]))

    assert hashed() == "sha256:29ca956dc78c06aa702ab40924280e89042d35ab64ebea5ba65dc8c1c77eafd7"
    assert hashed(suspend=True) == hashed()
    assert hashed(backoffLimit=3) == hashed()
    assert hashed(tolerations=[]) == hashed()
    assert hashed(backoffLimit=4) != hashed()
    assert hashed(version="1.0.1", output=job()["spec"]["output"] | {"modelVersionName": "m-1-0-1"}) != hashed()


def test_a_version_carries_where_it_came_from() -> None:
    git = {"repository": "https://git.example/defect", "revision": "main"}
    dataset = {"storageUri": "s3://data/d.npz", "digest": f"sha256:{DIGEST}"}
    obj = World(job(step("train"), source={"git": git}, initializer={"dataset": dataset})).obj
    dvc = {"revision": COMMIT, "params": {"lr": "0.1"}}
    obj["status"] = {"source": {"revision": COMMIT, "channel": "production", "dvc": dvc}}
    spec = TrainingJobSpec.model_validate(obj["spec"])
    made = registration.model_version(obj, spec, {}, [])
    assert made["spec"]["lineage"] == {
        "git": {"repository": "https://git.example/defect", "revision": COMMIT},
        "dvc": dvc,
        "dataset": {"uri": "s3://data/d.npz", "sha256": DIGEST},
        "trainingJob": {
            "name": "nightly",
            "uid": obj["metadata"]["uid"],
            "specHash": registration.spec_hash(spec),
        },
    }
    assert made["spec"]["channel"] == "production"
    assert made["metadata"]["labels"] == {"modelfleet.dev/training-job": "nightly"}
