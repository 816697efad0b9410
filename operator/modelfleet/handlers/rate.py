"""How often something may happen, for each of many: a bucket each that fills at a steady rate."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

_REMEMBERED: Final = 20_000


class Rate:
    """Lets each key through ``burst`` times at once, and then ``per_second`` times a second."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allows(self, key: Hashable) -> bool:
        """Whether it may happen now; then it counts."""
        now = self._clock()
        left, since = self._left.get(key, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._per_second)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, now)
        self._left.move_to_end(key)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return allowed
