"""Measuring for analyses beside the reconciles: a slow server holds up no worker, and a result wakes its object.

A reconcile asks for what is due and is given what has come in since; it never waits. A result is kept until the status
shows it was counted, so a status that could not be written costs no second query. Nothing is remembered that a
restart would miss: what was lost is measured again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from modelfleet.cluster.prometheus import PrometheusError
from modelfleet.plan import conditions
from modelfleet.plan.traffic.analysis import Measurement, Question, Run
from modelfleet.reconcile.key import Key

AT_ONCE: Final = 8
"""Queries in flight, over all objects."""

logger = logging.getLogger(__name__)

Query = Callable[[str, str], Awaitable[float | None]]
"""Asks a server (by address) a query; raises :class:`PrometheusError`."""

QueryObserver = Callable[[str], None]
"""Told of each query whether it was answered: ``ok`` or ``error``."""


@dataclass
class _Asked:
    run: Run
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    results: dict[str, Measurement] = field(default_factory=dict)


class Measurements:
    """The measurements under way and those that came in, by object. Close it when done."""

    def __init__(
        self, query: Query, wake: Callable[[Key], None], now: Callable[[], datetime], observe: QueryObserver
    ) -> None:
        self._query = query
        self._wake = wake
        self._now = now
        self._observe = observe
        self._asked: dict[Key, _Asked] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def take(self, key: Key, run: Run | None, questions: Sequence[Question]) -> Mapping[str, Measurement]:
        """Start what is due of this step and not under way, and return what came in of it, by metric."""
        asked = self._asked.get(key)
        if asked is None or asked.run != run:
            self.forget(key)
            if run is None:
                return {}
            asked = self._asked[key] = _Asked(run)
        counted = {question.metric: question.counted for question in questions}
        # What is not due any more was counted as well.
        asked.results = {
            name: result
            for name, result in asked.results.items()
            if name in counted and conditions.timestamp(result.at) > counted[name]
        }
        for question in questions:
            if question.metric not in asked.results and question.metric not in asked.tasks:
                asked.tasks[question.metric] = asyncio.create_task(self._measure(key, asked, question))
        # Metrics that are due together are counted together: one status, not one for each.
        return {} if asked.tasks else dict(asked.results)

    def forget(self, key: Key) -> None:
        """Measure nothing more for this object."""
        asked = self._asked.pop(key, None)
        for task in asked.tasks.values() if asked else ():
            task.cancel()

    async def close(self) -> None:
        """Stop measuring."""
        tasks = [task for asked in self._asked.values() for task in asked.tasks.values()]
        for key in list(self._asked):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _measure(self, key: Key, asked: _Asked, question: Question) -> None:
        value, error = None, ""
        try:
            async with self._slots:
                value = await self._query(question.address, question.query)
        except PrometheusError as refused:
            error = str(refused)
        except Exception as broken:
            logger.exception("%s: metric %s could not be measured", key, question.metric)
            error = f"internal error, see the operator's log: {broken!r}"
        self._observe("error" if error else "ok")
        asked.results[question.metric] = Measurement(asked.run, self._now(), value, error)
        del asked.tasks[question.metric]
        if not asked.tasks:
            self._wake(key)
