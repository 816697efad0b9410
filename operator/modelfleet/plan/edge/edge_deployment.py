"""The plan of an EdgeDeployment: from what is observed to the writes that bring the fleet one step further.

The decisions are made elsewhere: what the fleet shall be on in ``aim.py``, what became of each node in ``fleet.py``,
who is next in ``waves.py``, how it is moved in ``handover.py``, what the objects look like in ``workload.py``, what is
said about it in ``edge_status.py``. Here they are put together.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import conditions
from modelfleet.plan.conditions import Condition
from modelfleet.plan.edge import aim as aims
from modelfleet.plan.edge import (
    daemon_sets,
    edge_findings,
    edge_notes,
    edge_problems,
    edge_status,
    handover,
    lateness,
    looks,
    moves,
    pool_services,
    refused_labels,
    replicas,
    revision,
    workload,
)
from modelfleet.plan.edge.aim import Aim, Problem
from modelfleet.plan.edge.catalogue import Catalogue, hashes
from modelfleet.plan.edge.fleet import Clock, Member, Observation
from modelfleet.plan.edge.refused_labels import Refusal
from modelfleet.plan.edge.serving_pod import Trouble
from modelfleet.plan.edge.thresholds import Failures
from modelfleet.plan.edge.waves import State
from modelfleet.plan.edge.workload import Workload
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import NodeLabels, Note, ObjectRef, Outcome, RawObject, Waiting
from modelfleet.plan.traffic import backends, edge_canary, routed_pods, traffic
from modelfleet.plan.traffic.analysis import Measurement
from modelfleet.plan.traffic.canary_state import Backends
from modelfleet.plan.traffic.probe import Probed
from modelfleet.plan.traffic.route import Route
from modelfleet.plan.traffic.traffic import Routing

SETTLE_STATUS_SECONDS: Final = 5.0
"""How long counts may wait: a wave of a thousand gateways does not write a thousand statuses."""


@dataclass(frozen=True)
class Observed:
    """All that the plan is made from."""

    deployment: RawObject
    model_version: RawObject | None = None
    """The one that the spec names."""
    revisions: Sequence[RawObject] = ()
    daemon_sets: Sequence[RawObject] = ()
    deployments: Sequence[RawObject] = ()
    services: Sequence[RawObject] = ()
    routes: Mapping[str, Sequence[RawObject]] = field(default_factory=dict)
    """What routes requests, by kind, other people's objects included; only kinds that the API server serves."""
    pods: Sequence[RawObject] = ()
    """Children, by label; those of another owner are passed over."""
    nodes: Sequence[RawObject] = ()
    """At least those that match a pool, and those that carry a label of this deployment; others change nothing."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """By name of a workload: why the API server lets it make no pods."""
    taken: Collection[str] = ()
    """Names of Services that this deployment would have, and that are somebody else's."""
    hints: Mapping[str, Trouble] = field(default_factory=dict)
    """By name of a pod whose status tells nothing: what its Events tell."""
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    """By metric of the canary's analysis: what came in."""
    probed: Probed | None = None
    """What the data plane answered last."""
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    """What the plan before found."""
    refused_labels: Mapping[str, Refusal] = field(default_factory=dict)
    """By node: why the API server lets it take no label. It is left as it is for now."""


