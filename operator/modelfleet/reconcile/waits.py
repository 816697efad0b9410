"""Since when an object's places wait for a pod that comes up, and its DaemonSets for one at all.

What one reconcile found, for the next one to go on from; what a restart misses begins anew. What it means for a place
is ``plan/edge/lateness.py``'s.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from modelfleet.plan.outcome import Waiting
from modelfleet.reconcile.key import Key


class Waits:
    """What the last plan of each object found."""

    def __init__(self) -> None:
        self._found: dict[Key, Mapping[str, Waiting]] = {}
        self._lacking: dict[Key, Mapping[str, datetime]] = {}

    def of(self, key: Key) -> Mapping[str, Waiting]:
        """By place: what it waits for, and since when."""
        return self._found.get(key, {})

    def found(self, key: Key, waiting: Mapping[str, Waiting]) -> None:
        """Take the place of what was found before."""
        if waiting:
            self._found[key] = waiting
        else:
            self._found.pop(key, None)

    def lasting(self, key: Key, lacking: Collection[str], now: datetime, longer_than: timedelta) -> list[str]:
        """Those of the DaemonSets that lack pods now which have done so for a while, as far as anybody looked."""
        before = self._lacking.pop(key, {})
        if not lacking:
            return []
        since = self._lacking[key] = {name: before.get(name, now) for name in lacking}
        return [name for name in lacking if now - since[name] >= longer_than]

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._found.pop(key, None)
        self._lacking.pop(key, None)
