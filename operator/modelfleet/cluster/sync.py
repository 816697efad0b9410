"""Keeping the view true: filling it before the first reconcile, and auditing it against the API server ever after.

Watch streams alone do not suffice. Kopf lists again after a 410 or a broken stream and tells of what it then finds,
but not of what vanished meanwhile; a stream can die while the process lives; an event can be lost. So every kind is
compared, metadata only and from the API server's watch cache, at the start, shortly after kopf listed again, and
every few minutes. What the list's own resourceVersion proves gone is taken out; what a stream has not brought after
a grace time is read fresh. A stream that needs such repairs time after time is dead, and liveness says so.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from modelfleet.cluster.client import Cluster
from modelfleet.cluster.kinds import VIEWED_KINDS
from modelfleet.cluster.view import View
from modelfleet.plan.outcome import RawObject

GRACE_SECONDS: Final = 5.0
"""How far a watch stream may lag behind a list before its news is fetched."""

DEAD_AFTER: Final = 3
"""Audits in a row that find a stream behind, before it counts as dead."""

RepairObserver = Callable[[str], None]
"""Told the kind of each object that an audit had to repair."""

logger = logging.getLogger(__name__)


class Synchronizer:
    """Fills and audits the view of one cluster."""

    def __init__(self, cluster: Cluster, view: View, interval: float, observe: RepairObserver) -> None:
        self._cluster = cluster
        self._view = view
        self._interval = interval
        self._observe = observe
        self._wanted: dict[str, asyncio.Event] = {kind: asyncio.Event() for kind in VIEWED_KINDS}
        self._behind: defaultdict[str, int] = defaultdict(int)
        self.filled = asyncio.Event()
        """Set once every kind was listed: reconciles may begin."""

    async def fill(self) -> None:
        """List every kind into the view."""
        for kind in VIEWED_KINDS:
            for obj in await self._cluster.list_watched(kind):
                self._view.observe(obj)
        self.filled.set()

    def listed_again(self, kind: str) -> None:
        """Note that the watch of this kind began anew: what vanished meanwhile must be found soon."""
        self._wanted[kind].set()

    def dead_streams(self) -> list[str]:
        """The kinds whose watch stream brings nothing though there is news."""
        return [kind for kind, times in self._behind.items() if times >= DEAD_AFTER]

    async def run(self) -> None:
        """Audit every kind, again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in VIEWED_KINDS:
                group.create_task(self._audit_forever(kind))

    async def _audit_forever(self, kind: str) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval):
                    await self._wanted[kind].wait()
            except TimeoutError:
                pass
            await asyncio.sleep(1)
            self._wanted[kind].clear()
            try:
                await self.audit(kind)
            except Exception as error:
                logger.warning("Could not compare the view of %s with the API server: %s", kind, error)

    async def audit(self, kind: str) -> int:
        """Compare one kind with the API server and repair the view; the number of objects that were wrong."""
        items, version = await self._cluster.list_metadata(kind)
        there = {item["metadata"]["uid"]: item for item in items}
        gone = [obj for obj in self._view.list(kind) if obj["metadata"]["uid"] not in there]
        repaired = 0
        for obj in gone:
            if _at_most(obj["metadata"]["resourceVersion"], version):
                metadata = obj["metadata"]
                self._view.forget(kind, metadata.get("namespace", ""), metadata["name"], metadata["uid"])
                repaired += 1
        behind = [item for item in items if self._lacks(kind, item)]
        if behind:
            await asyncio.sleep(GRACE_SECONDS)
            behind = [item for item in behind if self._lacks(kind, item)]
        for item in behind:
            metadata = item["metadata"]
            if await self._cluster.read(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
                repaired += 1
        self._behind[kind] = self._behind[kind] + 1 if behind else 0
        for _ in range(repaired):
            self._observe(kind)
        if repaired:
            logger.info("The view of %s was repaired: %d objects", kind, repaired)
        return repaired

    def _lacks(self, kind: str, item: RawObject) -> bool:
        """Whether the view is older than this item (or does not know it, though it was not seen deleted)."""
        metadata = item["metadata"]
        if self._view.was_deleted(metadata["uid"]):
            return False
        held = self._view.get(kind, metadata.get("namespace", ""), metadata["name"])
        return held is None or not _at_most(metadata["resourceVersion"], held["metadata"]["resourceVersion"])


def _at_most(version: str, other: str) -> bool:
    """Whether ``version`` is not later than ``other``; where they are no numbers, only equality is known."""
    if version.isdecimal() and other.isdecimal():
        return int(version) <= int(other)
    return version == other
