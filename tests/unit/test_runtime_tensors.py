"""Tensors to and from JSON: nothing lost, and errors that say what to change."""

import json
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

from modelfleet.runtime.tensors import DATATYPES, RequestError, TensorSpec, decode, encode

NUMBERS = [name for name in DATATYPES if name != "BYTES"]


@pytest.mark.parametrize("datatype", NUMBERS)
@hypothesis.given(data=strategies.data(), nested=strategies.booleans())
@hypothesis.settings(max_examples=40, deadline=None)
def test_every_value_survives_the_way_there_and_back(datatype: str, data: strategies.DataObject, nested: bool) -> None:
    dtype = DATATYPES[datatype]
    elements = (
        strategies.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=False)
        if dtype.kind == "f"
        else arrays.from_dtype(dtype)
    )
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=3, max_side=4), elements=elements))
    sent = json.loads(json.dumps(encode("x", datatype, array)))
    if nested:
        sent["data"] = array.tolist()
    got = decode(sent, TensorSpec("x", datatype, (None,) * array.ndim))
    assert got.dtype == dtype
    assert got.tobytes() == array.tobytes()


def test_text_survives_too() -> None:
    array = np.array([["ok", "Kratzer ü"], ["", "坑"]], dtype=object)
    got = decode(encode("x", "BYTES", array), TensorSpec("x", "BYTES", (None, 2)))
    assert got.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"datatype": "FP64"}, "takes 'FP32'"),
        ({"datatype": None}, "datatype is None"),
        ({"shape": [3, 2]}, "takes [-1, 3]"),
        ({"shape": [6]}, "takes [-1, 3]"),
        ({"shape": [-2, 3]}, "list of sizes"),
        ({"shape": [True, 3]}, "list of sizes"),
        ({"shape": None}, "list of sizes"),
        ({"data": None}, "list of the elements"),
        ({"data": [1, 2, 3]}, "3 elements, shape [2, 3] needs 6"),
        ({"data": [[1, 2], [3, 4], [5, 6]]}, "nested as [3, 2]"),
        ({"data": [[1, 2, 3], [4, 5]]}, "unevenly"),
        ({"data": [1, 2, 3, 4, 5, "6"]}, "must be numbers"),
        ({"data": [1, 2, 3, 4, 5, None]}, "must be numbers"),
        ({"data": [1, 2, 3, 4, 5, 1e39]}, "too large for FP32"),
    ],
)
def test_a_wrong_tensor_is_refused_with_its_name_and_the_remedy(change: dict[str, Any], hint: str) -> None:
    tensor = {"name": "image", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}
    with pytest.raises(RequestError, match="input 'image'") as caught:
        decode(tensor | change, TensorSpec("image", "FP32", (None, 3)))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "element", "hint"),
    [
        ("UINT8", 256, "between 0 and 255"),
        ("UINT8", -1, "between 0 and 255"),
        ("UINT64", 2**64, "between 0 and"),
        ("INT64", 2**63, "between"),
        ("INT32", 1.5, "whole numbers"),
        ("INT8", True, "whole numbers"),
        ("BOOL", 1, "true or false"),
        ("FP16", 70000, "too large for FP16"),
        ("BYTES", 7, "must be text"),
    ],
)
def test_nothing_is_bent_to_fit_a_type(datatype: str, element: object, hint: str) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [1], "data": [element]}
    with pytest.raises(RequestError) as caught:
        decode(tensor, TensorSpec("x", datatype, (None,)))
    assert hint in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_carry_is_said_and_not_sent(value: float) -> None:
    with pytest.raises(RequestError, match="output 'y' holds NaN or infinity") as caught:
        encode("y", "FP32", np.array([value], np.float32))
    assert caught.value.status == 500


def test_an_empty_tensor_is_one() -> None:
    got = decode({"datatype": "FP32", "shape": [0, 3], "data": []}, TensorSpec("x", "FP32", (None, 3)))
    assert got.shape == (0, 3)
