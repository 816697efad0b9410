"""When keys are due. The clock is a number here; nothing waits."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelfleet.reconcile.key import Key
from modelfleet.reconcile.schedule import HURRY_FLOOR, REST, SHORTEST_REQUEUE, Pace, Schedule

PACE = Pace(window=0.2, calm=2.0, first_backoff=1.0, longest_backoff=300.0, resync=720.0)
A, B = Key("Kind", "n", "a"), Key("Kind", "n", "b")


def schedule() -> Schedule:
    return Schedule(PACE, random.Random(0))


def test_events_within_the_window_make_one_run() -> None:
    due = schedule()
    for now in (0.0, 0.05, 0.15):
        due.add(A, now)
    assert due.take(0.1) is None
    assert due.take(0.2) == A
    assert due.take(100.0) is None


def test_a_running_key_is_not_taken_twice_and_runs_again_for_what_came_meanwhile() -> None:
    due = schedule()
    due.add(A, 0.0)
    assert due.take(1.0) == A
    due.add(A, 1.1)
    assert due.take(2.0) is None
    due.done(A, 2.0, None)
    assert due.take(2.1) is None
    assert due.take(2.3) == A


def test_what_gives_a_plan_nothing_to_do_waits_for_what_does() -> None:
    due = schedule()
    due.add(A, 0.0, calm=True)
    assert due.take(1.9) is None
    due.add(A, 1.9, calm=True)
    assert due.take(2.0) == A
    due.add(A, 2.1, calm=True)
    due.done(A, 2.2, None)
    assert due.take(4.1) is None
    due.add(A, 4.1)
    due.add(A, 4.1, calm=True)
    assert due.take(4.2) == A
    due.add(A, 4.3, calm=True)
    due.add(A, 4.3)
    due.add(A, 4.3, calm=True)
    due.done(A, 5.0, None)
    assert due.take(5.2) == A


def test_a_plan_that_takes_long_to_think_is_asked_less_often() -> None:
    due = schedule()
    due.add(A, 0.0)
    due.take(1.0)
    due.add(A, 2.0)
    due.done(A, 5.0, None, cost=0.5)
    due.add(A, 5.0)
    assert due.take(4.9 + REST * 0.5) is None
    assert due.take(5.0 + REST * 0.5) == A


def test_what_has_more_to_write_is_not_held_up_by_its_plans_cost() -> None:
    due = schedule()
    due.add(A, 0.0)
    due.take(1.0)
    due.done(A, 5.0, 0.0, cost=0.5)
    due.add(A, 5.1)
    assert due.next_due() == 5.0 + SHORTEST_REQUEUE


def test_requeue_is_kept_and_hurried_by_events() -> None:
    due = schedule()
    due.add(A, 0.0)
    due.take(1.0)
    due.done(A, 1.0, 60.0)
    assert due.take(60.9) is None
    due.add(A, 10.0)
    assert due.take(10.5) == A


def test_a_plan_that_asks_for_now_does_not_spin() -> None:
    due = schedule()
    due.add(A, 0.0)
    due.take(1.0)
    due.done(A, 1.0, 0.0)
    assert due.next_due() == 1.0 + SHORTEST_REQUEUE


def test_without_wishes_the_resync_comes_jittered() -> None:
    times = set()
    due = schedule()
    for key in (A, B):
        due.add(key, 0.0)
        assert due.take(1.0) == key
        due.done(key, 1.0, None)
        due_at = due.next_due()
        assert due_at is not None
        times.add(due_at)
        assert 1.0 + 0.75 * PACE.resync <= due_at <= 1.0 + 1.25 * PACE.resync
        assert due.take(due_at) == key
    assert len(times) == 2


def test_failures_back_off_up_to_the_cap_and_success_forgets_them() -> None:
    due = schedule()
    due.add(A, 0.0)
    now, waits = 1.0, []
    for number in range(1, 15):
        assert due.take(now) == A
        assert due.failed(A, now) == number
        due_at = due.next_due()
        assert due_at is not None
        waits.append(due_at - now)
        now = due_at
    assert waits[0] <= 1.25
    assert all(wait <= 1.25 * PACE.longest_backoff for wait in waits)
    assert waits[-1] >= 0.75 * PACE.longest_backoff
    due.take(now)
    due.done(A, now, 5.0)
    due.take(now + 5)
    assert due.failed(A, now + 5) == 1


def test_a_failed_key_is_not_hurried_by_its_own_half_done_writes() -> None:
    due = schedule()
    due.add(A, 0.0)
    now = 1.0
    for _ in range(8):
        due.take(now)
        due.failed(A, now)
        due_at = due.next_due()
        assert due_at is not None
        now = due_at
    due.take(now)
    due.failed(A, now)
    due.add(A, now)
    assert due.next_due() == now + HURRY_FLOOR


def test_retry_after_of_the_server_is_kept_even_against_events() -> None:
    due = schedule()
    due.add(A, 0.0)
    due.take(1.0)
    due.failed(A, 1.0, retry_after=30.0)
    due.add(A, 2.0)
    assert due.take(30.9) is None
    assert due.take(31.0) == A


def test_a_key_that_is_gone_is_forgotten_unless_something_happened_meanwhile() -> None:
    due = schedule()
    due.add(A, 0.0)
    due.take(1.0)
    due.gone(A, 1.0)
    assert len(due) == 0
    due.add(A, 2.0)
    due.take(3.0)
    due.add(A, 3.0)
    due.gone(A, 3.5)
    assert due.take(4.0) == A


class AnySequence(RuleBasedStateMachine):
    """Whatever happens in whatever order: never twice at once, and nothing that happened is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.due = schedule()
        self.now = 0.0
        self.running: set[Key] = set()
        self.unseen: set[Key] = set()

    @rule(key=st.sampled_from([A, B]))
    def event(self, key: Key) -> None:
        self.due.add(key, self.now)
        self.unseen.add(key)

    @rule(seconds=st.floats(0.01, 500))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def worker(self) -> None:
        key = self.due.take(self.now)
        if key is not None:
            assert key not in self.running
            self.running.add(key)
            self.unseen.discard(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.sampled_from(["done", "requeue", "failed", "gone", "put_back"]))
    def finish(self, data: st.DataObject, end: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        if end == "done":
            self.due.done(key, self.now, None)
        elif end == "requeue":
            self.due.done(key, self.now, 7.0)
        elif end == "failed":
            self.due.failed(key, self.now)
        elif end == "gone":
            self.due.gone(key, self.now)
        else:
            self.due.put_back(key, self.now)

    @invariant()
    def nothing_is_lost(self) -> None:
        for key in self.unseen - self.running:
            assert key in self.due._entries
            assert self.due._entries[key].waiting


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
