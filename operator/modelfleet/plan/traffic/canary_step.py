"""One step of a canary: bring its routing into force, then stay as long as it says and the metrics allow."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api import duration
from modelfleet.api.canary import Canary, CanaryStep
from modelfleet.plan import conditions
from modelfleet.plan.edge import commands
from modelfleet.plan.traffic import analysis
from modelfleet.plan.traffic.analysis import Standing, Verdict
from modelfleet.plan.traffic.canary_state import ALL, LOOK_AGAIN, Decision, Situation, Split, Told, at_step, running

MANUAL: Final = "Manual"


def advance(at: Situation, spec: Canary, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state at the beginning of the next step where this one is over, else as it is."""
    if at.paused or running(state) is None or not _may_pass(at, spec, state):
        return dict(state)
    return at_step(state, state["stepIndex"] + 1)


def stay(at: Situation, spec: Canary, state: Mapping[str, Any]) -> Decision:
    """What the present step asks for."""
    index, step = state["stepIndex"], spec.steps[state["stepIndex"]]
    split = _split(at, spec, state, step)
    routed = split.weight == step.weight and split.header == (spec.header is not None)
    in_force = routed and at.accepted(split)
    state = {**state, "weight": split.weight, "header": split.header}
    if in_force and not at.paused:
        state.setdefault("stepStartedAt", conditions.timestamp(at.now))
    verdict = _verdict(at, spec, state)
    if verdict is not None and verdict.entries:
        state["analysis"] = verdict.entries
    mirrored = spec.mirror.percentage if spec.mirror else 0
    decision = Decision(
        split=split,
        status=state,
        demand=max(mirrored, *(each.weight for each in spec.steps[: index + 1])),
        keeps_stable=True,
        holds_waves=True,
        promotable=False,
        message=_progress(at, spec, state, in_force),
        look_again=_next_look(at, step, state, verdict, in_force),
    )
    pause = _pause(at, step, state, verdict)
    if verdict is not None and verdict.standing is Standing.FAILED:
        return replace(decision, pause=pause, failure=Told("AnalysisFailed", verdict.message))
    return replace(decision, pause=pause)


def _split(at: Situation, spec: Canary, state: Mapping[str, Any], step: CanaryStep) -> Split:
    """Where requests go now: towards the step's share as soon as there are pods for it, and never to none at all."""
    mirrored = spec.mirror.percentage if spec.mirror else 0
    bears = at.backends.bears(max(step.weight, mirrored)) and at.backends.candidate > 0
    header = spec.header is not None and (bears or bool(state["header"]))
    if at.backends.candidate == 0:
        return Split(0, header)
    if bears and not (at.paused and "stepStartedAt" not in state):
        return Split(step.weight, header, mirrored if step.weight < ALL else 0)
    weight, header = int(state["weight"]), spec.header is not None and bool(state["header"])
    return Split(weight, header, mirrored if weight or header else 0)


def _may_pass(at: Situation, spec: Canary, state: Mapping[str, Any]) -> bool:
    """Whether the step is over: promoted by a person, or its time is over, its routing in force and its metrics good.

    A step without a pause needs no time, only that.
    """
    step = spec.steps[state["stepIndex"]]
    if at.orders.promotes(str(state["stepIndex"])):
        return True
    if step.pause == MANUAL or not at.accepted(_split(at, spec, state, step)):
        return False
    verdict = _verdict(at, spec, state)
    return _ends(step, state) <= at.now and (verdict is None or verdict.standing is Standing.GOOD)


def _ends(step: CanaryStep, state: Mapping[str, Any]) -> datetime:
    started = conditions.parse_timestamp(state["stepStartedAt"])
    return started + (duration.parse(step.pause) if step.pause not in (None, MANUAL) else timedelta())


def _verdict(at: Situation, spec: Canary, state: Mapping[str, Any]) -> Verdict | None:
    run = running(state)
    if spec.analysis is None or run is None:
        return None
    return analysis.judge(spec.analysis, state.get("analysis") or (), run, at.measured)


def _pause(at: Situation, step: CanaryStep, state: Mapping[str, Any], verdict: Verdict | None) -> Told | None:
    """Why nothing happens until a person does something."""
    index = state["stepIndex"]
    standing = verdict.standing if verdict is not None else None
    if verdict is not None and standing in _PAUSING:
        return Told(_PAUSING[verdict.standing], _with_remedy(at, index, f"canary step {index}: {verdict.message}"))
    if step.pause == MANUAL and running(state) is not None:
        what = f"canary step {index}, weight {step.weight}%, is in force"
        return Told("AwaitingPromotion", _with_remedy(at, index, what))
    return None


_PAUSING: Final[Mapping[Standing | None, str]] = {
    Standing.FAILED: "AnalysisFailed",
    Standing.INCONCLUSIVE: "AnalysisInconclusive",
    Standing.UNANSWERED: "AnalysisError",
}


def _with_remedy(at: Situation, index: int, what: str) -> str:
    """The sentence and, whole in any case, the command that lets the step pass."""
    remedy = f"; to go on: {at.annotate} --overwrite {commands.example('promote', at.orders, str(index))}"
    return conditions.shorten(what, max(40, conditions.MESSAGE_LENGTH - len(remedy))) + remedy


def _progress(at: Situation, spec: Canary, state: Mapping[str, Any], in_force: bool) -> str:
    index = state["stepIndex"]
    step = spec.steps[index]
    text = f"canary step {index} of {len(spec.steps)}, weight {step.weight}%"
    if in_force:
        if step.pause in (None, MANUAL):
            return text
        return f"{text}, until {conditions.timestamp(_ends(step, state))}" if "stepStartedAt" in state else text
    if state["weight"] != step.weight or state["header"] != (spec.header is not None):
        return f"{text}: waits for its pods ({at.backends.candidate} are ready)"
    return f"{text}: waits until its routing is in force"


def _next_look(
    at: Situation, step: CanaryStep, state: Mapping[str, Any], verdict: Verdict | None, in_force: bool
) -> datetime | None:
    moments = []
    if not in_force:
        moments.append(at.now + LOOK_AGAIN)
    elif step.pause != MANUAL and "stepStartedAt" in state:
        ends = _ends(step, state)
        # A step that is over waits for its metrics only.
        moments += [ends] if ends > at.now or verdict is None else []
    if verdict is not None and verdict.next_at is not None:
        moments.append(verdict.next_at)
    return min(moments, default=None)