def plan(observed: Observed, installation: Installation, now: datetime) -> Outcome:
    """The next step of this EdgeDeployment."""
    owner = observed.deployment
    spec = EdgeDeploymentSpec.model_validate(owner["spec"])
    before = owner.get("status") or {}
    born = owner["metadata"].get("creationTimestamp", "")
    # A pod of a predecessor by the same name looks just like one of ours, but for its age.
    pods = [pod for pod in observed.pods if pod["metadata"].get("creationTimestamp", born) >= born]
    observation = Observation(owner, spec, installation.name, observed.nodes, pods, observed.hints)
    kept = revision.kept(observed.revisions, owner["metadata"]["uid"])
    live = _by_workload(observed.deployments, owner)
    catalogue = Catalogue(spec, kept)
    votes = Counter() if before.get("stable") else _votes(observation, live, catalogue)
    said = owner["metadata"].get("annotations") or {}
    aim = aims.decide(
        spec,
        before,
        said,
        observed.model_version,
        kept,
        votes,
        installation,
        lambda release: observation.noted(hashes(release, spec)) if observation.notes else 0,
    )
    catalogue.prefer(aim.target, aim.stable, aim.candidate)
    running = _by_workload(observed.daemon_sets, owner)
    observation.disregard(lambda hash_: catalogue.find(hash_) is None and hash_ not in running)
    clock = Clock(
        now,
        timedelta(seconds=spec.strategy.progress_deadline_seconds),
        timedelta(seconds=spec.strategy.offline_after_seconds),
    )
    attempt = aim.orders.attempt
    members = observation.judge(aim.target, aim.stable, live, clock, attempt)
    by_hash = {hash_: each["metadata"]["name"] for hash_, each in {**running, **live}.items()}
    refusals = {hash_: observed.refusals[name] for hash_, name in by_hash.items() if name in observed.refusals}
    waiting = lateness.judge(members, observed.waiting, refusals, clock)
    refused_labels.mark(members, observed.refused_labels)
    moving = moves.plan(spec, before, aim, members, catalogue.find, now)
    routed = routed_pods.find(owner, spec, pods)

    def routing_of(route: Route | None) -> Routing:
        return traffic.decide(
            owner, spec, route, routed, observed.services, observed.routes, installation, now, observed.probed
        )

    def held_moves() -> moves.Moves:
        return moves.plan(spec, before, aim, members, catalogue.find, now, held=True)

    def backends_of(stable: str, candidate: str) -> Backends:
        tolerated = any(member.state is State.FAILED and not member.gateway for member in members) and (
            moving.progress.wave is None
            or Failures.TOLERATED in (moving.progress.failures, held_moves().progress.failures)
        )
        return backends.count(
            spec,
            observation.pools,
            observation.pods,
            live,
            observed.refusals,
            clock,
            stable,
            candidate,
            tolerated=tolerated,
        )

    canary, route = edge_canary.decide(
        owner,
        spec,
        aim,
        backends_of,
        observed.measured,
        now,
        first_wave_passed=moving.progress.first_passed,
        in_force=lambda route: routing_of(route).in_force,
    )
    routing = routing_of(route)
    if canary is not None and canary.holds_waves:
        moving = held_moves()
    prefetch = spec.strategy.recreate_order == "PrefetchFirst"
    terms = handover.Terms(
        observation.keys,
        installation.name,
        attempt,
        prefetch,
        held=aim.in_doubt or moving.closed,
        find=catalogue.find,
        undone=_undone(spec, aim),
    )
    labels, needed, told, left_out = _labels(observation, members, moving.to, terms, observed.refused_labels)
    applied, idle = daemon_sets.state(owner, running, observation, needed, catalogue, installation.name)
    scaled, unneeded = replicas.scale(observation, aim, moving.to, live, catalogue.find, owner, spec, routing, canary)
    local = pool_services.services(owner, spec.serving.ports, observation.pools)
    gone = pool_services.unneeded(_owned(observed.services, owner), local, observation.pools)
    routes, taken = _untaken([*local, *routing.apply], observed.taken)
    found = edge_findings.Findings(
        owner,
        spec,
        aim,
        observation,
        members,
        moving,
        live,
        catalogue.find,
        observed.refusals,
        routing,
        taken,
        canary,
        refused_labels.problem(left_out, observed.refused_labels),
    )
    noting = any(each.values.get(observation.keys.failed) for each in labels)
    # A retry that comes in together with the failure is latched first: it would be obeyed in the aborted state as well.
    if found.gives_up and not noting and not aim.orders.fresh:
        # What failed where is noted on the nodes before: so it is known even if the status is lost.
        cause = edge_problems.failure(found)
        notes = edge_notes.failures(before, edge_status.samples(members))
        notes.append(Note("Warning", "RolloutAborted", f"revision {aim.orders.revision}: {cause.message}"))
        return _latched(plan(_as_aborted(observed, cause, aim, now), installation, now), notes)
    stated = edge_status.state(found, now)
    if aim.orders.fresh:
        return _latched(Outcome(status=stated.status, notes=stated.notes), [])
    create = []
    if aim.target and aim.target.revision not in kept and not aim.refused:
        create.append(revision.stored(aim.target, owner, 1 + max((number for number, _ in kept.values()), default=0)))
    return Outcome(
        create=create,
        apply=[*applied, *scaled, *routes],
        label_nodes=labels,
        delete=[
            *routing.delete,
            *idle,
            *unneeded,
            *map(reference, gone),
            *_old_revisions(observed, spec, aim, kept, {*needed, *live}, catalogue),
        ],
        status=stated.status,
        settle_status_seconds=SETTLE_STATUS_SECONDS,
        notes=[*told, *stated.notes],
        probe=routing.probe,
        waiting=waiting,
        requeue_after=looks.look_again(
            members,
            moving,
            routing,
            canary,
            [each.until for each in observed.refused_labels.values()],
            now,
            more=len(labels) >= moves.at_once(len(members)),
            taken=bool(taken),
        ),
    )


def _latched(outcome: Outcome, notes: Sequence[Note]) -> Outcome:
    """Only what is to be remembered, an abort say: it is written before anything is done about it.

    A crash after the first node went back would otherwise leave a fleet that knows nothing of the failure.
    """
    return Outcome(status=outcome.status, notes=[*outcome.notes, *notes], requeue_after=0.0)


