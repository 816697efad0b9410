"""What holds a rollout until a person acts, in words that name the very command or field that lets it go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan.edge import commands
from modelfleet.plan.edge.aim import NO_STABLE, Aim
from modelfleet.plan.edge.thresholds import Failures
from modelfleet.plan.edge.waves import Progress
from modelfleet.plan.traffic.canary_state import Decision


@dataclass(frozen=True)
class Hold:
    """Why ``status.phase`` is Paused."""

    reason: str
    message: str


def hold(
    owner: Mapping[str, Any], spec: EdgeDeploymentSpec, aim: Aim, progress: Progress[Any], canary: Decision | None
) -> Hold | None:
    """The first of these that holds the rollout; ``None`` where it goes on by itself."""
    annotate = f"kubectl annotate -n {owner['metadata']['namespace']} ed {owner['metadata']['name']}"
    # The user's own word comes first: it holds everything, roll-backs included.
    if spec.paused:
        return Hold("Paused", "set spec.paused to false to go on")
    if aim.orders.paused:
        return Hold("Paused", f"paused by annotation: {annotate} modelfleet.dev/{commands.PAUSE}- to go on")
    if aim.aborted and aim.stable is None:
        return Hold(NO_STABLE, aim.problem.message if aim.problem else "")
    if progress.failures is Failures.EXCEEDED and not aim.settled:
        if aim.stable is None:
            return Hold(NO_STABLE, "there is no stable revision to go back to")
        if spec.strategy.on_failure == "Pause":
            return Hold("FailureThresholdExceeded", "spec.strategy.failureThreshold is exceeded")
    if canary is not None and canary.pause is not None and not aim.in_doubt:
        return Hold(canary.pause.reason, canary.pause.message)
    if progress.awaits_approval and progress.wave is not None:
        promote = commands.example("promote", aim.orders, progress.wave)
        return Hold("AwaitingApproval", f"approve wave {progress.wave}: {annotate} --overwrite {promote}")
    return None
