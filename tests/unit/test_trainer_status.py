"""What pods tell of their training, in the status: merged, bounded, monotone, and brought to an end."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelfleet.api.training_job_status import TrainerStatus, TrainingJobStatus
from modelfleet.plan import conditions
from modelfleet.plan.training import trainer_status
from modelfleet.plan.training.trainer_status import Report
from tests.unit.job_world import START, Object, World, artifact, job, report, step

TRAINER = {"image": "registry.example/train:1", "command": ["torchrun", "train.py"], "numNodes": 2}


def said(seconds: float = 0, step: str = "train", attempt: int = 1, **fields: Any) -> Report:
    return Report(step, attempt, START + timedelta(seconds=seconds), **fields)


def running(name: str = "train", attempt: int = 1, phase: str = "Running") -> Object:
    return {"name": name, "phase": phase, "attempt": attempt}


def after(*reports: Report, steps: list[Object] | None = None, named: tuple[str, ...] = ()) -> Object:
    """The status after these reports, each written before the next came."""
    before: Object | None = None
    for each in reports:
        before = trainer_status.status(before, steps or [running()], [each], named)
        TrainerStatus.model_validate(before)
        assert trainer_status.status(before, steps or [running()], [each], named) == before, "not at rest"
    assert before is not None
    return before


def test_a_first_report() -> None:
    assert after(said(percentage=0, metrics={"loss": "2.3"})) == {
        "progressPercentage": 0,
        "metrics": [{"name": "loss", "value": "2.3"}],
        "lastUpdatedTime": "2026-11-21T06:00:00Z",
        "step": "train",
        "attempt": 1,
        "startTime": "2026-11-21T06:00:00Z",
        "startPercentage": 0,
    }


def test_the_remaining_time_is_by_the_pace_unless_the_training_says_it() -> None:
    begun = said(percentage=40)
    assert "estimatedRemainingSeconds" not in after(begun)
    assert after(begun, said(60, percentage=50))["estimatedRemainingSeconds"] == 300
    assert after(begun, said(60, percentage=50, remaining_seconds=7))["estimatedRemainingSeconds"] == 7
    # The older word is not kept beside a newer percentage.
    later = after(begun, said(60, percentage=50, remaining_seconds=7), said(120, percentage=60))
    assert later["estimatedRemainingSeconds"] == 240
    assert after(begun, said(60, percentage=100))["estimatedRemainingSeconds"] == 0
    assert after(said(percentage=0), said(10**9, percentage=1))["estimatedRemainingSeconds"] == 2**31 - 1


def test_within_an_attempt_nothing_goes_back_or_is_lost() -> None:
    status = after(
        said(percentage=10, metrics={"loss": "2", "val_loss": "3"}),
        said(20, percentage=30, metrics={"loss": "1"}),
        said(10, percentage=20),
    )
    assert status["progressPercentage"] == 30
    assert status["metrics"] == [{"name": "loss", "value": "1"}, {"name": "val_loss", "value": "3"}]
    assert status["lastUpdatedTime"] == conditions.timestamp(START + timedelta(seconds=20))


def test_reports_that_were_not_written_one_by_one_are_as_one() -> None:
    first, second = said(percentage=10, metrics={"val_loss": "3"}), said(5, metrics={"loss": "1"})
    both = trainer_status.merged(first, second)
    assert (both.percentage, both.metrics, both.received) == (10, {"val_loss": "3", "loss": "1"}, second.received)
    other = said(9, attempt=2, metrics={"loss": "9"})
    assert trainer_status.merged(both, other) == other
    many = trainer_status.merged(first, said(metrics={f"m{index}": "1" for index in range(300)}))
    assert len(many.metrics) == trainer_status.METRICS_HELD


def test_another_attempt_begins_at_its_own_percentage() -> None:
    before = after(said(percentage=50, remaining_seconds=60, metrics={"loss": "1"}))
    again = [running(attempt=2)]
    waiting = trainer_status.status(before, again, [said(percentage=51)])
    assert waiting == {key: value for key, value in before.items() if key != "estimatedRemainingSeconds"}
    resumed = trainer_status.status(waiting, again, [said(100, attempt=2, percentage=40)])
    assert resumed is not None
    assert (resumed["attempt"], resumed["progressPercentage"], resumed["startPercentage"]) == (2, 40, 40)
    assert "metrics" not in resumed


@pytest.mark.parametrize(
    ("phase", "percentage", "remaining"), [("Succeeded", 100, 0), ("Failed", 43, None), ("Pending", 43, None)]
)
def test_a_step_that_ended(phase: str, percentage: int, remaining: int | None) -> None:
    before = after(said(percentage=42, remaining_seconds=9))
    ended = trainer_status.status(before, [running(phase=phase)], [said(1, percentage=43, remaining_seconds=8)])
    assert ended is not None
    assert (ended["progressPercentage"], ended.get("estimatedRemainingSeconds")) == (percentage, remaining)


def test_it_is_about_the_last_step_that_told_anything() -> None:
    steps = [running("pretrain", phase="Succeeded"), running("finetune"), running("evaluate")]
    first = trainer_status.status(None, steps[:2], [said(step="pretrain", percentage=90)])
    assert first is not None
    assert (first["step"], first["progressPercentage"]) == ("pretrain", 100)
    reports = [said(step="pretrain", percentage=90), said(step="finetune", percentage=5)]
    second = trainer_status.status(first, steps, reports)
    assert second is not None
    assert (second["step"], second["progressPercentage"]) == ("finetune", 5)
    assert trainer_status.status(second, steps, reports[:1]) == second


def test_metrics_are_bounded_and_those_that_count_come_first() -> None:
    metrics = {f"m{index:03}": "1" for index in range(40)} | {"zeta": "0.5"}
    kept = after(said(metrics=metrics), named=("zeta",))["metrics"]
    assert len(kept) == trainer_status.METRICS_KEPT
    assert kept[:2] == [{"name": "zeta", "value": "0.5"}, {"name": "m000", "value": "1"}]
    wide = after(said(metrics={"\U0001f600" * 60 + str(index): "\U0001f600" * 64 for index in range(32)}))
    assert len(json.dumps(wide)) < 2 * trainer_status.METRICS_LENGTH


def test_what_the_gate_and_termination_name_is_kept() -> None:
    world = World(job(step("train", trainer=TRAINER), gate=[GATE], termination=STOP))
    world.settle()
    world.tell("train", 1, metrics={f"b{index:03}": "1" for index in range(40)} | {"z": "2", "accuracy": "0.5"})
    world.settle()
    assert [metric["name"] for metric in world.status["trainerStatus"]["metrics"][:3]] == ["accuracy", "z", "b000"]


def test_no_report_no_status() -> None:
    assert trainer_status.status(None, [running()], []) is None
    assert trainer_status.status(None, [running()], [said(attempt=2)]) is None


def test_a_job_shows_its_progress_to_the_end() -> None:
    world = World(job(step("train", trainer=TRAINER), step("check", "train"), gate=[GATE]))
    world.settle()
    assert "trainerStatus" not in world.status
    world.tell("train", 1, percentage=20, metrics={"val_loss": "0.5"})
    outcome = world.plan()
    assert outcome.settle_status_seconds == trainer_status.SETTLE_SECONDS
    assert world.settle() == 1
    world.now += timedelta(seconds=30)
    world.tell("train", 1, percentage=80, metrics={"val_loss": "0.2"})
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    shown = world.status["trainerStatus"]
    assert (shown["progressPercentage"], shown["estimatedRemainingSeconds"]) == (100, 0)
    assert shown["metrics"] == [{"name": "val_loss", "value": "0.2"}]
    world.finish("nightly-check-1", report(accuracy="0.95"))
    world.settle()
    assert (world.status["phase"], world.status["trainerStatus"]) == ("Succeeded", shown)
    world.tell("train", 1, percentage=81)
    assert world.settle() == 0
    TrainingJobStatus.model_validate(world.status)


def test_a_gang_that_begins_again_keeps_the_last_word_until_it_speaks() -> None:
    world = World(job(step("train", trainer=TRAINER)))
    world.settle()
    world.tell("train", 1, percentage=60, remaining_seconds=100)
    world.settle()
    world.finish("nightly-train-1", "boom", code=1)
    world.settle()
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    shown = world.status["trainerStatus"]
    assert (shown["attempt"], shown["progressPercentage"]) == (1, 60)
    assert "estimatedRemainingSeconds" not in shown
    world.tell("train", 2, percentage=55)
    world.settle()
    shown = world.status["trainerStatus"]
    assert (shown["attempt"], shown["progressPercentage"]) == (2, 55)


STOP = {"metric": "z", "direction": "Minimize", "patience": 5}
GATE = {"metric": "accuracy", "comparison": ">=", "value": "0.9"}
