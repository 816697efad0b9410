"""The library for training steps, run as steps run: orders in, files and reports out. Export is proven in e2e."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelfleet.api.wire import REPORT_LIMIT, StepReport, StepResults
from modelfleet.runtime import report, train
from modelfleet.runtime.report import RefusedError


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(report.TERMINATION_LOG_ENV, str(tmp_path / "termination"))

    def begin(name: str, inputs: dict[str, StepReport] | None = None, rank: int = 0, **fields: Any) -> train.Step:
        order = {
            "trainingJob": "nightly",
            "namespace": "vision",
            "model": "m",
            "version": "1.0.0",
            "step": name,
            "attempt": 1,
            "outputUri": f"file://{tmp_path}/store/{name}-1",
            "inputs": {key: {"uri": said.uri, "sha256": said.sha256} for key, said in (inputs or {}).items()},
        }
        monkeypatch.setenv("MODELFLEET_ORDER", json.dumps(order | fields))
        monkeypatch.setenv("RANK", str(rank))
        return train.step()

    return begin


def said(tmp_path: Path) -> StepReport:
    return StepReport.model_validate_json((tmp_path / "termination").read_bytes())


def test_results_go_from_step_to_step_by_digest(start: Any, tmp_path: Path) -> None:
    first = start("preprocess")
    (first.folder / "made").write_bytes(b"split")
    first.save_file("split.npz", first.folder / "made")
    first.finish({"images": 3})
    reported = said(tmp_path)
    assert reported.metrics == {"images": "3"}
    results = Path(reported.uri.removeprefix("file://")).read_bytes()
    assert hashlib.sha256(results).hexdigest() == reported.sha256
    assert StepResults.model_validate_json(results).files["split.npz"].size_bytes == 5

    second = start("train", {"preprocess": reported})
    earlier = second.inputs("preprocess")
    assert earlier.metrics == {"images": 3.0}
    assert earlier.file("split.npz").read_bytes() == b"split"


def test_its_folder_goes_with_the_process_and_not_with_one_that_it_forked(tmp_path: Path) -> None:
    program = """
import os, sys
from modelfleet.runtime import train
folder = train.step().folder
if os.fork() == 0:
    sys.exit()
os.wait()
assert folder.is_dir()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "MODELFLEET_LOCAL_RUN": str(tmp_path / "run")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not list(tmp_path.glob("modelfleet-*"))


def test_an_input_that_was_changed_in_the_store_is_refused(start: Any, tmp_path: Path) -> None:
    first = start("preprocess")
    (first.folder / "made").write_bytes(b"split")
    first.save_file("split.npz", first.folder / "made")
    first.finish()
    reported = said(tmp_path)
    inputs = start("train", {"preprocess": reported}).inputs("preprocess")
    (tmp_path / "store/preprocess-1/files/split.npz").write_bytes(b"SPLIT")
    with pytest.raises(RefusedError) as caught:
        inputs.file("split.npz")
    assert caught.value.reason == "HashMismatch"
    Path(reported.uri.removeprefix("file://")).write_bytes(b"{}")
    with pytest.raises(RefusedError):
        start("evaluate", {"preprocess": reported}).inputs("preprocess")


def test_artifacts_carry_what_a_model_version_needs(start: Any, tmp_path: Path) -> None:
    step = start("evaluate")
    model = step.folder / "anything.onnx"
    model.write_bytes(b"model")
    step.save_artifact("int8", model, precision="int8", platforms=["linux/arm64"], min_memory="1Gi")
    step.finish({"accuracy": 0.943})
    (artifact,) = said(tmp_path).artifacts
    assert artifact.uri.endswith("/evaluate-1/artifacts/int8.onnx")
    assert (artifact.sha256, artifact.size_bytes) == (hashlib.sha256(b"model").hexdigest(), 5)
    assert (artifact.precision, artifact.platforms, artifact.min_memory) == ("int8", ["linux/arm64"], "1Gi")
    later = start("later", {"evaluate": said(tmp_path)}).inputs("evaluate")
    assert later.artifact("int8").read_bytes() == b"model"
    with pytest.raises(train.StepError, match="no artifact 'fp16'"):
        later.artifact("fp16")


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"precision": "int7"}, "precision"),
        ({"precision": "fp32", "platforms": ["windows"]}, "platforms"),
        ({"precision": "fp32", "min_memory": "much"}, "minMemory"),
        ({"precision": "fp32", "format": "pickle"}, "format"),
    ],
)
def test_an_artifact_no_model_version_would_take_is_refused(start: Any, fields: dict[str, Any], hint: str) -> None:
    step = start("evaluate")
    (step.folder / "m.onnx").write_bytes(b"model")
    with pytest.raises(train.StepError, match=hint):
        step.save_artifact("fp32", step.folder / "m.onnx", **fields)


