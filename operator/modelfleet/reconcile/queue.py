"""The workers: they take due keys from the schedule and have them reconciled, a key never twice at once.

What a reconcile is, and what its errors mean, is ``reconcile/controller.py``'s; when a key is due, ``schedule.py``'s.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from modelfleet.reconcile.key import Key
from modelfleet.reconcile.schedule import Pace, Schedule

Process = Callable[[Key, Schedule], Awaitable[None]]
"""Reconciles the key and tells the schedule how it went; raises only when cancelled."""


class Queue:
    """Keys in, reconciles out. Keys may be added before it runs and while it does not."""

    def __init__(self, process: Process, pace: Pace, workers: int, chance: random.Random | None = None) -> None:
        self._process = process
        self._workers = workers
        self._schedule = Schedule(pace, chance or random.Random())  # noqa: S311
        self._changed = asyncio.Condition()
        self._stopping = False
        self._wakeup: asyncio.Task[None] | None = None
        """That will have the idle workers look; none once they were told, though the task itself may not have ended."""

    def add(self, key: Key, *, calm: bool = False) -> None:
        """Something happened to this key; ``calm``: that by itself gives its plan nothing to do."""
        self._schedule.add(key, _now(), calm=calm)
        self._wake()

    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        return self._schedule.depth(_now())

    async def run(self) -> None:
        """Work until :meth:`stop` was called; running reconciles are finished first."""
        self._stopping = False
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    def stop(self) -> None:
        """Take no further key."""
        self._stopping = True
        self._wake()

    async def _work(self) -> None:
        while (key := await self._next()) is not None:
            try:
                await self._process(key, self._schedule)
            except asyncio.CancelledError:
                self._schedule.put_back(key, _now())
                raise
            self._wake()

    async def _next(self) -> Key | None:
        async with self._changed:
            while not self._stopping:
                now = _now()
                key = self._schedule.take(now)
                if key is not None:
                    return key
                due = self._schedule.next_due()
                try:
                    async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        return None

    def _wake(self) -> None:
        """Have the idle workers look again; from synchronous code, so through a task of its own."""
        if self._wakeup is None:
            self._wakeup = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            # Before they are told: what is added from here on may be too late for their look, and wakes them anew.
            self._wakeup = None
            self._changed.notify_all()


def _now() -> float:
    return asyncio.get_running_loop().time()
