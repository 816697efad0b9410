"""Adaptive termination of a step: finish early, begin again when stalled, give way under resource pressure.

A decision is recorded in ``status.steps[].request`` before anybody is told. The training learns of it by the answer to
its next report; an attempt that begins after Finish is told from its beginning. One that does not do as it was told
within ``stopGraceSeconds`` is stopped. What the measurements mean is ``early_stop``, ``stall`` and ``pressure``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.api.training_termination import ResourcePressure, Termination
from modelfleet.plan import backoff, conditions
from modelfleet.plan.outcome import Note
from modelfleet.plan.training import early_stop, pressure, stall, steps, trainer_status

YIELD_SECONDS: Final = 600
"""How long a step that gave way leaves its nodes to others, where the job does not say it."""

MESSAGE_LENGTH: Final = 160
"""Longest message of a request, in characters."""

KEPT: Final = ("watch", "request", "priorityClassName")
"""Fields of ``status.steps[]`` that are kept from one plan to the next."""


@dataclass
class Judgement:
    """What became of an attempt, all considered."""

    verdict: steps.Verdict
    fields: dict[str, Any] = field(default_factory=dict)
    """Of ``status.steps[]``, those that change."""
    notes: list[Note] = field(default_factory=list)
    due: list[float] = field(default_factory=list)
    """Seconds until it is to be looked at again."""


@dataclass(frozen=True)
class Heard:
    """What there is to go by beside the Job and its pods."""

    report: trainer_status.Report | None
    """What the pods of this step told, of whichever attempt."""
    listening_since: datetime | None = None
    """Since when this operator could be told anything; ``None``: always."""


def judge(
    spec: TrainingJobSpec,
    step: Step,
    before: Mapping[str, Any],
    seen: steps.Attempt,
    verdict: steps.Verdict,
    heard: Heard,
    now: datetime,
) -> Judgement:
    """What becomes of the attempt that ``verdict`` is about; ``before`` is its ``status.steps[]``."""
    rule = spec.termination
    if rule is None or step.trainer is None:
        return Judgement(verdict)
    if isinstance(verdict, steps.Over):
        if not _is_asked_to_yield(before):
            return Judgement(verdict)
        return Judgement(_yielded(rule, before["request"], verdict), _lowered(rule))
    if isinstance(verdict, steps.Succeeded) or verdict.held_back:
        return Judgement(verdict)
    attempt = int(before["attempt"])
    report = heard.report if heard.report is not None and heard.report.attempt == attempt else None
    watch = _watch(before.get("watch") or {}, attempt, report, rule)
    judgement = Judgement(verdict, {"watch": watch} if watch != (before.get("watch") or {}) else {})
    up = stall.up_since(seen.pods, verdict.wanted)
    request = before.get("request")
    if request is not None:
        _press(judgement, spec, request, attempt, up, now)
        return judgement
    why = early_stop.verdict(watch, rule)
    if why:
        _ask(judgement, "Finish", attempt, why, now)
        judgement.notes.append(Note("Normal", "EarlyStopped", f"step {step.name}: {why}: it is told to finish"))
        judgement.due.append(rule.stop_grace_seconds)
        return judgement
    if rule.resource_pressure is not None and not before.get("priorityClassName"):
        _give_way(judgement, step, rule, rule.resource_pressure, watch, report, seen, attempt, now)
    quiet = stall.quiet_since(watch, up, heard.listening_since)
    if rule.max_stall_seconds is not None and quiet is not None and "request" not in judgement.fields:
        stalled = stall.verdict(quiet, rule.max_stall_seconds, now)
        if stalled:
            judgement.verdict = steps.Over("Failed", "TrainingStalled", stalled, now)
        else:
            judgement.due.append(backoff.seconds_until(quiet + timedelta(seconds=rule.max_stall_seconds), now))
    return judgement


def started(spec: TrainingJobSpec, before: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``status.steps[]`` when the next attempt begins: what the last one was told may be done with."""
    request = before.get("request")
    return {"request": None} if request is not None and not finishes(spec, before) else {}


def finishes(spec: TrainingJobSpec, before: Mapping[str, Any]) -> bool:
    """Whether the next attempt only finishes what earlier ones left in checkpoints; without those, it trains anew."""
    return (before.get("request") or {}).get("action") == "Finish" and spec.checkpoint is not None


def told(status: Mapping[str, Any], step: str, attempt: int) -> str:
    """The answer to a report: what the pods of this attempt are to do, ``Finish`` or ``Yield``; empty: go on."""
    for each in status.get("steps") or ():
        request = each.get("request")
        if each["name"] == step and request is not None and attempt >= int(request["attempt"]):
            return str(request["action"])
    return ""


