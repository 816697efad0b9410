"""The gate: what a training job's metrics must be before a version is registered.

A rule is a threshold, or a comparison with the version that is online. Numbers are compared as the decimal strings
they were written as: 0.92 is 0.92, not the nearest binary fraction.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import semver

from modelfleet.api.training_job import Comparison, GateRule

_COMPARISONS: Final[Mapping[Comparison, Callable[[Decimal, Decimal], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Baseline:
    """A version that is online, and what it was measured to be."""

    name: str
    """Name of its ModelVersion."""
    version: str
    metrics: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """How the metrics did against one rule."""

    metric: str
    value: str | None
    """As it was reported; ``None``: it was not."""
    required: str
    passed: bool
    baseline: str | None = None
    """ModelVersion it was compared with."""
    message: str = ""
    """What the verdict rests on, where the values do not say it."""

    def status(self) -> dict[str, Any]:
        """As ``status.gate`` lists it."""
        return {
            "metric": self.metric,
            "value": self.value,
            "required": self.required,
            "passed": self.passed,
            "baseline": self.baseline,
            "message": self.message or None,
        }

    def __str__(self) -> str:
        """What a person is told."""
        if self.value is None:
            return f"metric {self.metric} was not reported as a finite number, required {self.required}"
        told = f"metric {self.metric} is {self.value}, required {self.required}"
        return f"{told} ({self.message})" if self.message else told


def judge(rules: Iterable[GateRule], metrics: Mapping[str, str], baselines: Iterable[Baseline] = ()) -> list[Verdict]:
    """A verdict a rule. A metric that is missing, or no finite number, fails its rule."""
    baselines = list(baselines)
    return [
        _against_threshold(rule.metric, rule.comparison, rule.value, metrics.get(rule.metric))
        if rule.comparison is not None and rule.value is not None
        else _against_baseline(rule, metrics.get(rule.metric), baselines)
        for rule in rules
    ]


def online(model: str, versions: Iterable[Mapping[str, Any]]) -> list[Baseline]:
    """The versions of the model that serve, by the stage that ModelVersions state of themselves."""
    return [
        Baseline(each["metadata"]["name"], each["spec"]["version"], each["spec"].get("metrics") or {})
        for each in versions
        if each["spec"]["model"] == model and (each.get("status") or {}).get("stage") == "Online"
    ]


def recorded(status: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    """The verdicts that a status holds: once written they stand, whatever is online later."""
    return [
        Verdict(
            each["metric"],
            each.get("value"),
            each["required"],
            each["passed"],
            each.get("baseline"),
            each.get("message") or "",
        )
        for each in status
    ]


def needs_baseline(rules: Iterable[GateRule]) -> bool:
    """Whether a verdict depends on what is online."""
    return any(rule.baseline is not None for rule in rules)


def finite(text: str) -> Decimal | None:
    """The number; ``None`` for NaN, an infinity, or what is no number at all."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _against_threshold(metric: str, comparison: Comparison, threshold: str, value: str | None) -> Verdict:
    required = f"{comparison} {threshold}"
    number = finite(value) if value is not None else None
    if number is None:
        return Verdict(metric, None, required, passed=False)
    return Verdict(metric, value, required, _COMPARISONS[comparison](number, Decimal(threshold)))


def _against_baseline(rule: GateRule, value: str | None, baselines: Sequence[Baseline]) -> Verdict:
    best = _best(rule, baselines)
    number = finite(value) if value is not None else None
    allowed = Decimal(rule.max_regression or "0")
    if best is None:
        required = "no worse than the version online"
        if number is None:
            return Verdict(rule.metric, None, required, passed=False)
        passed = (rule.when_no_baseline or "Pass") == "Pass"
        names = ", ".join(each.name for each in baselines[:3])
        which = f"{names} is online, without this metric" if names else "no version is online"
        message = f"{which}; whenNoBaseline: {'Pass' if passed else 'Fail'}"
        return Verdict(rule.metric, value, required, passed, message=message)
    name, theirs = best
    maximize = rule.direction == "Maximize"
    bound = theirs - allowed if maximize else theirs + allowed
    required = f"{'>=' if maximize else '<='} {bound}"
    message = f"{name} is online with {theirs}, maxRegression {allowed}"
    if number is None:
        return Verdict(rule.metric, None, required, passed=False, baseline=name, message=message)
    passed = number >= bound if maximize else number <= bound
    return Verdict(rule.metric, value, required, passed, name, message)


def _best(rule: GateRule, baselines: Sequence[Baseline]) -> tuple[str, Decimal] | None:
    """The strictest of what is online: a fleet in the middle of a rollout has two; of equals, the higher version."""
    sign = 1 if rule.direction == "Maximize" else -1
    known = [
        (sign * number, semver.Version.parse(each.version), each.name, number)
        for each in baselines
        if rule.metric in each.metrics and (number := finite(each.metrics[rule.metric])) is not None
    ]
    if not known:
        return None
    _, _, name, number = max(known)
    return name, number
