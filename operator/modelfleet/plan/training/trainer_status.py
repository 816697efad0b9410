"""What the pods of a distributed step tell of its progress, brought together and shown in ``status.trainerStatus``.

Whether a pod may tell anything is decided before (``plan/training/reporter.py``); how often it is written is Outcome's
``settle_status_seconds``. The status is the record: after a restart of the operator the next report goes on from it.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.plan import conditions
from modelfleet.plan.outcome import Outcome

SETTLE_SECONDS: Final = 10.0
"""A job's progress is written at most once in this time, unless something else changes too."""

METRICS_HELD: Final = 256
"""Metrics of an attempt that are remembered: as many as one report may have. The latest are."""

METRICS_KEPT: Final = 32
"""Metrics that a status has room for."""

METRICS_LENGTH: Final = 4096
"""Bytes that the metrics may take in the status, as JSON; it shall stay below 32 KiB as a whole."""

_MOST_SECONDS: Final = 2_147_483_647


@dataclass(frozen=True)
class Report:
    """What the pods of one attempt told, the latest of each field."""

    step: str
    attempt: int
    received: datetime
    """When the latest of it came in, by the operator's clock: those of pods may be wrong."""
    percentage: int | None = None
    remaining_seconds: int | None = None
    """As the latest report had it; an older word is outdated."""
    metrics: Mapping[str, str] = field(default_factory=dict)


def merged(before: Report | None, report: Report) -> Report:
    """Both as one. What another attempt or step told before is not mixed in."""
    if before is None or (before.step, before.attempt) != (report.step, report.attempt):
        return report
    told = [each.percentage for each in (before, report) if each.percentage is not None]
    latest = {name: value for name, value in before.metrics.items() if name not in report.metrics} | dict(
        report.metrics
    )
    return replace(report, percentage=max(told, default=None), metrics=dict(list(latest.items())[-METRICS_HELD:]))


def show(outcome: Outcome, spec: Mapping[str, Any], before: Mapping[str, Any], reports: Sequence[Report]) -> Outcome:
    """The outcome with ``status.trainerStatus``: ``before`` is the last status, ``reports`` hold one a step at most."""
    if outcome.status is None:
        return outcome
    rules = [*(spec.get("gate") or ()), spec.get("termination") or {}]
    named = [str(rule["metric"]) for rule in rules if rule.get("metric")]
    wanted = status(before.get("trainerStatus"), outcome.status.get("steps") or (), reports, named)
    changed = wanted != before.get("trainerStatus") or _watches(outcome.status) != _watches(before)
    return replace(
        outcome,
        status={**outcome.status, "trainerStatus": wanted},
        settle_status_seconds=SETTLE_SECONDS if changed else outcome.settle_status_seconds,
    )


def _watches(status: Mapping[str, Any]) -> list[Any]:
    """What else is written as reports come in."""
    return [step.get("watch") for step in status.get("steps") or ()]


def status(
    before: Mapping[str, Any] | None,
    steps: Sequence[Mapping[str, Any]],
    reports: Sequence[Report],
    named: Collection[str] = (),
) -> dict[str, Any] | None:
    """``status.trainerStatus`` as it now reads; ``steps`` are those of the status, in the order of the spec.

    It is about the last of the steps that any report is known of. Metrics that are ``named`` are kept before others.
    """
    told = {report.step: report for report in reports}
    for step in reversed(steps):
        report = told.get(step["name"])
        shown = before if before is not None and before.get("step") == step["name"] else None
        if report is not None and report.attempt == step.get("attempt"):
            return _ended(_updated(shown, report, named), step)
        if shown is not None:
            return _ended(shown, step)
    return dict(before) if before is not None else None


def _updated(shown: Mapping[str, Any] | None, report: Report, named: Collection[str]) -> dict[str, Any]:
    if shown is not None and shown.get("attempt") != report.attempt:
        shown = None
    known = shown or {}
    moment = conditions.timestamp(report.received)
    earlier, percentage = known.get("progressPercentage"), report.percentage
    if earlier is not None:
        percentage = earlier if percentage is None else max(earlier, percentage)
    started = known.get("startTime") or (moment if percentage is not None else None)
    begun_at = known.get("startPercentage", percentage)
    metrics = {each["name"]: each["value"] for each in known.get("metrics") or ()} | dict(report.metrics)
    fields = {
        "progressPercentage": percentage,
        "estimatedRemainingSeconds": _remaining(report, percentage, started, begun_at),
        "metrics": [{"name": name, "value": value} for name, value in _bounded(metrics, named).items()] or None,
        "lastUpdatedTime": max(moment, known.get("lastUpdatedTime") or moment),
        "step": report.step,
        "attempt": report.attempt,
        "startTime": started,
        "startPercentage": begun_at,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _remaining(report: Report, percentage: int | None, started: str | None, begun_at: int | None) -> int | None:
    """The training's own word, else by the pace since this attempt first told its percentage."""
    if report.remaining_seconds is not None:
        return min(report.remaining_seconds, _MOST_SECONDS)
    if percentage is None or started is None or begun_at is None or percentage <= begun_at:
        return None
    spent = max(report.received - conditions.parse_timestamp(started), timedelta())
    return min(round(spent.total_seconds() * (100 - percentage) / (percentage - begun_at)), _MOST_SECONDS)


def _ended(shown: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, Any]:
    """What is left to do is known while the attempt runs, and once the step is done."""
    if step["phase"] == "Succeeded":
        whole = {"progressPercentage": 100} if "progressPercentage" in shown else {}
        return {**shown, **whole, "estimatedRemainingSeconds": 0}
    if step["phase"] == "Running" and step.get("attempt") == shown.get("attempt"):
        return dict(shown)
    return {key: value for key, value in shown.items() if key != "estimatedRemainingSeconds"}


def _bounded(metrics: Mapping[str, str], named: Collection[str]) -> dict[str, str]:
    """As many of the metrics as a status has room for: those named first, the others by name."""
    kept: dict[str, str] = {}
    length = 0
    for name in sorted(metrics, key=lambda name: (name not in named, name)):
        length += len(json.dumps([name, metrics[name]]))
        if len(kept) == METRICS_KEPT or length > METRICS_LENGTH:
            break
        kept[name] = metrics[name]
    return kept
