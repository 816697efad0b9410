"""Stalled training: pods that all run, and tell nothing any more.

Time counts from the last report on, or from the moment when the last pod of the attempt became ready, or this operator
could hear any: while pods wait for a node or a queue, or nobody listens, nothing stalls. A step that never reported
in any attempt never stalls: perhaps its program does not know how to.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from modelfleet.plan import conditions, job_state
from modelfleet.plan.outcome import RawObject


def up_since(pods: Sequence[RawObject], wanted: int) -> datetime | None:
    """When the last of the pods became ready; ``None``: they are not all. Those that are done count as ready."""
    if job_state.ready_count(pods) < wanted:
        return None
    ready = [conditions.find((pod.get("status") or {}).get("conditions") or (), "Ready") for pod in pods]
    moments = [conditions.parse_timestamp(each["lastTransitionTime"]) for each in ready if each is not None]
    return max(moments, default=None)


def quiet_since(watch: Mapping[str, Any], up: datetime | None, listening_since: datetime | None) -> datetime | None:
    """Since when the attempt is heard of no more; ``None``: it is not expected to be."""
    told = watch.get("lastReportTime")
    if told is None or up is None:
        return None
    return max(conditions.parse_timestamp(told), up, listening_since or up)


def verdict(since: datetime, most_seconds: int, now: datetime) -> str:
    """That it is stalled, in words; empty: not yet."""
    if now - since < timedelta(seconds=most_seconds):
        return ""
    return f"its pods run and have reported nothing since {conditions.timestamp(since)} ({most_seconds} s)"
