"""What measurements say of a canary: which are due, what each counts as, and whether the step may go on.

Measuring itself is I/O and happens elsewhere; here its results come in with their times. A number within its bounds is
good, outside it is bad, and no number (no data, NaN, no answer) is neither: it never fails a canary and never lets a
step pass (the lesson of argoproj/argo-rollouts#2866). Results are those of one step; the next one begins with none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from modelfleet.api import duration
from modelfleet.api.canary import Analysis, AnalysisMetric
from modelfleet.plan import conditions
from modelfleet.plan.installation import Installation

MESSAGE_LENGTH: Final = 120
_PLACEHOLDER: Final = re.compile(r"\{\{(revision|namespace|name)\}\}")
_PLAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Run:
    """The step that is analysed."""

    revision: str
    step: int
    started: datetime
    """When the step's routing came into force."""


@dataclass(frozen=True)
class Measurement:
    """One answer of a metric's source."""

    run: Run
    """The step that it was asked for; it counts for no other."""
    at: datetime
    value: float | None = None
    """The number; ``None`` where there is none."""
    error: str = ""
    """Why the source gave no answer; empty where it did."""


@dataclass(frozen=True)
class Question:
    """A query that is due."""

    metric: str
    address: str
    query: str
    counted: str = ""
    """When what was counted last was measured; empty for the first."""


class Standing(Enum):
    """What the metrics together say of a step."""

    GOOD = "each metric's last measurement was good"
    OPEN = "a metric has no good measurement yet"
    INCONCLUSIVE = "a metric has had no number for too long"
    UNANSWERED = "a source has given no answer for too long"
    FAILED = "a metric was bad too often"


_WORST_FIRST: Final = (Standing.FAILED, Standing.UNANSWERED, Standing.INCONCLUSIVE, Standing.OPEN, Standing.GOOD)


@dataclass(frozen=True)
class Verdict:
    """The state of an analysis."""

    standing: Standing
    entries: list[dict[str, Any]] = field(default_factory=list)
    """As ``status.canary.analysis`` has them."""
    message: str = ""
    """What the metric that decided says, for a person."""
    next_at: datetime | None = None
    """When the next measurement is due."""


def questions(
    spec: Analysis, entries: Sequence[Mapping[str, Any]], run: Run, namespace: str, name: str, now: datetime
) -> list[Question]:
    """The queries that are due now. A step that has failed is judged: nothing more is asked."""
    due: list[Question] = []
    if any(_standing(spec, entry) is Standing.FAILED for entry in entries):
        return due
    for metric in spec.metrics:
        entry = _entry(entries, metric)
        if _due(spec, entry, run) <= now:
            query = filled_in(metric, run.revision, namespace, name)
            due.append(Question(metric.name, metric.prometheus.address, query, (entry or {}).get("lastRunAt", "")))
    return due


def filled_in(metric: AnalysisMetric, revision: str, namespace: str, name: str) -> str:
    """The query with its placeholders filled in.

    Values go into PromQL as they are, so only what cannot end a string or a matcher may go in: raises ``ValueError``
    for anything but lower-case letters, digits and dashes.
    """
    values = {"revision": revision, "namespace": namespace, "name": name}
    for key, value in values.items():
        if not _PLAIN.fullmatch(value):
            raise ValueError(f"the {key} {value!r} cannot be a part of a query")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], metric.prometheus.query)


def forbidden_address(spec: Analysis | None, installation: Installation) -> str:
    """The first address that the installation does not allow; empty where all are allowed."""
    allowed = {address.rstrip("/") for address in installation.prometheus_addresses}
    asked = [metric.prometheus.address for metric in spec.metrics] if spec else []
    return next((address for address in asked if address.rstrip("/") not in allowed), "")


