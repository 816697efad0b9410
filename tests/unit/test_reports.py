"""What pods told, kept until a plan sees it; a job is not woken for each report."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from modelfleet.cluster import difference as difference_
from modelfleet.cluster.view import View
from modelfleet.plan.training.trainer_status import SETTLE_SECONDS, Report
from modelfleet.reconcile.execute import Executor
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.reports import Reports
from tests.unit.job_world import START, Object, World, job, step
from tests.unit.test_trainer_status import TRAINER

KEY = Key("TrainingJob", "vision", "nightly")


class Clock:
    """Time that passes when a test says so, and what is to happen then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, call))

    def go_to(self, moment: float) -> None:
        self.now = moment
        for each in [each for each in self.due if each[0] <= moment]:
            self.due.remove(each)
            each[1]()


def said(percentage: int, step: str = "train") -> Report:
    return Report(step, 1, START + timedelta(seconds=percentage), percentage)


def test_a_job_is_woken_at_once_and_then_no_more_often_than_it_may_be_written() -> None:
    clock, woken = Clock(), list[float]()
    reports = Reports(lambda _: woken.append(clock.now), lambda: clock.now, clock.later)
    for second in range(100):
        clock.go_to(1000.0 + second)
        reports.add(KEY, said(second))
        reports.add(KEY, said(second))
    clock.go_to(1200.0)
    assert woken == [1000.0 + SETTLE_SECONDS * turn for turn in range(10)] + [1200.0]
    assert clock.due == []
    # The last word of the hundred was followed by a wake, though none came after it.
    assert [report.percentage for report in reports.of(KEY)] == [99]


def test_jobs_and_steps_are_kept_apart_and_forgotten() -> None:
    clock, woken = Clock(), list[Key]()
    reports = Reports(woken.append, lambda: clock.now, clock.later)
    other = KEY._replace(name="other")
    for key, name in ((KEY, "train"), (KEY, "finetune"), (other, "train")):
        reports.add(key, said(1, name))
    assert woken == [KEY, other]
    assert [report.step for report in reports.of(KEY)] == ["train", "finetune"]
    reports.forget(KEY)
    assert (reports.of(KEY), len(reports.of(other))) == ([], 1)
    reports.clear()
    assert reports.of(other) == []


class Writes:
    """The API server, for status patches of one object only; when each came."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.moments: list[float] = []

    async def patch_status(self, obj: Object, difference: Object) -> None:
        self.moments.append(self.clock.now)
        self.world.obj["status"] = difference_.without_nulls(merged_patch(self.world.status, difference))


def merged_patch(live: Object, patch: Object) -> Object:
    out = dict(live)
    for key, value in patch.items():
        out[key] = merged_patch(out.get(key) or {}, value) if isinstance(value, dict) else value
    return out


@pytest.mark.parametrize("every", [0.5, 3.0, 10.0, 17.0])
async def test_a_job_is_written_at_most_once_in_ten_seconds(every: float) -> None:
    world = World(job(step("train", trainer=TRAINER)))
    world.settle()
    clock, due = Clock(), list[float]()
    reports = Reports(lambda _: due.append(clock.now), lambda: clock.now, clock.later)
    writes = Writes(world, clock)
    executor = Executor(writes, View(), lambda: clock.now, lambda kind, note: None)  # type: ignore[arg-type]

    async def reconcile() -> None:
        """What the queue does with a key that is due."""
        world.reports = {report.step: report for report in reports.of(KEY)}
        _, wait = await executor.execute(world.obj, replace(world.plan(), notes=[], apply=[]))
        if wait is not None and wait <= SETTLE_SECONDS:
            clock.later(wait, lambda: due.append(clock.now))

    async def pass_to(moment: float) -> None:
        clock.go_to(moment)
        while due:
            due.clear()
            await reconcile()

    told = 0
    while told * every < 120:
        world.now = START + timedelta(seconds=told * every)
        await pass_to(1000.0 + told * every)
        reports.add(KEY, Report("train", 1, world.now, min(told, 99), metrics={"loss": str(told)}))
        await pass_to(clock.now)
        told += 1
    for second in range(1, 12):
        await pass_to(1000.0 + told * every + second)
    gaps = [after - before for before, after in pairwise(writes.moments)]
    assert min(gaps) >= SETTLE_SECONDS - 0.001
    assert len(writes.moments) <= 120 / max(every, SETTLE_SECONDS) + 3
    assert world.status["trainerStatus"]["metrics"] == [{"name": "loss", "value": str(told - 1)}]
    before = len(writes.moments)
    for _ in range(3):
        await reconcile()
    assert len(writes.moments) == before
