"""The fleet as observed: for every node and replica of an EdgeDeployment, what became of it.

Each object is read once, in one pass over the nodes: 10,000 gateways are planned in well under a second. How one place
is judged is ``judgement.py``'s, who is moved next ``waves.py``'s, and what is written ``handover.py``'s. The parts of a
fleet (``member.py``, ``chooser.py``) are to be had from here.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec, Pool
from modelfleet.plan import naming, node_class
from modelfleet.plan.edge import assignment, judgement, provider, refused_labels, serving_pod, workload
from modelfleet.plan.edge.assignment import Assignment, Failed
from modelfleet.plan.edge.chooser import Chooser
from modelfleet.plan.edge.member import Clock, Member
from modelfleet.plan.edge.provider import Platform
from modelfleet.plan.edge.revision import Release
from modelfleet.plan.edge.serving_pod import ServingPod, Trouble
from modelfleet.plan.edge.waves import State
from modelfleet.plan.edge.workload import Workload
from modelfleet.plan.outcome import RawObject

__all__ = ["Chooser", "Clock", "Member", "Observation", "PoolFleet"]


@dataclass
class PoolFleet:
    """One pool's part of the fleet."""

    pool: Pool
    tolerations: list[dict[str, Any]]
    """The pool's own, and those that its platform's nodes need."""
    platform: Platform = provider.PLAIN
    """What its nodes are of."""
    nodes: list[RawObject] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    wanted: Workload | None = None
    """Of a Replicas pool: what all its replicas run."""
    no_artifact: str = ""
    """Why the first node that has no artifact has none."""
    tainted: str = ""
    """The first node that nothing of ours may run on, and its taint."""
    tainted_count: int = 0


