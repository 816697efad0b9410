"""Who is moved to what, now: the waves' next, the joiners, those that come back, within window and pace.

How a gateway is then handed over, in one write or two, is ``handover.py``'s.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from modelfleet.api.edge_deployment import EdgeDeploymentSpec, MaintenanceWindow
from modelfleet.plan import conditions
from modelfleet.plan.edge import pacing, waves, windows
from modelfleet.plan.edge.aim import Aim, Problem
from modelfleet.plan.edge.fleet import Member
from modelfleet.plan.edge.waves import Progress, Standing, State
from modelfleet.plan.edge.workload import Workload
from modelfleet.plan.traffic import traffic

AT_ONCE: Final = 250
"""Most moves in one Outcome, but for very large fleets: a changed spec is noticed between two batches."""

SHARE_AT_ONCE: Final = 10
"""One of so many places of a very large fleet is moved in one Outcome: each costs a plan of all of them, and their
number must not grow with the fleet."""

Find = Callable[[str], Workload | None]


@dataclass(frozen=True)
class Wait:
    """Why those whose turn it is are not moved yet."""

    reason: str
    message: str
    until: datetime | None
    """When to look again; ``None`` where somebody has to act."""


@dataclass(frozen=True)
class Moves:
    """What goes where now, and how far the rollout is."""

    to: dict[str, Workload] = field(default_factory=dict)
    """By name of node or replica."""
    progress: Progress[Member] = field(default_factory=lambda: Progress(None))
    wait: Wait | None = None
    closed: bool = False
    """Whether the maintenance window is closed: what is ready beside the serving pod stays there as well."""
    problem: Problem | None = None
    """Why the window never opens."""
    look_again: datetime | None = None
    """When pace, soak or window let more happen."""


def plan(
    spec: EdgeDeploymentSpec,
    before: Mapping[str, Any],
    aim: Aim,
    members: list[Member],
    find: Find,
    now: datetime,
    *,
    held: bool = False,
) -> Moves:
    """Who is moved; ``before`` is the status, ``find`` tells what a workload's hash stands for.

    ``held``: the waves wait for a canary, which tries routed replicas only.
    """
    if aim.target is None:
        return Moves()
    if aim.settled:
        return _settled(spec, aim, members, find, now)
    _mark_hurt(members, aim, find)
    trying = {pool.name for pool in spec.pools if traffic.takes_requests(spec, pool.name)} if held else None
    progress = waves.progress(members, spec.strategy, _standing(before, aim, now), trying)
    allowed = _Gates(spec, members, now)
    if spec.paused or aim.orders.paused:
        return Moves(progress=progress, closed=allowed.closed, look_again=progress.soaks_until)
    following = progress.next if aim.problem is None and not held else ()
    chosen = allowed.choose(following)
    wave = {member.name: member.wanted for member in chosen if member.wanted}
    joining = {
        member.name: member.on_stable
        for member in members
        if aim.stable and member.on_stable and not member.carried and member.name not in wave
    }
    waiting = bool(following) or any(member.prepared or member.cramped for member in members)
    until = [each for each in (progress.soaks_until, allowed.look_again(waiting)) if each]
    return Moves(
        _first({**joining, **wave}, at_once(len(members))),
        progress,
        allowed.wait if waiting else None,
        allowed.closed,
        allowed.problem,
        min(until, default=None),
    )


def _settled(spec: EdgeDeploymentSpec, aim: Aim, members: list[Member], find: Find, now: datetime) -> Moves:
    """On what is stable there are no waves: roll-back and what serves nothing at once, others in their pace."""
    if spec.paused:
        return Moves()
    free = {member.name for member in members if not member.carried}
    urgent = set() if aim.refused else set(rolled_back(aim, members, find))
    promptly, others = waves.catch_up(members, urgent, free, spec.strategy.max_unavailable)
    if aim.refused:
        promptly, others = [member for member in promptly if member.name in free], []
    allowed = _Gates(spec, members, now)
    chosen = [*promptly, *allowed.choose(others)]
    return Moves(
        _first({member.name: member.wanted for member in chosen if member.wanted}, at_once(len(members))),
        wait=allowed.wait if others else None,
        problem=allowed.problem if others else None,
        look_again=allowed.look_again(bool(others)),
    )


class _Gates:
    """Maintenance window and pace, at one moment."""

    def __init__(self, spec: EdgeDeploymentSpec, members: Sequence[Member], now: datetime) -> None:
        self.closed = False
        self.problem: Problem | None = None
        self.wait: Wait | None = None
        self._changes: datetime | None = None
        self._pace: pacing.Allowance | None = None
        window, per_minute = spec.strategy.maintenance_window, spec.strategy.starts_per_minute
        if window is not None:
            self._look(window, now)
        if per_minute is not None:
            started = (each.started for each in members if each.state in waves.TRIED and each.started is not None)
            self._pace = pacing.allow(per_minute, started, now)

    def _look(self, window: MaintenanceWindow, now: datetime) -> None:
        try:
            found = windows.look(window, now)
        except windows.InvalidWindowError as error:
            self.closed, self.problem = True, Problem("MaintenanceWindowInvalid", str(error))
            return
        self.closed, self._changes = not found.is_open, found.changes
        if self.closed:
            text = f"outside of the maintenance window, which opens at {found.shown(window.time_zone)}"
            self.wait = Wait("OutsideMaintenanceWindow", text, found.changes)

    def choose(self, following: Sequence[Member]) -> Sequence[Member]:
        """Those of the next that may go now."""
        if self.closed:
            return ()
        return following if self._pace is None else following[: self._pace.now]

    def look_again(self, anyone_waits: bool) -> datetime | None:
        """When more may go; where nobody waits, time alone changes nothing."""
        if not anyone_waits:
            return None
        moments = [self._changes, None if self.closed or self._pace is None else self._pace.more_at]
        return min((each for each in moments if each), default=None)


def is_same_rollout(aim: Aim, before: Mapping[str, Any]) -> bool:
    """Whether the status ``before`` spoke of this very attempt at this revision."""
    if aim.candidate is None or aim.target is None or aim.candidate.revision != aim.target.revision:
        return False
    return int(before.get("attempt") or 1) == aim.orders.attempt


def rolled_back(aim: Aim, members: Iterable[Member], find: Find) -> list[str]:
    """The places within reach that are still on what the fleet was sent back from, the returned ones included."""
    if not aim.settled or aim.target is None:
        return []
    behind = given_up(aim)
    left = []
    for member in members:
        item = find(member.carried) if member.carried and member.state is State.WAITING else None
        if item is not None and item.release.revision in behind:
            left.append(member.name)
    return left


def given_up(aim: Aim) -> set[str]:
    """The revisions that the fleet is sent back from."""
    target = aim.target.revision if aim.target else ""
    return {aim.orders.aborted, aim.candidate.revision if aim.candidate else ""} - {target, ""}


def _standing(before: Mapping[str, Any], aim: Aim, now: datetime) -> Standing:
    if not is_same_rollout(aim, before):
        return Standing(now, promotes=aim.orders.promotes)
    soaking = before.get("soakStartedAt")
    return Standing(
        now,
        wave=before.get("wave"),
        soaking_since=conditions.parse_timestamp(soaking) if soaking else None,
        promotes=aim.orders.promotes,
    )


def _mark_hurt(members: list[Member], aim: Aim, find: Find) -> None:
    """Mark what a superseded rollout left without a pod that serves: it is due first, whatever else may be down."""
    for member in members:
        if member.state is State.WAITING and member.carried and not member.serves:
            item = find(member.carried)
            member.hurt = item is None or aim.stable is None or item.release.revision != aim.stable.revision


def at_once(places: int) -> int:
    """Most moves in one Outcome of a fleet with so many places."""
    return max(AT_ONCE, places // SHARE_AT_ONCE)


def _first(moves: dict[str, Workload], limit: int) -> dict[str, Workload]:
    return dict(list(moves.items())[:limit])
