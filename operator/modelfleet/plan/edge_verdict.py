"""The verdict on an EdgeDeployment: phase, message and conditions, each derived in one place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from modelfleet.plan import conditions
from modelfleet.plan.aim import Problem
from modelfleet.plan.conditions import Condition
from modelfleet.plan.edge_findings import Findings
from modelfleet.plan.revision import Release
from modelfleet.plan.waves import State


@dataclass(frozen=True)
class Verdict:
    """What is said of the deployment as a whole."""

    phase: str
    message: str
    conditions: list[Condition]


def verdict(found: Findings, stable: Release | None, candidate: Release | None, problems: Sequence[Problem]) -> Verdict:
    """The verdict, given which revisions are stable and candidate from now on."""
    tally = found.tally
    going_back = candidate is not None and found.aim.settled and not found.aim.refused
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
    return Verdict(
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
