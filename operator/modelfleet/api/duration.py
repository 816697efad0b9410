"""Durations as users of Kubernetes write them: ``90s``, ``10m``, ``1h30m``. The subset of Go's that has whole seconds.

Hours, minutes and seconds in this order, each at most once, no fractions: every such text is a duration to Go too.
"""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import Field

from modelfleet.api.rules import Rules, lacks, matches

DURATION_PATTERN: Final = r"^([0-9]{1,5}h([0-9]{1,5}m)?([0-9]{1,5}s)?|[0-9]{1,5}m([0-9]{1,5}s)?|[0-9]{1,5}s)$"
_PARTS: Final = re.compile(r"([0-9]+)([hms])")
_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}

_IS_DURATION = matches(DURATION_PATTERN, "must be a duration such as 90s, 10m or 1h30m")
Duration = Annotated[str, Field(max_length=18), Rules(_IS_DURATION)]
"""A duration, which may be none at all (``0s``)."""
PositiveDuration = Annotated[
    str,
    Field(max_length=18),
    Rules(_IS_DURATION, lacks(r"^(0+[hms])+$", "must be longer than nothing: at least 1s")),
]


def parse(text: str) -> timedelta:
    """The time that a text which fits the pattern stands for."""
    return timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in _PARTS.findall(text)))
