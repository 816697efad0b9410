"""What pods told, kept until a plan sees it; a job is not woken for each report."""

from collections.abc import Callable
from datetime import timedelta

from modelfleet.plan.trainer_status import SETTLE_SECONDS, Report
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.reports import Reports
from tests.unit.job_world import START

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
    for key, step in ((KEY, "train"), (KEY, "finetune"), (other, "train")):
        reports.add(key, said(1, step))
    assert woken == [KEY, other]
    assert [report.step for report in reports.of(KEY)] == ["train", "finetune"]
    reports.forget(KEY)
    assert (reports.of(KEY), len(reports.of(other))) == ([], 1)
    reports.clear()
    assert reports.of(other) == []
