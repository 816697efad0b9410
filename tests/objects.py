"""Objects that tests apply: the smallest that are whole. Each test changes just what it is about."""

import hashlib
import json
from typing import Any

from e2e.project import Files
from tests import onnx

RawObject = dict[str, Any]

API = "modelfleet.dev/v1alpha1"

REPORT = "from modelfleet.runtime import train; train.step().finish(metrics={metrics})"
"""A step script that does nothing but report these metrics."""

ARTIFACT = f"""
import pathlib
from modelfleet.runtime import train
step = train.step()
path = pathlib.Path("/tmp/model.onnx")
path.write_bytes({onnx.identity()!r})
step.save_artifact("raw", path, format="onnx", precision="fp32")
step.finish(metrics={{"accuracy": 0.95}})
"""
"""A step script that writes an artifact, the smallest of models, and reports an accuracy."""


def name_of(model: str, version: str) -> str:
    """The name a ModelVersion must have."""
    return f"{model}-{version.replace('.', '-')}"


def artifact(files: Files, path: str, data: bytes, name: str = "raw", **fields: Any) -> RawObject:
    """An artifact whose bytes are put into the store, open with the namespace's Secret."""
    uri = files.uri(path)
    files.write(uri, data)
    return {
        "name": name,
        "uri": uri,
        "sha256": hashlib.sha256(data).hexdigest(),
        "sizeBytes": len(data),
        "format": "other",
        "precision": "fp32",
        "credentialsSecretRef": {"name": "store"},
        **fields,
    }


def model(files: Files, path: str, name: str, **fields: Any) -> RawObject:
    """An artifact that the default serving image loads; ``name`` tells its bytes from those of others."""
    return artifact(files, path, onnx.identity(producer=name), **{"format": "onnx", **fields})


def model_version(artifacts: list[RawObject], model: str = "m", version: str = "1.0.0", **spec: Any) -> RawObject:
    """A ModelVersion."""
    return {
        "apiVersion": API,
        "kind": "ModelVersion",
        "metadata": {"name": name_of(model, version)},
        "spec": {"model": model, "version": version, "artifacts": artifacts, **spec},
    }


def step(name: str, image: str, script: str, *after: str, **fields: Any) -> RawObject:
    """A step that runs a Python script in this image once the steps ``after`` are complete."""
    return {
        "name": name,
        "image": image,
        "command": ["python", "-c", script],
        "dependsOn": [{"name": each, "status": "Complete"} for each in after],
        **fields,
    }


def training_job(
    files: Files,
    namespace: str,
    steps: list[RawObject],
    name: str = "job",
    model: str = "m",
    version: str = "1.0.0",
    **spec: Any,
) -> RawObject:
    """A TrainingJob that writes below a folder of the namespace's own."""
    return {
        "apiVersion": API,
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "model": model,
            "version": version,
            "steps": steps,
            "output": {
                "storageUri": files.uri(f"trained/{namespace}/{name}"),
                "modelVersionName": name_of(model, version),
                "secretRef": {"name": "store"},
            },
            **spec,
        },
    }


def pool(name: str, selector: dict[str, str], **fields: Any) -> RawObject:
    """A pool of simulated gateways, or of the real node."""
    return {
        "name": name,
        "nodeSelector": selector,
        "tolerations": [{"key": "node-role.kubernetes.io/edge", "operator": "Exists", "effect": "NoSchedule"}],
        **fields,
    }


def edge_deployment(model_version_name: str, pools: list[RawObject], name: str = "line", **spec: Any) -> RawObject:
    """An EdgeDeployment."""
    return {
        "apiVersion": API,
        "kind": "EdgeDeployment",
        "metadata": {"name": name},
        "spec": {"modelVersion": model_version_name, "pools": pools, **spec},
    }


def merge_patch(**spec: Any) -> str:
    """A merge patch of a spec, as ``kubectl patch --type=merge --patch`` takes it."""
    return json.dumps({"spec": spec})
