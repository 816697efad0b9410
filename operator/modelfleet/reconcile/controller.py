"""One reconcile from key to written Outcome, and what each way of failing means for when it is tried again."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from modelfleet.cluster.errors import ApiError, ClusterError, NameTakenError, NotLeaderError
from modelfleet.plan import conditions
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Note, Outcome, RawObject
from modelfleet.reconcile.context import Context, Reconcile
from modelfleet.reconcile.execute import Executor, LabelsRefusedError
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.metrics import Metrics
from modelfleet.reconcile.schedule import Schedule

PLANS_AT_ONCE: Final = 8
"""Plans made one after the other while nodes turn out to take no label, or a name is somebody else's: each leaves out
what is known."""

TOLD_AFTER: Final = 3
"""Failures in a row before a Warning Event tells the user."""

logger = logging.getLogger(__name__)


class Controller:
    """Reconciles keys of every kind it was given."""

    def __init__(
        self,
        reconcilers: Mapping[str, Reconcile],
        context: Context,
        executor: Executor,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reconcilers = reconcilers
        self._context = context
        self._executor = executor
        self._metrics = metrics
        self._clock = clock

    def inform(self, installation: Installation) -> None:
        """Plan with this from now on."""
        self._context = replace(self._context, installation=installation)

    async def process(self, key: Key, schedule: Schedule) -> None:
        """Reconcile the key once and tell the schedule how it went."""
        seen = self._context.view.get(key.kind, key.namespace, key.name)
        started = self._clock()
        try:
            result, requeue_after, cost = await self._reconcile(key, seen)
        except NotLeaderError:
            result = "interrupted"
            schedule.put_back(key, _loop_time())
        except ApiError as error:
            result = "conflict" if error.code == 409 else "error"
            await self._failed(key, seen, schedule, error, error.retry_after)
        except Exception as error:
            result = "error"
            await self._failed(key, seen, schedule, error, None)
        else:
            if result == "gone":
                schedule.gone(key, _loop_time())
            else:
                schedule.done(key, _loop_time(), requeue_after, cost)
        self._metrics.reconciles.labels(key.kind, result).inc()
        self._metrics.duration.labels(key.kind).observe(self._clock() - started)

    async def _reconcile(self, key: Key, seen: RawObject | None) -> tuple[str, float | None, float]:
        """The result as the metric names it, when to look again, and the CPU time of the plan in seconds."""
        cost, written, taken = 0.0, False, ""
        for left in reversed(range(PLANS_AT_ONCE)):
            # Of this thread: what a busy machine gives to others is not the plan's. What else runs while the plan waits
            # for one of its rare requests counts too, and errs on the side of rest.
            began = time.thread_time()
            outcome = await self._reconcilers[key.kind](key, self._context)
            cost += time.thread_time() - began
            if outcome is None or seen is None:
                return "gone", None, cost
            try:
                also_written, requeue_after = await self._executor.execute(seen, outcome)
            except LabelsRefusedError as refusal:
                written |= refusal.written
                if left == 0 and not written:
                    raise refusal.error from refusal
            except NameTakenError as error:
                if str(error) == taken:
                    # No plan can do without that name.
                    raise
                taken = str(error)
            else:
                written |= also_written
                logger.debug("%s: %s, again in %s s", key, "written" if written else "nothing to write", requeue_after)
                return ("changed" if written else "unchanged"), requeue_after, cost
            seen = self._context.view.get(key.kind, key.namespace, key.name)
        return "changed", 0.0, cost

    async def _failed(
        self, key: Key, seen: RawObject | None, schedule: Schedule, error: Exception, retry_after: float | None
    ) -> None:
        """Retry later: a conflict quietly, anything else visibly."""
        failures = schedule.failed(key, _loop_time(), retry_after)
        conflict = isinstance(error, ApiError) and error.code == 409
        if conflict and failures < TOLD_AFTER:
            logger.debug("%s: %s; tried again soon", key, error)
            return
        self._metrics.errors.labels(key.kind).inc()
        if isinstance(error, ClusterError):
            logger.warning("%s: %s; failure %d in a row, tried again later", key, error, failures)
        else:
            logger.error("%s: failure %d in a row, tried again later", key, failures, exc_info=error)
        if failures >= TOLD_AFTER and seen is not None:
            await self._tell(seen, error)

    async def _tell(self, seen: RawObject, error: Exception) -> None:
        """By an Event; in the conditions, too, where the error will stay until somebody does something about it."""
        what = str(error) if isinstance(error, ClusterError) else f"internal error, see the operator's log: {error!r}"
        note = Note("Warning", "ReconcileError", f"{what}. It is tried again with growing pauses")
        passes = isinstance(error, ApiError) and not error.refused
        # Said once: a message that is another one each time would wake the key by its own writing.
        said = passes or _is_said(seen, note.reason)
        status = None if said else conditions.stuck(seen, note.reason, note.message, self._context.now())
        try:
            await self._executor.execute(seen, Outcome(notes=[note], status=status))
        except ClusterError as second:
            logger.warning("The error could not be told in an Event: %s", second)


def _is_said(obj: RawObject, reason: str) -> bool:
    stalled = conditions.find((obj.get("status") or {}).get("conditions") or (), "Stalled") or {}
    return stalled.get("reason") == reason and stalled.get("observedGeneration") == obj["metadata"].get("generation", 0)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
