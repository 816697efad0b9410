"""What is said about an EdgeDeployment: status, conditions and Events, all derived from one set of findings.

Every sentence names the field or the object and, where something is wrong, the remedy. Counts are complete, names are
samples: a status stays under 32 KiB at 10,000 gateways.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import conditions
from modelfleet.plan.aim import Aim, Problem
from modelfleet.plan.conditions import Condition
from modelfleet.plan.fleet import Member, Observation, PoolFleet
from modelfleet.plan.outcome import Note, RawObject
from modelfleet.plan.revision import Release
from modelfleet.plan.serving_pod import PERMANENT
from modelfleet.plan.waves import Progress, State
from modelfleet.plan.workload import Workload

FAILURE_SAMPLES: Final = 10
POOL_TEXT: Final = 5_000
"""Characters of all pools' messages together: a status of a hundred pools stays under 32 KiB."""
POOL_ARTIFACTS: Final = 150
"""Artifact counts of all pools together."""
FAILURE_TEXT: Final = 120
REASON_LENGTH: Final = 64
NAMED_FAILURES: Final = 3
"""Failed nodes that a condition's message and the Events name."""

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


@dataclass(frozen=True)
class Stated:
    """What to write about it."""

    status: dict[str, Any]
    notes: list[Note]


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


def state(found: Findings, now: datetime) -> Stated:
    """The status and the Events."""
    before = found.owner.get("status") or {}
    generation = found.owner["metadata"].get("generation", 0)
    tally = Counter(member.state for member in found.members)
    stable, candidate = _revisions(found, tally)
    going_back = candidate is not None and found.aim.settled and not found.aim.refused
    problems = _problems(found, tally)
    verdict = _verdict(found, tally, stable, candidate, problems, going_back)
    failures = _failures(found.members)
    pools = [_pool_status(fleet, len(found.observation.pools)) for fleet in found.observation.pools]
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "phase": verdict.phase,
        "message": conditions.shorten(verdict.message),
        "counts": _counts(found.members, tally),
        "pools": pools,
        "failures": failures,
        "conditions": conditions.merge(before.get("conditions") or (), verdict.conditions, generation, now),
    }
    if stable is not None:
        status["stable"] = {"modelVersion": stable.model_version, "revision": stable.revision}
    if candidate is not None:
        status["candidate"] = {"modelVersion": candidate.model_version, "revision": candidate.revision}
    if found.progress.wave is not None:
        status["wave"] = found.progress.wave
    notes = [*_transitions(before, status), *_warnings(before, status, verdict.conditions)]
    return Stated(status, notes + _pool_warnings(before, found.observation.pools, verdict.message))


@dataclass(frozen=True)
class _Verdict:
    phase: str
    message: str
    conditions: list[Condition]


def _revisions(found: Findings, tally: Counter[State]) -> tuple[Release | None, Release | None]:
    """Stable and candidate as they are from now on: a candidate becomes stable when all its waves have passed."""
    aim = found.aim
    if aim.target is None or aim.refused:
        return aim.stable, aim.candidate
    if aim.settled:
        left = rolled_back(aim, found.members, found.find) or _candidate_replicas(found)
        return aim.stable, aim.candidate if left else None
    nothing_to_try = not found.members and all(fleet.nodes for fleet in found.observation.pools)
    if found.progress.wave is None and aim.problem is None and (tally[State.HEALTHY] or nothing_to_try):
        return aim.target, None
    return aim.stable, aim.target


def _candidate_replicas(found: Findings) -> bool:
    aim = found.aim
    if aim.candidate is None or aim.target is None or aim.candidate.revision == aim.target.revision:
        return False
    items = map(found.find, found.live)
    return any(item is not None and item.release.revision == aim.candidate.revision for item in items)


def _problems(found: Findings, tally: Counter[State]) -> list[Problem]:
    """What keeps the deployment from being ready and will not pass by waiting, the most important first."""
    problems = [found.aim.problem] if found.aim.problem and not found.aim.problem.heals else []
    if tally[State.FAILED]:
        problems.append(_failed_problem(found, tally[State.FAILED]))
    for fleet in found.observation.pools:
        problem = _pool_problem(fleet)
        if problem is not None:
            problems.append(problem)
    if found.observation.pools and not found.members and not any(f.nodes for f in found.observation.pools):
        trouble = _pool_trouble(found.observation.pools[0])
        problems += [trouble] if trouble else []
    if any(member.podless for member in found.members):
        problems += [Problem("PodsRefused", f"{name} gets no pods: {why}") for name, why in found.refusals.items()]
    return problems


