"""Early stopping: whether a training still gets better, by the evaluations that its pods report.

The rule is that of Keras' ``EarlyStopping``: better is better than the best by more than ``minDelta``; the training
ends with the ``patience``-th evaluation in a row that is not. An evaluation that is no number is never better. (Katib
stops by other trials' medians; one training has none.)

The train library counts in the pod, where no evaluation is missed, and reports the best and the count as metrics of
their own. Of other programs the operator counts what it sees: a report in which the metric has another value than
before. Reports that come faster than the operator looks (10 s), or repeat a value, then count as one: such a training
is stopped later, or never, but not for evaluations that it did not report.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from modelfleet.api import wire
from modelfleet.api.training_termination import Direction, Termination
from modelfleet.plan import conditions
from modelfleet.plan.training import gate, trainer_status

Watch = Mapping[str, Any]
"""As ``status.steps[].watch`` has it."""


def evaluated(watch: Watch, report: trainer_status.Report, rule: Termination) -> dict[str, Any]:
    """The fields of the watch that a report changes; ``watch`` is that of the same attempt."""
    value = report.metrics.get(rule.metric or "")
    if rule.metric is None or rule.direction is None or value is None:
        return {}
    moment = conditions.timestamp(report.received)
    counted, best = report.metrics.get(wire.WAIT_METRIC), report.metrics.get(wire.BEST_METRIC)
    if counted is not None and counted.isdecimal() and best is not None and gate.finite(best) is not None:
        told = {"value": value, "withoutImprovement": int(counted), "bestValue": best}
        return told | ({} if best == watch.get("bestValue") else {"bestTime": moment})
    if value == watch.get("value"):
        return {}
    if is_better(value, watch.get("bestValue"), rule.direction, rule.min_delta):
        return {"value": value, "withoutImprovement": 0, "bestValue": value, "bestTime": moment}
    return {"value": value, "withoutImprovement": int(watch.get("withoutImprovement") or 0) + 1}


def is_better(value: str, best: str | None, direction: Direction, min_delta: str | None) -> bool:
    """Whether an evaluation is better than the best before it by more than ``min_delta``."""
    number = gate.finite(value)
    if number is None:
        return False
    known = gate.finite(best) if best is not None else None
    if known is None:
        return True
    gain = number - known if direction == "Maximize" else known - number
    return gain > Decimal(min_delta or "0")


def verdict(watch: Watch, rule: Termination) -> str:
    """Why the training ends, in words; empty: it goes on."""
    count = int(watch.get("withoutImprovement") or 0)
    if rule.metric is None or rule.patience is None or count < rule.patience:
        return ""
    best = f"{watch['bestValue']} at {watch.get('bestTime')}" if watch.get("bestValue") else "none was a number"
    least = f" by more than {rule.min_delta}" if rule.min_delta else ""
    return f"{rule.metric} did not improve{least} in {count} evaluations (best: {best})"
