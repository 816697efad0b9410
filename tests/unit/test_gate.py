"""The gate."""

import pytest

from modelfleet.api.training_job import Comparison, Direction, GateRule
from modelfleet.plan.training import gate
from modelfleet.plan.training.gate import Baseline


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


def against(value: str | None, *online: Baseline, direction: Direction = "Maximize", **fields: str) -> gate.Verdict:
    rule = GateRule.model_validate(
        {"metric": "accuracy", "baseline": "Online", "direction": direction, "maxRegression": "0.005", **fields}
    )
    (verdict,) = gate.judge([rule], {"accuracy": value} if value is not None else {}, online)
    return verdict


def online(value: str | None, version: str = "1.3.0") -> Baseline:
    return Baseline(f"m-{version.replace('.', '-')}", version, {} if value is None else {"accuracy": value})


@pytest.mark.parametrize(
    ("direction", "theirs", "value", "passed"),
    [
        ("Maximize", "0.943", "0.95", True),
        ("Maximize", "0.943", "0.938", True),
        ("Maximize", "0.943", "0.937999999999", False),
        ("Maximize", "-1", "-1.005", True),
        ("Maximize", "-1", "-1.006", False),
        ("Minimize", "11.2", "11.2", True),
        ("Minimize", "11.2", "11.205", True),
        ("Minimize", "11.2", "11.206", False),
        ("Minimize", "0", "1e-3", True),
        ("Maximize", "0.943", "NaN", False),
        ("Minimize", "0.943", "NaN", False),
        ("Minimize", "0.943", "-inf", False),
        ("Maximize", "0.943", None, False),
    ],
)
def test_a_rule_against_the_baseline(direction: Direction, theirs: str, value: str | None, passed: bool) -> None:
    verdict = against(value, online(theirs), direction=direction)
    assert verdict.passed is passed
    assert verdict.baseline == "m-1-3-0"
    assert theirs in verdict.message


def test_without_max_regression_it_may_be_no_worse() -> None:
    rule = GateRule.model_validate({"metric": "accuracy", "baseline": "Online", "direction": "Maximize"})
    assert [gate.judge([rule], {"accuracy": each}, [online("0.9")])[0].passed for each in ("0.9", "0.8999")] == [
        True,
        False,
    ]


@pytest.mark.parametrize("baselines", [(), (online(None),), (online("NaN"),)])
def test_without_a_baseline_the_rule_says_what_then(baselines: tuple[Baseline, ...]) -> None:
    assert against("0.1", *baselines).passed is True
    assert against("0.1", *baselines, whenNoBaseline="Pass").passed is True
    refused = against("0.1", *baselines, whenNoBaseline="Fail")
    assert refused.passed is False
    assert "whenNoBaseline: Fail" in str(refused)
    assert against(None, *baselines).passed is False


@pytest.mark.parametrize(
    ("direction", "strictest"), [("Maximize", "m-1-3-0"), ("Minimize", "m-1-2-0")], ids=["greatest", "least"]
)
def test_of_several_online_the_best_counts(direction: Direction, strictest: str) -> None:
    baselines = [online("0.9", "1.2.0"), online("0.95", "1.3.0"), online(None, "2.0.0")]
    assert against("0.92", *baselines, direction=direction).baseline == strictest


def test_of_equals_the_higher_version_counts() -> None:
    assert against("1", online("0.9", "1.10.0"), online("0.90", "1.9.0")).baseline == "m-1-10-0"


def test_verdicts_are_read_back_as_they_were_recorded() -> None:
    verdicts = [against("0.1", online("0.9")), against(None), against("1")]
    assert gate.recorded(verdict.status() for verdict in verdicts)[:1] == verdicts[:1]
    stored = [{key: value for key, value in each.status().items() if value is not None} for each in verdicts]
    assert gate.recorded(stored) == verdicts


def test_required_fits_the_status_whatever_the_exponents() -> None:
    for theirs in ("1e999", "-1e-999", "123456789012345678901234567890.1", "9.99e-20"):
        assert len(against("1", online(theirs), maxRegression="0.000000000000000000000000001").required) <= 64
