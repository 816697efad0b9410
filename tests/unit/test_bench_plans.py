"""The benchmark without a cluster: an update in memory ends, and takes no more plans in a larger fleet."""

import pytest

from e2e.bench import plans
from modelfleet.plan.edge import moves


def test_the_number_of_plans_does_not_grow_with_the_fleet() -> None:
    small, large = plans.measure([200, 800])
    assert large.plans <= small.plans + 1
    assert large.status_bytes < 32 * 1024


@pytest.mark.parametrize(("places", "most"), [(1, 250), (2_500, 250), (10_000, 1_000)])
def test_a_plan_moves_a_number_or_a_share(places: int, most: int) -> None:
    assert moves.at_once(places) == most
