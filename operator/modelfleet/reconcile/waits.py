"""Since when places wait for a pod that comes up, by object: what one plan found, for the next one to go on from.

What a restart misses begins anew. What it means is ``plan/edge/lateness.py``'s.
"""

from collections.abc import Mapping

from modelfleet.plan.outcome import Waiting
from modelfleet.reconcile.key import Key


class Waits:
    """What the last plan of each object found."""

    def __init__(self) -> None:
        self._found: dict[Key, Mapping[str, Waiting]] = {}

    def of(self, key: Key) -> Mapping[str, Waiting]:
        """By place: what it waits for, and since when."""
        return self._found.get(key, {})

    def found(self, key: Key, waiting: Mapping[str, Waiting]) -> None:
        """Take the place of what was found before."""
        if waiting:
            self._found[key] = waiting
        else:
            self.forget(key)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._found.pop(key, None)
