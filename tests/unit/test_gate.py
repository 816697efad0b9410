"""The gate."""

import pytest

from modelfleet.api.training_job import Comparison, GateRule
from modelfleet.plan import gate


@pytest.mark.parametrize(
    ("comparison", "threshold", "value", "passed"),
    [
        (">=", "0.92", "0.92", True),
        (">=", "0.92", "0.9200", True),
        (">=", "0.92", "0.9199999999999999999999", False),
        (">", "0.92", "0.92", False),
        (">", "-1", "-0.5", True),
        ("<=", "12", "1.2e1", True),
        ("<=", "12", "12.000000000000000001", False),
        ("<", "12", "11.99", True),
        ("<", "12", "12", False),
        ("==", "1", "1.0", True),
        ("==", "1", "1.01", False),
        (">=", "0.9", "NaN", False),
        ("<=", "0.9", "NaN", False),
        (">=", "0.9", "Infinity", False),
        (">=", "0.9", "-inf", False),
        (">=", "0.9", "good", False),
    ],
)
def test_a_rule(comparison: Comparison, threshold: str, value: str, passed: bool) -> None:
    rule = GateRule(metric="accuracy", comparison=comparison, value=threshold)
    (verdict,) = gate.judge([rule], {"accuracy": value, "other": "5"})
    assert verdict.passed is passed
    assert verdict.required == f"{comparison} {threshold}"


def test_a_missing_metric_fails_its_rule_by_name() -> None:
    rules = [GateRule(metric=name, comparison=">=", value="0.5") for name in ("accuracy", "recall")]
    verdicts = gate.judge(rules, {"accuracy": "0.6"})
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert "recall was not reported" in str(verdicts[1])
    assert verdicts[1].status()["value"] is None


def test_no_rules_no_verdicts() -> None:
    assert gate.judge([], {"accuracy": "0"}) == []
