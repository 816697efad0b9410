"""The Events about an EdgeDeployment: what became different between two statuses, each told once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelfleet.plan import conditions
from modelfleet.plan.conditions import Condition
from modelfleet.plan.edge import refused_labels
from modelfleet.plan.edge.edge_problems import NAMED_FAILURES, pool_trouble
from modelfleet.plan.edge.fleet import PoolFleet
from modelfleet.plan.edge.serving_pod import PERMANENT
from modelfleet.plan.outcome import Note


def transitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Note]:
    """How far the rollout came, by the statuses before and after."""
    was, now = before.get("candidate") or {}, after.get("candidate") or {}
    stable = after.get("stable") or {}
    notes = []
    if now and now != was:
        again = f", attempt {after['attempt']}" if after.get("attempt", 1) > 1 else ""
        what = f"{now['modelVersion']}, revision {now['revision']}{again}"
        notes.append(Note("Normal", "RolloutStarted", f"rolling out {what}"))
    # The last wave's end is the rollout's, which is told below.
    if before.get("wave") and before["wave"] != after.get("wave") and was and was == now:
        notes.append(
            Note("Normal", "WaveCompleted", f"wave {before['wave']} of revision {was['revision']} is complete")
        )
    step = after.get("canary") or {}
    started = step.get("stepStartedAt")
    if started and started != (before.get("canary") or {}).get("stepStartedAt"):
        header = ", and the requests with the header" if step["header"] else ""
        what = f"step {step['stepIndex']} of revision {step['revision']}: weight {step['weight']}%{header}"
        notes.append(Note("Normal", "CanaryStepStarted", what))
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


def commands(before: Mapping[str, Any], after: Mapping[str, Any], stated: Sequence[Condition]) -> list[Note]:
    """What became of commands, and what waits for one."""
    notes = []
    command = after.get("lastCommand")
    if command and command != before.get("lastCommand"):
        notes.append(Note("Normal", "CommandObeyed", f"{command}"))
    refused = after.get("refusedCommand")
    if refused and refused != before.get("refusedCommand"):
        notes.append(Note("Warning", "CommandRefused", refused))
    aborted = after.get("abortedRevision")
    if aborted and aborted != before.get("abortedRevision"):
        why = next(each for each in stated if each.type == "Progressing")
        notes.append(Note("Warning", "RolloutAborted", f"revision {aborted}: {why.message}"))
    paused = next(each for each in stated if each.type == "Paused")
    was = conditions.find(before.get("conditions") or (), "Paused") or {}
    if paused.status == "True" and paused.message != was.get("message"):
        notes.append(Note("Normal", paused.reason, paused.message))
    return notes


def stalled(before: Mapping[str, Any], stated: Sequence[Condition]) -> list[Note]:
    """An Event when something newly keeps the deployment from going on."""
    notes = []
    now = next(each for each in stated if each.type == "Stalled")
    was = conditions.find(before.get("conditions") or (), "Stalled") or {}
    if now.status == "True" and (was.get("status") != "True" or was.get("reason") != now.reason):
        notes.append(Note("Warning", now.reason, now.message))
    return notes


def traffic(before: Mapping[str, Any], stated: Sequence[Condition]) -> list[Note]:
    """An Event when the data plane newly does not follow a route."""
    now = next((each for each in stated if each.type == "TrafficRouted"), None)
    was = conditions.find(before.get("conditions") or (), "TrafficRouted") or {}
    if now is None or now.reason != "ProbeFailed" or was.get("reason") == now.reason:
        return []
    return [Note("Warning", now.reason, now.message)]


def failures(before: Mapping[str, Any], now: Sequence[Mapping[str, str]]) -> list[Note]:
    """An Event for each of the first nodes that newly failed; ``now`` as ``status.failures`` has them."""
    notes = []
    known = {(each["node"], each["reason"]) for each in before.get("failures") or ()}
    fresh = [each for each in now if (each["node"], each["reason"]) not in known]
    for each in fresh[:NAMED_FAILURES]:
        reason = each["reason"] if each["reason"] in (*PERMANENT, refused_labels.REASON) else "NodeFailed"
        notes.append(Note("Warning", reason, f"{each['node']}: {each['reason']}: {each['message']}"))
    return notes


def pool_warnings(before: Mapping[str, Any], fleets: Iterable[PoolFleet], said: str) -> list[Note]:
    """An Event for each pool that has something to tell which neither the last status told nor ``said`` does."""
    told = {each["name"] for each in before.get("pools") or () if each.get("message")}
    troubles = [trouble for fleet in fleets if fleet.pool.name not in told and (trouble := pool_trouble(fleet))]
    return [Note("Warning", trouble.reason, trouble.message) for trouble in troubles if trouble.message != said]
