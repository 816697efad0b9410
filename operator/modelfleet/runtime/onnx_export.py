"""From a PyTorch model to ONNX builds that are known to answer like it: export, int8, comparison.

torch, onnx and the quantizer are imported on use: they take seconds, and the runtime image has none of them.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Batch = Mapping[str, NDArray[Any]]
"""The model's inputs, by name; the first dimension is the batch."""


def export_onnx(model: Any, sample: Batch, path: Path | str, outputs: Iterable[str] = ("output",)) -> Path:
    """Write a PyTorch model as one ONNX file, with a batch dimension of any size.

    ``sample`` gives the inputs' names, in the order ``model.forward`` takes them, and their shapes.
    """
    import torch

    path = Path(path)
    model.eval()
    arrays = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in sample.values())
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        model,
        arrays,
        str(path),
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=list(sample),
        output_names=list(outputs),
        dynamic_shapes=tuple({0: batch} for _ in arrays),
    )
    return path


def quantize_int8(source: Path | str, path: Path | str, calibration: Iterable[Batch]) -> Path:
    """Write the int8 build of an ONNX model: static quantization, ranges taken from the calibration batches.

    Convolutions and matrix products are quantized per channel; inputs and outputs keep their type.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(calibration)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return dict(batch) if batch is not None else None

    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
    return path


def run_onnx(path: Path | str, batch: Batch) -> list[NDArray[Any]]:
    """Return what ONNX Runtime answers, on the CPU."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer: list[NDArray[Any]] = session.run(None, dict(batch))
    return answer


def check(path: Path | str, model: Any, samples: Batch, tolerance: float) -> float:
    """Return the largest difference between ONNX Runtime's and PyTorch's outputs; ValueError above the tolerance."""
    import torch

    model.eval()
    with torch.no_grad():
        answer = model(*(torch.from_numpy(np.ascontiguousarray(array)) for array in samples.values()))
    expected = answer if isinstance(answer, tuple | list) else (answer,)
    found = run_onnx(path, samples)
    difference = max(
        float(np.max(np.abs(tensor.numpy() - array))) for tensor, array in zip(expected, found, strict=True)
    )
    if not difference <= tolerance:
        raise ValueError(f"{path} answers up to {difference:.3g} off PyTorch, {tolerance:.3g} are allowed")
    return difference