class Observation:
    """What was observed, indexed for the plan: nodes by pool, labels, pods by node and workload."""

    def __init__(
        self,
        owner: RawObject,
        spec: EdgeDeploymentSpec,
        installation: str,
        nodes: Iterable[RawObject],
        pods: Iterable[RawObject],
        hints: Mapping[str, Trouble],
    ) -> None:
        self.keys = assignment.keys(owner["metadata"]["uid"])
        """The labels that the nodes of this EdgeDeployment carry."""
        self.assigned: dict[str, Assignment] = {}
        """By node, over all nodes, for those that carry a value of ours."""
        told = (owner.get("status") or {}).get("failures") or ()
        self._told = {each["node"]: each["message"] for each in told if each["reason"] != refused_labels.REASON}
        self.pools = [PoolFleet(pool, []) for pool in spec.pools]
        self.notes: list[Failed] = []
        """Of failures, on all nodes."""
        self.strays: dict[str, list[str]] = {}
        """Nodes that belong to no EveryNode pool, and the labels of ours that they carry."""
        self.pods: defaultdict[str, list[ServingPod]] = defaultdict(list)
        """By node for gateways, by workload for replicas."""
        self.serving_replicas: set[str] = set()
        """Hashes of the workloads that have a replica which is not on its way out."""
        self._sort(nodes, naming.install_mark(installation) + "-")
        for pod in pods:
            facts = serving_pod.read(pod, hints.get(pod["metadata"]["name"]))
            replica = (pod["metadata"].get("labels") or {}).get(names.PLACEMENT_LABEL) == workload.REPLICAS
            self.pods[facts.workload if replica else facts.node].append(facts)
            if replica and not facts.terminating:
                self.serving_replicas.add(facts.workload)
        for fleet in self.pools:
            fleet.platform = provider.of_pool(fleet.pool.provider, fleet.nodes)
            fleet.tolerations = _tolerations(fleet)

    def _sort(self, nodes: Iterable[RawObject], ours: str) -> None:
        pool_of = _pool_finder(self.pools)
        for node in nodes:
            metadata = node["metadata"]
            if "deletionTimestamp" in metadata:
                continue
            labels = metadata.get("labels") or {}
            assigned = assignment.read(labels, self.keys, ours)
            if assigned is not assignment.NOTHING:
                self.assigned[metadata["name"]] = assigned
                if assigned.failed is not None:
                    self.notes.append(assigned.failed)
            fleet = pool_of(labels)
            if fleet is not None:
                fleet.nodes.append(node)
            if fleet is None or fleet.pool.placement != workload.EVERY_NODE:
                carried = [key for key in self.keys if key in labels]
                if carried:
                    self.strays[metadata["name"]] = carried

    def carried(self, node: str) -> str:
        """Hash of the workload that a node serves, by its label; empty for none of ours."""
        return self.assigned.get(node, assignment.NOTHING).serves

    def named(self) -> set[str]:
        """Hashes of all workloads that any node serves, or has next."""
        return {hash_ for each in self.assigned.values() for hash_ in (each.serves, each.next) if hash_}

    def noted(self, hashes: Collection[str]) -> int:
        """The latest attempt at one of these workloads whose failure a node notes; 0 for none."""
        return max((note.attempt for note in self.notes if note.workload in hashes), default=0)

    def disregard(self, is_dead: Callable[[str], bool]) -> None:
        """Treat nodes that carry a workload that is dead (unknown, and with no DaemonSet) as carrying nothing."""
        dead = {hash_ for hash_ in self.named() if is_dead(hash_)}
        if dead:
            self.assigned = {
                name: Assignment("" if each.serves in dead else each.serves, each.next, each.failed)
                for name, each in self.assigned.items()
            }

    def judge(
        self,
        release: Release | None,
        stable: Release | None,
        deployments: Mapping[str, RawObject],
        clock: Clock,
        attempt: int = 1,
    ) -> list[Member]:
        """All members with regard to a release, in this attempt at it."""
        settled = release is not None and stable is not None and release.revision == stable.revision
        for fleet in self.pools:
            if fleet.pool.placement == workload.EVERY_NODE:
                self._judge_nodes(fleet, release, None if settled else stable, clock, attempt)
                judgement.weigh_suspects(fleet.members, clock, settled)
            else:
                self._judge_replicas(fleet, release, deployments, clock)
        return [member for fleet in self.pools for member in fleet.members]

    def _judge_nodes(
        self, fleet: PoolFleet, release: Release | None, stable: Release | None, clock: Clock, attempt: int
    ) -> None:
        chooser = Chooser(release, fleet.pool)
        until_then = Chooser(stable, fleet.pool)
        for node in fleet.nodes:
            name = node["metadata"]["name"]
            labels = self.assigned.get(name, assignment.NOTHING)
            carried = labels.serves
            member = Member(name, fleet.pool.name, State.UNREACHABLE, carried=carried, shown=name, gateway=True)
            member.next, member.noted = labels.next, labels.failed is not None
            fleet.members.append(member)
            pods = self.pods.get(name, ())
            member.serves = any(pod.ready and pod.workload == carried and not pod.terminating for pod in pods)
            member.wanted, why_not = chooser.for_node(node, carried, labels.next)
            taint = node_class.untolerated_taint(node, fleet.tolerations)
            if taint:
                fleet.tainted = fleet.tainted or f"{name} has taint {taint}"
                fleet.tainted_count += 1
            ready, since = node_class.ready_since(node)
            member.reachable, member.changed = ready, since
            member.allocatable = (node.get("status") or {}).get("allocatable") or {}
            if not ready:
                due = since + clock.offline_after if since else clock.now
                member.offline = due <= clock.now
                member.look_again = None if member.offline else due
            if stable is not None and not carried and ready and not taint:
                member.on_stable, _ = until_then.for_node(node)
            if release is None:
                continue
            if member.wanted is None:
                member.state = State.NO_ARTIFACT
                fleet.no_artifact = fleet.no_artifact or f"node {name}: {why_not}"
            elif member.wanted.hash in (carried, labels.next):
                judgement.judge_moved(member, member.wanted, pods, ready and not taint, since, clock)
                if carried == member.wanted.hash and stable is not None:
                    member.back, _ = until_then.for_node(node)
            elif labels.failed and labels.failed.workload == member.wanted.hash and labels.failed.attempt >= attempt:
                member.state = State.FAILED
                reason = labels.failed.reason
                told = self._told.get(name) or f"in attempt {labels.failed.attempt}; not tried again before the next"
                member.trouble = Trouble(reason, told, permanent=reason in serving_pod.PERMANENT)
            else:
                member.state = State.WAITING if ready and not taint else State.UNREACHABLE
                held = [pod for pod in pods if pod.workload == carried]
                member.stricken = not ready and any(judgement.struck(pod, since, clock) for pod in held)

    def _judge_replicas(
        self, fleet: PoolFleet, release: Release | None, deployments: Mapping[str, RawObject], clock: Clock
    ) -> None:
        count = 1 if fleet.pool.replicas is None else fleet.pool.replicas
        name = fleet.pool.name
        chooser = Chooser(release, fleet.pool)
        fleet.wanted, why_not = chooser.for_all(fleet.nodes, deployments)
        fleet.no_artifact = f"all its nodes: {why_not}" if why_not and release else ""
        live = deployments.get(fleet.wanted.hash) if fleet.wanted else None
        tried = min(count, int(live["spec"].get("replicas", 1))) if live else 0
        pods = [pod for pod in self.pods.get(fleet.wanted.hash, ()) if not pod.terminating] if fleet.wanted else []
        pods.sort(key=lambda pod: (not pod.ready, pod.created, pod.name))
        ready_since = {node["metadata"]["name"]: node_class.ready_since(node) for node in fleet.nodes}
        reachable = any(ready for ready, _ in ready_since.values())
        for index in range(count):
            member = Member(f"{name}/{index}", name, State.UNREACHABLE, wanted=fleet.wanted, shown=f"{name}/{index}")
            fleet.members.append(member)
            if release and fleet.nodes and fleet.wanted is None:
                member.state = State.NO_ARTIFACT
            elif index >= tried:
                member.state = State.WAITING if reachable and fleet.wanted else State.UNREACHABLE
            else:
                member.carried = fleet.wanted.hash if fleet.wanted else ""
                pod = pods[index] if index < len(pods) else None
                member.shown = pod.name if pod else member.shown
                judgement.judge_pod(member, pod, ready_since.get(pod.node, (False, None))[1] if pod else None, clock)
                if not reachable and member.state is not State.HEALTHY:
                    member.state = State.LOST


def _pool_finder(pools: Sequence[PoolFleet]) -> Callable[[Mapping[str, str]], PoolFleet | None]:
    """What tells the first pool that a node with some labels is of; by one label of each pool, not pool by pool."""
    by_value: defaultdict[str, dict[str, list[tuple[int, PoolFleet]]]] = defaultdict(dict)
    for order, fleet in enumerate(pools):
        key, value = next(iter(fleet.pool.node_selector.items()))
        by_value[key].setdefault(value, []).append((order, fleet))

    def find(labels: Mapping[str, str]) -> PoolFleet | None:
        first: tuple[int, PoolFleet] | None = None
        for key, fleets in by_value.items():
            for order, fleet in fleets.get(labels.get(key, ""), ()):
                if (first is None or order < first[0]) and fleet.pool.node_selector.items() <= labels.items():
                    first = order, fleet
        return first[1] if first else None

    return find


def _tolerations(fleet: PoolFleet) -> list[dict[str, Any]]:
    own = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in fleet.pool.tolerations]
    return own + [each for each in fleet.platform.tolerations if each not in own]
