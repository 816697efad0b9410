"""Early stopping and giving way in the pod: what is counted, what is heard, what is read of the node."""

import json
import math
from pathlib import Path

import pytest

from modelfleet.api.wire import (
    BEST_METRIC,
    CPU_METRIC,
    MEMORY_METRIC,
    ORDER_ENV,
    WAIT_METRIC,
    EarlyStopOrder,
    StepOrder,
)
from modelfleet.runtime import checkpoint, train
from modelfleet.runtime.early_stop import Evaluations, Told, is_better
from modelfleet.runtime.pressure import Pressure
from tests.unit.test_runtime_checkpoint import attempt

MINIMIZE = EarlyStopOrder(metric="val_loss", maximize=False, min_delta="0.01")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["0.5"], ("0.5", "0")),
        (["0.5", "0.495", "0.6"], ("0.5", "2")),
        (["0.5", "0.4", "0.6"], ("0.4", "1")),
        # Every evaluation counts here, the same value again as well.
        (["0.5", "0.5", "0.5"], ("0.5", "2")),
        (["0.5", "nan"], ("0.5", "1")),
        (["nan", "0.5"], ("0.5", "0")),
        (["nan", "what"], None),
    ],
)
def test_evaluations_are_counted(values: list[str], told: tuple[str, str] | None) -> None:
    evaluations, last = Evaluations(MINIMIZE), {}
    for value in values:
        last = evaluations.counted({"val_loss": value, "loss": "1"})
    assert last == ({} if told is None else {BEST_METRIC: told[0], WAIT_METRIC: told[1]})


def test_greater_may_be_better_and_other_metrics_are_no_evaluation() -> None:
    evaluations = Evaluations(EarlyStopOrder(metric="accuracy", maximize=True, min_delta="0"))
    assert evaluations.counted({"accuracy": "0.5"})[BEST_METRIC] == "0.5"
    assert evaluations.counted({"loss": "0.1"}) == {}
    assert evaluations.counted({"accuracy": "0.6"}) == {BEST_METRIC: "0.6", WAIT_METRIC: "0"}
    assert Evaluations(None).counted({"accuracy": "0.5"}) == {}


def test_what_is_heard_stays() -> None:
    told = Told()
    told.hear("Dance")
    told.hear(None)
    assert not told.finish
    assert not told.give_way
    told.hear("Finish")
    told.hear("Yield")
    assert told.finish
    assert told.give_way


@pytest.mark.parametrize(
    ("score", "best", "maximize", "better"),
    [
        (0.5, None, True, True),
        (0.5, 0.4, True, True),
        (0.5, 0.4, False, False),
        (0.5, 0.5, False, False),
        (math.nan, None, False, False),
    ],
)
def test_which_score_is_better(score: float, best: float | None, maximize: bool, better: bool) -> None:
    assert is_better(score, best, maximize=maximize) is better


def test_the_best_checkpoint_stays_and_is_found_by_the_next_attempt(tmp_path: Path) -> None:
    first = attempt(tmp_path, keep=1, maximize=False)
    for progress, score in enumerate((0.9, 0.5, 0.7, math.nan, 0.6), 1):
        assert first.due(score) is (score in (0.9, 0.5))
        first.save(progress, lambda folder: None, score=score)
    second = attempt(tmp_path, 2, keep=1, maximize=False)
    best, latest = second.best(), second.latest()
    assert best is not None
    assert latest is not None
    assert (best.progress, latest.progress) == (2, 5)
    assert second.due(0.4)
    # One that is not what it was is passed over.
    (best.folder / checkpoint.MANIFEST).write_text(json.dumps({"files": {"weights": "77"}, "score": 0.1}))
    assert second.best() == latest


def test_a_greater_score_may_be_the_better_one(tmp_path: Path) -> None:
    checkpoints = attempt(tmp_path, maximize=True)
    assert checkpoints.best() is None
    for progress, score in enumerate((0.5, 0.9, 0.9, 0.7), 1):
        checkpoints.save(progress, lambda folder: None, score=score)
    best = checkpoints.best()
    # Of equals, the newest.
    assert best is not None
    assert best.progress == 3


def test_without_scores_or_a_volume_there_is_no_best(tmp_path: Path) -> None:
    checkpoints = attempt(tmp_path, maximize=True)
    checkpoints.save(1, lambda folder: None)
    assert checkpoints.best() is None
    # Nobody said what is better.
    undirected = attempt(tmp_path)
    undirected.save(2, lambda folder: None, score=0.5)
    assert (undirected.best(), undirected.due(0.9)) == (None, False)
    nowhere = checkpoint.Checkpoints(None, 1, 0)
    assert (nowhere.best(), nowhere.due(0.5)) == (None, False)


def test_who_is_told_to_give_way_saves_once_more_and_ends(tmp_path: Path) -> None:
    told = Told()
    checkpoints, other = attempt(tmp_path, told=told), attempt(tmp_path, rank=1, told=told)
    assert not checkpoints.due()
    told.hear("Yield")
    assert checkpoints.due()
    assert not other.due()
    with pytest.raises(SystemExit) as ended:
        checkpoints.save(7, lambda folder: None)
    assert ended.value.code == checkpoint.STOPPED
    found = attempt(tmp_path, 2).latest()
    assert found is not None
    assert found.progress == 7


@pytest.mark.parametrize("finish", [None, True])
def test_an_attempt_after_an_early_stop_is_told_from_the_beginning(
    finish: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = StepOrder(
        training_job="nightly",
        namespace="vision",
        model="m",
        version="1.0.0",
        step="train",
        attempt=2,
        output_uri="s3://models/m",
        early_stop=MINIMIZE.model_copy(update={"finish": finish}),
    )
    monkeypatch.setenv(ORDER_ENV, order.model_dump_json(by_alias=True, exclude_none=True))
    step = train.step()
    assert step.should_finish() is bool(finish)
    step.told.hear("Finish")
    assert step.should_finish()


def node(folder: Path, busy: int, idle: int, available: int) -> None:
    """``/proc`` of a node; guest time is a part of user time and must not count twice."""
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 {busy} 0\ncpu0 1 2 3\n")
    (folder / "meminfo").write_text(f"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n")


def test_the_shares_of_the_node_and_of_the_pods_own_limit(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    node(proc, 100, 100, 400)
    pressure = Pressure(proc, cgroup)
    assert pressure.metrics() == {MEMORY_METRIC: "0.600"}
    node(proc, 190, 110, 400)
    assert pressure.metrics() == {CPU_METRIC: "0.900", MEMORY_METRIC: "0.600"}
    cgroup.mkdir()
    (cgroup / "memory.max").write_text("1000\n")
    (cgroup / "memory.current").write_text("950\n")
    (cgroup / "memory.stat").write_text("anon 700\ninactive_file 150\n")
    node(proc, 190, 210, 400)
    assert pressure.metrics() == {CPU_METRIC: "0.000", MEMORY_METRIC: "0.800"}
    (cgroup / "memory.max").write_text("max\n")
    assert pressure.metrics() == {MEMORY_METRIC: "0.600"}


def test_what_cannot_be_read_is_not_told(tmp_path: Path) -> None:
    assert Pressure(tmp_path, tmp_path).metrics() == {}
    (tmp_path / "stat").write_text("intr 1 2 3\n")
    (tmp_path / "meminfo").write_text("MemTotal: 0 kB\nMemAvailable: 0 kB\n")
    assert Pressure(tmp_path, tmp_path).metrics() == {}


def test_this_machine_can_be_read() -> None:
    share = float(Pressure().metrics()[MEMORY_METRIC])
    assert 0 < share <= 1
