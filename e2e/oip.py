"""A client of the Open Inference Protocol v2, and the same answer computed offline from the artifact's bytes."""

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np

import modelfleet.runtime  # noqa: F401 - turns ONNX Runtime's telemetry off, before the next import reads that

# isort: split
import onnxruntime


@dataclass(frozen=True)
class Answer:
    """One answered inference request."""

    model: str
    version: str
    outputs: dict[str, np.ndarray]


def infer(base_url: str, model: str, inputs: dict[str, np.ndarray]) -> Answer:
    """Ask a serving pod or Service; ``base_url`` is like ``http://10.0.0.1:8080``. float32 tensors only."""
    tensors = [
        {"name": name, "shape": list(tensor.shape), "datatype": "FP32", "data": tensor.ravel().tolist()}
        for name, tensor in inputs.items()
    ]
    request = urllib.request.Request(  # noqa: S310  (http by construction)
        f"{base_url}/v2/models/{model}/infer",
        data=json.dumps({"inputs": tensors}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    outputs = {
        tensor["name"]: np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        for tensor in answer["outputs"]
    }
    return Answer(model=answer["model_name"], version=answer.get("model_version", ""), outputs=outputs)


def offline(artifact: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime answers here, from the same bytes."""
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
