"""The gate: the thresholds that a training job's metrics must meet before a version is registered.

Numbers are compared as the decimal strings they were written as: 0.92 is 0.92, not the nearest binary fraction.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from modelfleet.api.training_job import Comparison, GateRule

_COMPARISONS: Final[Mapping[Comparison, Callable[[Decimal, Decimal], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Verdict:
    """How the metrics did against one rule."""

    metric: str
    value: str | None
    """As it was reported; ``None``: it was not."""
    required: str
    passed: bool

    def status(self) -> dict[str, Any]:
        """As ``status.gate`` lists it."""
        return {"metric": self.metric, "value": self.value, "required": self.required, "passed": self.passed}

    def __str__(self) -> str:
        """What a person is told."""
        if self.value is None:
            return f"metric {self.metric} was not reported as a finite number, required {self.required}"
        return f"metric {self.metric} is {self.value}, required {self.required}"


def judge(rules: Iterable[GateRule], metrics: Mapping[str, str]) -> list[Verdict]:
    """A verdict a rule. A metric that is missing, or no finite number, fails its rule."""
    return [_verdict(rule, metrics.get(rule.metric)) for rule in rules]


def finite(text: str) -> Decimal | None:
    """The number; ``None`` for NaN, an infinity, or what is no number at all."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _verdict(rule: GateRule, value: str | None) -> Verdict:
    required = f"{rule.comparison} {rule.value}"
    number = finite(value) if value is not None else None
    if number is None:
        return Verdict(rule.metric, None, required, passed=False)
    passed = _COMPARISONS[rule.comparison](number, Decimal(rule.value))
    return Verdict(rule.metric, value, required, passed)
