"""Documents of the contract for tests: valid ones of each kind, and edits that make them invalid.

Unit tests hold the pydantic models to these tables, integration tests a real API server: both must say the same.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

REMOVED = object()
"""As the value of an edit: the field is taken away."""

COMMIT = "4f2c" * 10
DIGEST = "77aa" * 16
KINDS = ("ModelVersion", "TrainingJob", "EdgeDeployment")


def _document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": "modelfleet.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def model_version() -> Document:
    """A ModelVersion in which every field is given."""
    return _document(
        "ModelVersion",
        "defect-detector-1-4-0",
        {
            "model": "defect-detector",
            "version": "1.4.0",
            "channel": "production",
            "aliases": ["champion"],
            "deprecated": False,
            "artifacts": [
                {
                    "name": "int8",
                    "uri": "https://models.example/defect/1.4.0/int8.onnx",
                    "sha256": "0f1e" * 16,
                    "sizeBytes": 8123456,
                    "format": "onnx",
                    "precision": "int8",
                    "platforms": ["linux/arm64", "linux/amd64"],
                    "accelerators": ["nvidia.com/gpu"],
                    "cpuFeatures": ["neon"],
                    "minMemory": "2Gi",
                    "credentialsSecretRef": {"name": "store"},
                    "signatureUri": "https://models.example/defect/1.4.0/model.sig",
                },
                {
                    "name": "fp32",
                    "uri": "s3://models/defect/1.4.0/fp32.onnx",
                    "sha256": "1e0f" * 16,
                    "sizeBytes": 31234567,
                    "format": "onnx",
                    "precision": "fp32",
                },
            ],
            "lineage": {
                "git": {"repository": "https://git.example/vision/defect", "revision": COMMIT},
                "dvc": {
                    "revision": COMMIT,
                    "params": {"learning_rate": "0.001", "batch_size": "64"},
                    "data": [{"path": "data/images", "digest": f"md5:{DIGEST[:32]}.dir", "sizeBytes": 123456}],
                },
                "dataset": {"uri": "s3://data/defects/2026-11", "sha256": DIGEST},
                "trainingJob": {"name": "nightly", "uid": "7a7b9c1e-0000-4000-8000-000000000000", "specHash": "ab12"},
            },
            "metrics": {"accuracy": "0.943", "latency_ms_p95": "11.2"},
            "verification": {
                "inference": "OnnxRuntime",
                "tolerance": "0.05",
                "samples": {
                    "uri": "s3://data/defects/samples.npz",
                    "sha256": DIGEST,
                    "sizeBytes": 40960,
                    "credentialsSecretRef": {"name": "store"},
                },
                "memoryLimit": "4Gi",
                "every": "24h",
            },
        },
    )


def _trainer() -> Document:
    return {
        "image": "registry.example/vision/train:1",
        "command": ["torchrun", "train.py"],
        "args": ["--epochs", "10"],
        "env": [{"name": "SEED", "value": "1"}],
        "numNodes": 4,
        "numProcPerNode": 2,
        "resourcesPerNode": {
            "requests": {"cpu": 1, "memory": "1Gi"},
            "limits": {"nvidia.com/gpu": 2, "memory": "64Gi"},
        },
        "framework": "torch",
    }


def training_job() -> Document:
    """A TrainingJob with a DAG in which every field is given."""
    return _document(
        "TrainingJob",
        "defect-detector-nightly",
        {
            "model": "defect-detector",
            "version": "1.4.0",
            "source": {
                "git": {
                    "repository": "https://git.example/vision/defect",
                    "revision": "release/1.4",
                    "path": "models/defect",
                    "secretRef": {"name": "git"},
                },
                "dvc": {"remote": "storage", "targets": ["data/images"], "secretRef": {"name": "store"}},
            },
            "initializer": {
                "dataset": {
                    "storageUri": "s3://data/defects/2026-11.npz",
                    "digest": f"sha256:{DIGEST}",
                    "secretRef": {"name": "store"},
                },
                "model": {
                    "storageUri": "hf://org/backbone/model.safetensors",
                    "digest": f"sha256:{DIGEST}",
                    "secretRef": {"name": "store"},
                },
            },
            "steps": [
                {
                    "name": "preprocess",
                    "image": "registry.example/vision/prep:1",
                    "command": ["python", "preprocess.py"],
                    "args": ["--fast"],
                    "env": [{"name": "SEED", "value": "1"}],
                    "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 1, "nvidia.com/gpu": 1}},
                    "nodePool": "cpu",
                    "retry": {"limit": 2, "backoffSeconds": 30},
                },
                {"name": "train", "dependsOn": [{"name": "preprocess", "status": "Complete"}], "trainer": _trainer()},
                {"name": "evaluate", "dependsOn": [{"name": "train"}], "image": "registry.example/vision/train:1"},
                {"name": "watch", "dependsOn": [{"name": "train", "status": "Ready"}], "image": "registry.example/w:1"},
            ],
            "nodePool": "cuda",
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [
                {
                    "key": "nvidia.com/gpu",
                    "operator": "Equal",
                    "value": "yes",
                    "effect": "NoExecute",
                    "tolerationSeconds": 9,
                }
            ],
            "imagePullSecrets": [{"name": "registry"}],
            "suspend": False,
            "backoffLimit": 3,
            "activeDeadlineSeconds": 86400,
            "ttlSecondsAfterFinished": 604800,
            "managedBy": "modelfleet.dev/training-job",
            "checkpoint": {"volumeClaimName": "ckpt", "path": "/checkpoints", "intervalSeconds": 600, "keep": 3},
            "termination": {
                "metric": "val_loss",
                "direction": "Minimize",
                "patience": 5,
                "minDelta": "0.001",
                "maxStallSeconds": 1800,
                "stopGraceSeconds": 600,
                "resourcePressure": {
                    "cpu": "0.85",
                    "memory": "0.9",
                    "seconds": 60,
                    "action": "CheckpointAndYield",
                    "yieldSeconds": 600,
                },
            },
            "failurePolicy": {
                "rules": [
                    {"name": "oom", "onExitCodes": [137], "action": "FailJob"},
                    {"name": "store-away", "onExitCodes": [75, 111], "action": "Ignore"},
                ]
            },
            "gate": [
                {"metric": "accuracy", "comparison": ">=", "value": "0.92"},
                {
                    "metric": "accuracy",
                    "direction": "Maximize",
                    "baseline": "Online",
                    "maxRegression": "0.005",
                    "whenNoBaseline": "Pass",
                },
            ],
            "output": {
                "storageUri": "s3://models/defect",
                "modelVersionName": "defect-detector-1-4-0",
                "secretRef": {"name": "store"},
            },
        },
    )


def short_training_job() -> Document:
    """A TrainingJob in the short form: one distributed step."""
    document = edited(training_job(), {"spec.steps": REMOVED, "spec.trainer": _trainer()})
    lowered = {"action": "LowerPriority", "priorityClassName": "scavenger"}
    return edited(document, {"metadata.name": "quick", "spec.termination.resourcePressure": lowered})


def edge_deployment() -> Document:
    """An EdgeDeployment in which every field is given."""
    return _document(
        "EdgeDeployment",
        "line-a",
        {
            "modelVersion": "defect-detector-1-4-0",
            "minimumChannel": "production",
            "revisionHistoryLimit": 5,
            "serving": {
                "image": "registry.example/modelfleet@sha256:" + DIGEST,
                "command": ["serve"],
                "args": ["--quiet"],
                "env": [{"name": "LOG_LEVEL", "value": "info"}],
                "modelMountPath": "/models",
                "ports": {"http": 8080, "grpc": 8081},
                "imagePullSecrets": [{"name": "registry"}],
                "resources": {"requests": {"cpu": 1}, "limits": {"cpu": "2", "memory": "2Gi"}},
            },
            "pools": [
                {
                    "name": "gateways-arm",
                    "provider": "KubeEdge",
                    "nodeSelector": {"apps.kubeedge.io/belonging-to": "line-a"},
                    "tolerations": [
                        {"operator": "Exists"},
                        {"key": "edge", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 0},
                    ],
                    "placement": "EveryNode",
                },
                {
                    "name": "lab-x86",
                    "nodeSelector": {"kubernetes.io/arch": "amd64", "pool": "lab"},
                    "placement": "Replicas",
                    "replicas": 2,
                    "artifact": "fp32",
                    "overrides": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]},
                },
            ],
            "strategy": {
                "update": "Recreate",
                "recreateOrder": "StopFirst",
                "waves": [
                    {"name": "pilot", "pools": ["gateways-arm"], "nodes": 1, "soak": "1h30m", "approval": "Manual"},
                    {"name": "all", "nodes": "100%"},
                ],
                "maxUnavailable": "10%",
                "startsPerMinute": 60,
                "maintenanceWindow": {"schedule": "0 2 * * *", "duration": "4h", "timeZone": "Asia/Shanghai"},
                "failureThreshold": {"percentage": 5, "minSamples": 10},
                "onFailure": "Rollback",
                "progressDeadlineSeconds": 1800,
                "offlineAfterSeconds": 300,
            },
            "canary": {
                "mirror": {"percentage": 0},
                "header": {"name": "x-version", "value": "v2"},
                "steps": [{"weight": 0, "pause": "Manual"}, {"weight": 5, "pause": "10m"}, {"weight": 50}],
                "analysis": {
                    "initialDelay": "60s",
                    "interval": "30s",
                    "failureLimit": 3,
                    "inconclusiveLimit": 3,
                    "consecutiveErrorLimit": 4,
                    "metrics": [
                        {
                            "name": "error-rate",
                            "prometheus": {
                                "address": "http://prometheus:9090",
                                "query": 'errors{revision="{{revision}}",ns="{{namespace}}",name="{{name}}"}',
                            },
                            "min": "0",
                            "max": "0.01",
                        }
                    ],
                },
            },
            "traffic": {
                "provider": "Istio",
                "hosts": ["defect-detector.vision.svc.cluster.local"],
                "gateways": ["istio-system/ingress"],
                "pools": ["lab-x86"],
                "mtls": "Strict",
                "probe": {
                    "url": "http://ingress.istio-system:8080/v2/health/ready",
                    "host": "defect-detector.vision.svc.cluster.local",
                },
            },
            "paused": False,
        },
    )


def routed_by_gateway() -> Document:
    """An EdgeDeployment whose requests are routed by the Gateway API."""
    parent = {"name": "edge-gateway", "namespace": "infra", "sectionName": "http", "port": 80}
    traffic = {"provider": "GatewayAPI", "hosts": ["defect.example"], "parentRefs": [parent]}
    return edited(edge_deployment(), {"spec.traffic": traffic})


def routed_by_reference() -> Document:
    """An EdgeDeployment that adds to a route of the user's."""
    traffic = {"provider": "GatewayAPI", "routeRef": {"name": "users-own"}}
    canary = {"header": {"name": "x-version", "value": "v2"}, "steps": [{"weight": 0, "pause": "Manual"}]}
    return edited(edge_deployment(), {"spec.traffic": traffic, "spec.canary": canary})


