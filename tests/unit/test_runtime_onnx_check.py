"""ONNX models tried in the real ONNX Runtime: what loads, what agrees, and what is refused with which word."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelfleet.api.wire import CheckedFile
from modelfleet.runtime import agreement, onnx_check, onnx_file, onnx_probe
from modelfleet.runtime.agreement import Port
from modelfleet.runtime.onnx_check import Inspection
from modelfleet.runtime.report import RefusedError
from tests import onnx


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own cost a second each; two tests have them."""
    if "apart" not in request.fixturenames:
        monkeypatch.setattr(onnx_check, "_probe", onnx_probe.answer)


@pytest.fixture
def apart() -> None:
    """The test loads each model in a process of its own, as the verifying pod does."""


def inspected(
    folder: Path, *models: tuple[str, bytes], allowed: float | None = None, samples: Path | None = None, **fields: Any
) -> dict[str, Inspection]:
    """Each model by its name, which begins with its precision."""
    given = []
    for name, content in models:
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        precision = name.partition("-")[0]
        given.append(
            (
                CheckedFile(name=name, uri="file:///m", sha256="0" * 64, format="onnx", precision=precision, **fields),
                path,
            )
        )
    return onnx_check.inspect(given, allowed, samples)


def reason(found: Inspection) -> str:
    return found.refusal.reason if found.refusal is not None else ""


@pytest.mark.usefixtures("apart")
def test_precisions_that_agree_pass_and_say_how_near_they_are(tmp_path: Path) -> None:
    found = inspected(
        tmp_path,
        ("int8", onnx.scaled(2.1)),
        ("fp32", onnx.scaled(2.0)),
        ("fp16", onnx.scaled(2.001, kind=onnx.FLOAT16)),
    )
    assert [reason(each) for each in found.values()] == ["", "", ""]
    assert found["fp32"].agreement is None
    near = found["int8"].agreement
    assert near is not None
    assert (near.reference, near.tolerance) == ("fp32", "0.25")
    assert float(near.difference) == pytest.approx(0.05, rel=0.01)
    assert found["fp32"].opset == 13
    assert onnx_check.listed(found["fp32"].inputs) == ["x: FP32[?, 3]"]
    assert onnx_check.listed(found["fp16"].outputs) == ["y: FP16[?, 3]"]


@pytest.mark.parametrize(
    ("other", "allowed", "expected"),
    [
        (onnx.scaled(2.6), None, "PrecisionMismatch"),
        (onnx.scaled(2.01), 0.004, "PrecisionMismatch"),
        (onnx.scaled(2.6), 0.4, ""),
        (onnx.scaled(-2.0), None, "PrecisionMismatch"),
        (onnx.scaled(math.inf), None, "PrecisionMismatch"),
        (onnx.scaled(2.0, name="z"), None, "InterfaceMismatch"),
        (onnx.scaled(2.0, ("batch", 4)), None, "InterfaceMismatch"),
        (onnx.scaled(2.0, ("batch", 3, 1)), None, "InterfaceMismatch"),
        (onnx.scaled(2.0, kind=onnx.INT64), None, "InterfaceMismatch"),
        (onnx.scaled(2.0, (1, 3)), None, ""),
        (b"no model at all", None, "InvalidModel"),
        (onnx.scaled(2.0)[:-30], None, "InvalidModel"),
        (onnx.scaled(2.0, operator="Mull"), None, "InvalidModel"),
        (onnx.scaled(2.0, opset=99), None, "InvalidModel"),
    ],
    ids=[
        "too far",
        "stricter",
        "looser",
        "negated",
        "infinite",
        "another input",
        "another size",
        "another rank",
        "whole numbers",
        "a fixed batch",
        "garbage",
        "cut off",
        "unknown operator",
        "opset of the future",
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, other: bytes, allowed: float | None, expected: str
) -> None:
    found = inspected(tmp_path, ("fp32", onnx.scaled(2.0)), ("fp16", other), allowed=allowed)
    assert (reason(found["fp32"]), reason(found["fp16"])) == ("", expected)


def test_an_int8_build_is_judged_on_samples_or_by_a_stated_tolerance(tmp_path: Path) -> None:
    models = (("fp32", onnx.scaled(2.0)), ("int8", onnx.scaled(9.0)))
    found = inspected(tmp_path, *models)["int8"]
    assert reason(found) == ""
    assert "to have an int8 build judged" in found.note
    assert found.agreement is not None
    assert float(found.agreement.difference) > 1
    assert reason(inspected(tmp_path, *models, allowed=0.5)["int8"]) == "PrecisionMismatch"


def test_one_model_alone_is_loaded_and_not_compared(tmp_path: Path) -> None:
    found = inspected(tmp_path, ("fp16", onnx.identity()))["fp16"]
    assert (reason(found), found.agreement, found.opset) == ("", None, 13)


def test_a_build_for_another_device_may_need_what_a_cpu_lacks(tmp_path: Path) -> None:
    models = (("fp32", onnx.scaled(2.0)), ("fp16", onnx.scaled(2.0, kind=onnx.FLOAT16, operator="BitShift")))
    assert reason(inspected(tmp_path, *models)["fp16"]) == "InvalidModel"
    garbage = inspected(tmp_path, models[0], ("fp16", b"garbage"), accelerated=True)
    assert reason(garbage["fp16"]) == "InvalidModel"


def test_samples_are_what_is_run(tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.zeros((7, 3), np.float32))
    models = (("fp32", onnx.scaled(2.0)), ("int8", onnx.scaled(9.0)))
    found = inspected(tmp_path, *models, samples=samples)
    assert reason(found["int8"]) == "", "nine times nothing is nothing"
    np.savez(samples, x=np.ones((7, 3), np.float32))
    assert reason(inspected(tmp_path, *models, samples=samples)["int8"]) == "PrecisionMismatch"


@pytest.mark.parametrize(
    ("arrays", "hint"),
    [
        ({"z": np.zeros((1, 3))}, "there is no array for input x: FP32[?, 3]; there are z"),
        ({"x": np.zeros((1, 4))}, "the array of shape [1, 4] does not fit input x: FP32[?, 3]"),
        ({"x": np.zeros(3)}, "the array of shape [3] does not fit"),
        ({"x": np.array([[None] * 3])}, "allow_pickle=False"),
    ],
    ids=["name", "size", "rank", "objects"],
)
def test_samples_that_fit_no_input_are_refused(tmp_path: Path, arrays: dict[str, Any], hint: str) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, **arrays)
    with pytest.raises(RefusedError) as caught:
        inspected(tmp_path, ("fp32", onnx.scaled(2.0)), samples=samples)
    assert caught.value.reason == "InvalidSamples"
    assert hint in caught.value.message


