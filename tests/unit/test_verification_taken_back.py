"""A version found to be other bytes than registered while a fleet is being moved to it."""

from collections import Counter
from typing import Any

import pytest

from tests.unit.edge_world import World, model_version, node, pool

V1, V2 = "defect-1-0-0", "defect-2-0-0"
MISMATCH = {"type": "Verified", "status": "False", "reason": "HashMismatch", "message": "artifact int8: others"}
VERIFIED = {"type": "Verified", "status": "True", "reason": "Verified"}


def under_way(**strategy: Any) -> World:
    """Ten gateways, some of which are on the new version."""
    strategy |= {"waves": [{"name": "pilot", "nodes": 3}, {"name": "all", "nodes": "100%"}], "maxUnavailable": 1}
    strategy |= {"recreateOrder": "StopFirst"}
    world = World([node(f"gw-{index}") for index in range(10)], [pool()], strategy=strategy)
    world.run()
    world.add_model(model_version("2.0.0"))
    world.edit(modelVersion=V2)
    while Counter(world.serving().values())[V2] < 2:
        world.step()
        world.play()
    return world


@pytest.mark.parametrize("strategy", [{}, {"failureThreshold": {"percentage": 50}}])
def test_the_rollout_stops_where_it_is_and_says_why(strategy: dict[str, Any]) -> None:
    world = under_way(**strategy)
    world.models[V2]["status"]["conditions"] = [MISMATCH]
    world.step()
    moved = world.label_writes
    world.run()
    assert world.label_writes == moved
    assert Counter(world.serving().values())[V1] >= 7
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ModelVersionNotVerified")
    assert "HashMismatch: artifact int8: others" in stalled["message"]
    # The file is put back and verified again: it goes on.
    world.models[V2]["status"]["conditions"] = [VERIFIED]
    world.run(200)
    assert Counter(world.serving().values()) == {V2: 10}


def test_what_serves_it_goes_on() -> None:
    world = under_way()
    world.run(200)
    world.models[V2]["status"]["conditions"] = [MISMATCH]
    before = world.picture()
    world.run()
    assert world.picture() == before
