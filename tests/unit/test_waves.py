"""The order in which a fleet is moved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api.edge_deployment import Wave
from modelfleet.plan import waves
from modelfleet.plan.waves import Place, State

PLAN = [Wave(name="pilot", nodes=1), Wave(name="half", nodes="50%"), Wave(name="all")]


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
        ([State.HEALTHY, State.LOST, State.WAITING, State.WAITING], "all", 2),
        ([State.UNREACHABLE] * 3, None, 0),
        ([], None, 0),
    ],
)
def test_which_wave_is_under_way_and_how_many_are_next(states: list[State], wave: str | None, count: int) -> None:
    found = waves.progress(places(*states), PLAN, "50%")
    assert (found.wave, len(found.next)) == (wave, count)


def test_a_wave_moves_its_own_pools_only_and_counts_those() -> None:
    plan = [Wave(name="first", pools=["a"], nodes="50%"), Wave(name="all")]
    fleet = waiting(4, "a") + waiting(100, "b")
    found = waves.progress(fleet, plan, "100%")
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
    assert waves.progress(places(*states), plan, "100%").wave == expected


def test_a_wave_that_was_reached_is_not_gone_back_from() -> None:
    fleet = places(State.IN_FLIGHT, *[State.HEALTHY] * 4, *[State.WAITING] * 5)
    assert waves.progress(fleet, PLAN, 3).wave == "half"
    again = waves.progress(fleet, PLAN, 3, at_least="all")
    assert (again.wave, len(again.next)) == ("all", 2)


def test_the_order_is_the_same_whatever_the_order_of_the_list() -> None:
    fleet = waiting(50)
    first = waves.progress(fleet, [], 5).next
    assert first == waves.progress(fleet[::-1], [], 5).next
    assert [place.name for place in first] != [place.name for place in fleet[:5]], "not the first five of one rack"


@pytest.mark.parametrize(
    ("amount", "total", "up", "expected"),
    [(3, 100, False, 3), ("10%", 15, False, 1), ("10%", 15, True, 2), ("100%", 7, False, 7), ("1%", 10, False, 0)],
)
def test_share(amount: int | str, total: int, up: bool, expected: int) -> None:
    assert waves.share(amount, total, up=up) == expected


def test_catching_up_is_at_once_for_the_urgent_and_the_idle_and_limited_for_others() -> None:
    fleet = waiting(20)
    chosen = waves.catch_up(fleet, {"p-3", "p-4"}, {"p-7", "p-8", "p-9"}, "10%")
    assert {place.name for place in chosen[:2]} == {"p-3", "p-4"}
    assert {place.name for place in chosen[2:5]} == {"p-7", "p-8", "p-9"}
    assert len(chosen) == 5 + 2


STATES = st.lists(st.sampled_from(State), max_size=40)
AMOUNT = st.integers(1, 50) | st.integers(1, 100).map(lambda percent: f"{percent}%")


@given(states=STATES, sizes=st.lists(AMOUNT, max_size=4), limit=AMOUNT)
def test_no_plan_ever_moves_too_many(states: list[State], sizes: list[int | str], limit: int | str) -> None:
    """In flight never exceeds the limit, only waiting places move, and a failure holds everything."""
    fleet = places(*states)
    plan = [Wave(name=f"w{index}", nodes=size) for index, size in enumerate(sizes)]
    found = waves.progress(fleet, plan, limit)
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
        for place in waves.progress(fleet, plan, limit).next:
            place.state = State.HEALTHY
    assert all(place.state is State.HEALTHY for place in fleet)
