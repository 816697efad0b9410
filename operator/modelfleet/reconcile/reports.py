"""What pods told of their training and no status shows yet, by TrainingJob; a report wakes its job, but not each one.

Only the leader is told anything. What is lost with it is told again: a training reports every few seconds.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from modelfleet.plan.training.trainer_status import SETTLE_SECONDS, Report, merged
from modelfleet.reconcile.key import Key

Later = Callable[[float, Callable[[], None]], object]
"""Calls a function in so many seconds."""


class Reports:
    """The latest of each step of each job that is not over."""

    def __init__(
        self,
        wake: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
        later: Later | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._wake = wake
        self._clock = clock
        self._later = later or _later
        self._now = now
        self.listening_since = now()
        """Since when anything could be told here."""
        self._held: dict[Key, dict[str, Report]] = {}
        self._woken: dict[Key, float] = {}
        """When each job was woken last, or is going to be."""

    def add(self, key: Key, report: Report) -> None:
        """Take a report in; its job is looked at now, or as soon as its progress may be written again."""
        steps = self._held.setdefault(key, {})
        steps[report.step] = merged(steps.get(report.step), report)
        now = self._clock()
        due = self._woken.get(key, now - SETTLE_SECONDS) + SETTLE_SECONDS
        if due <= now:
            self._woken[key] = now
            self._wake(key)
        elif due - now <= SETTLE_SECONDS:
            self._woken[key] = due
            self._later(due - now, lambda: self._wake(key))

    def of(self, key: Key) -> list[Report]:
        """What is known of a job, one report a step."""
        return list(self._held.get(key, {}).values())

    def forget(self, key: Key) -> None:
        """The job is over or gone."""
        self._held.pop(key, None)
        self._woken.pop(key, None)

    def clear(self) -> None:
        """Forget everything: since this replica led last, another one may have been told more."""
        self.listening_since = self._now()
        self._held.clear()
        self._woken.clear()


def _later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)