def valid() -> dict[str, Document]:
    """Valid documents by a name for the test's id."""
    return {
        "ModelVersion": model_version(),
        "TrainingJob": training_job(),
        "TrainingJob-short": short_training_job(),
        "EdgeDeployment": edge_deployment(),
        "EdgeDeployment-gateway": routed_by_gateway(),
        "EdgeDeployment-route": routed_by_reference(),
        "EdgeDeployment-least": _document(
            "EdgeDeployment",
            "least",
            {"modelVersion": "a-1-0-0", "pools": [{"name": "a", "nodeSelector": {"pool": "a"}}]},
        ),
    }


def edited(document: Document, edits: Mapping[str, Any]) -> Document:
    """A copy of the document with values set, or taken away, at dotted paths (``spec.artifacts.0.name``)."""
    document = copy.deepcopy(document)
    for path, value in edits.items():
        *parents, last = path.split(".")
        place: Any = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value is REMOVED:
            del place[int(last) if isinstance(place, list) else last]
        elif isinstance(place, list):
            place[int(last) : int(last) + 1] = [value]
        else:
            place[last] = value
    return document


@dataclass(frozen=True)
class Refusal:
    """An edit that makes a valid document invalid, and what the user is told."""

    of: str
    """Name in :func:`valid`."""
    edits: Mapping[str, Any]
    field: str
    """The field that the API server names."""
    message: str = ""
    """Part of what both say; empty where it is a matter of the schema, which each words its own way."""

    def document(self) -> Document:
        """The invalid document."""
        return edited(valid()[self.of], self.edits)

    def __str__(self) -> str:
        """The test's id."""
        return f"{self.of}-{self.field}-{self.message[:40]}"


