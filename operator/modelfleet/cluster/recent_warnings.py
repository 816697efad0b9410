"""What Warning Events lately told about objects.

Events are not watched: a fleet that moves makes them by the ten thousand. A list of them costs the API server a scan of
all that the namespace has, whatever it selects. So those about all objects of the namespace are asked for at once, and
held for a moment; only where there are more than one answer takes, object by object.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from modelfleet.plan.outcome import RawObject

FRESH_SECONDS: Final = 10.0
"""For how long what Events told is not asked again; shorter than the pauses between looks at what does not start."""

CROWDED_SECONDS: Final = 300.0
"""For how long a namespace with too many is asked object by object."""

KEPT: Final = 10
"""Of those about an object."""

Subject = tuple[str, str]
"""Kind and name."""

Ask = Callable[[str, str], Awaitable[tuple[list[RawObject], bool]]]
"""The Events (events.k8s.io/v1) of a namespace that a field selector matches, and whether that is all of them."""


class RecentWarnings:
    """The latest few about each object, up to :data:`FRESH_SECONDS` old."""

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._told: dict[str, tuple[float, dict[Subject, list[RawObject]]]] = {}
        self._told_singly: dict[tuple[str, Subject], tuple[float, list[RawObject]]] = {}
        self._crowded: dict[str, float] = {}

    async def about(self, namespace: str, kind: str, name: str) -> list[RawObject]:
        """The latest first; raises :class:`~modelfleet.cluster.errors.ApiError`."""
        # Of all that wonder at the same time, one asks.
        async with self._asking[namespace]:
            return await self._about(namespace, (kind, name))

    async def _about(self, namespace: str, subject: Subject) -> list[RawObject]:
        now = self._clock()
        self._told = _fresh(self._told, now)
        if namespace not in self._told and now >= self._crowded.get(namespace, now):
            events, complete = await self._ask(namespace, "type=Warning")
            if complete:
                self._told[namespace] = now, _by_subject(events)
            else:
                self._crowded[namespace] = now + CROWDED_SECONDS
        if namespace in self._told:
            return self._told[namespace][1].get(subject, [])
        return await self._about_one(namespace, subject, now)

    async def _about_one(self, namespace: str, subject: Subject, now: float) -> list[RawObject]:
        self._told_singly = _fresh(self._told_singly, now)
        if (namespace, subject) not in self._told_singly:
            kind, name = subject
            events, _ = await self._ask(namespace, f"type=Warning,regarding.kind={kind},regarding.name={name}")
            self._told_singly[namespace, subject] = now, _by_subject(events).get(subject, [])
        return self._told_singly[namespace, subject][1]


def _fresh(told: Mapping[Any, tuple[float, Any]], now: float) -> dict[Any, tuple[float, Any]]:
    return {key: held for key, held in told.items() if now - held[0] < FRESH_SECONDS}


def _by_subject(events: list[RawObject]) -> dict[Subject, list[RawObject]]:
    found: defaultdict[Subject, list[RawObject]] = defaultdict(list)
    for event in sorted(events, key=_last_seen, reverse=True):
        regarding = event.get("regarding") or {}
        about = found[regarding.get("kind", ""), regarding.get("name", "")]
        if len(about) < KEPT:
            about.append(event)
    return dict(found)


def _last_seen(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime") or "")
