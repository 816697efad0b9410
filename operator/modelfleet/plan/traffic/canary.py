"""Which share of the requests a new version gets, step by step, and when it may have them all.

The state is ``status.canary``; each plan derives the routing from it, the spec and what is observed, so a route that
is lost comes back as it was (argoproj/argo-rollouts#4486), and a header stays in force in all steps. Requests move
make-before-break: to the new version when its pods are ready, away from the old one's pods before those go. How
requests are routed is ``traffic.py``'s; which pods there are, ``replicas.py``'s.

Order: first wave, header, weights, remaining waves. Without ``spec.canary`` all requests move at once, when all pods of
the new version that they can go to are ready, but for those that failed within ``failureThreshold``.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelfleet.plan import conditions
from modelfleet.plan.edge import commands
from modelfleet.plan.traffic import canary_step
from modelfleet.plan.traffic.canary_state import ALL, LINGER, LOOK_AGAIN, Decision, Situation, Split, at_step, new_state


def decide(at: Situation) -> Decision:
    """The next state of the canary."""
    if at.before and at.before["revision"] != at.target:
        return _return(at)
    if not at.stable or at.target == at.stable:
        return _settled(at)
    if at.backends.nowhere:
        return Decision()
    steps = len(at.spec.steps) if at.spec else 0
    if not at.before and _is_over(at):
        return _finish(at, new_state(at, steps, ALL))
    state = dict(at.before) or new_state(at, 0, 0)
    if state.get("endedAt"):
        return _finish(at, state)
    if at.spec is None:
        return _finish(at, at_step(state, state["stepIndex"]))
    if not at.before and not at.first_wave_passed:
        return Decision(keeps_stable=True, promotable=False)
    if state["attempt"] != at.orders.attempt:
        state = at_step(state, state["stepIndex"]) | {"attempt": at.orders.attempt}
    if state["stepIndex"] >= steps or at.orders.promotes(commands.FULL):
        return _finish(at, at_step(state, steps))
    state = canary_step.advance(at, at.spec, state)
    if state["stepIndex"] >= steps:
        return _finish(at, state)
    return canary_step.stay(at, at.spec, state)


def _is_over(at: Situation) -> bool:
    """Whether nothing but the new version serves: the status was lost late, and there is nothing to go back to."""
    return bool(at.backends.candidate) and not at.backends.stable and at.backends.bears(ALL)


def _finish(at: Situation, state: Mapping[str, Any]) -> Decision:
    """After the steps, or without any: all requests go to the new version once it has the pods for them."""
    backends, stepless = at.backends, at.spec is None
    weight = int(state["weight"])
    if not at.paused and backends.bears(ALL) and backends.candidate > 0:
        weight = ALL
    header = bool(state["header"]) and at.spec is not None and at.spec.header is not None
    split = Split(weight, header)
    state = {**state, "weight": weight, "header": header}
    in_force = at.accepted(split)
    if weight == ALL and in_force:
        state.setdefault("endedAt", conditions.timestamp(at.now))
    ended = _ended(state)
    lingers = ended is not None and at.now < ended + LINGER
    idle = stepless and weight == 0
    return Decision(
        split=split,
        # Without a canary there is nothing to tell before any request moves.
        status=None if idle else state,
        demand=None if stepless else ALL,
        keeps_stable=ended is None,
        lingers=lingers,
        holds_waves=not stepless and ended is None,
        promotable=ended is not None,
        message="" if idle or ended is not None else f"requests go over: weight {weight}%",
        look_again=_look_again(at.now, ended, in_force=in_force or idle),
    )


def _return(at: Situation) -> Decision:
    """The version of ``before`` is not wanted any more: its requests go back to stable, then its pods may go."""
    settled = at.target == at.stable
    # A third version may begin with its first wave meanwhile; its own canary follows.
    waits = not settled and at.spec is not None and at.first_wave_passed
    state = dict(at.before)
    if state["weight"] == ALL and at.backends.candidate and not at.backends.stable_is_whole:
        # Stable's replicas went when all requests had gone over: they must be back first.
        split = Split(ALL, bool(state["header"]))
        return Decision(
            split,
            state,
            keeps_stable=True,
            lingers=True,
            holds_waves=waits,
            promotable=settled,
            message="requests go back to the stable version when its replicas are back",
            look_again=at.now + LOOK_AGAIN,
        )
    if state["weight"] or state["header"]:
        state = {**at_step(state, state["stepIndex"]), "weight": 0, "header": False}
    in_force = at.accepted(Split())
    if in_force:
        state.setdefault("endedAt", conditions.timestamp(at.now))
    ended = _ended(state)
    if ended is not None and at.now >= ended + LINGER:
        return Decision(keeps_stable=not settled, holds_waves=waits, promotable=settled)
    return Decision(
        status=state,
        keeps_stable=True,
        lingers=True,
        holds_waves=waits,
        promotable=settled,
        message="" if ended is not None else "requests go back to the stable version",
        look_again=_look_again(at.now, ended, in_force=in_force),
    )


def _settled(at: Situation) -> Decision:
    """All requests go to the stable version; what was stable before keeps its pods a moment longer."""
    ended = _ended(at.before)
    if ended is None or at.now >= ended + LINGER:
        return Decision()
    return Decision(status=dict(at.before), lingers=True, look_again=ended + LINGER)


def _ended(state: Mapping[str, Any]) -> datetime | None:
    return conditions.parse_timestamp(state["endedAt"]) if state.get("endedAt") else None


def _look_again(now: datetime, ended: datetime | None, *, in_force: bool) -> datetime | None:
    if ended is not None:
        return ended + LINGER if ended + LINGER > now else None
    return None if in_force else now + LOOK_AGAIN
