"""Asking the data plane whether it follows a route, beside the reconciles: an ingress that hangs holds up no worker.

A plan says what is to be asked; a later one is given what came of it, for as long as it still asks the same. Nothing is
remembered that a restart would miss: what was lost is asked again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelfleet.plan.traffic import confirmation
from modelfleet.plan.traffic.probe import AGAIN, Probed, Question, Reply
from modelfleet.reconcile.key import Key

AT_ONCE: Final = 8
"""Questions in flight, over all objects."""

logger = logging.getLogger(__name__)

AskAll = Callable[[Question], Awaitable[Sequence[Reply]]]


@dataclass
class _Asked:
    question: Question
    task: asyncio.Task[None] | None = None
    came: Probed | None = None


class Confirmations:
    """The questions under way and what came of them, by object. Close it when done."""

    def __init__(self, ask: AskAll, wake: Callable[[Key], None], now: Callable[[], datetime]) -> None:
        self._ask = ask
        self._wake = wake
        self._now = now
        self._asked: dict[Key, _Asked] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def of(self, key: Key) -> Probed | None:
        """What came of the last question about this object."""
        asked = self._asked.get(key)
        return asked.came if asked is not None else None

    def ask(self, key: Key, question: Question | None) -> None:
        """Have it asked, unless it was just now; ``None``: nothing is to be asked any more."""
        asked = self._asked.get(key)
        if asked is None or asked.question != question:
            self.forget(key)
            if question is None:
                return
            asked = self._asked[key] = _Asked(question)
        rests = asked.came is not None and self._now() - asked.came.at < AGAIN
        if asked.task is None and not rests:
            asked.task = asyncio.create_task(self._answer(key, asked))

    def forget(self, key: Key) -> None:
        """Ask nothing more about this object."""
        asked = self._asked.pop(key, None)
        if asked is not None and asked.task is not None:
            asked.task.cancel()

    async def close(self) -> None:
        """Stop asking."""
        tasks = [asked.task for asked in self._asked.values() if asked.task is not None]
        for key in list(self._asked):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, key: Key, asked: _Asked) -> None:
        try:
            async with self._slots:
                why = confirmation.why_not(await self._ask(asked.question))
        except Exception as broken:
            logger.exception("%s: the data plane could not be asked", key)
            why = f"internal error, see the operator's log: {broken!r}"
        asked.came = Probed(asked.question.route, self._now(), why)
        asked.task = None
        self._wake(key)