def _failed_problem(found: Findings, count: int) -> Problem:
    failed = sorted((each for each in found.members if each.state is State.FAILED), key=lambda each: each.name)
    # Wrong bytes are the news that matters, whatever else went wrong.
    failed.sort(key=lambda each: not (each.trouble and each.trouble.reason in PERMANENT))
    samples = ", ".join(
        f"{each.shown} ({each.trouble.reason})" if each.trouble else each.shown for each in failed[:NAMED_FAILURES]
    )
    worst = failed[0].trouble
    reason = worst.reason if worst and worst.reason in PERMANENT else "NodesFailed"
    stable = found.aim.stable
    if stable is not None and found.aim.target is not None and not found.aim.settled:
        remedy = f"fix the cause, or set spec.modelVersion back to {stable.model_version}"
        remedy = remedy if stable.model_version != found.spec.model_version else "fix the cause, or undo the change"
    else:
        remedy = "fix the cause, or name another spec.modelVersion"
    detail = f": {conditions.shorten(worst.message, 90)}" if worst and worst.message else ""
    return Problem(reason, f"{count} failed, no more are moved; {remedy}. {samples}{detail}")


def _pool_problem(fleet: PoolFleet) -> Problem | None:
    """A pool in which something that should serve cannot; a pool that is merely empty of gateways is none."""
    trouble = _pool_trouble(fleet)
    if trouble is None or (trouble.reason == "EmptyPool" and not fleet.members):
        return None
    if trouble.reason == "UntoleratedTaint" and fleet.tainted_count < len(fleet.nodes):
        return None
    return trouble


def _pool_trouble(fleet: PoolFleet) -> Problem | None:
    """What a person should know of a pool, whether or not it holds anything up."""
    pool = fleet.pool
    if not fleet.nodes:
        selector = ", ".join(f"{key}={value}" for key, value in sorted(pool.node_selector.items()))
        return Problem(
            "EmptyPool",
            f"pool {pool.name} matches no node: label nodes with {selector}, or correct spec.pools[].nodeSelector",
        )
    if fleet.no_artifact:
        return Problem(
            "NoArtifact", f"pool {pool.name}: no artifact fits {fleet.no_artifact}; add one to a new ModelVersion"
        )
    if fleet.tainted:
        return Problem(
            "UntoleratedTaint",
            f"pool {pool.name}: {fleet.tainted_count} of {len(fleet.nodes)} nodes take no pod, as {fleet.tainted}; "
            "add it to spec.pools[].tolerations",
        )
    return None


def _verdict(
    found: Findings,
    tally: Counter[State],
    stable: Release | None,
    candidate: Release | None,
    problems: Sequence[Problem],
    going_back: bool,
) -> _Verdict:
    reachable = sum(tally.values()) - tally[State.UNREACHABLE] - tally[State.LOST] - tally[State.NO_ARTIFACT]
    on_target = stable is not None and candidate is None and not found.aim.refused and found.aim.problem is None
    # Their Service still sends requests to replicas of the previous version.
    replaced = found.observation.serving_replicas - {
        fleet.wanted.hash for fleet in found.observation.pools if fleet.wanted
    }
    done = on_target and not problems and tally[State.HEALTHY] == reachable and not replaced
    waiting = found.aim.problem if found.aim.problem and found.aim.problem.heals else None
    paused = found.spec.paused
    if done:
        reason, message = "Healthy", f"all {reachable} reachable nodes and replicas serve {found.spec.model_version}"
    elif problems:
        reason, message = problems[0].reason, problems[0].message
    elif waiting is not None:
        reason, message = waiting.reason, waiting.message
    elif paused:
        reason, message = "Paused", f"paused: {_progress_message(found, tally)}; set spec.paused to false to go on"
    elif going_back:
        reason, message = "RollingBack", f"going back to {found.spec.model_version}: {_progress_message(found, tally)}"
    else:
        reason, message = "RollingOut" if candidate else "Converging", _progress_message(found, tally)
    moving = not done and not paused and not problems
    rolling = candidate is not None and not paused and not problems
    return _Verdict(
        phase=_phase(done, paused, problems, stable, tally),
        message=message,
        conditions=[
            Condition("Ready", "True" if done else "False", reason, message),
            Condition("Reconciling", "True" if moving else "False", reason, message if moving else ""),
            Condition("Stalled", "True" if problems else "False", reason, message if problems else ""),
            Condition("Progressing", "True" if rolling else "False", reason, message if rolling else ""),
            Condition("Paused", "True" if paused else "False", "Paused" if paused else "NotPaused"),
        ],
    )


def _phase(done: bool, paused: bool, problems: Sequence[Problem], stable: Release | None, tally: Counter[State]) -> str:
    if paused:
        return "Paused"
    if done:
        return "Healthy"
    tried = tally[State.IN_FLIGHT] + tally[State.HEALTHY] + tally[State.FAILED] + tally[State.SUSPECT]
    if stable is None and not tried:
        return "Pending"
    return "Degraded" if problems else "Progressing"


