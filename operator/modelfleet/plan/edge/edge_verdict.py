"""The verdict on an EdgeDeployment: phase, message and conditions, each derived in one place."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelfleet.plan import conditions
from modelfleet.plan.conditions import Condition
from modelfleet.plan.edge.aim import Problem
from modelfleet.plan.edge.edge_findings import Findings
from modelfleet.plan.edge.revision import Release
from modelfleet.plan.edge.waves import State


@dataclass(frozen=True)
class Verdict:
    """What is said of the deployment as a whole."""

    phase: str
    message: str
    conditions: list[Condition]


def verdict(found: Findings, stable: Release | None, candidate: Release | None, problems: Sequence[Problem]) -> Verdict:
    """The verdict, given which revisions are stable and candidate from now on."""
    aim, tally = found.aim, found.tally
    # Their Service still sends requests to replicas of the previous version.
    replaced = found.observation.serving_replicas - {
        fleet.wanted.hash for fleet in found.observation.pools if fleet.wanted
    }
    on_target = stable is not None and candidate is None and not aim.refused and aim.problem is None
    done = on_target and not problems and tally[State.HEALTHY] == found.reachable and not replaced
    done = done and found.routing.in_force
    waiting = aim.problem if aim.problem and aim.problem.heals else None
    hold = found.hold
    if done:
        reason, message = "Healthy", f"all {found.reachable} reachable nodes and replicas serve {_served(found)}"
    elif problems:
        reason, message = problems[0].reason, problems[0].message
    elif waiting is not None:
        reason, message = waiting.reason, waiting.message
    elif hold is not None:
        # What the canary says has its command at the end, which must not be cut off.
        told = "" if found.canary and found.canary.pause else f"; {_progress_message(found)}"
        reason, message = hold.reason, f"{hold.message}{told}"
    elif found.going_back:
        why = f" ({aim.cause.message})" if aim.aborted and aim.cause else ""
        reason, message = "RollingBack", f"going back to {_served(found)}: {_progress_message(found)}{why}"
    elif found.progress.soaks_until is not None:
        until = conditions.timestamp(found.progress.soaks_until)
        reason, message = "Soaking", f"wave {found.progress.wave} is healthy and soaks until {until}"
    elif found.moving.wait is not None:
        reason, message = found.moving.wait.reason, f"{found.moving.wait.message}; {_progress_message(found)}"
    else:
        reason, message = "RollingOut" if candidate else "Converging", _progress_message(found)
    moving = not done and not hold and not problems
    rolling = candidate is not None and moving and not found.going_back
    progressing = Condition("Progressing", "True" if rolling else "False", reason, message if rolling else "")
    if aim.cause is not None and not rolling:
        # Remembered here for as long as the revision stays aborted.
        progressing = Condition("Progressing", "False", aim.cause.reason, aim.cause.message)
    return Verdict(
        phase=_phase(found, stable, problems, done=done),
        message=message,
        conditions=[
            Condition("Ready", "True" if done else "False", reason, message),
            Condition("Reconciling", "True" if moving else "False", reason, message if moving else ""),
            Condition("Stalled", "True" if problems else "False", reason, message if problems else ""),
            progressing,
            Condition("Paused", "True", hold.reason, hold.message)
            if hold
            else Condition("Paused", "False", "NotPaused"),
            *([found.routing.condition] if found.routing.condition else []),
        ],
    )


def _phase(found: Findings, stable: Release | None, problems: Sequence[Problem], *, done: bool) -> str:
    tally = found.tally
    if found.hold:
        return "Paused"
    if done:
        return "Healthy"
    if found.aim.aborted and not found.going_back:
        return "RolledBack"
    tried = tally[State.IN_FLIGHT] + tally[State.HEALTHY] + tally[State.FAILED] + tally[State.SUSPECT]
    if stable is None and not tried:
        return "Pending"
    return "Degraded" if problems else "Progressing"


def _served(found: Findings) -> str:
    return found.aim.target.model_version if found.aim.target else found.spec.model_version


def _progress_message(found: Findings) -> str:
    if found.canary is not None and found.canary.message:
        text = found.canary.message
    elif found.progress.wave is not None:
        text = f"wave {found.progress.wave}: {found.progress.healthy} of {found.progress.size} gateways"
        text += f", {found.tally[State.FAILED]} failed" if found.tally[State.FAILED] else ""
        text += f", {found.tally[State.REFUSED]} take no label" if found.tally[State.REFUSED] else ""
    else:
        text = f"{found.tally[State.HEALTHY]} of {found.reachable} reachable nodes and replicas are healthy"
    stuck = next((each for each in found.members if each.trouble and each.state is State.IN_FLIGHT), None)
    if stuck is not None and stuck.trouble is not None:
        text += f"; {stuck.shown} waits: {stuck.trouble.reason} {conditions.shorten(stuck.trouble.message, 120)}"
    return text
