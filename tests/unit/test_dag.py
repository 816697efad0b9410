"""The order of steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api.training_job import Step
from modelfleet.plan.training import dag
from tests.unit.job_world import step


def steps(*written: dict[str, object]) -> list[Step]:
    return [Step.model_validate(each) for each in written]


@pytest.mark.parametrize(
    ("written", "order"),
    [
        ([step("a")], "a"),
        ([step("b", "a"), step("a")], "ab"),
        ([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")], "abcd"),
        ([step("d", "b", "c"), step("c", "a"), step("b", "a"), step("a")], "acbd"),
        ([step("z"), step("y"), step("x")], "zyx"),
    ],
)
def test_steps_come_after_what_they_depend_on(written: list[dict[str, object]], order: str) -> None:
    assert "".join(each.name for each in dag.ordered(steps(*written))) == order


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([step("a", "a")], "a -> a"),
        ([step("a", "b"), step("b", "a")], "a -> b -> a"),
        ([step("x"), step("a", "x", "c"), step("b", "a"), step("c", "b"), step("d", "c")], "a -> c -> b -> a"),
        ([step("a", "ghost")], "ghost"),
    ],
)
def test_what_cannot_be_ordered_is_named(written: list[dict[str, object]], said: str) -> None:
    with pytest.raises(dag.InvalidDagError, match=said):
        dag.ordered(steps(*written))


@given(st.integers(1, 16).flatmap(lambda size: st.tuples(st.just(size), st.permutations(range(size)), st.data())))
def test_any_acyclic_graph_is_ordered_whatever_the_order_it_is_written_in(
    drawn: tuple[int, list[int], st.DataObject],
) -> None:
    size, written, data = drawn
    edges = [(low, high) for high in range(size) for low in range(high) if data.draw(st.booleans())]
    named = [step(f"s{high}", *(f"s{low}" for low, top in edges if top == high)) for high in range(size)]
    order = [each.name for each in dag.ordered(steps(*(named[index] for index in written)))]
    assert sorted(order) == sorted(f"s{index}" for index in range(size))
    assert all(order.index(f"s{low}") < order.index(f"s{high}") for low, high in edges)