def early_stopped(statuses: Sequence[Mapping[str, Any]]) -> conditions.Condition | None:
    """The condition ``EarlyStopped``, of a job in which a step was."""
    for each in statuses:
        request = each.get("request") or {}
        if request.get("action") == "Finish":
            return conditions.Condition(
                "EarlyStopped", "True", "NoImprovement", f"step {each['name']}: {request['message']}"
            )
    return None


def _watch(
    before: Mapping[str, Any], attempt: int, report: trainer_status.Report | None, rule: Termination
) -> dict[str, Any]:
    """``status.steps[].watch`` with what the report adds; a new attempt begins with no more than that there was one."""
    if int(before.get("attempt", 0)) != attempt:
        before = {key: before[key] for key in ("lastReportTime",) if key in before}
    if report is None:
        return {"attempt": attempt, **before} if before else {}
    watch = {**before, "attempt": attempt, "lastReportTime": _later(before.get("lastReportTime"), report.received)}
    watch |= early_stop.evaluated(watch, report, rule)
    if rule.resource_pressure is not None:
        watch["pressureSince"] = pressure.since(watch, report, rule.resource_pressure)
    return {key: value for key, value in watch.items() if value is not None}


def _later(told: str | None, received: datetime) -> str:
    return max(told or "", conditions.timestamp(received))


def _ask(judgement: Judgement, action: str, attempt: int, why: str, now: datetime) -> None:
    judgement.fields["request"] = {
        "action": action,
        "attempt": attempt,
        "time": conditions.timestamp(now),
        "message": conditions.shorten(why, MESSAGE_LENGTH),
    }


def _give_way(
    judgement: Judgement,
    step: Step,
    rule: Termination,
    limits: ResourcePressure,
    watch: Mapping[str, Any],
    report: trainer_status.Report | None,
    seen: steps.Attempt,
    attempt: int,
    now: datetime,
) -> None:
    """Ask the training to yield where its nodes have been short of something for long enough."""
    why = pressure.verdict(watch, report, limits) if report is not None else ""
    if not why:
        mine = {(pod.get("spec") or {}).get("nodeName") for pod in seen.pods}
        nodes = [node for name, node in seen.nodes.items() if name in mine]
        why, due = pressure.by_nodes(nodes, limits, now)
        judgement.due += [backoff.seconds_until(due, now)] if due is not None else []
    if not why:
        return
    _ask(judgement, "Yield", attempt, why, now)
    what = "goes on with lower priority" if limits.action == "LowerPriority" else "gives its nodes back for a while"
    judgement.notes.append(
        Note("Warning", "ResourcePressure", f"step {step.name} saves a checkpoint and {what}: {why}")
    )
    judgement.due.append(rule.stop_grace_seconds)


def _press(
    judgement: Judgement,
    spec: TrainingJobSpec,
    request: Mapping[str, Any],
    attempt: int,
    up: datetime | None,
    now: datetime,
) -> None:
    """Stop an attempt that does not do as it was told; for one that was told from its beginning, once its pods run."""
    rule = spec.termination
    asked_now = int(request["attempt"]) == attempt
    since = conditions.parse_timestamp(request["time"]) if asked_now else up
    if rule is None or since is None:
        return
    due = since + timedelta(seconds=rule.stop_grace_seconds)
    if now < due:
        judgement.due.append(backoff.seconds_until(due, now))
        return
    grace = f"within stopGraceSeconds ({rule.stop_grace_seconds} s)"
    if request["action"] == "Yield":
        judgement.verdict = _yielded(rule, request, steps.Over("Failed", "Yielded", grace, now))
        judgement.fields |= _lowered(rule)
    elif asked_now and spec.checkpoint is not None:
        why = f"it was told to finish early and did not {grace}: the next attempt is to finish from its checkpoint"
        judgement.verdict = steps.Over("Lost", "EarlyStopIgnored", why, now)
    else:
        why = (
            f"it was told to finish early and did not {grace}: let its program ask the train library's should_finish()"
        )
        judgement.verdict = steps.Over("Final", "EarlyStopIgnored", why, now)


def _is_asked_to_yield(before: Mapping[str, Any]) -> bool:
    request = before.get("request") or {}
    return request.get("action") == "Yield" and int(request["attempt"]) == int(before["attempt"])


def _yielded(rule: Termination, request: Mapping[str, Any], over: steps.Over) -> steps.Over:
    """The end of an attempt that was told to yield: whatever its exit code (launchers have their own), it did."""
    if over.kind == "Lost":
        return over
    limits = rule.resource_pressure
    pause = 0 if limits is None or limits.action == "LowerPriority" else limits.yield_seconds or YIELD_SECONDS
    return steps.Over("Lost", "Yielded", f"it gave way: {request['message']}", over.at, pause)


def _lowered(rule: Termination) -> dict[str, Any]:
    """The priority class of all further attempts, where that is what giving way means."""
    name = rule.resource_pressure.priority_class_name if rule.resource_pressure is not None else None
    return {"priorityClassName": name} if name else {}
