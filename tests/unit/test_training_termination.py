"""Adaptive termination: early stop, stall and resource pressure, as decided from reports, pods and the clock."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelfleet.api import wire
from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.api.training_termination import ResourcePressure, Termination
from modelfleet.plan import conditions
from modelfleet.plan.training import early_stop, pressure, termination
from modelfleet.plan.training.trainer_status import Report
from tests.unit.job_world import START, Object, World, artifact, job, report, step

CHECKPOINT = {"volumeClaimName": "ckpt"}
TRAINER = {"image": "registry.example/train:1", "numNodes": 2}
EARLY = {"metric": "val_loss", "direction": "Minimize", "patience": 3, "minDelta": "0.01"}
STALL = {"maxStallSeconds": 600}
PRESSURE = {"resourcePressure": {"seconds": 60, "yieldSeconds": 300}}
LOWER = {"resourcePressure": {"seconds": 60, "action": "LowerPriority", "priorityClassName": "scavenger"}}


def training(rule: Object, *more: Object, **spec: Any) -> World:
    """A job whose gang runs."""
    world = World(job(step("train", trainer=TRAINER), *more, termination=rule, **spec))
    world.settle()
    world.up("nightly-train-1")
    world.settle()
    return world


def said(world: World, attempt: int = 1, after: float = 60, **metrics: str) -> None:
    world.now += timedelta(seconds=after)
    world.tell("train", attempt, metrics=metrics)
    world.settle()
    TrainingJobStatus.model_validate(world.status)


def of_step(world: World) -> Object:
    return dict(world.status["steps"][0])


def order(world: World, name: str) -> Object:
    environment = world.objects["Job", name]["spec"]["template"]["spec"]["containers"][0]["env"]
    return dict(json.loads(next(each["value"] for each in environment if each["name"] == wire.ORDER_ENV)))


# Early stop


@pytest.mark.parametrize(
    ("value", "best", "direction", "delta", "better"),
    [
        ("0.5", None, "Minimize", None, True),
        ("0.5", "0.6", "Minimize", None, True),
        ("0.5", "0.5", "Minimize", None, False),
        ("0.5", "0.4", "Minimize", None, False),
        ("0.5", "0.6", "Maximize", None, False),
        ("0.5", "0.4", "Maximize", None, True),
        ("0.59", "0.6", "Minimize", "0.01", False),
        ("0.5899", "0.6", "Minimize", "0.01", True),
        ("0.61", "0.6", "Maximize", "0.01", False),
        ("0.6101", "0.6", "Maximize", "0.01", True),
        ("nan", None, "Minimize", None, False),
        ("inf", "0.5", "Maximize", None, False),
        ("0.5", "nan", "Minimize", None, True),
        ("1e-3", "0.002", "Minimize", None, True),
    ],
)
def test_what_is_better(value: str, best: str | None, direction: Any, delta: str | None, better: bool) -> None:
    assert early_stop.is_better(value, best, direction, delta) is better


@pytest.mark.parametrize(
    ("values", "count", "best"),
    [
        (["0.9"], 0, "0.9"),
        (["0.9", "0.8", "0.7"], 0, "0.7"),
        (["0.9", "0.8", "0.85", "0.84"], 2, "0.8"),
        (["0.9", "0.8", "0.85", "0.7"], 0, "0.7"),
        # No more than minDelta is no improvement, and does not become the best.
        (["0.9", "0.895", "0.891", "0.889"], 0, "0.889"),
        (["0.9", "0.895", "0.892"], 2, "0.9"),
        # A value that is told again is no evaluation.
        (["0.9", "0.9", "0.9"], 0, "0.9"),
        (["nan", "0.9", "nan"], 1, "0.9"),
        ([], None, None),
    ],
)
def test_evaluations_are_counted_by_their_values(values: list[str], count: int | None, best: str | None) -> None:
    rule = Termination.model_validate(EARLY)
    watch: Object = {}
    for number, value in enumerate(values):
        watch |= early_stop.evaluated(
            watch, Report("t", 1, START + timedelta(minutes=number), metrics={"val_loss": value}), rule
        )
    assert (watch.get("withoutImprovement"), watch.get("bestValue")) == (count, best)


def test_the_library_counts_for_itself() -> None:
    rule = Termination.model_validate(EARLY)
    metrics = {"val_loss": "0.5", wire.BEST_METRIC: "0.4", wire.WAIT_METRIC: "2"}
    told = Report("t", 1, START, metrics=metrics)
    watch = early_stop.evaluated({"bestValue": "0.6"}, told, rule)
    assert (watch["withoutImprovement"], watch["bestValue"]) == (2, "0.4")
    assert "bestTime" not in early_stop.evaluated({"bestValue": "0.4"}, told, rule)
    # Nonsense from a program that uses the names for something else is passed over.
    odd = Report("t", 1, START, metrics=metrics | {wire.WAIT_METRIC: "-1"})
    assert early_stop.evaluated({}, odd, rule)["withoutImprovement"] == 0


def test_a_training_that_gets_no_better_is_told_to_finish_and_the_job_goes_on() -> None:
    world = training(EARLY, step("evaluate", "train"))
    for value in ("0.9", "0.5", "0.51", "0.52"):
        said(world, val_loss=value)
    assert termination.told(world.status, "train", 1) == ""
    said(world, val_loss="0.495")
    told = of_step(world)
    assert told["request"]["action"] == "Finish"
    assert (told["watch"]["bestValue"], told["watch"]["bestTime"]) == ("0.5", "2026-11-21T06:02:00Z")
    assert termination.told(world.status, "train", 1) == "Finish"
    assert world.unfinished() == ["nightly-train-1"]
    condition = world.condition("EarlyStopped")
    assert (condition["status"], condition["reason"]) == ("True", "NoImprovement")
    assert "val_loss did not improve by more than 0.01 in 3 evaluations (best: 0.5 at" in condition["message"]
    assert world.reasons.count("EarlyStopped") == 1
    # What it reports while it finishes changes nothing, and neither does looking again.
    said(world, val_loss="0.1")
    assert of_step(world)["request"] == told["request"]
    assert world.settle() == 0
    world.finish("nightly-train-1", report((artifact(),), val_loss="0.5"))
    world.settle()
    world.finish("nightly-evaluate-1", report())
    world.settle()
    assert (world.status["phase"], world.status["restarts"]) == ("Succeeded", 0)
    assert world.condition("EarlyStopped")["status"] == "True"


def test_another_operator_goes_on_counting_where_the_last_one_was() -> None:
    world = training(EARLY)
    for value in ("0.5", "0.6", "0.61"):
        said(world, val_loss=value)
    world.reports.clear()
    world.listening_since = world.now
    assert world.settle() == 0
    said(world, val_loss="0.62")
    assert of_step(world)["request"]["action"] == "Finish"


def test_each_attempt_counts_for_itself() -> None:
    world = training(EARLY, checkpoint=CHECKPOINT)
    for value in ("0.5", "0.6", "0.61"):
        said(world, val_loss=value)
    world.finish("nightly-train-1", "boom", code=1)
    world.wait(11)
    world.up("nightly-train-2")
    said(world, 2, val_loss="0.62")
    assert of_step(world)["watch"]["withoutImprovement"] == 0
    assert "request" not in of_step(world)
    # A report of the attempt before, which was on its way, counts for nothing.
    said(world, 1, val_loss="0.1")
    assert of_step(world)["watch"]["bestValue"] == "0.62"


def test_one_that_dies_while_it_finishes_is_told_from_the_beginning() -> None:
    world = training(EARLY, checkpoint=CHECKPOINT)
    for value in ("0.5", "0.6", "0.61", "0.62"):
        said(world, val_loss=value)
    assert order(world, "nightly-train-1")["earlyStop"] == {
        "metric": "val_loss",
        "maximize": False,
        "minDelta": "0.01",
    }
    world.finish("nightly-train-1", "boom", code=1)
    world.wait(11)
    assert order(world, "nightly-train-2")["earlyStop"]["finish"] is True
    environment = world.objects["Job", "nightly-train-2"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "FINISH_EARLY", "value": "true"} in environment
    assert termination.told(world.status, "train", 2) == "Finish"
    world.finish("nightly-train-2", report((artifact(),)))
    world.settle()
    assert world.status["phase"] == "Succeeded"


def test_without_a_checkpoint_there_is_nothing_to_finish_and_it_trains_anew() -> None:
    world = training(EARLY)
    for value in ("0.5", "0.6", "0.61", "0.62"):
        said(world, val_loss=value)
    world.finish("nightly-train-1", "boom", code=1)
    world.wait(11)
    assert "finish" not in order(world, "nightly-train-2")["earlyStop"]
    assert "request" not in of_step(world)
    assert termination.told(world.status, "train", 2) == ""
    assert world.condition("EarlyStopped") == {}


def test_one_that_does_not_listen_is_stopped_and_finishes_from_its_checkpoint_or_fails() -> None:
    world = training(EARLY | {"stopGraceSeconds": 100}, checkpoint=CHECKPOINT, backoffLimit=0)
    for value in ("0.5", "0.6", "0.61", "0.62"):
        said(world, val_loss=value)
    world.wait(99)
    assert world.unfinished() == ["nightly-train-1"]
    world.wait(2)
    assert world.unfinished() == []
    assert world.reasons.count("EarlyStopIgnored") == 1
    world.wait(11)
    assert order(world, "nightly-train-2")["earlyStop"]["finish"] is True
    # The grace of the second one begins with its pods.
    world.wait(5000)
    assert world.unfinished() == ["nightly-train-2"]
    world.up("nightly-train-2")
    world.wait(99)
    assert world.unfinished() == ["nightly-train-2"]
    world.wait(2)
    assert (world.status["phase"], world.condition("Failed")["reason"]) == ("Failed", "EarlyStopIgnored")
    assert "should_finish()" in world.condition("Failed")["message"]


def test_one_that_does_not_listen_and_has_no_checkpoint_fails() -> None:
    world = training(EARLY | {"stopGraceSeconds": 100})
    for value in ("0.5", "0.6", "0.61", "0.62"):
        said(world, val_loss=value)
    world.wait(101)
    assert (world.status["phase"], world.condition("Failed")["reason"]) == ("Failed", "EarlyStopIgnored")
    assert world.unfinished() == []


# Stall


def test_a_gang_that_falls_silent_begins_again_and_is_charged_for_it() -> None:
    world = training(STALL, checkpoint=CHECKPOINT, backoffLimit=1)
    said(world, loss="1")
    world.wait(599)
    assert world.unfinished() == ["nightly-train-1"]
    world.wait(2)
    assert world.unfinished() == []
    assert world.status["restarts"] == 1
    assert world.reasons.count("TrainingStalled") == 1
    assert "have reported nothing since 2026-11-21T06:01:00Z (600 s)" in of_step(world)["message"]
    world.wait(11)
    assert world.unfinished() == ["nightly-train-2"]
    # It hangs before its first report this time; the clock begins with its pods, and the limit is used up.
    world.wait(3600)
    assert world.unfinished() == ["nightly-train-2"]
    world.up("nightly-train-2")
    world.wait(599)
    assert world.unfinished() == ["nightly-train-2"]
    world.wait(2)
    assert (world.status["phase"], world.condition("Failed")["reason"]) == ("Failed", "TrainingStalled")


def test_the_plan_comes_back_when_it_is_due() -> None:
    world = training(STALL)
    said(world, loss="1")
    assert world.plan().requeue_after == pytest.approx(600, abs=1)


@pytest.mark.parametrize("why", ["never reported", "not ready", "nobody listened", "suspended"])
def test_what_is_no_stall(why: str) -> None:
    world = training(STALL)
    if why != "never reported":
        said(world, loss="1")
    if why == "not ready":
        world.objects["Pod", "nightly-train-1-1"]["status"]["conditions"][0]["status"] = "False"
    if why == "nobody listened":
        world.listening_since = world.now + timedelta(seconds=3000)
    if why == "suspended":
        world.edit(suspend=True)
    world.wait(3500)
    assert world.status["restarts"] == 0
    assert "TrainingStalled" not in world.reasons


def test_a_report_of_anything_is_a_sign_of_life() -> None:
    world = training(STALL)
    for _ in range(10):
        said(world, after=500)
    assert (world.unfinished(), world.status["restarts"]) == (["nightly-train-1"], 0)


# Resource pressure


@pytest.mark.parametrize(
    ("metrics", "short"),
    [
        ({}, ""),
        ({"pressure.cpu": "0.84", "pressure.memory": "0.89"}, ""),
        ({"pressure.cpu": "0.85"}, "CPU time in use: 0.85, threshold 0.85"),
        ({"pressure.memory": "0.93"}, "memory in use: 0.93, threshold 0.9"),
        ({"pressure.cpu": "nan", "pressure.memory": "much"}, ""),
    ],
)
def test_what_a_node_is_short_of(metrics: dict[str, str], short: str) -> None:
    assert pressure.told(Report("t", 1, START, metrics=metrics), ResourcePressure()) == short


def test_a_step_on_a_node_under_pressure_gives_it_back_and_goes_on_later() -> None:
    world = training(PRESSURE, checkpoint=CHECKPOINT, backoffLimit=0)
    busy = {wire.CPU_METRIC: "0.99", wire.MEMORY_METRIC: "0.2"}
    said(world, **busy)
    said(world, after=59, **busy)
    assert "request" not in of_step(world)
    said(world, after=2, **busy)
    assert of_step(world)["request"]["action"] == "Yield"
    assert termination.told(world.status, "train", 1) == "Yield"
    assert world.reasons.count("ResourcePressure") == 1
    # A launcher's own exit code: it was asked to, so that is no failure.
    world.finish("nightly-train-1", "told to stop", code=1)
    world.settle()
    assert world.reasons.count("Yielded") == 1
    world.wait(299)
    assert world.unfinished() == []
    world.wait(2)
    assert world.unfinished() == ["nightly-train-2"]
    assert (world.status["restarts"], "request" in of_step(world)) == (0, False)
    assert termination.told(world.status, "train", 2) == ""


def test_pressure_that_ceases_is_forgotten() -> None:
    world = training(PRESSURE, checkpoint=CHECKPOINT)
    said(world, **{wire.MEMORY_METRIC: "0.95"})
    said(world, after=50, **{wire.MEMORY_METRIC: "0.5"})
    said(world, after=50, **{wire.MEMORY_METRIC: "0.95"})
    assert "request" not in of_step(world)
    # An old report is no lasting pressure.
    world.wait(3600)
    assert "request" not in of_step(world)


def test_one_that_does_not_give_way_is_stopped() -> None:
    world = training(PRESSURE | {"stopGraceSeconds": 30}, checkpoint=CHECKPOINT, backoffLimit=0)
    said(world, **{wire.CPU_METRIC: "0.99"})
    said(world, after=61, **{wire.CPU_METRIC: "0.99"})
    world.wait(31)
    assert world.unfinished() == []
    world.wait(301)
    assert (world.unfinished(), world.status["restarts"]) == (["nightly-train-2"], 0)


def test_what_ends_well_in_the_meantime_has_ended_well() -> None:
    world = training(PRESSURE, checkpoint=CHECKPOINT)
    said(world, **{wire.CPU_METRIC: "0.99"})
    said(world, after=61, **{wire.CPU_METRIC: "0.99"})
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert world.status["phase"] == "Succeeded"


@pytest.mark.parametrize("queued", [False, True])
def test_lower_priority_is_the_next_attempts_and_all_after_it(queued: bool) -> None:
    world = training(LOWER, checkpoint=CHECKPOINT, backoffLimit=3)
    if queued:
        world.obj["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpu", "kueue.x-k8s.io/priority-class": "high"}
    said(world, **{wire.CPU_METRIC: "0.99"})
    said(world, after=61, **{wire.CPU_METRIC: "0.99"})
    world.finish("nightly-train-1", "told to stop", code=143)
    world.settle()
    for attempt in (2, 3):
        made = world.objects["Job", f"nightly-train-{attempt}"]
        label = made["metadata"]["labels"].get("kueue.x-k8s.io/priority-class")
        in_pod = made["spec"]["template"]["spec"].get("priorityClassName")
        assert (label, in_pod) == (("scavenger", None) if queued else (None, "scavenger"))
        made["spec"]["suspend"] = False
        world.up(f"nightly-train-{attempt}")
        # Once is enough: it has given way.
        said(world, attempt, **{wire.CPU_METRIC: "0.99"})
        said(world, attempt, after=100, **{wire.CPU_METRIC: "0.99"})
        assert world.unfinished() == [f"nightly-train-{attempt}"]
        world.finish(f"nightly-train-{attempt}", "boom", code=1)
        world.settle()
        world.wait(60)
    assert world.status["restarts"] == 2


def test_a_node_whose_kubelet_is_short_of_memory_needs_no_report() -> None:
    world = training(PRESSURE, checkpoint=CHECKPOINT)
    short = {"type": "MemoryPressure", "status": "True", "lastTransitionTime": conditions.timestamp(world.now)}
    world.objects["Node", "nightly-train-1-on-1"]["status"]["conditions"].append(short)
    world.wait(59)
    assert "request" not in of_step(world)
    world.wait(2)
    assert of_step(world)["request"]["message"].startswith("node nightly-train-1-on-1 has MemoryPressure since")


def test_a_job_without_termination_has_none_of_it() -> None:
    world = World(job(step("train", trainer=TRAINER)))
    world.settle()
    world.up("nightly-train-1")
    said(world, val_loss="0.5")
    assert not {"watch", "request", "priorityClassName"} & of_step(world).keys()
    assert "earlyStop" not in order(world, "nightly-train-1")
    assert world.wait(86_400) == 0
