"""Keeping the view true: filling it before the first reconcile, and auditing it against the API server ever after.

Watch streams alone do not suffice. A list after a 410 tells of what there is, and kopf's list after a broken stream
too, but not of what vanished meanwhile; a stream can die while the process lives; an event can be lost. So every kind
is compared, metadata only and from the API server's watch cache, at the start, shortly after it was listed again, and
every few minutes. What the list's own resourceVersion proves gone is taken out; what a stream has not brought after
a grace time is read fresh. A stream that needs such repairs time after time, and itself brings nothing, is dead, and
liveness says so. One that is only late, as when ten thousand nodes change at once, is not: a restart would cost more.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from modelfleet.cluster.client import Cluster
from modelfleet.cluster.kinds import ROUTING_KINDS, VIEWED_KINDS
from modelfleet.cluster.view import View, at_most

GRACE_SECONDS: Final = 5.0
"""How far a watch stream may lag behind a list before its news is fetched."""

DEAD_AFTER: Final = 3
"""Audits in a row that find a stream behind and silent, before it counts as dead."""

READ_SINGLY: Final = 100
"""Most objects that are read one by one; where more are behind, the kind is listed."""

Metadata = Mapping[str, Mapping[str, Any]]
"""Objects' metadata by uid."""

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
        self._listing = asyncio.Lock()
        """One list is held at a time: that of ten thousand pods is 50 MB."""
        self._wanted: dict[str, asyncio.Event] = {kind: asyncio.Event() for kind in (*VIEWED_KINDS, *ROUTING_KINDS)}
        self._behind: defaultdict[str, int] = defaultdict(int)
        self._heard: set[str] = set()
        """The kinds whose streams have brought news since the last audit of them."""
        self.versions: dict[str, str] = {}
        """By kind: the resourceVersion of the list that filled the view."""
        self.filled = asyncio.Event()
        """Set once every kind was listed: reconciles may begin."""

    async def fill(self) -> None:
        """List every kind into the view; where that fails half-way, what was listed may be gone until the next try."""
        for kind in VIEWED_KINDS:
            self.versions[kind] = await self.list_again(kind)
        self.filled.set()

    async def list_one(self, kind: str) -> str:
        """List one kind into the view; returns the resourceVersion from which on to watch it."""
        return await self._cluster.list_watched(kind, self._view.observe)

    async def list_again(self, kind: str) -> str:
        """As :meth:`list_one`, of what may be held already: what vanished meanwhile is found by an audit soon."""
        version = await self.list_one(kind)
        self.listed_again(kind)
        return version

    def listed_again(self, kind: str) -> None:
        """Note that the watch of this kind began anew: what vanished meanwhile must be found soon."""
        self._wanted[kind].set()

    def heard(self, kind: str) -> None:
        """Note that the watch stream of this kind brought an event."""
        self._heard.add(kind)

    def dead_streams(self) -> list[str]:
        """The kinds whose watch stream brings nothing though there is news."""
        return [kind for kind, times in self._behind.items() if times >= DEAD_AFTER]

    async def run(self) -> None:
        """Audit every kind, again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in (*VIEWED_KINDS, *ROUTING_KINDS):
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
            if kind in ROUTING_KINDS and kind not in self._view.routing_kinds:
                self._behind.pop(kind, None)
                continue
            try:
                await self.audit(kind)
            except Exception as error:
                logger.warning("Could not compare the view of %s with the API server: %s", kind, error)

    async def audit(self, kind: str) -> int:
        """Compare one kind with the API server and repair the view; the number of objects that were wrong."""
        async with self._listing:
            items, version = await self._cluster.list_metadata(kind)
        there = {metadata["uid"]: metadata for metadata in items}
        if self._gone(kind, there, version) or self._behind_of(kind, there):
            # The watch stream may be a moment behind the list; only what it does not bring is repaired.
            await asyncio.sleep(GRACE_SECONDS)
        gone, behind = self._gone(kind, there, version), self._behind_of(kind, there)
        for metadata in gone:
            self._view.forget(kind, metadata, version)
        if len(behind) > READ_SINGLY:
            await self.list_one(kind)
        else:
            for metadata in behind:
                await self._cluster.read(kind, metadata.get("namespace", ""), metadata["name"])
        self._behind[kind] = self._behind[kind] + 1 if behind and kind not in self._heard else 0
        self._heard.discard(kind)
        repaired = len(gone) + len(behind)
        for _ in range(repaired):
            self._observe(kind)
        if repaired:
            logger.info("The view of %s was repaired: %d objects", kind, repaired)
        return repaired

    def _gone(self, kind: str, there: Metadata, version: str) -> list[Mapping[str, Any]]:
        """Metadata of what is held, but was not there any more at ``version``."""
        held = [obj["metadata"] for obj in self._view.list(kind)]
        return [each for each in held if each["uid"] not in there and at_most(each["resourceVersion"], version)]

    def _behind_of(self, kind: str, there: Metadata) -> list[Mapping[str, Any]]:
        """Metadata of what the view does not know, or knows an older state of."""
        return [each for each in there.values() if not self._view.knows(kind, each)]