def _progress_message(found: Findings, tally: Counter[State]) -> str:
    if found.progress.wave is not None:
        text = f"wave {found.progress.wave}: {found.progress.healthy} of {found.progress.size} gateways"
    else:
        reachable = sum(tally.values()) - tally[State.UNREACHABLE] - tally[State.LOST] - tally[State.NO_ARTIFACT]
        text = f"{tally[State.HEALTHY]} of {reachable} reachable nodes and replicas are healthy"
    stuck = next((each for each in found.members if each.trouble and each.state is State.IN_FLIGHT), None)
    if stuck is not None and stuck.trouble is not None:
        text += f"; {stuck.shown} waits: {stuck.trouble.reason} {conditions.shorten(stuck.trouble.message, 120)}"
    return text


def _counts(members: Sequence[Member], tally: Counter[State]) -> dict[str, int]:
    return {
        "desired": len(members),
        "updated": sum(member.updated for member in members),
        "healthy": tally[State.HEALTHY],
        "failed": tally[State.FAILED],
        "suspect": tally[State.SUSPECT],
        "pendingOffline": sum(member.offline and member.state is State.UNREACHABLE for member in members),
        "noArtifact": tally[State.NO_ARTIFACT],
    }


def _pool_status(fleet: PoolFleet, pools: int) -> dict[str, Any]:
    """The status of one of ``pools`` pools, which share what room there is."""
    artifacts = Counter(member.wanted.artifact.name for member in fleet.members if member.wanted)
    most = sorted(sorted(artifacts.items()), key=lambda each: -each[1])[: max(1, POOL_ARTIFACTS // pools)]
    status: dict[str, Any] = {
        "name": fleet.pool.name,
        "artifacts": dict(sorted(most)),
        "desired": len(fleet.members),
        "updated": sum(member.updated for member in fleet.members),
        "healthy": sum(member.state is State.HEALTHY for member in fleet.members),
    }
    trouble = _pool_trouble(fleet)
    room = min(conditions.MESSAGE_LENGTH, POOL_TEXT // pools)
    return {**status, "message": conditions.shorten(trouble.message, room)} if trouble else status


def _failures(members: Iterable[Member]) -> list[dict[str, str]]:
    failed = sorted((each for each in members if each.state is State.FAILED), key=lambda each: each.shown)
    return [
        {
            "node": each.shown,
            "reason": each.trouble.reason[:REASON_LENGTH] if each.trouble else "NotReady",
            "message": conditions.shorten(each.trouble.message, FAILURE_TEXT) if each.trouble else "",
        }
        for each in failed[:FAILURE_SAMPLES]
    ]


def _transitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Note]:
    was, now = before.get("candidate") or {}, after.get("candidate") or {}
    stable = after.get("stable") or {}
    notes = []
    if now and now != was:
        notes.append(Note("Normal", "RolloutStarted", f"rolling out {now['modelVersion']}, revision {now['revision']}"))
    if before.get("wave") and before["wave"] != after.get("wave") and was in (now, stable):
        notes.append(
            Note("Normal", "WaveCompleted", f"wave {before['wave']} of revision {was.get('revision')} is complete")
        )
    if stable and stable != before.get("stable") and was in ({}, stable):
        notes.append(
            Note("Normal", "RolloutCompleted", f"{stable['modelVersion']}, revision {stable['revision']}, is stable")
        )
    elif was and not now and was != stable:
        notes.append(
            Note(
                "Normal", "RolledBack", f"back on {stable.get('modelVersion')}; {was['modelVersion']} is off the fleet"
            )
        )
    return notes


def _warnings(before: Mapping[str, Any], after: Mapping[str, Any], stated: Sequence[Condition]) -> list[Note]:
    """One Event for each thing that newly went wrong."""
    notes = []
    stalled = next(each for each in stated if each.type == "Stalled")
    was = conditions.find(before.get("conditions") or (), "Stalled") or {}
    if stalled.status == "True" and (was.get("status") != "True" or was.get("reason") != stalled.reason):
        notes.append(Note("Warning", stalled.reason, stalled.message))
    known = {(each["node"], each["reason"]) for each in before.get("failures") or ()}
    fresh = [each for each in after["failures"] if (each["node"], each["reason"]) not in known]
    for each in fresh[:NAMED_FAILURES]:
        reason = each["reason"] if each["reason"] in PERMANENT else "NodeFailed"
        notes.append(Note("Warning", reason, f"{each['node']}: {each['reason']}: {each['message']}"))
    return notes


def _pool_warnings(before: Mapping[str, Any], fleets: Iterable[PoolFleet], said: str) -> list[Note]:
    """An Event for each pool that has something to tell which neither the last status told nor ``said`` does."""
    told = {each["name"] for each in before.get("pools") or () if each.get("message")}
    troubles = [trouble for fleet in fleets if fleet.pool.name not in told and (trouble := _pool_trouble(fleet))]
    return [Note("Warning", trouble.reason, trouble.message) for trouble in troubles if trouble.message != said]
