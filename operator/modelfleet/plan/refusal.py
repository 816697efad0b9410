"""What the API server said when it would not take an object that a plan wants to write."""

import re
from dataclasses import dataclass
from typing import Final

_PREAMBLE: Final = re.compile(
    r"""^(?:\(combined from similar events\): )?(?:Error creating: )?(?:[a-z]+ "[^"]*" is forbidden: )?"""
)


@dataclass(frozen=True)
class Refusal:
    """The answer to a dry run of the creation."""

    message: str
    """The server's own words; they name the field, or the policy or quota."""
    final: bool
    """The object itself is invalid, so that the answer stays the same; else it depends on the namespace."""


def reason_in(words: str) -> str:
    """Why something is refused, without what the reader knows: that, and for which object.

    A pod's made-up name apart, a controller's Event reads the same each time; and there is room for the reason.
    """
    return _PREAMBLE.sub("", words)
