"""All or nothing without a queueing system: a gang that has some of its nodes and waits for the rest gives them back.

Two gangs that each hold half of a pool would otherwise wait for each other for ever. Where Kueue admits the jobs
this never comes about: it admits a gang only where there is room for all of it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.plan import conditions, naming
from modelfleet.plan.outcome import RawObject

HALFWAY_SECONDS: Final = 600
"""How long a gang may hold some of its nodes while there is no room for the others; an autoscaler needs minutes."""


def stuck_halfway(pods: Sequence[RawObject], wanted: int, now: datetime) -> str:
    """That the gang holds nodes in vain, in words; empty: it does not, or not for long."""
    placed = sum(bool((pod.get("spec") or {}).get("nodeName")) for pod in pods)
    since = [moment for pod in pods if (moment := _unschedulable_since(pod)) is not None]
    if not placed or not since or now - min(since) < timedelta(seconds=HALFWAY_SECONDS):
        return ""
    return (
        f"{placed} of {wanted} pods had a node and there was no room for the others within {HALFWAY_SECONDS} s:"
        " their nodes are given back"
    )


def apart(uid: str, pause: timedelta) -> timedelta:
    """A part of the pause, another one for each job: of two gangs that gave back, one shall come first."""
    return pause * (int(naming.text_hash(uid, 4), 16) / 0xFFFF)


def _unschedulable_since(pod: Mapping[str, Any]) -> datetime | None:
    condition = conditions.find((pod.get("status") or {}).get("conditions") or (), "PodScheduled")
    if condition is None or condition.get("reason") != "Unschedulable":
        return None
    moment = condition.get("lastTransitionTime")
    return conditions.parse_timestamp(moment) if moment else None
