"""A verified ONNX model, loaded into ONNX Runtime."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnxruntime

from modelfleet.api.wire import ServeOrder
from modelfleet.runtime import cpus
from modelfleet.runtime.report import RefusedError
from modelfleet.runtime.tensors import Array, TensorSpec

DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


_NO_FOLDER: Final = "/dev/null"
"""Where weights outside of the model's file are looked for; nothing can lie below it."""


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A model ready to answer."""

    name: str
    version: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    session: Any

    def metadata(self) -> dict[str, Any]:
        """Return the protocol's model metadata."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.metadata() for spec in self.inputs],
            "outputs": [spec.metadata() for spec in self.outputs],
        }

    def infer(self, inputs: dict[str, Array], outputs: list[str]) -> list[Array]:
        """Run the model; safe to call from several threads."""
        answer: list[Array] = self.session.run(outputs, inputs)
        return answer


def load(order: ServeOrder) -> OnnxModel:
    """Hash a model file and load the very bytes that were hashed.

    Raises RefusedError: HashMismatch when the bytes are not the expected ones, Invalid when they are no model that
    this image can serve.
    """
    path = Path(order.path)
    if path.suffix != ".onnx":
        raise RefusedError("Invalid", f"{path.name}: this image serves ONNX; name an image of yours in serving.image")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RefusedError("Invalid", f"{path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != order.sha256:
        raise RefusedError(
            "HashMismatch",
            f"{path.name} was changed on this device and is not loaded: "
            f"its sha256 is {digest}, expected is {order.sha256}",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpus.available()
    # Idle threads shall sleep: a gateway has other work, and a battery or a heat budget.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model may name other files for its weights. Nobody hashed those, so none is loaded: neither from the working
    # folder, where ONNX Runtime would look for them by default, nor from anywhere else.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    try:
        session = onnxruntime.InferenceSession(
            content, sess_options=options, providers=onnxruntime.get_available_providers()
        )
    except Exception as error:
        raise RefusedError("Invalid", f"{path.name} is no model that ONNX Runtime loads: {error}") from error
    inputs = tuple(_spec(value, path) for value in session.get_inputs())
    outputs = tuple(_spec(value, path) for value in session.get_outputs())
    return OnnxModel(order.model, order.version, digest, inputs, outputs, session)


def _spec(value: Any, path: Path) -> TensorSpec:
    if value.type not in DATATYPES:
        raise RefusedError("Invalid", f"{path.name}: {value.name} is a {value.type}, which JSON cannot carry")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, DATATYPES[value.type], shape)
