"""Whether a device could ever hold two pods of ours at once, by what they ask for and what it has.

Only certainty counts here: what other pods take is the scheduler's to know, and it says so when it comes to it.
"""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from modelfleet.api import quantity
from modelfleet.plan.edge import workload
from modelfleet.plan.edge.workload import Workload


def lacking(allocatable: Mapping[str, Any], *items: Workload) -> str:
    """The first resource of which these workloads together ask for more than there is; empty where there is none.

    A resource that the device does not tell of at all is left to the scheduler.
    """
    asked: defaultdict[str, Decimal] = defaultdict(Decimal)
    for item in items:
        for name, amount in _requests(item).items():
            asked[name] += amount
    for name, amount in sorted(asked.items()):
        there = _amount(allocatable.get(name))
        if there is not None and amount > there:
            return name
    return ""


def _requests(item: Workload) -> dict[str, Decimal]:
    """What the scheduler counts for a pod: its requests, and its limits where there is no request."""
    resources = workload.resources(item)
    amounts = {**resources.get("limits", {}), **resources.get("requests", {})}
    return {name: found for name, amount in amounts.items() if (found := _amount(amount)) is not None}


def _amount(text: Any) -> Decimal | None:
    try:
        return quantity.parse(str(text)) if text is not None else None
    except ValueError:
        return None
