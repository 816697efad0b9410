"""The fleet as observed: for every node and replica of an EdgeDeployment, what became of it.

Each object is read once, in one pass over the nodes: 10,000 gateways are planned in well under a second. Who is moved
next is ``waves.py``'s; what is written, ``edge_deployment.py``'s.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec, Pool
from modelfleet.plan import assignment, conditions, naming, node_class, precision, provider, serving_pod, workload
from modelfleet.plan.assignment import Assignment
from modelfleet.plan.node_class import NodeClass
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.precision import Choice
from modelfleet.plan.provider import Platform
from modelfleet.plan.revision import Release
from modelfleet.plan.serving_pod import ServingPod, Trouble
from modelfleet.plan.waves import TRIED, Place, State
from modelfleet.plan.workload import Workload

ONE_CUT: Final = timedelta(minutes=2)
"""Nodes that go out of reach within this time of each other may have done so for one reason."""
CUT_SHARE: Final = 10
"""One of so many nodes that were not moved must have gone with those that were for that to be likely."""


@dataclass(slots=True)
class Member(Place):
    """A node, or one replica, with what is wanted of it and what was found."""

    wanted: Workload | None = None
    """What it shall run; ``None`` where no artifact fits."""
    on_stable: Workload | None = None
    """What a reachable node that carries nothing shall run until its turn; ``None`` without a stable release."""
    carried: str = ""
    """Hash of the workload that its label names now; empty for none of ours."""
    updated: bool = False
    """Whether it runs the wanted digest."""
    started: str | None = None
    """When the pod of what it was moved to was made (RFC 3339); empty where there is none yet."""
    trouble: Trouble | None = None
    """Why it is not healthy, as far as is known."""
    offline: bool = False
    """Whether it has been out of reach for longer than ``offlineAfterSeconds``."""
    podless: bool = False
    """Whether it was moved and no pod came of it yet."""
    allocatable: Mapping[str, Any] = field(default_factory=dict)
    """What the node offers to pods."""
    gateway: bool = False
    """Whether it is a node, and not a replica."""
    reachable: bool = False
    """Whether the node is Ready."""
    changed: datetime | None = None
    """Since when it is so, or not."""
    next: str = ""
    """Hash of the workload that its label names to come next; empty for none."""
    noted: bool = False
    """Whether its label notes a failure, of whatever workload."""
    prepared: bool = False
    """Whether the pod of what it wants is ready beside the one that serves."""
    cramped: bool = False
    """Whether that pod cannot start as long as the one that serves is there."""
    stuck: bool = False
    """Whether it failed only because its previous pod does not end."""
    stricken: bool = False
    """Whether it is out of reach, since soon after it got what it carries now."""
    back: Workload | None = None
    """What it returns to where the wanted workload failed in the place of stable."""
    shown: str = ""
    """Name of the node or pod that a person would look at."""
    look_again: datetime | None = None
    """When its state changes by the clock alone."""

    @property
    def is_given_up(self) -> bool:
        """Whether the wanted workload failed here and goes, or went, for what was there before."""
        beside = self.wanted is not None and self.next == self.wanted.hash
        undone = self.back is not None and not self.stuck
        return self.gateway and self.state is State.FAILED and (self.noted or beside or undone)


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


@dataclass(frozen=True)
class Clock:
    """The times by which a member is judged."""

    now: datetime
    progress_deadline: timedelta
    offline_after: timedelta


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
        self._told = {each["node"]: each["message"] for each in (owner.get("status") or {}).get("failures") or ()}
        self.pools = [PoolFleet(pool, []) for pool in spec.pools]
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
        selectors = [(fleet, tuple(fleet.pool.node_selector.items())) for fleet in self.pools]
        for node in nodes:
            metadata = node["metadata"]
            if "deletionTimestamp" in metadata:
                continue
            labels = metadata.get("labels") or {}
            assigned = assignment.read(labels, self.keys, ours)
            if assigned is not assignment.NOTHING:
                self.assigned[metadata["name"]] = assigned
            fleet = next((f for f, pairs in selectors if all(labels.get(k) == v for k, v in pairs)), None)
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
                _weigh_suspects(fleet.members, clock, settled)
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
                _judge_moved(member, member.wanted, pods, ready and not taint, since, clock)
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
                member.stricken = not ready and any(_struck(pod, since, clock) for pod in held)

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
                _judge_pod(member, pod, ready_since.get(pod.node, (False, None))[1] if pod else None, clock)
                if not reachable and member.state is not State.HEALTHY:
                    member.state = State.LOST


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


def _judge_moved(
    member: Member,
    wanted: Workload,
    pods: Sequence[ServingPod],
    reachable: bool,
    node_since: datetime | None,
    clock: Clock,
) -> None:
    """Judge a node whose labels name the wanted workload by its pods: the wanted one must be up, the old one gone."""
    candidates = [pod for pod in pods if pod.workload == wanted.hash and not pod.terminating]
    pod = max(candidates, key=lambda each: each.created, default=None)
    if reachable:
        _judge_pod(member, pod, node_since, clock)
        if member.carried != wanted.hash:
            _judge_beside(member, pod, pods)
        elif member.state is State.HEALTHY and len(pods) > 1:
            _judge_draining(member, pods, clock)
        late = _moment(pod.created if pod else "", clock) + clock.progress_deadline
        if member.state is State.IN_FLIGHT and node_since is not None and node_since >= late:
            # Back after its time was up, or flapping: it is given time again, but nobody waits for it.
            member.state = State.LOST
        return
    member.state = State.LOST
    member.updated = pod is not None and pod.running
    if pod is None:
        return
    if pod.trouble and pod.trouble.permanent:
        member.state, member.trouble = State.FAILED, pod.trouble
        return
    if _struck(pod, node_since, clock) and node_since is not None:
        member.state = State.SUSPECT
        member.trouble = Trouble("NodeNotReady", "the node went out of reach soon after its update")
        member.look_again = node_since + clock.progress_deadline


def _judge_draining(member: Member, pods: Sequence[ServingPod], clock: Clock) -> None:
    """A gateway whose previous pod does not end holds the rollout up for a while, not for ever."""
    member.state = State.IN_FLIGHT
    member.trouble = Trouble("Draining", "the previous pod is still terminating")
    late = max((each.gone_by for each in pods), default="")
    if late:
        due = conditions.parse_timestamp(late) + clock.progress_deadline
        member.look_again = due
        if due <= clock.now:
            member.state, member.stuck = State.FAILED, True


def _struck(pod: ServingPod, node_since: datetime | None, clock: Clock) -> bool:
    """Whether a node that is out of reach since then went so soon after it got this pod."""
    created = _moment(pod.created, clock)
    return node_since is not None and created <= node_since < created + clock.progress_deadline


def _moment(text: str, clock: Clock) -> datetime:
    return conditions.parse_timestamp(text) if text else clock.now


def _judge_beside(member: Member, pod: ServingPod | None, pods: Sequence[ServingPod]) -> None:
    """Whether the pod that is made ready beside the one that serves can take over."""
    if member.state is State.HEALTHY:
        member.state, member.prepared = State.IN_FLIGHT, True
    elif member.state is State.IN_FLIGHT and pod is not None and pod.no_room:
        # What is on its way out makes room by itself.
        member.cramped = not any(each.terminating for each in pods)


def _judge_pod(member: Member, pod: ServingPod | None, node_since: datetime | None, clock: Clock) -> None:
    """Judge a place by its pod. A node that was away (back since ``node_since``) has the whole deadline again."""
    if pod is None:
        member.state, member.podless, member.started = State.IN_FLIGHT, True, ""
        return
    member.started = pod.created
    member.updated = pod.running
    member.trouble = pod.trouble
    if pod.ready:
        member.state = State.HEALTHY
        return
    since = conditions.parse_timestamp(pod.unready_since) if pod.unready_since else clock.now
    due = max(since, node_since or since) + clock.progress_deadline
    if pod.trouble and pod.trouble.permanent:
        member.state = State.FAILED
    elif due <= clock.now:
        member.state = State.FAILED
        seconds = int(clock.progress_deadline.total_seconds())
        member.trouble = pod.trouble or Trouble("NotReady", f"not ready within progressDeadlineSeconds ({seconds})")
    else:
        member.state, member.look_again = State.IN_FLIGHT, due


def _weigh_suspects(members: Sequence[Member], clock: Clock, settled: bool) -> None:
    """Blame the update for nodes that went out of reach only where more of the updated did so than of the others.

    Once the release is stable (``settled``) there is no update to blame. A power cut of a plant takes both alike, and
    is not the model's fault; nor is one that takes a pilot and, at the same moment, a good part of those that were not
    moved. What stays suspect fails in the end.
    """
    suspects = [member for member in members if member.state is State.SUSPECT]
    if not suspects:
        return
    tried = sum(member.state in TRIED for member in members)
    gone = sum(member.state in (State.SUSPECT, State.LOST) for member in members)
    waiting = sum(member.state is State.WAITING for member in members)
    away = sum(member.state is State.UNREACHABLE for member in members)
    shared_fate = away > 0 and away * tried >= gone * (waiting + away)
    cuts = [member.changed for member in members if member.state is State.UNREACHABLE and member.changed]
    for member in suspects:
        together = [each for each in cuts if member.changed and abs(each - member.changed) <= ONE_CUT]
        cut_off = len(together) >= len(suspects) and len(together) * CUT_SHARE >= waiting + away
        if settled or shared_fate or cut_off:
            member.state, member.trouble = State.LOST, None
        elif member.look_again is not None and member.look_again <= clock.now:
            member.state = State.FAILED
            member.trouble = Trouble("NodeLost", "the node went out of reach soon after its update and did not return")


def _tolerations(fleet: PoolFleet) -> list[dict[str, Any]]:
    own = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in fleet.pool.tolerations]
    return own + [each for each in fleet.platform.tolerations if each not in own]
