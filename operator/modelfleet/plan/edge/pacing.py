"""Pacing: how many gateways may start on a new version now, so that not all of them fetch it at once.

What was started is read off the fleet: a pod's age is the time of its start. So nothing is remembered, and a restarted
operator keeps to the same pace.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from modelfleet.plan import conditions

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Allowance:
    """How many may be started, and when more may be."""

    now: int
    more_at: datetime | None
    """When the next one may be, where none may be now."""


def allow(per_minute: int, started: Iterable[str], now: datetime) -> Allowance:
    """What may be started so that no minute sees more than ``per_minute`` starts.

    ``started`` are the creation times (RFC 3339, UTC) of the pods of what was moved; empty for one that has no pod yet.
    """
    begin = conditions.timestamp(now - _MINUTE)
    recent = sorted(each or conditions.timestamp(now) for each in started if not each or each > begin)
    room = per_minute - len(recent)
    if room > 0:
        return Allowance(room, None)
    return Allowance(0, conditions.parse_timestamp(recent[-per_minute]) + _MINUTE)
