"""What is said about an EdgeDeployment: status, conditions and Events, all derived from one set of findings.

Every sentence names the field or the object and, where something is wrong, the remedy. Counts are complete, names are
samples: a status stays under 32 KiB at 10,000 gateways.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelfleet.plan import conditions
from modelfleet.plan.edge import edge_findings, edge_notes, edge_problems, edge_verdict
from modelfleet.plan.edge.edge_findings import Findings
from modelfleet.plan.edge.fleet import Member, PoolFleet
from modelfleet.plan.edge.revision import Release
from modelfleet.plan.edge.waves import State
from modelfleet.plan.outcome import Note

FAILURE_SAMPLES: Final = 10
POOL_TEXT: Final = 5_000
"""Characters of all pools' messages together: a status of a hundred pools stays under 32 KiB."""
POOL_ARTIFACTS: Final = 150
"""Artifact counts of all pools together."""
FAILURE_TEXT: Final = 120
REASON_LENGTH: Final = 64


TOLD: Final = frozenset({"observedGeneration", "phase", "message", "counts", "pools", "failures", "conditions"})
"""What a status tells to people alone, and to other programs. A plan reads of it what it told before, so as not to tell
it again and to repeat why something was aborted, and takes no decision by it."""


def decided(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the next plan goes by."""
    return {key: value for key, value in status.items() if key not in TOLD}


@dataclass(frozen=True)
class Stated:
    """What to write about it."""

    status: dict[str, Any]
    notes: list[Note]


def state(found: Findings, now: datetime) -> Stated:
    """The status and the Events."""
    before = found.owner.get("status") or {}
    generation = found.owner["metadata"].get("generation", 0)
    stable, candidate = edge_findings.revisions(found)
    verdict = edge_verdict.verdict(found, stable, candidate, edge_problems.problems(found))
    failures = samples(found.members)
    pools = [_pool_status(fleet, len(found.observation.pools)) for fleet in found.observation.pools]
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "phase": verdict.phase,
        "message": conditions.shorten(verdict.message),
        "counts": _counts(found.members, found.tally),
        "pools": pools,
        "failures": failures,
        "conditions": conditions.merge(before.get("conditions") or (), verdict.conditions, generation, now),
    }
    if stable is not None:
        status["stable"] = {"modelVersion": stable.model_version, "revision": stable.revision}
    if candidate is not None:
        status["candidate"] = {"modelVersion": candidate.model_version, "revision": candidate.revision}
    status |= _commanded(found, candidate)
    if found.canary is not None and found.canary.status is not None:
        status["canary"] = dict(found.canary.status)
    if found.progress.wave is not None:
        status |= _wave(found, before, now)
    elif candidate is not None and found.same_rollout:
        # All waves have passed, and something else keeps the candidate from being stable: they stay passed.
        status |= {key: before[key] for key in ("wave", "waveStartedAt", "soakStartedAt") if key in before}
    if found.routing.status:
        status["traffic"] = dict(found.routing.status)
    notes = edge_notes.transitions(before, status)
    notes += edge_notes.commands(before, status, verdict.conditions)
    notes += edge_notes.stalled(before, verdict.conditions)
    notes += edge_notes.traffic(before, verdict.conditions)
    notes += edge_notes.failures(before, status["failures"])
    return Stated(status, notes + edge_notes.pool_warnings(before, found.observation.pools, verdict.message))


def _commanded(found: Findings, candidate: Release | None) -> dict[str, Any]:
    """What was commanded, and what is remembered of it."""
    orders = found.aim.orders
    # Once another revision is under way, the one that was aborted may be asked for again.
    over = candidate is not None and candidate.revision != orders.aborted
    told = {
        "attempt": orders.attempt,
        "lastCommand": orders.last,
        "abortedRevision": "" if over else orders.aborted,
        "refusedCommand": conditions.shorten(orders.refused),
    }
    return {key: value for key, value in told.items() if value}


def _wave(found: Findings, before: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The wave under way and its clocks."""
    progress = found.progress
    same = before.get("wave") == progress.wave and found.same_rollout
    began = before.get("waveStartedAt") if same else None
    status = {"wave": progress.wave, "waveStartedAt": began or conditions.timestamp(now)}
    if progress.soaking_since is not None:
        status["soakStartedAt"] = conditions.timestamp(progress.soaking_since)
    return status


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
    trouble = edge_problems.pool_trouble(fleet)
    room = min(conditions.MESSAGE_LENGTH, POOL_TEXT // pools)
    return {**status, "message": conditions.shorten(trouble.message, room)} if trouble else status


def samples(members: Iterable[Member]) -> list[dict[str, str]]:
    """The first of those that failed, or take no label, as ``status.failures`` has them."""
    failed = sorted(
        (each for each in members if each.state in (State.FAILED, State.REFUSED)),
        key=lambda each: (each.state is State.REFUSED, each.shown),
    )
    return [
        {
            "node": each.shown,
            "reason": each.trouble.reason[:REASON_LENGTH] if each.trouble else "NotReady",
            "message": conditions.shorten(each.trouble.message, FAILURE_TEXT) if each.trouble else "",
        }
        for each in failed[:FAILURE_SAMPLES]
    ]
