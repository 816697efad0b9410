"""Tensors in the JSON of the Open Inference Protocol v2, to and from NumPy arrays, without losing a bit.

Errors are RequestError with a message for whoever wrote the request: it names the input and what to change.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DATATYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""The protocol's names of element types; BYTES is text in JSON."""


class RequestError(ValueError):
    """A request that cannot be answered, and the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model wants or gives under one name; ``None`` in the shape is a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    def metadata(self) -> dict[str, Any]:
        """Return the protocol's description of the tensor: -1 is a dimension of any size."""
        shape = [-1 if size is None else size for size in self.shape]
        return {"name": self.name, "datatype": self.datatype, "shape": shape}


def decode(tensor: dict[str, Any], spec: TensorSpec) -> Array:
    """Return the array of one input of a request; RequestError where it is not what the model wants."""
    where = f"input {spec.name!r}"
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise RequestError(f"{where}: datatype is {datatype!r}, the model takes {spec.datatype!r}")
    shape = _shape(tensor.get("shape"), where)
    wanted = spec.shape
    if len(shape) != len(wanted) or any(w is not None and w != s for s, w in zip(shape, wanted, strict=True)):
        raise RequestError(
            f"{where}: shape is {list(shape)}, the model takes {spec.metadata()['shape']} (-1: any size)"
        )
    data = tensor.get("data")
    if not isinstance(data, list):
        raise RequestError(f"{where}: data must be a list of the elements, flat or nested")
    array = _elements(data, spec.datatype, where)
    count = math.prod(shape)
    if array.size != count:
        raise RequestError(f"{where}: data has {array.size} elements, shape {list(shape)} needs {count}")
    if array.ndim > 1 and array.shape != shape:
        raise RequestError(
            f"{where}: data is nested as {list(array.shape)}, shape is {list(shape)}: send it flat or alike"
        )
    return array.reshape(shape)


def encode(name: str, datatype: str, array: Array) -> dict[str, Any]:
    """Return one output of an answer, its elements flat in row-major order.

    JSON's numbers are doubles, so every element of up to 64-bit float arrives as it was; RequestError (500) for NaN and
    infinity, which JSON does not have.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(f"output {name!r} holds NaN or infinity, which JSON cannot carry", status=500)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def _shape(shape: object, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise RequestError(f"{where}: shape must be a list of sizes such as [1, 3]")
    return tuple(shape)


def _elements(data: list[Any], datatype: str, where: str) -> Array:
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        return _texts(data, where)
    if not data:
        return np.empty(0, dtype)
    try:
        array = np.asarray(data)
        if array.dtype.kind == "f" and dtype.kind == "u":
            # Beside small ones, integers of more than 63 bits make NumPy fall back to floats.
            array = np.asarray(data, dtype=np.object_)
    except (ValueError, OverflowError):
        raise RequestError(f"{where}: data is nested unevenly: send it flat, in row-major order") from None
    if array.size == 0:
        return np.empty(array.shape, dtype)
    if dtype.kind == "b":
        if array.dtype.kind != "b":
            raise RequestError(f"{where}: elements of BOOL must be true or false")
        return array
    return _floats(array, dtype, datatype, where) if dtype.kind == "f" else _integers(array, dtype, datatype, where)


def _floats(array: Array, dtype: np.dtype[Any], datatype: str, where: str) -> Array:
    if array.dtype.kind not in "iuf":
        raise RequestError(f"{where}: elements of {datatype} must be numbers")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if not np.isfinite(cast).all():
        raise RequestError(f"{where}: an element is too large for {datatype}, or not finite")
    return cast


def _integers(array: Array, dtype: np.dtype[Any], datatype: str, where: str) -> Array:
    limits = np.iinfo(dtype)
    plain = array.dtype.kind in "iu" or (
        array.dtype.kind == "O" and all(type(element) is int for element in array.ravel())
    )
    if not plain:
        raise RequestError(f"{where}: elements of {datatype} must be whole numbers")
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise RequestError(f"{where}: elements of {datatype} lie between {limits.min} and {limits.max}")
    return array.astype(dtype)


def _texts(data: list[Any], where: str) -> Array:
    flat: list[Any] = data
    while any(isinstance(element, list) for element in flat):
        flat = [element for part in flat for element in (part if isinstance(part, list) else [part])]
    if any(not isinstance(element, str) for element in flat):
        raise RequestError(f"{where}: elements of BYTES must be text")
    return np.array(flat, dtype=np.object_)
