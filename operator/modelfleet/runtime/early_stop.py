"""Early stopping in the pod: evaluations are counted where none is missed, and what the operator asks is kept.

The operator decides (``spec.termination``); it is told the best evaluation of this attempt and how many since were no
better, beside the metrics of a report, and its answer to a report says what is to be done.
"""

import math
import threading
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Literal

from modelfleet.api.wire import BEST_METRIC, WAIT_METRIC, EarlyStopOrder

Action = Literal["Finish", "Yield"]


class Told:
    """What the operator asks of this training. Answers come in on another thread."""

    def __init__(self, *, finish: bool = False) -> None:
        self._finish = threading.Event()
        self._give_way = threading.Event()
        if finish:
            self._finish.set()

    def hear(self, action: object) -> None:
        """Take in an answer; one that is not known is from a newer operator, and passed over."""
        if action == "Finish":
            self._finish.set()
        elif action == "Yield":
            self._give_way.set()

    @property
    def finish(self) -> bool:
        """End with the best results so far."""
        return self._finish.is_set()

    @property
    def give_way(self) -> bool:
        """Save a checkpoint and end."""
        return self._give_way.is_set()


class Evaluations:
    """The evaluations of this attempt."""

    def __init__(self, order: EarlyStopOrder | None) -> None:
        self._order = order
        self._best: Decimal | None = None
        self._since = 0

    def counted(self, metrics: Mapping[str, str]) -> dict[str, str]:
        """The metrics to report along with these, which are those of one evaluation where the metric is among them."""
        if self._order is None or self._order.metric not in metrics:
            return {}
        number = _finite(metrics[self._order.metric])
        if number is not None and self._is_better(number, self._order):
            self._best, self._since = number, 0
        else:
            self._since += 1
        return {} if self._best is None else {BEST_METRIC: str(self._best), WAIT_METRIC: str(self._since)}

    def _is_better(self, number: Decimal, order: EarlyStopOrder) -> bool:
        if self._best is None:
            return True
        gain = number - self._best if order.maximize else self._best - number
        return gain > Decimal(order.min_delta)


def is_better(score: float, best: float | None, *, maximize: bool) -> bool:
    """Whether a checkpoint of this score is better than the best one; NaN never is."""
    if math.isnan(score):
        return False
    return best is None or (score > best if maximize else score < best)


def _finite(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
