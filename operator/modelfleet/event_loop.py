"""The event loops the operator runs on: asyncio's own, which wake at most so often for what arrives.

An API server answers and tells hundreds of times a second, little each time, and whoever wakes for each finds its
caches cold: that costs more than what there is to do. So what arrives soon after the last is gathered and handled
together, as network cards do (``coalesce`` in ethtool(8)). After a moment's silence nothing waits.
"""

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

GATHER_SECONDS: Final = 0.03
"""At least as far apart are two wake-ups by what arrives. Timers may be late by as much."""

Result = TypeVar("Result")
_Ready = list[tuple[selectors.SelectorKey, int]]


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """As :func:`asyncio.run`; in the main thread or in another."""
    with asyncio.Runner(loop_factory=GatheringLoop) as runner:
        return runner.run(main)


@contextlib.contextmanager
def without_gathering() -> Iterator[None]:
    """While something long is read: it comes in pieces of what the transport takes in at once, each enough to wake for.

    On any other loop this changes nothing.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, GatheringLoop):
        yield
        return
    loop.selector.hurried += 1
    try:
        yield
    finally:
        loop.selector.hurried -= 1


class GatheringLoop(asyncio.SelectorEventLoop):
    """Asyncio's own loop on a selector that gathers."""

    def __init__(self) -> None:
        self.selector = GatheringSelector()
        super().__init__(self.selector)


class GatheringSelector(selectors.DefaultSelector):
    """Waits on, where the last wake-up was less than :data:`GATHER_SECONDS` ago, so that more is ready at once."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__()
        self._clock = clock
        self._sleep = sleep
        self._next = clock()
        """When it may wake again."""
        self.hurried = 0
        """How many do not want anything to be gathered."""

    def select(self, timeout: float | None = None) -> _Ready:
        """As its parent; who does not want to wait (``timeout`` of 0: there is work to do) does not."""
        ready = super().select(timeout)
        if not ready or timeout == 0 or self.hurried:
            return ready
        early = self._next - self._clock()
        if early > 0:
            self._sleep(early)
            ready = super().select(0)
        self._next = self._clock() + GATHER_SECONDS
        return ready