def test_a_file_that_is_no_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    samples.write_bytes(b"PK no archive")
    with pytest.raises(RefusedError) as caught:
        inspected(tmp_path, ("fp32", onnx.scaled(2.0)), samples=samples)
    assert caught.value.reason == "InvalidSamples"


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"\x42\x7f", onnx.identity()[:-2], onnx.scaled(2.0, opset=2**64 - 1)]
)
def test_the_opset_of_a_file_that_tells_none_is_unknown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    assert onnx_file.opset(path) is None


@pytest.mark.parametrize(
    ("expected", "found", "classes", "apart"),
    [
        ({"y": np.array([1.0, -1.0])}, {"y": np.array([1.1, -0.9])}, False, 0.1),
        ({"y": np.array([0.0])}, {"y": np.array([0.0])}, False, 0.0),
        ({"y": np.array([0.0])}, {"y": np.array([0.1])}, False, math.inf),
        ({"y": np.array([math.nan, 1.0])}, {"y": np.array([math.nan, 1.0])}, False, 0.0),
        ({"y": np.array([1.0])}, {"y": np.array([math.nan])}, False, math.inf),
        ({"y": np.array([1.0])}, {"y": np.array([1.0, 1.0])}, False, math.inf),
        ({"label": np.array([1, 2, 3, 4])}, {"label": np.array([1, 2, 3, 5])}, False, 0.0),
        ({"label": np.array([1, 2, 3, 4])}, {"label": np.array([1, 2, 3, 5])}, True, 0.25),
        ({"y": np.array([]), "z": np.array([2.0])}, {"y": np.array([]), "z": np.array([3.0])}, False, 0.5),
    ],
)
def test_how_far_outputs_are_apart(
    expected: dict[str, Any], found: dict[str, Any], classes: bool, apart: float
) -> None:
    assert agreement.difference(expected, found, classes=classes) == pytest.approx(apart)


def test_inputs_are_drawn_alike_each_time_and_fit_named_sizes() -> None:
    ports = [Port("a", "FP32", ("batch", "length")), Port("mask", "INT64", ("batch", "length")), Port("b", "BOOL", ())]
    first, second = agreement.draw(ports, 16), agreement.draw(ports, 16)
    assert first["a"].shape == first["mask"].shape == (4, 16)
    assert first["b"].shape == ()
    assert set(np.unique(first["mask"])) <= {0, 1}
    assert all(np.array_equal(first[name], second[name]) for name in first)
    for port in (Port("t", "BYTES", (1,)), Port("large", "FP32", (1 << 13, 1 << 13)), Port("m", "map(…)", ())):
        with pytest.raises(ValueError, match=port.name):
            agreement.draw([port], 16)


@pytest.mark.usefixtures("apart")
def test_nothing_is_imported_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('planted')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(path).absolute()) for path in sys.path))
    monkeypatch.chdir(tmp_path)
    assert reason(inspected(tmp_path, ("fp32", onnx.identity()))["fp32"]) == ""


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("program", "seconds", "expected", "hint"),
    [
        ("import os; os.kill(os.getpid(), 11)", 60, "InvalidModel", "crashed on it (SIGSEGV)"),
        ("import os; os.kill(os.getpid(), 9)", 60, "OutOfMemory", "more memory"),
        ("raise MemoryError", 60, "OutOfMemory", "more memory"),
        ("raise SystemExit('boom')", 60, "InvalidModel", "boom"),
        ("import time; time.sleep(60)", 0.2, "TimedOut", "within 0.2 s"),
    ],
)
def test_a_model_that_takes_its_process_along_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, seconds: float, expected: str, hint: str
) -> None:
    monkeypatch.setattr(onnx_check, "PROBE", ("-c", program))
    monkeypatch.setattr(onnx_check, "PROBE_SECONDS", seconds)
    found = inspected(tmp_path, ("fp32", onnx.identity()))["fp32"]
    assert reason(found) == expected
    assert found.refusal is not None
    assert hint in found.refusal.message
