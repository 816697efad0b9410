"""When an EdgeDeployment is looked at again though nothing happens."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from modelfleet.plan.edge import moves
from modelfleet.plan.edge.fleet import Member
from modelfleet.plan.edge.waves import State
from modelfleet.plan.traffic.canary_state import Decision
from modelfleet.plan.traffic.traffic import Routing

SILENT_LOOK_SECONDS: Final = 15.0
"""When to look again at what was moved and has no pod, or one that says nothing: why (a quota that is used up, a
Secret that is missing) is told by Events only, which wake nobody."""

TAKEN_LOOK_SECONDS: Final = 30.0
"""When to look again whether a name is free: other people's Services wake nobody here."""


def look_again(
    members: Sequence[Member],
    moving: moves.Moves,
    routing: Routing,
    canary: Decision | None,
    also: Sequence[datetime],
    now: datetime,
    *,
    more: bool,
    taken: bool,
) -> float | None:
    """In how many seconds; ``also`` are further moments, ``more`` says that this plan moved as many as one may."""
    if more:
        return 0.0
    moments = [*also, *(member.look_again for member in members if member.look_again is not None)]
    moments += [moving.look_again] if moving.look_again else []
    moments += [canary.look_again] if canary and canary.look_again else []
    waits = [max(0.0, (moment - now).total_seconds()) + 0.5 for moment in moments if moment > now]
    if any(member.state is State.IN_FLIGHT and member.trouble is None for member in members):
        waits.append(SILENT_LOOK_SECONDS)
    if taken:
        waits.append(TAKEN_LOOK_SECONDS)
    if routing.requeue_after is not None:
        waits.append(routing.requeue_after)
    return min(waits, default=None)
