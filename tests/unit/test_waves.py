"""The order in which a fleet is moved."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api.edge_deployment import FailureThreshold, Strategy, Wave
from modelfleet.plan.edge import thresholds, waves
from modelfleet.plan.edge.thresholds import Failures
from modelfleet.plan.edge.waves import Place, Progress, Standing, State

PLAN = [Wave(name="pilot", nodes=1), Wave(name="half", nodes="50%"), Wave(name="all")]


NOW = datetime(2026, 11, 21, tzinfo=UTC)
STRICT = FailureThreshold(percentage=0, min_samples=1)


def progress(
    fleet: list[Place], plan: list[Wave], limit: int | str, reached: str | None = None, **strategy: Any
) -> Progress[Place]:
    given = {"failure_threshold": STRICT, **strategy}
    return waves.progress(fleet, Strategy(waves=plan, max_unavailable=limit, **given), Standing(NOW, wave=reached))


def places(*states: State, pool: str = "p") -> list[Place]:
    return [Place(f"{pool}-{index}", pool, state) for index, state in enumerate(states)]


def waiting(count: int, pool: str = "p") -> list[Place]:
    return places(*[State.WAITING] * count, pool=pool)


@pytest.mark.parametrize(
    ("states", "wave", "count"),
    [
        ([State.WAITING] * 4, "pilot", 1),
        ([State.IN_FLIGHT] + [State.WAITING] * 3, "pilot", 0),
        ([State.HEALTHY] + [State.WAITING] * 3, "half", 1),
        ([State.HEALTHY] * 2 + [State.WAITING] * 2, "all", 2),
        ([State.HEALTHY] * 2 + [State.WAITING, State.FAILED], "all", 0),
        ([State.HEALTHY] * 2 + [State.SUSPECT, State.WAITING], "all", 1),
        ([State.HEALTHY] * 4, None, 0),
        # Offline and unfit nodes neither count nor block.
        ([State.HEALTHY, State.UNREACHABLE, State.NO_ARTIFACT, State.UNREACHABLE], None, 0),
        # What is cut off for reasons of its own proves nothing, and is made up for.
        ([State.LOST, State.WAITING, State.WAITING], "pilot", 1),
        ([State.HEALTHY, State.LOST, State.WAITING, State.WAITING], "half", 1),
        ([State.HEALTHY, State.LOST], None, 0),
        ([State.LOST, State.UNREACHABLE], "pilot", 0),
        ([State.UNREACHABLE] * 3, None, 0),
        ([], None, 0),
    ],
)
def test_which_wave_is_under_way_and_how_many_are_next(states: list[State], wave: str | None, count: int) -> None:
    found = progress(places(*states), PLAN, "50%")
    assert (found.wave, len(found.next)) == (wave, count)


def test_a_wave_moves_its_own_pools_only_and_counts_those() -> None:
    plan = [Wave(name="first", pools=["a"], nodes="50%"), Wave(name="all")]
    fleet = waiting(4, "a") + waiting(100, "b")
    found = progress(fleet, plan, "100%")
    assert [place.pool for place in found.next] == ["a", "a"]
    assert found.size == 2


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ([], "all"),
        ([Wave(name="pilot", nodes=1)], "rest"),
        ([Wave(name="pilot", pools=["p"])], None),
    ],
)
def test_what_the_user_did_not_write_follows_as_one_wave(plan: list[Wave], expected: str | None) -> None:
    states = [State.HEALTHY, State.WAITING] if expected else [State.HEALTHY] * 2
    assert progress(places(*states), plan, "100%").wave == expected


def test_a_wave_of_the_users_may_be_called_as_the_one_that_nobody_wrote() -> None:
    plan = [Wave(name="rest", nodes="50%", soak="30m"), Wave(name="rest-2", pools=["p"])]
    assert waves.names(plan) == ["rest", "rest-2", "rest-3"]
    fleet = places(State.HEALTHY, State.HEALTHY, State.IN_FLIGHT, State.WAITING)
    assert progress(fleet, plan[:1], "50%", reached="rest-2").wave == "rest-2"


def test_a_wave_that_was_reached_is_not_gone_back_from() -> None:
    fleet = places(State.IN_FLIGHT, *[State.HEALTHY] * 4, *[State.WAITING] * 5)
    assert progress(fleet, PLAN, 3).wave == "half"
    again = progress(fleet, PLAN, 3, reached="all")
    assert (again.wave, len(again.next)) == ("all", 2)


def test_the_order_is_the_same_whatever_the_order_of_the_list() -> None:
    fleet = waiting(50)
    first = progress(fleet, [], 5).next
    assert first == progress(fleet[::-1], [], 5).next
    assert [place.name for place in first] != [place.name for place in fleet[:5]], "not the first five of one rack"


@pytest.mark.parametrize(
    ("amount", "total", "up", "expected"),
    [(3, 100, False, 3), ("10%", 15, False, 1), ("10%", 15, True, 2), ("100%", 7, False, 7), ("1%", 10, False, 0)],
)
def test_share(amount: int | str, total: int, up: bool, expected: int) -> None:
    assert waves.share(amount, total, up=up) == expected


def test_catching_up_is_at_once_for_the_urgent_and_the_idle_and_limited_for_others() -> None:
    fleet = waiting(20)
    at_once, others = waves.catch_up(fleet, {"p-3", "p-4"}, {"p-7", "p-8", "p-9"}, "10%")
    assert {place.name for place in at_once[:2]} == {"p-3", "p-4"}
    assert {place.name for place in at_once[2:]} == {"p-7", "p-8", "p-9"}
    assert len(others) == 2


STATES = st.lists(st.sampled_from(State), max_size=40)
AMOUNT = st.integers(1, 50) | st.integers(1, 100).map(lambda percent: f"{percent}%")


@given(states=STATES, sizes=st.lists(AMOUNT, max_size=4), limit=AMOUNT)
def test_no_plan_ever_moves_too_many(states: list[State], sizes: list[int | str], limit: int | str) -> None:
    """In flight never exceeds the limit, only waiting places move, and a failure holds everything."""
    fleet = places(*states)
    plan = [Wave(name=f"w{index}", nodes=size) for index, size in enumerate(sizes)]
    found = progress(fleet, plan, limit)
    assert all(place.state is State.WAITING for place in found.next)
    counted = sum(state in waves.COUNTED for state in states)
    flying = sum(state in (State.IN_FLIGHT, State.SUSPECT) for state in states)
    if found.next:
        assert State.FAILED not in states
        assert flying + len(found.next) <= max(1, waves.share(limit, counted))
    if found.wave is None:
        assert State.WAITING not in states
        assert State.IN_FLIGHT not in states


@given(sizes=st.lists(AMOUNT, max_size=4), limit=AMOUNT, count=st.integers(1, 40))
def test_where_all_goes_well_every_plan_comes_to_an_end(sizes: list[int | str], limit: int | str, count: int) -> None:
    fleet = waiting(count)
    plan = [Wave(name=f"w{index}", nodes=size) for index, size in enumerate(sizes)]
    for _ in range(count + len(plan) + 2):
        for place in progress(fleet, plan, limit).next:
            place.state = State.HEALTHY
    assert all(place.state is State.HEALTHY for place in fleet)


@pytest.mark.parametrize(
    ("failed", "healthy", "size", "more", "expected"),
    [
        (0, 0, 100, True, Failures.NONE),
        # A pilot is judged by as many as it has.
        (1, 0, 1, False, Failures.EXCEEDED),
        (1, 2, 5, True, Failures.UNDECIDED),
        (1, 4, 5, False, Failures.EXCEEDED),
        (1, 8, 100, True, Failures.UNDECIDED),
        (1, 9, 100, True, Failures.EXCEEDED),
        # More than five per cent, not five per cent.
        (1, 19, 100, True, Failures.TOLERATED),
        (5, 95, 1000, True, Failures.TOLERATED),
        (6, 94, 1000, True, Failures.EXCEEDED),
        # The failed ones take up what may be unavailable: no more can be learned.
        (1, 0, 100, False, Failures.EXCEEDED),
    ],
)
def test_failures_are_judged_by_those_tried(
    failed: int, healthy: int, size: int, more: bool, expected: Failures
) -> None:
    assert thresholds.judge(FailureThreshold(), failed, healthy, size, more=more) is expected


def test_failures_within_the_threshold_are_left_out_of_the_wave() -> None:
    fleet = places(*[State.HEALTHY] * 19, State.FAILED, *[State.WAITING] * 20)
    found = progress(fleet, [Wave(name="half", nodes="50%")], "10%", failure_threshold=FailureThreshold())
    assert (found.wave, found.failures, len(found.next)) == ("rest", Failures.TOLERATED, 4)


def test_until_enough_were_tried_failures_count_as_unavailable() -> None:
    fleet = places(State.FAILED, State.IN_FLIGHT, *[State.WAITING] * 98)
    found = progress(fleet, [], 3, failure_threshold=FailureThreshold())
    assert (found.failures, len(found.next)) == (Failures.UNDECIDED, 1)


def test_what_a_superseded_rollout_left_down_is_due_first_and_counts_as_unavailable() -> None:
    fleet = waiting(20)
    fleet[7].hurt = fleet[8].hurt = True
    found = progress(fleet, [], 3)
    assert {place.name for place in found.next[:2]} == {"p-7", "p-8"}
    assert len(found.next) == 3
    assert {place.name for place in progress(fleet, [], 2).next} == {"p-7", "p-8"}


SOAKING = [Wave(name="pilot", nodes=1, soak="10m", approval="Manual"), Wave(name="all", soak="5m")]


def standing(minutes: float | None, wave: str | None = "pilot", promoted: tuple[str, ...] = ()) -> Standing:
    since = None if minutes is None else NOW - timedelta(minutes=minutes)
    return Standing(NOW, wave, since, lambda name: name in promoted)


@pytest.mark.parametrize(
    ("states", "standing", "wave", "soaks_for", "approval", "count"),
    [
        # The soak begins when all of the wave are up, is waited for, and is followed by the approval.
        ([State.IN_FLIGHT, State.WAITING], standing(None), "pilot", None, False, 0),
        ([State.HEALTHY, State.WAITING], standing(None), "pilot", 10, False, 0),
        ([State.HEALTHY, State.WAITING], standing(4), "pilot", 6, False, 0),
        ([State.HEALTHY, State.WAITING], standing(10), "pilot", None, True, 0),
        ([State.HEALTHY, State.WAITING], standing(10, promoted=("pilot",)), "all", None, False, 1),
        ([State.HEALTHY, State.WAITING], standing(1, promoted=("pilot",)), "all", None, False, 1),
        # A promotion does not make up for health.
        ([State.IN_FLIGHT, State.WAITING], standing(1, promoted=("pilot",)), "pilot", None, False, 0),
        # A node that reboots in the soak is waited for.
        ([State.IN_FLIGHT, State.WAITING], standing(11), "pilot", None, False, 0),
        # The clock of one wave is not the next one's.
        ([State.HEALTHY] * 2, standing(99, promoted=("pilot",)), "all", 5, False, 0),
        ([State.HEALTHY] * 2, standing(99, "all"), None, None, False, 0),
        # After a lost status the waves are known by what was tried beyond them, and soak anew.
        ([State.HEALTHY] * 2, standing(None, None), "all", 5, False, 0),
        # Nobody is there to be watched; a person decides all the same.
        ([State.UNREACHABLE] * 2, standing(None), "pilot", None, True, 0),
        ([State.LOST, State.UNREACHABLE], standing(99), "pilot", None, False, 0),
        ([State.LOST, State.UNREACHABLE], standing(99, promoted=("pilot", "all")), None, None, False, 0),
    ],
)
def test_soak_and_approval(
    states: list[State], standing: Standing, wave: str | None, soaks_for: int | None, approval: bool, count: int
) -> None:
    found = waves.progress(places(*states), Strategy(waves=SOAKING), standing)
    until = found.soaks_until and (found.soaks_until - NOW) / timedelta(minutes=1)
    assert (found.wave, until, found.awaits_approval, len(found.next)) == (wave, soaks_for, approval, count)
    assert found.first_passed == (wave != "pilot")