def judge(
    spec: Analysis, entries: Sequence[Mapping[str, Any]], run: Run, measured: Mapping[str, Measurement]
) -> Verdict:
    """The metrics' state, the new measurements taken in; ``entries`` are those of this step so far."""
    judged: list[dict[str, Any]] = []
    found: list[tuple[Standing, str]] = []
    moments = []
    for metric in spec.metrics:
        before = _entry(entries, metric)
        measurement = measured.get(metric.name)
        entry = before
        if measurement is not None and _is_new(measurement, before, run):
            entry = _counted(metric, before or {}, measurement)
        if entry is not None:
            judged.append(dict(entry))
        found.append((_standing(spec, entry), _told(spec, metric, entry)))
        moments.append(_due(spec, entry, run))
    standing, message = min(found, key=lambda each: _WORST_FIRST.index(each[0]))
    return Verdict(standing, judged, message, None if standing is Standing.FAILED else min(moments))


def _is_new(measurement: Measurement, before: Mapping[str, Any] | None, run: Run) -> bool:
    """Whether it is of this step, and later than what was counted last."""
    return measurement.run == run and conditions.timestamp(measurement.at) > (before or {}).get("lastRunAt", "")


def _entry(entries: Sequence[Mapping[str, Any]], metric: AnalysisMetric) -> Mapping[str, Any] | None:
    return next((entry for entry in entries if entry.get("name") == metric.name), None)


def _due(spec: Analysis, entry: Mapping[str, Any] | None, run: Run) -> datetime:
    if entry is None:
        return run.started + duration.parse(spec.initial_delay)
    return conditions.parse_timestamp(entry["lastRunAt"]) + duration.parse(spec.interval)


def _counted(metric: AnalysisMetric, before: Mapping[str, Any], measurement: Measurement) -> dict[str, Any]:
    failures, inconclusive = int(before.get("failures", 0)), int(before.get("inconclusive", 0))
    entry: dict[str, Any] = {"name": metric.name, "lastRunAt": conditions.timestamp(measurement.at)}
    if measurement.error:
        entry |= {
            "result": "Error",
            "failures": failures,
            "inconclusive": inconclusive,
            "errors": int(before.get("errors", 0)) + 1,
            "message": conditions.shorten(measurement.error, MESSAGE_LENGTH),
        }
    elif measurement.value is None or measurement.value != measurement.value:
        entry |= {
            "result": "Inconclusive",
            "failures": failures,
            "inconclusive": inconclusive + 1,
            "errors": 0,
            "message": "the query gives no data" if measurement.value is None else "the query gives NaN",
        }
    else:
        good = _within(metric, measurement.value)
        entry |= {
            "value": _shown(measurement.value),
            "result": "Successful" if good else "Failed",
            "failures": failures + (not good),
            "inconclusive": 0,
            "errors": 0,
        }
    return entry


def _within(metric: AnalysisMetric, value: float) -> bool:
    """Compared as numbers are written, so that 0.01 is within ``max: "0.01"``."""
    number = Decimal(repr(value))
    low = metric.min is None or number >= Decimal(metric.min)
    return low and (metric.max is None or number <= Decimal(metric.max))


def _shown(value: float) -> str:
    return repr(value).removesuffix(".0")


def _standing(spec: Analysis, entry: Mapping[str, Any] | None) -> Standing:
    if entry is None:
        return Standing.OPEN
    if entry["failures"] > spec.failure_limit:
        return Standing.FAILED
    if entry["errors"] > spec.consecutive_error_limit:
        return Standing.UNANSWERED
    if entry["inconclusive"] > spec.inconclusive_limit:
        return Standing.INCONCLUSIVE
    return Standing.GOOD if entry["result"] == "Successful" else Standing.OPEN


def _told(spec: Analysis, metric: AnalysisMetric, entry: Mapping[str, Any] | None) -> str:
    """The same words for as long as the standing is the same: each change of them is an Event."""
    if entry is None:
        return f"metric {metric.name} was not measured yet"
    if entry["result"] in ("Inconclusive", "Error"):
        if entry["result"] == "Error":
            what, limit = "no answer", spec.consecutive_error_limit
        else:
            what, limit = "no number", spec.inconclusive_limit
        return f"metric {metric.name} had {what} more than {limit} times in a row: {entry['message']}"
    bounds = " and ".join(
        f"{word} {bound}" for word, bound in (("at least", metric.min), ("at most", metric.max)) if bound is not None
    )
    bad = f", bad {entry['failures']} times in this step" if entry["failures"] else ""
    return f"metric {metric.name} is {entry['value']}, required {bounds}{bad}"