@pytest.mark.parametrize(
    ("metrics", "hint"),
    [
        ({"loss": float("nan")}, "'loss' is nan: a gate cannot judge it"),
        ({"loss": float("inf")}, "'loss' is inf"),
        ({"loss": "high"}, "'loss' is 'high'"),
        ({"loss": True}, "no number"),
        ({"a loss": 1.0}, "metric name 'a loss'"),
        ({f"m{number}": 1 for number in range(65)}, "64 at most"),
    ],
)
def test_metrics_a_gate_cannot_judge_are_refused(start: Any, metrics: dict[str, Any], hint: str) -> None:
    with pytest.raises(train.StepError, match=hint):
        start("train").finish(metrics)


def test_numbers_keep_their_value(start: Any, tmp_path: Path) -> None:
    start("train").finish({"a": 0.1, "b": 1e-9, "c": 3, "d": "0.9430"})
    assert said(tmp_path).metrics == {"a": "0.1", "b": "1e-09", "c": "3", "d": "0.9430"}


def test_a_report_that_outgrows_a_pod_is_refused_before_anything_is_written(start: Any, tmp_path: Path) -> None:
    step = start("train")
    with pytest.raises(train.StepError, match=f"a pod can say {REPORT_LIMIT}"):
        step.finish({f"{'m' * 55}{number}": "0." + "1" * 29 for number in range(64)})
    assert not (tmp_path / "termination").exists()


def test_other_ranks_write_nothing(start: Any, tmp_path: Path) -> None:
    step = start("train", rank=1)
    (step.folder / "m.onnx").write_bytes(b"model")
    step.save_file("m.onnx", step.folder / "m.onnx")
    step.save_artifact("fp32", step.folder / "m.onnx", precision="fp32")
    step.finish({"accuracy": 1.0})
    assert not (tmp_path / "termination").exists()
    assert not (tmp_path / "store").exists()


def test_what_was_not_asked_for_is_named(start: Any, tmp_path: Path) -> None:
    first = start("preprocess")
    first.finish()
    step = start("train", {"preprocess": said(tmp_path)})
    with pytest.raises(train.StepError, match="add it to dependsOn, with status Complete; it has \\['preprocess'\\]"):
        step.inputs("evaluate")
    with pytest.raises(train.StepError, match=r"saved no file 'split\.npz'"):
        step.inputs("preprocess").file("split.npz")
    with pytest.raises(train.StepError, match="no dataset"):
        step.dataset()


def test_the_dataset_is_the_one_file_of_its_folder(start: Any, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    step = start("preprocess", datasetPath=str(folder))
    with pytest.raises(train.StepError, match="0 files"):
        step.dataset()
    (folder / "surfaces.npz").write_bytes(b"images")
    assert step.dataset().read_bytes() == b"images"


def test_a_script_runs_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELFLEET_ORDER", raising=False)
    monkeypatch.setenv(train.LOCAL_RUN_ENV, str(tmp_path / "run"))
    (tmp_path / "surfaces.npz").write_bytes(b"images")
    monkeypatch.setenv(train.DATASET_ENV, str(tmp_path / "surfaces.npz"))
    first = train.step(local="preprocess")
    first.save_file("copy", first.dataset())
    first.save_artifact("fp32", first.dataset(), precision="fp32", format="other")
    first.finish({"accuracy": 0.5})
    earlier = train.step(local="evaluate").inputs("preprocess")
    assert earlier.metrics == {"accuracy": 0.5}
    assert earlier.file("copy").read_bytes() == b"images"
