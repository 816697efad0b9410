"""What makes training pods find and trust the leader: its certificate, its listening port, the Service's endpoint.

Kept up while this replica leads, and looked at again now and then: whoever deletes the endpoint, or empties the Secret,
has it back. A replica that leads no more goes on listening and says so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from modelfleet.cluster import leader_endpoint, papers
from modelfleet.cluster.certificates import Papers
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.errors import ClusterError
from modelfleet.handlers.progress import ProgressServer
from modelfleet.plan.installation import ProgressServer as Announced
from modelfleet.settings import ProgressSetting

LOOK_SECONDS: Final = 300.0
RETRY_SECONDS: Final = 10.0
TRY_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class ProgressService:
    """The server of this replica, and its place behind the Service while it leads."""

    def __init__(
        self,
        setting: ProgressSetting,
        namespace: str,
        cluster: Cluster,
        server: ProgressServer,
        announce: Callable[[Announced], None],
        now: Callable[[], datetime],
    ) -> None:
        self._setting = setting
        self._namespace = namespace
        self._cluster = cluster
        self._server = server
        self._announce = announce
        self._now = now
        self._papers: Papers | None = None
        self._problem = ""
        self._tried = asyncio.Event()
        self.port = 0
        """Where it listens, once it does."""

    async def run(self) -> None:
        """Take the Service's place and keep it, until cancelled. Without it, pods are made that tell nothing."""
        while True:
            wait = await self._lead() if self._setting.service else LOOK_SECONDS
            self._tried.set()
            await asyncio.sleep(wait)

    async def tried(self) -> None:
        """Return once the first try is over, or takes long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), TRY_SECONDS)

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def _lead(self) -> float:
        """One try; in how many seconds to look again."""
        try:
            problem = await self._claim()
        except (ClusterError, OSError) as error:
            problem = str(error)
        if problem and problem != self._problem:
            logger.warning("Training pods cannot tell their progress: %s", problem)
        self._problem = problem
        return RETRY_SECONDS if problem else LOOK_SECONDS

    async def _claim(self) -> str:
        setting, host = self._setting, f"{self._setting.service}.{self._namespace}.svc"
        names = [host, f"{setting.service}.{self._namespace}", setting.service]
        found = await papers.keep(self._cluster, self._namespace, setting.secret, names, self._now)
        if found is None:
            return f"there is no Secret {self._namespace}/{setting.secret}: it comes with the chart"
        if found != self._papers:
            self._server.use(found)
            self._papers = found
        if not self.port:
            self.port = await self._server.start(setting.host, setting.port)
            logger.info("Training pods tell their progress on port %d", self.port)
        service = await self._cluster.read("Service", self._namespace, setting.service)
        if service is None:
            return f"there is no Service {self._namespace}/{setting.service}: it comes with the chart"
        if await leader_endpoint.claim(self._cluster, service, setting.address, self.port):
            logger.info("Service %s leads here", setting.service)
        port = service["spec"]["ports"][0]["port"]
        self._announce(Announced(f"https://{host}:{port}", found.authorities.decode()))
        return ""
