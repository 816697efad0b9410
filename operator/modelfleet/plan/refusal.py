"""What the API server said when it would not take an object that a plan wants to create."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """The answer to a dry run of the creation."""

    message: str
    """The server's own words; they name the field, or the policy or quota."""
    final: bool
    """The object itself is invalid, so that the answer stays the same; else it depends on the namespace."""
