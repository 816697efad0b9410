"""What a workload's hash stands for, among the releases that are kept."""

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan.edge.aim import Kept
from modelfleet.plan.edge.fleet import Chooser
from modelfleet.plan.edge.revision import Release
from modelfleet.plan.edge.workload import Workload


class Catalogue:
    """Finds what a workload's hash stands for, among the releases that are kept; the likely ones are tried first."""

    def __init__(self, spec: EdgeDeploymentSpec, kept: Kept) -> None:
        self._pools = spec.pools
        self._untried = [release for _, release in sorted(kept.values(), key=lambda each: each[0])]
        self._found: dict[str, Workload] = {}

    def prefer(self, *releases: Release | None) -> None:
        """Take in these releases, kept or not."""
        for release in releases:
            if release is not None:
                self._untried = [each for each in self._untried if each.revision != release.revision]
                self._add(release)

    def find(self, hash_: str) -> Workload | None:
        """The workload of this hash; ``None`` where no release that is kept, in no pool of the spec, has it."""
        while hash_ not in self._found and self._untried:
            self._add(self._untried.pop())
        return self._found.get(hash_)

    def _add(self, release: Release) -> None:
        for pool in self._pools:
            for item in Chooser(release, pool).workloads():
                self._found.setdefault(item.hash, item)


def hashes(release: Release | None, spec: EdgeDeploymentSpec) -> set[str]:
    """The hashes of all workloads that a release has in the pools of the spec."""
    return {item.hash for pool in spec.pools for item in Chooser(release, pool).workloads()}
