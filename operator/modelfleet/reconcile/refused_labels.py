"""The nodes that the API server would not let be labelled, and how long they are left alone.

A memory that saves requests: an operator that was restarted asks at once, and is told the same. What a refusal means
for the rollout is ``plan/edge/refused_labels.py``'s.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from modelfleet.plan import backoff
from modelfleet.plan.edge.refused_labels import Refusal

FORGOTTEN_AFTER: Final = timedelta(seconds=2 * backoff.LONGEST_SECONDS)
"""How long after its pause a refusal is kept, so that the next one makes the pause longer."""


@dataclass(frozen=True)
class _Refused:
    refusal: Refusal
    times: int


class RefusedLabels:
    """By owner (uid) and node: the last refusal, with a pause that grows from 10 s to 10 min."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._held: defaultdict[str, dict[str, _Refused]] = defaultdict(dict)

    def refused(self, owner: str, node: str, message: str) -> None:
        """Remember that it was refused just now."""
        before = self._held[owner].get(node)
        times = 1 + (before.times if before else 0)
        self._held[owner][node] = _Refused(Refusal(message, self._now() + backoff.delay(times)), times)

    def written(self, owner: str, node: str) -> None:
        """It was labelled after all."""
        if owner in self._held:
            self._held[owner].pop(node, None)

    def standing(self, owner: str) -> dict[str, Refusal]:
        """The nodes to leave alone for now."""
        if owner not in self._held:
            return {}
        now = self._now()
        kept = {node: each for node, each in self._held[owner].items() if each.refusal.until + FORGOTTEN_AFTER > now}
        self._held[owner] = kept
        if not kept:
            del self._held[owner]
        return {node: each.refusal for node, each in kept.items() if each.refusal.until > now}
