"""Which share of the requests a new version gets, step by step, and when it may have them all.

The state is ``status.canary``; each plan derives the routing from it, the spec and what is observed, so a route that
is lost comes back as it was (argoproj/argo-rollouts#4486), and a header stays in force in all steps. Requests move
make-before-break: to the new version when its pods are ready, away from the old one's pods before those go. How
requests are routed is ``traffic.py``'s; which pods there are, ``replicas.py``'s and ``waves.py``'s.

Order: first wave, header, weights, remaining waves. Without ``spec.canary`` all requests move at once, when all pods of
the new version that they can go to are ready.
"""

from collections.abc import Mapping
from typing import Any, Final

from modelfleet.plan import canary_step, commands, conditions
from modelfleet.plan.canary_state import (
    ALL,
    LINGER,
    LOOK_AGAIN,
    Backends,
    Decision,
    Situation,
    Split,
    at_step,
    look_after,
    moment,
    new_state,
)

FOLLOW_STEP: Final = 10
"""Percentage points by which the weight follows gateways that are moved: a fleet costs ten writes of a route."""


def decide(at: Situation) -> Decision:
    """The next state of the canary."""
    if at.before and at.before["revision"] != at.target:
        return _return(at)
    if not at.stable or at.target == at.stable:
        return _settled(at)
    if not at.before and _is_over(at):
        return _finish(at, new_state(at, len(at.spec.steps) if at.spec else 0, ALL))
    state = dict(at.before) or new_state(at, 0, 0)
    if at.spec is None:
        return _finish(at, {key: value for key, value in state.items() if key not in ("stepStartedAt", "analysis")})
    if not at.before and not at.first_wave_passed:
        return Decision(keeps_stable=True, promotable=False)
    if state.get("endedAt"):
        return _finish(at, state)
    if state["attempt"] != at.orders.attempt:
        state = at_step(state, state["stepIndex"]) | {"attempt": at.orders.attempt}
    if state["stepIndex"] >= len(at.spec.steps) or at.backends.nowhere or at.orders.promotes(commands.FULL):
        return _finish(at, at_step(state, len(at.spec.steps)))
    state = canary_step.advance(at, at.spec, state)
    if state["stepIndex"] >= len(at.spec.steps):
        return _finish(at, state)
    return canary_step.stay(at, at.spec, state)


def _is_over(at: Situation) -> bool:
    """Whether nothing but the new version serves: the status was lost late, and there is nothing to go back to."""
    return bool(at.backends.candidate) and not at.backends.stable and at.backends.bears(ALL)


def _finish(at: Situation, state: Mapping[str, Any]) -> Decision:
    """After the steps, or without any: all requests go to the new version once it has the pods for them."""
    backends = at.backends
    done = backends.bears(ALL) and backends.candidate > 0 and (at.waves_done or not backends.stable_gateways)
    weight = int(state["weight"])
    if not at.paused:
        weight = ALL if done or backends.nowhere else max(weight, _follow(backends))
    header = bool(state["header"]) and at.spec is not None and at.spec.header is not None
    split = Split(weight, header)
    state = {**state, "weight": weight, "header": header}
    in_force = at.accepted(split)
    if weight == ALL and in_force:
        state.setdefault("endedAt", conditions.timestamp(at.now))
    ended = moment(state.get("endedAt"))
    lingers = ended is None or at.now < ended + LINGER
    stepless = at.spec is None
    return Decision(
        split=split,
        # Without a canary there is nothing to tell before any request moves.
        status=None if stepless and weight == 0 else state,
        demand=None if stepless else ALL,
        keeps_stable=ended is None or lingers,
        lingers=ended is not None and lingers,
        holds_waves=not stepless and not backends.gateways and ended is None,
        promotable=ended is not None,
        message="" if ended is not None or (stepless and weight == 0) else f"requests go over: weight {weight}%",
        look_again=look_after(at.now, ended, None if in_force else at.now + LOOK_AGAIN),
    )


def _follow(backends: Backends) -> int:
    """The share of the new version among gateways, in steps: each pod gets about as many requests as any other."""
    pods = backends.stable + backends.candidate
    if not backends.gateways or not pods:
        return 0
    return min(ALL * backends.candidate // pods // FOLLOW_STEP * FOLLOW_STEP, ALL - FOLLOW_STEP)


def _return(at: Situation) -> Decision:
    """The version of ``before`` is not wanted any more: its requests go back to stable, then its pods may go."""
    state = dict(at.before)
    away = state["weight"] or state["header"]
    if state["weight"] == ALL and at.backends.candidate and not at.backends.stable_is_whole:
        split = Split(state["weight"], bool(state["header"]))
        return Decision(split, state, keeps_stable=True, lingers=True, holds_return=True, promotable=False)
    if away:
        state = {**at_step(state, state["stepIndex"]), "weight": 0, "header": False}
    in_force = at.accepted(Split())
    if in_force:
        state.setdefault("endedAt", conditions.timestamp(at.now))
    ended = moment(state.get("endedAt"))
    if ended is not None and at.now >= ended + LINGER:
        return Decision(keeps_stable=at.target != at.stable, promotable=at.target == at.stable)
    return Decision(
        status=state,
        keeps_stable=True,
        lingers=True,
        holds_return=ended is None,
        promotable=at.target == at.stable,
        message="requests go back to the stable version" if ended is None else "",
        look_again=look_after(at.now, ended, None if in_force else at.now + LOOK_AGAIN),
    )


def _settled(at: Situation) -> Decision:
    """All requests go to the stable version; what was stable before keeps its pods a moment longer."""
    ended = moment(at.before.get("endedAt"))
    if ended is None or at.now >= ended + LINGER:
        return Decision()
    return Decision(status=dict(at.before), lingers=True, look_again=ended + LINGER)
