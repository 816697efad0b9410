"""What keeps an EdgeDeployment from being ready and will not pass by waiting, in words that name the remedy."""

from collections.abc import Sequence
from typing import Final

from modelfleet.plan import conditions
from modelfleet.plan.edge import commands
from modelfleet.plan.edge.aim import NO_STABLE, Problem
from modelfleet.plan.edge.edge_findings import Findings
from modelfleet.plan.edge.fleet import Member, PoolFleet
from modelfleet.plan.edge.serving_pod import PERMANENT
from modelfleet.plan.edge.thresholds import Failures
from modelfleet.plan.edge.waves import State

NAMED_FAILURES: Final = 3
"""Failed nodes that a condition's message and the Events name."""


def problems(found: Findings) -> list[Problem]:
    """What keeps the deployment from being ready and will not pass by waiting, the most important first."""
    everything = []
    if found.aim.problem and not found.aim.problem.heals and not found.going_back:
        everything.append(found.aim.problem)
    if found.moving.problem is not None:
        everything.append(found.moving.problem)
    # While a rollout is within its threshold, failures are counted and told of, and it goes on.
    exceeded = found.progress.failures is Failures.EXCEEDED and not found.gives_up
    if found.tally[State.FAILED] and (exceeded or found.progress.wave is None):
        everything.append(_failed_problem(found))
    # As long as others are moved in their stead, it goes on.
    if found.labels_refused is not None and (found.progress.wave is None or found.stands_still):
        everything.append(found.labels_refused)
    if found.routing.problem:
        everything.append(found.routing.problem)
    for fleet in found.observation.pools:
        problem = _pool_problem(fleet)
        if problem is not None:
            everything.append(problem)
    if found.observation.pools and not found.members and not any(f.nodes for f in found.observation.pools):
        trouble = pool_trouble(found.observation.pools[0])
        everything += [trouble] if trouble else []
    if any(member.podless for member in found.members):
        everything += [Problem("PodsRefused", f"{name} gets no pods: {why}") for name, why in found.refusals.items()]
    everything += [
        Problem(
            "ServiceNameTaken",
            f"Service {name} exists and is not this deployment's; delete it, or give one of the two another name",
        )
        for name in found.taken
    ]
    return everything


def failure(found: Findings) -> Problem:
    """Why the rollout failed: how many, and the worst of them."""
    if found.canary is not None and found.canary.failure is not None:
        return Problem(found.canary.failure.reason, found.canary.failure.message)
    failed, tally = _failed(found), found.tally
    known = tally[State.FAILED] + tally[State.HEALTHY]
    worst = failed[0].trouble if failed else None
    reason = worst.reason if worst and worst.reason in PERMANENT else "FailureThresholdExceeded"
    return Problem(
        reason, f"wave {found.progress.wave}: {tally[State.FAILED]} of {known} tried failed. {_told(failed)}"
    )


def _failed_problem(found: Findings) -> Problem:
    failed = _failed(found)
    worst = failed[0].trouble
    exceeded = found.progress.failures is Failures.EXCEEDED
    reason = "FailureThresholdExceeded" if exceeded else "NodesFailed"
    if exceeded and found.aim.stable is None:
        reason = NO_STABLE
    if worst and worst.reason in PERMANENT:
        reason = worst.reason
    again = "fix the cause"
    if any(member.is_given_up for member in failed):
        again += f" and annotate {commands.example('retry', found.aim.orders)}"
    stable = found.aim.stable
    if stable is not None and found.aim.target is not None and not found.aim.settled:
        another = stable.model_version != found.spec.model_version
        remedy = f"{again}, or " + (
            f"set spec.modelVersion back to {stable.model_version}" if another else "undo the change"
        )
    else:
        remedy = f"{again}, or name another spec.modelVersion"
    stop = ", no more are moved" if exceeded else ""
    return Problem(reason, f"{len(failed)} failed{stop}; {remedy}. {_told(failed)}")


def _failed(found: Findings) -> list[Member]:
    failed = sorted((each for each in found.members if each.state is State.FAILED), key=lambda each: each.name)
    # Wrong bytes are the news that matters, whatever else went wrong.
    failed.sort(key=lambda each: not (each.trouble and each.trouble.reason in PERMANENT))
    return failed


def _told(failed: Sequence[Member]) -> str:
    """A few of them by name, and what the first one says."""
    samples = ", ".join(
        f"{each.shown} ({each.trouble.reason})" if each.trouble else each.shown for each in failed[:NAMED_FAILURES]
    )
    worst = failed[0].trouble if failed else None
    return samples + (f": {conditions.shorten(worst.message, 90)}" if worst and worst.message else "")


def _pool_problem(fleet: PoolFleet) -> Problem | None:
    """A pool in which something that should serve cannot; a pool that is merely empty of gateways is none."""
    trouble = pool_trouble(fleet)
    if trouble is None or (trouble.reason == "EmptyPool" and not fleet.members):
        return None
    if trouble.reason == "UntoleratedTaint" and fleet.tainted_count < len(fleet.nodes):
        return None
    return trouble


def pool_trouble(fleet: PoolFleet) -> Problem | None:
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