def _as_aborted(observed: Observed, cause: Problem, aim: Aim, now: datetime) -> Observed:
    """What is observed once the revision under way is known to be aborted for this cause."""
    owner = observed.deployment
    before = owner.get("status") or {}
    others = [each for each in before.get("conditions") or () if each.get("type") != "Progressing"]
    stated = Condition("Progressing", "False", cause.reason, cause.message)
    said = conditions.merge(before.get("conditions") or (), [stated], owner["metadata"].get("generation", 0), now)
    status = {**before, "abortedRevision": aim.orders.revision, "conditions": [*others, *said]}
    return replace(observed, deployment={**owner, "status": status})


def _is_replica(name: str) -> bool:
    return "/" in name


def _undone(spec: EdgeDeploymentSpec, aim: Aim) -> set[str]:
    """Hashes of the workloads of the revision that was under way when the fleet was called back to stable."""
    going_back = aim.settled and aim.target is not None and aim.candidate is not None
    if not going_back or aim.candidate == aim.target:
        return set()
    return hashes(aim.candidate, spec)


def _labels(
    observation: Observation,
    members: Sequence[Member],
    moved: Mapping[str, Workload],
    terms: handover.Terms,
    refused: Collection[str],
) -> tuple[list[NodeLabels], set[str], list[Note], list[str]]:
    """What is written on nodes now; the hashes of all that they name before or after that; what is worth telling.

    And which of the nodes that are ``refused`` labels would be written now.
    """
    gateways = {name: item for name, item in moved.items() if not _is_replica(name)}
    begun = handover.begin(gateways, {member.name: member for member in members if member.name in gateways}, terms)
    left_out = [name for name in observation.strays if name in refused]
    left_out += [member.name for member in members if member.state is State.REFUSED]
    strays = [NodeLabels(name, dict.fromkeys(keys)) for name, keys in observation.strays.items() if name not in refused]
    limit = moves.at_once(len(members))
    gone_on = handover.go_on(members, gateways, terms, limit)
    labels = [*strays[:limit], *gone_on.labels, *begun.labels]
    needed = {*observation.named(), *begun.workloads, *gone_on.workloads}
    return labels, needed, [*(begun.notes | gone_on.notes).values()], [*left_out, *gone_on.left_out]


def _untaken(objects: list[RawObject], taken: Collection[str]) -> tuple[list[RawObject], list[str]]:
    """Without the Services whose names are somebody else's; and those names."""
    others = {
        each["metadata"]["name"] for each in objects if each["kind"] == "Service" and each["metadata"]["name"] in taken
    }
    free = [each for each in objects if each["kind"] != "Service" or each["metadata"]["name"] not in others]
    return free, sorted(others)


def _old_revisions(
    observed: Observed,
    spec: EdgeDeploymentSpec,
    aim: Aim,
    kept: aims.Kept,
    hashes: Collection[str],
    catalogue: Catalogue,
) -> list[ObjectRef]:
    """The old revisions beyond the limit, oldest first; one that something still runs is not old."""
    if len(kept) <= spec.revision_history_limit:
        return []
    used = {release.revision for release in (aim.target, aim.stable, aim.candidate) if release}
    used |= {item.release.revision for item in map(catalogue.find, hashes) if item}
    unused = [each for each, _ in sorted(kept.items(), key=lambda each: each[1][0]) if each not in used]
    old = unused[: max(0, len(unused) - spec.revision_history_limit)]
    by_name = {each["metadata"]["name"]: each for each in observed.revisions}
    found = [by_name.get(revision.object_name(observed.deployment["metadata"]["name"], each)) for each in old]
    return [reference(each) for each in found if each is not None]


def _votes(observation: Observation, live: Mapping[str, RawObject], catalogue: Catalogue) -> Counter[str]:
    votes: Counter[str] = Counter()
    for fleet in observation.pools:
        if fleet.pool.placement == workload.EVERY_NODE:
            for node in fleet.nodes:
                item = catalogue.find(observation.carried(node["metadata"]["name"]))
                votes[item.release.revision if item else ""] += 1
    for hash_, each in live.items():
        item = catalogue.find(hash_)
        votes[item.release.revision if item else ""] += int(each["spec"].get("replicas", 1))
    return votes


def _by_workload(objects: Sequence[RawObject], owner: RawObject) -> dict[str, RawObject]:
    return {
        (each["metadata"].get("labels") or {}).get(names.WORKLOAD_LABEL, ""): each
        for each in objects
        if _is_owned(each, owner) and "deletionTimestamp" not in each["metadata"]
    }


def _owned(objects: Sequence[RawObject], owner: RawObject) -> list[RawObject]:
    return [each for each in objects if _is_owned(each, owner)]


def _is_owned(obj: RawObject, owner: RawObject) -> bool:
    uid = owner["metadata"]["uid"]
    return any(each.get("uid") == uid for each in obj["metadata"].get("ownerReferences") or ())


def reference(obj: RawObject) -> ObjectRef:
    """A reference to exactly this object, for its deletion."""
    metadata = obj["metadata"]
    return ObjectRef(obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"], metadata.get("uid", ""))
