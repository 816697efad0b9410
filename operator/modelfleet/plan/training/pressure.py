"""Resource pressure: whether the node that a step trains on is short of CPU time or memory.

By what the pods read there and report (``runtime/pressure.py`` does), and by the kubelet's own word, MemoryPressure.
How long it lasts is told by the times of reports, not of looks: one old report is no lasting pressure.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from modelfleet.api import wire
from modelfleet.api.training_termination import ResourcePressure
from modelfleet.plan import conditions
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import gate, trainer_status


def told(report: trainer_status.Report, rule: ResourcePressure) -> str:
    """What the node is short of by the report, in words; empty: of nothing."""
    limits = {wire.CPU_METRIC: ("CPU time", rule.cpu), wire.MEMORY_METRIC: ("memory", rule.memory)}
    short = []
    for name, (what, most) in limits.items():
        share = gate.finite(report.metrics.get(name, ""))
        if share is not None and share >= Decimal(most):
            short.append(f"{what} in use: {share:.2f}, threshold {most}")
    return "; ".join(short)


def since(watch: Mapping[str, Any], report: trainer_status.Report, rule: ResourcePressure) -> str | None:
    """``watch.pressureSince`` after a report."""
    return (watch.get("pressureSince") or conditions.timestamp(report.received)) if told(report, rule) else None


def verdict(watch: Mapping[str, Any], report: trainer_status.Report, rule: ResourcePressure) -> str:
    """What has been short for long enough to act, in words; empty: nothing."""
    short, began = told(report, rule), watch.get("pressureSince")
    lasted = report.received - conditions.parse_timestamp(began) if began else timedelta()
    return f"{short}, since {began}" if short and lasted >= timedelta(seconds=rule.seconds) else ""


def by_nodes(nodes: Iterable[RawObject], rule: ResourcePressure, now: datetime) -> tuple[str, datetime | None]:
    """Which node's kubelet has reported MemoryPressure for long enough, in words; else when one will have."""
    due: list[datetime] = []
    for node in nodes:
        condition = conditions.find((node.get("status") or {}).get("conditions") or (), "MemoryPressure")
        if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
            continue
        at = conditions.parse_timestamp(condition["lastTransitionTime"]) + timedelta(seconds=rule.seconds)
        if now >= at:
            return f"node {node['metadata']['name']} has MemoryPressure since {condition['lastTransitionTime']}", None
        due.append(at)
    return "", min(due, default=None)
