"""Leader election by a ``coordination.k8s.io`` Lease: one replica writes, the others stand by.

Why not ``kubernetes.aio.leaderelection``: it (37.0) measures with the wall clock, which a time step moves; writes local
times without a zone and a ``leaseDurationSeconds`` that is a string; overwrites without a resourceVersion of what it
judged; lets an unexpected exception end the election; keeps the Lease when it stops, so that every upgrade waits for
it to expire; and has no way to ask "may I write now?" before each write. This module follows client-go instead:
expiry is judged by how long *we* have seen the record unchanged, on the clock since boot; every write is guarded by
resourceVersion; the Lease is released on stop.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelfleet.cluster.connection import Connection
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.kinds import KINDS
from modelfleet.plan.outcome import RawObject

logger = logging.getLogger(__name__)

KIND = KINDS["Lease"]


@dataclass(frozen=True)
class Timing:
    """Seconds, as client-go names them. A shorter ``renew_deadline`` than ``duration`` is what makes writes safe."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


class Lease:
    """Our candidacy for one Lease. :meth:`remaining` is the fence that every write asks."""

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.identity = identity
        self._connection = connection
        self._path = KIND.path(namespace, name)
        self._collection = KIND.path(namespace)
        self._metadata = {"namespace": namespace, "name": name}
        self._timing = timing
        self._clock = clock or _since_boot
        self._renewed: float | None = None
        self._record: RawObject | None = None
        """The Lease as our last renewal left it; saves a read a renewal."""
        self._seen: tuple[str, float] = ("", 0.0)

    def remaining(self) -> float:
        """Seconds for which we may still write: up to the renew deadline after the last renewal was *sent*.

        Another replica can take the Lease only ``duration`` after it saw that renewal, so it never overlaps.
        """
        if self._renewed is None:
            return 0.0
        return self._renewed + self._timing.renew_deadline - self._clock()

    @property
    def held(self) -> bool:
        """Whether we are the leader."""
        return self.remaining() > 0

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while True:
            if await self._attempt():
                break
            await asyncio.sleep(self._timing.retry_period * random.uniform(1.0, 1.2))  # noqa: S311
        logger.info("%s leads", self.identity)

    async def keep(self) -> None:
        """Renew; returns when the Lease was lost."""
        while self.held:
            await asyncio.sleep(self._timing.retry_period)
            if not await self._attempt():
                logger.warning("The Lease could not be renewed; %.1f s are left", self.remaining())
        self._renewed = self._record = None
        logger.warning("%s leads no more", self.identity)

    async def release(self) -> None:
        """Give the Lease up, so that a standby takes over at once. Nothing is written from here on."""
        if not self.held:
            return
        self._renewed = self._record = None
        try:
            lease = await self._connection.request("GET", self._path, kind=KIND.name, limit=5)
            if lease["spec"].get("holderIdentity") == self.identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._put({**lease, "spec": spec}, limit=5)
        except ApiError as error:
            logger.warning("The Lease could not be released, it expires by itself: %s", error)

    async def _attempt(self) -> bool:
        """Take or renew the Lease if that is ours to do; whether it is ours now."""
        started = self._clock()
        try:
            lease = self._record or await self._read()
            if lease is None:
                self._record = await self._create()
            elif self._may_take(lease):
                self._record = await self._put(self._taken(lease), limit=self._timing.renew_deadline / 2)
            else:
                self._renewed = None
                return False
        except ApiError as error:
            self._record = None
            if error.code != 409:
                logger.warning("Lease: %s", error)
            return False
        self._renewed = started
        return True

    def _may_take(self, lease: RawObject) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self.identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            if not self._seen[0]:
                logger.info("%s stands by, %s leads", self.identity, holder)
            self._seen = (version, self._clock())
        return self._clock() >= self._seen[1] + float(spec.get("leaseDurationSeconds") or self._timing.duration)

    async def _read(self) -> RawObject | None:
        try:
            return await self._connection.request(
                "GET", self._path, kind=KIND.name, limit=self._timing.renew_deadline / 2
            )
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _create(self) -> RawObject:
        lease = {"apiVersion": KIND.api_version, "kind": KIND.name, "metadata": self._metadata, "spec": {}}
        return await self._connection.request(
            "POST", self._collection, kind=KIND.name, body=self._taken(lease), limit=self._timing.renew_deadline / 2
        )

    async def _put(self, lease: RawObject, limit: float) -> RawObject:
        return await self._connection.request("PUT", self._path, kind=KIND.name, body=lease, limit=limit)

    def _taken(self, lease: RawObject) -> dict[str, Any]:
        """The Lease as it reads when it is ours, renewed now."""
        spec = lease.get("spec") or {}
        ours = spec.get("holderIdentity") == self.identity
        now = _now()
        return {
            **lease,
            "spec": {
                **spec,
                "holderIdentity": self.identity,
                "leaseDurationSeconds": max(1, round(self._timing.duration)),
                "acquireTime": spec.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if ours else 1),
            },
        }


def _since_boot() -> float:
    """Seconds that go on while the machine is suspended (where there is such a clock), as the Lease does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _now() -> str:
    """``metav1.MicroTime`` in UTC; for people and tools, no decision is made from it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
