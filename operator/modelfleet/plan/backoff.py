"""How long to wait before something is tried again: one curve for verification and for training."""

from datetime import datetime, timedelta
from typing import Final

FIRST_SECONDS: Final = 10
LONGEST_SECONDS: Final = 600

LOOK_AGAIN_SECONDS: Final = 30.0
"""Between looks at something that does not start, and whose Events are not watched."""


def delay(failures: int, first_seconds: int = FIRST_SECONDS) -> timedelta:
    """The pause after the ``failures``-th failure in a row: 10 s at first, doubled each time, at most 10 minutes."""
    doublings = min(max(failures, 1) - 1, 10)
    return timedelta(seconds=min(first_seconds * 2**doublings, LONGEST_SECONDS))


def seconds_until(moment: datetime, now: datetime) -> float:
    """Seconds from ``now`` to ``moment``, never negative; a little more, so that the moment has come by then."""
    return max((moment - now).total_seconds(), 0.0) + 0.1