def _many(count: int, **fields: Any) -> list[Document]:
    return [{"name": f"n-{number:03}", **fields} for number in range(count)]


def largest() -> dict[str, Document]:
    """Documents at the bounds of the lists that the rules walk through, by a name for the test's id."""
    text = "x" * 200
    environment = _many(64, value=text)
    for variable in environment:
        variable["name"] = variable["name"].replace("-", "_").upper()
    labels = {f"{'d' * 60}.{'e' * 60}.example/{'k' * 60}{number:02}": "v" * 63 for number in range(16)}
    amounts = {f"{'d' * 60}.{'e' * 60}.example/{'k' * 60}{number:02}": "999999999999999" for number in range(16)}
    version = model_version()["spec"]
    artifact = {**version["artifacts"][0], "platforms": [f"linux/a{number}" for number in range(16)]}
    artifact["uri"] = "s3://models/" + "u" * 2000
    steps = _many(16, image="i" * 512, env=environment, resources={"requests": amounts, "limits": amounts})
    for step in steps:
        step["dependsOn"] = _many(16)
    steps[-1] = {"name": steps[-1]["name"], "dependsOn": _many(16), "trainer": _trainer() | {"env": environment}}
    pools = _many(
        100,
        nodeSelector=labels,
        tolerations=[{"operator": "Exists"}] * 16,
        placement="Replicas",
        overrides={"env": environment[:8]},
    )
    names = [pool["name"] for pool in pools]
    return {
        "ModelVersion": edited(
            model_version(),
            {
                "spec.artifacts": [{**artifact, "name": f"n-{number}"} for number in range(16)],
                "spec.metrics": {f"{'m' * 60}{number:03}": "-1.5e-10" for number in range(64)},
                "spec.lineage.dvc.params": {f"{'p' * 125}{number:03}": text for number in range(128)},
            },
        ),
        "TrainingJob": edited(training_job(), {"spec.steps": steps, "spec.nodeSelector": labels}),
        "EdgeDeployment": edited(
            edge_deployment(),
            {
                "spec.pools": pools,
                "spec.strategy.waves": _many(20, pools=names),
                "spec.serving.env": environment,
                "spec.traffic.pools": names,
                "spec.traffic.hosts": [f"{'h' * 60}.{'d' * 60}.example{number:02}" for number in range(16)],
            },
        ),
    }
