"""What an EdgeDeployment's plan found and decided: the one thing that everything said about it is derived from."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan.aim import Aim
from modelfleet.plan.fleet import Member, Observation
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.revision import Release
from modelfleet.plan.waves import Progress, State
from modelfleet.plan.workload import Workload

Find = Callable[[str], Workload | None]


@dataclass(frozen=True)
class Findings:
    """What the plan found, and what it decided to do about it."""

    owner: RawObject
    spec: EdgeDeploymentSpec
    aim: Aim
    observation: Observation
    members: Sequence[Member]
    progress: Progress[Member]
    live: Mapping[str, RawObject]
    """Deployments that exist, by workload."""
    find: Find
    refusals: Mapping[str, str]
    """By name of a workload: why the API server lets it make no pods."""
    taken: Sequence[str] = ()
    """Names of its Services that are somebody else's."""

    @cached_property
    def tally(self) -> Counter[State]:
        """Members by state."""
        return Counter(member.state for member in self.members)


def rolled_back(aim: Aim, members: Iterable[Member], find: Find) -> list[str]:
    """The places that are still on the revision that was under way when the spec went back to stable."""
    if not aim.settled or aim.candidate is None or aim.target is None or aim.candidate.revision == aim.target.revision:
        return []
    left = []
    for member in members:
        item = find(member.carried) if member.carried and member.state is State.WAITING else None
        if item is not None and item.release.revision == aim.candidate.revision:
            left.append(member.name)
    return left


def revisions(found: Findings) -> tuple[Release | None, Release | None]:
    """Stable and candidate as they are from now on: a candidate becomes stable when all its waves have passed."""
    aim = found.aim
    if aim.target is None or aim.refused:
        return aim.stable, aim.candidate
    if aim.settled:
        left = rolled_back(aim, found.members, found.find) or _candidate_replicas(found)
        return aim.stable, aim.candidate if left else None
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
