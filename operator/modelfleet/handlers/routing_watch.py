"""The watch streams of the kinds that route requests, which are there only where Istio or the Gateway API is.

Kopf looks for its resources once, when it starts. So the API server is asked now and then what it serves, and the
streams of these kinds are started anew, in a thread of their own, when that has changed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

from modelfleet.cluster import discovery
from modelfleet.cluster.connection import Connection
from modelfleet.cluster.errors import ClusterError
from modelfleet.cluster.streams import Sink
from modelfleet.cluster.sync import Synchronizer
from modelfleet.cluster.view import View
from modelfleet.handlers.watch import WatchThread

LOOK_SECONDS: Final = 5.0
"""Between two questions: at most two requests each, answered by the API server from its memory."""

logger = logging.getLogger(__name__)


class RoutingWatch:
    """Keeps the routing kinds in the view as long as they are served."""

    def __init__(
        self,
        connection: Connection,
        view: View,
        sync: Synchronizer,
        sink: Sink,
        kinds: Iterable[str],
        changed: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._view = view
        self._sync = sync
        self._sink = sink
        self._kinds = tuple(kinds)
        self._changed = changed
        self._watch: WatchThread | None = None
        self._problem = ""

    async def run(self) -> None:
        """Look and follow until cancelled."""
        try:
            while self._kinds:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if self._watch is not None:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._watch.stop()

    async def look(self) -> None:
        """Bring the view into line with what is served now."""
        try:
            found = await discovery.served(self._connection, self._kinds)
            # None is there, too, where beginning anew failed half-way.
            ended = self._watch is None or self._watch.ended.done()
            if found != self._view.routing_kinds or (found and ended):
                await self._follow(found)
        except ClusterError as error:
            if str(error) != self._problem:
                logger.warning("Looking for routing kinds: %s; tried again", error)
            self._problem = str(error)
        else:
            self._problem = ""

    async def _follow(self, kinds: frozenset[str]) -> None:
        if self._watch is not None:
            watch, self._watch = self._watch, None
            await watch.stop()
        self._view.hold(kinds & self._view.routing_kinds)
        for kind in sorted(kinds):
            await self._sync.list_one(kind)
        self._view.hold(kinds)
        if kinds:
            self._watch = WatchThread(self._sink, sorted(kinds))
            self._watch.start()
        logger.info("Routing kinds that are served: %s", ", ".join(sorted(kinds)) or "none")
        self._changed()
