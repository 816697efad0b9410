"""When which key is due: coalescing, single flight, backoff, resync. Pure state; the caller brings the clock.

A key is in one of three states: waiting (due at a time), running, or unknown. Work arriving for a running key makes
it due again afterwards. A key that fails is not hurried by events, which its own half-done writes would cause; one
that succeeds is looked at again after ``resync`` in any case, so nothing is lost for longer than that.
"""

import heapq
import random
from dataclasses import dataclass
from typing import Final

from modelfleet.reconcile.key import Key

SHORTEST_REQUEUE: Final = 1.0
"""Seconds; whatever a plan asks for, a key does not spin."""

HURRY_FLOOR: Final = 2.0
"""Seconds a failed key rests at least, though events arrive."""

REST: Final = 9.0
"""How many times as long as its plan took to think a key rests, though events arrive: while a large fleet moves, its
plans take a tenth of one core, however slowly it moves."""


@dataclass(frozen=True)
class Pace:
    """All in seconds."""

    window: float = 0.2
    """Events within this time make one reconcile."""
    calm: float = 2.0
    """As ``window``, of events that by themselves give a plan nothing to do."""
    first_backoff: float = 1.0
    longest_backoff: float = 300.0
    resync: float = 720.0
    """Mean time after which an untouched key is looked at again; each time is jittered by a quarter."""


@dataclass
class _Entry:
    due: float = 0.0
    waiting: bool = False
    running: bool = False
    again: float | None = None
    """What happened while it ran makes it due so many seconds after it; ``None``: nothing did."""
    failures: int = 0
    rest_until: float = 0.0
    cost: float = 0.0
    """CPU time of the last plan, in seconds."""


class Schedule:
    """The keys and when they are due."""

    def __init__(self, pace: Pace, chance: random.Random) -> None:
        self._pace = pace
        self._chance = chance
        self._entries: dict[Key, _Entry] = {}
        self._heap: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def depth(self, now: float) -> int:
        """How many keys are due and not running: what a worker more would take."""
        return sum(1 for entry in self._entries.values() if entry.waiting and entry.due <= now)

    def add(self, key: Key, now: float, *, calm: bool = False) -> None:
        """Something happened to this key: it is due one window from now, or sooner if it was already."""
        entry = self._entries.setdefault(key, _Entry())
        window = self._pace.calm if calm else self._pace.window
        if entry.running:
            entry.again = window if entry.again is None else min(window, entry.again)
            return
        due = max(now + _rest(entry, window), entry.rest_until)
        if not entry.waiting or due < entry.due:
            self._wait(key, entry, due)

    def take(self, now: float) -> Key | None:
        """The key that is due the longest, from now on running; ``None`` when none is."""
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is None or not entry.waiting or entry.due != due:
                continue
            entry.waiting, entry.running, entry.again = False, True, None
            return key
        return None

    def next_due(self) -> float | None:
        """When :meth:`take` may next succeed; ``None`` when nothing waits."""
        while self._heap:
            due, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.waiting and entry.due == due:
                return due
            heapq.heappop(self._heap)
        return None

    def done(self, key: Key, now: float, requeue_after: float | None, cost: float = 0.0) -> None:
        """The reconcile succeeded; it is due again after ``requeue_after``, else at its resync.

        ``cost``: CPU time of its plan, in seconds.
        """
        entry = self._finish(key)
        entry.failures, entry.rest_until, entry.cost = 0, 0.0, cost
        resync = self._pace.resync * self._chance.uniform(0.75, 1.25)
        after = resync if requeue_after is None else min(resync, max(requeue_after, SHORTEST_REQUEUE))
        if entry.again is not None:
            after = min(after, _rest(entry, entry.again))
        self._wait(key, entry, now + after)

    def gone(self, key: Key, now: float) -> None:
        """The object does not exist; the key is dropped, unless something happened meanwhile."""
        if self._finish(key).again is not None:
            self._wait(key, self._entries[key], now + self._pace.window)
        else:
            del self._entries[key]

    def failed(self, key: Key, now: float, retry_after: float | None = None) -> int:
        """The reconcile failed; it is due after a growing, jittered time. The number of failures in a row."""
        entry = self._finish(key)
        entry.failures += 1
        backoff = min(self._pace.longest_backoff, self._pace.first_backoff * 2.0 ** min(entry.failures - 1, 20))
        after = max(backoff * self._chance.uniform(0.75, 1.25), retry_after or 0.0)
        entry.rest_until = now + (retry_after or min(after, HURRY_FLOOR))
        self._wait(key, entry, now + after)
        if entry.again is not None:
            self.add(key, now)
        return entry.failures

    def put_back(self, key: Key, now: float) -> None:
        """The reconcile was interrupted through no fault of its own."""
        self._wait(key, self._finish(key), now + self._pace.window)

    def _finish(self, key: Key) -> _Entry:
        entry = self._entries[key]
        entry.running = False
        return entry

    def _wait(self, key: Key, entry: _Entry, due: float) -> None:
        entry.due, entry.waiting = due, True
        heapq.heappush(self._heap, (due, key))


def _rest(entry: _Entry, window: float) -> float:
    """How long after an event a key is due."""
    return max(window, REST * entry.cost)
