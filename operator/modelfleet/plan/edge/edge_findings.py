"""What an EdgeDeployment's plan found and decided: the one thing that everything said about it is derived from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan.edge import holds, moves
from modelfleet.plan.edge.aim import Aim, Problem
from modelfleet.plan.edge.fleet import Member, Observation
from modelfleet.plan.edge.holds import Hold
from modelfleet.plan.edge.moves import Find, Moves
from modelfleet.plan.edge.revision import Release
from modelfleet.plan.edge.thresholds import Failures
from modelfleet.plan.edge.waves import Progress, State
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic.canary_state import Decision
from modelfleet.plan.traffic.traffic import Routing


@dataclass(frozen=True)
class Findings:
    """What the plan found, and what it decided to do about it."""

    owner: RawObject
    spec: EdgeDeploymentSpec
    aim: Aim
    observation: Observation
    members: Sequence[Member]
    moving: Moves
    """Who is moved to what, and how far the rollout is."""
    live: Mapping[str, RawObject]
    """Deployments that exist, by workload."""
    find: Find
    refusals: Mapping[str, str]
    """By name of a workload: why the API server lets it make no pods."""
    routing: Routing
    taken: Sequence[str] = ()
    """Names of its Services that are somebody else's."""
    canary: Decision | None = None
    """How requests go over; ``None`` where none do."""
    labels_refused: Problem | None = None
    """That nodes need a label and take none."""

    @property
    def progress(self) -> Progress[Member]:
        """How far the rollout is."""
        return self.moving.progress

    @property
    def hold(self) -> Hold | None:
        """What holds the rollout until a person acts."""
        return holds.hold(self.owner, self.spec, self.aim, self.progress, self.canary)

    @property
    def reachable(self) -> int:
        """Members that are within reach, or may be out of it because of the update."""
        tally = self.tally
        return sum(tally.values()) - tally[State.UNREACHABLE] - tally[State.LOST] - tally[State.NO_ARTIFACT]

    @property
    def gives_up(self) -> bool:
        """Whether the rollout has failed just now, and is to be rolled back for it."""
        failed = self.canary is not None and self.canary.failure is not None
        exceeded = (failed or self.progress.failures is Failures.EXCEEDED) and not self.aim.settled
        held = self.spec.paused or self.aim.orders.paused
        return exceeded and not held and self.spec.strategy.on_failure == "Rollback" and self.aim.stable is not None

    @property
    def same_rollout(self) -> bool:
        """Whether the status before spoke of this very attempt at this revision."""
        return moves.is_same_rollout(self.aim, self.owner.get("status") or {})

    @cached_property
    def going_back(self) -> bool:
        """Whether something is left on the revision that was under way when the fleet was sent back to stable."""
        aim = self.aim
        if not aim.settled or aim.refused or aim.candidate is None:
            return False
        within_reach = (member for member in self.members if member.next and member.reachable and not member.refused)
        if any(self._given_up(member.next) for member in within_reach):
            return True
        return bool(moves.rolled_back(aim, self.members, self.find)) or _candidate_replicas(self)

    def _given_up(self, hash_: str) -> bool:
        item = self.find(hash_)
        return item is not None and item.release.revision in moves.given_up(self.aim)

    @property
    def stands_still(self) -> bool:
        """Whether nothing is under way that may bring the rollout further by itself."""
        progress, moving = self.progress, self.moving
        waits = bool(progress.next) or progress.soaks_until is not None or moving.wait is not None
        return not waits and self.hold is None and not self.tally[State.IN_FLIGHT] + self.tally[State.SUSPECT]

    @cached_property
    def tally(self) -> Counter[State]:
        """Members by state."""
        return Counter(member.state for member in self.members)


def revisions(found: Findings) -> tuple[Release | None, Release | None]:
    """Stable and candidate as they are from now on: a candidate becomes stable when all its waves have passed."""
    aim = found.aim
    if aim.target is None or aim.refused:
        return aim.stable, aim.candidate
    if aim.settled:
        return aim.stable, aim.candidate if found.going_back else None
    if found.canary is not None and not found.canary.promotable:
        return aim.stable, aim.target
    nothing_to_try = not found.members and all(fleet.nodes for fleet in found.observation.pools)
    if found.progress.wave is None and aim.problem is None and (found.tally[State.HEALTHY] or nothing_to_try):
        return aim.target, None
    return aim.stable, aim.target


def _candidate_replicas(found: Findings) -> bool:
    aim = found.aim
    if aim.candidate is None or aim.target is None or aim.candidate.revision == aim.target.revision:
        return False
    items = map(found.find, found.live)
    return any(item is not None and item.release.revision == aim.candidate.revision for item in items)
