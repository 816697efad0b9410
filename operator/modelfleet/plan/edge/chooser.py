"""Which workload each node of a pool gets from a release. How a device is matched is ``precision.py``'s."""

from collections.abc import Iterable, Mapping, Sequence

from modelfleet.api.edge_deployment import Pool
from modelfleet.plan import node_class
from modelfleet.plan.edge import precision, workload
from modelfleet.plan.edge.precision import Choice
from modelfleet.plan.edge.revision import Release
from modelfleet.plan.edge.workload import Workload
from modelfleet.plan.node_class import NodeClass
from modelfleet.plan.outcome import RawObject


class Chooser:
    """The artifact for each node of one pool in one release; equal nodes are decided once."""

    def __init__(self, release: Release | None, pool: Pool) -> None:
        self._release = release
        self._pool = pool.name
        artifacts = release.artifacts if release else ()
        self._workloads = {
            artifact.name: workload.workload(release, pool.name, artifact, pool.placement)
            for artifact in artifacts
            if release
        }
        self._latched = {item.hash: item for item in self._workloads.values()}
        self._choices: dict[NodeClass, Choice] = {}

    def for_node(self, node: RawObject, *carried: str) -> tuple[Workload | None, str]:
        """The workload of a node, or why it has none. One that it carries already stays: classes do not flap."""
        latched = next((self._latched[each] for each in carried if each in self._latched), None)
        if latched is not None:
            return latched, ""
        device = node_class.classify(node)
        choice = self._choices.get(device)
        if choice is None:
            choice = self._choices[device] = self._choose([device])
        return self._answer(choice)

    def for_all(self, nodes: Sequence[RawObject], deployments: Mapping[str, RawObject]) -> tuple[Workload | None, str]:
        """The one workload that all these nodes can hold; the one that has replicas already stays."""
        running = [
            (int(deployments[each]["spec"].get("replicas", 1)), each) for each in self._latched if each in deployments
        ]
        if running and max(running)[0] > 0:
            return self._latched[max(running)[1]], ""
        if not nodes:
            return None, ""
        return self._answer(self._choose({node_class.classify(node) for node in nodes}))

    def workloads(self) -> Iterable[Workload]:
        """Every workload that this pool could have in this release."""
        return self._workloads.values()

    def _choose(self, classes: Iterable[NodeClass]) -> Choice:
        if self._release is None:
            return Choice(None, "there is no release")
        return precision.choose(
            self._release.artifacts,
            list(classes),
            named=self._release.choice(self._pool).artifact,
            formats=precision.DEFAULT_IMAGE_FORMATS if self._release.serving.image is None else None,
        )

    def _answer(self, choice: Choice) -> tuple[Workload | None, str]:
        return (self._workloads[choice.artifact.name], "") if choice.artifact else (None, choice.why_not)
