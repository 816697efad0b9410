"""Analysis of a canary: what measurements count as, what they add up to, and when the next is due."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelfleet.api.canary import Analysis, AnalysisMetric
from modelfleet.plan import conditions
from modelfleet.plan.installation import Installation
from modelfleet.plan.traffic import analysis
from modelfleet.plan.traffic.analysis import Measurement, Run, Standing

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RUN = Run("7be1c0ffee", 1, NOW)
HOUR = timedelta(hours=1)
NAN = float("nan")
ERROR = "no answer in time"


def metric(name: str = "errors", query: str = 'rate(x{revision="{{revision}}"}[1m])', **bounds: str) -> dict[str, Any]:
    source = {"address": "http://prometheus:9090", "query": query}
    return {"name": name, "prometheus": source, **(bounds or {"max": "0.01"})}


def spec(*metrics: dict[str, Any], **fields: Any) -> Analysis:
    limits = {"failureLimit": 1, "inconclusiveLimit": 1, "consecutiveErrorLimit": 1, "initialDelay": "60s"}
    return Analysis.model_validate({**limits, "interval": "30s", "metrics": list(metrics) or [metric()], **fields})


def measured(*values: float | str | None, of: Analysis | None = None) -> analysis.Verdict:
    """The verdict after these measurements of one metric, one an interval; a text is an error."""
    verdict = analysis.judge(of or spec(), [], RUN, {})
    for index, value in enumerate(values):
        at = NOW + timedelta(seconds=60 + 30 * index)
        result = Measurement(RUN, at, error=value) if isinstance(value, str) else Measurement(RUN, at, value)
        verdict = analysis.judge(of or spec(), verdict.entries, RUN, {"errors": result})
    return verdict


@pytest.mark.parametrize(
    ("values", "standing"),
    [
        ([], Standing.OPEN),
        ([0.0], Standing.GOOD),
        ([0.01], Standing.GOOD),
        ([0.010001], Standing.OPEN),
        ([0.5, 0.0], Standing.GOOD),
        ([0.5, 0.5], Standing.FAILED),
        ([0.5, 0.0, 0.0, 0.5], Standing.FAILED),
        ([float("inf"), float("inf")], Standing.FAILED),
        ([None], Standing.OPEN),
        ([None, None], Standing.INCONCLUSIVE),
        ([None, NAN], Standing.INCONCLUSIVE),
        ([None, None, 0.0], Standing.GOOD),
        ([None, 0.0, None], Standing.OPEN),
        ([0.0, None], Standing.OPEN),
        ([ERROR], Standing.OPEN),
        ([ERROR, ERROR], Standing.UNANSWERED),
        ([ERROR, ERROR, 0.0], Standing.GOOD),
        ([ERROR, None], Standing.OPEN),
        ([None, ERROR, None], Standing.INCONCLUSIVE),
        ([0.5, None, None, ERROR, ERROR, 0.5], Standing.FAILED),
        ([None] * 50, Standing.INCONCLUSIVE),
        ([ERROR] * 50, Standing.UNANSWERED),
    ],
)
def test_what_measurements_add_up_to(values: list[float | str | None], standing: Standing) -> None:
    assert measured(*values).standing is standing


def test_neither_a_missing_number_nor_an_error_ever_fails_or_passes_a_step() -> None:
    for values in ([None] * 9, [NAN] * 9, [ERROR] * 9, [None, ERROR] * 9):
        assert measured(*values).standing not in (Standing.FAILED, Standing.GOOD)


def test_what_is_told_names_the_metric_the_number_and_the_bound() -> None:
    assert measured(0.5, 0.5).message == "metric errors is 0.5, required at most 0.01, bad 2 times in this step"
    silent = "metric errors had no number more than 1 times in a row: the query gives NaN"
    assert measured(None, NAN).message == silent
    assert measured(*[NAN] * 9).message == silent, "the same words, so that there is one Event"
    away = "metric errors had no answer more than 1 times in a row: no answer in time"
    assert measured(ERROR, ERROR).message == away
    both = spec(metric(min="1", max="2.5"))
    assert measured(2.0, of=both).message == "metric errors is 2, required at least 1 and at most 2.5"


@pytest.mark.parametrize(
    ("bounds", "good", "bad"),
    [
        ({"max": "0.1"}, [0.1, -1.0], [0.1000001, float("inf")]),
        ({"min": "0.99"}, [0.99, float("inf")], [0.98, float("-inf")]),
        ({"min": "1e-3", "max": "0.3"}, [0.001, 0.3], [0.0009, 0.30000000000000004]),
    ],
)
def test_bounds_are_met_as_they_are_written(bounds: dict[str, str], good: list[float], bad: list[float]) -> None:
    chosen = spec(metric(**bounds))
    assert [measured(each, of=chosen).entries[0]["result"] for each in good] == ["Successful"] * len(good)
    assert [measured(each, of=chosen).entries[0]["result"] for each in bad] == ["Failed"] * len(bad)


def test_the_worst_metric_decides() -> None:
    chosen = spec(metric("a"), metric("b"), metric("c"))
    at = NOW + timedelta(seconds=60)
    results = {"a": Measurement(RUN, at, 0.0), "b": Measurement(RUN, at, 0.5), "c": Measurement(RUN, at)}
    first = analysis.judge(chosen, [], RUN, results)
    assert first.standing is Standing.OPEN
    later = {name: Measurement(RUN, at + timedelta(seconds=30), each.value) for name, each in results.items()}
    second = analysis.judge(chosen, first.entries, RUN, later)
    assert (second.standing, second.message[:8]) == (Standing.FAILED, "metric b")


def test_a_measurement_is_counted_once_however_often_it_is_handed_in() -> None:
    result = {"errors": Measurement(RUN, NOW + timedelta(seconds=60, milliseconds=700), 0.5)}
    verdict = analysis.judge(spec(), [], RUN, result)
    for _ in range(3):
        verdict = analysis.judge(spec(), verdict.entries, RUN, result)
    assert verdict.entries[0]["failures"] == 1


@pytest.mark.parametrize("run", [Run("aaaa", 1, NOW), Run("7be1c0ffee", 2, NOW), Run("7be1c0ffee", 1, NOW - HOUR)])
def test_a_measurement_of_another_step_is_not_counted(run: Run) -> None:
    result = Measurement(run, NOW + timedelta(seconds=60), 0.5)
    assert analysis.judge(spec(), [], RUN, {"errors": result}).entries == []


def test_the_first_measurement_waits_for_the_delay_and_the_next_for_the_interval() -> None:
    def asked(entries: list[dict[str, Any]], seconds: float) -> list[str]:
        now = NOW + timedelta(seconds=seconds)
        return [each.metric for each in analysis.questions(spec(), entries, RUN, "vision", "line", now)]

    assert asked([], 59) == []
    assert asked([], 60) == ["errors"]
    assert analysis.judge(spec(), [], RUN, {}).next_at == NOW + timedelta(seconds=60)
    verdict = measured(0.0)
    assert verdict.next_at == NOW + timedelta(seconds=90)
    assert asked(verdict.entries, 89) == []
    assert asked(verdict.entries, 90) == ["errors"]


def test_what_has_failed_is_asked_nothing_more() -> None:
    verdict = measured(0.5, 0.5)
    later = NOW + timedelta(days=1)
    assert verdict.next_at is None
    assert analysis.questions(spec(), verdict.entries, RUN, "vision", "line", later) == []


def test_placeholders_are_filled_in_and_values_that_are_no_plain_names_refused() -> None:
    query = AnalysisMetric.model_validate(metric(query='x{a="{{revision}}-{{namespace}}/{{name}}"}'))
    assert analysis.filled_in(query, "7be1", "vision", "line-a") == 'x{a="7be1-vision/line-a"}'
    for bad in ('a"} or vector(0) #', "A", "", "a\n", "{{name}}"):
        with pytest.raises(ValueError, match="cannot be a part of a query"):
            analysis.filled_in(query, "7be1", bad, "line-a")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("http://prometheus:9090", True),
        ("http://prometheus:9090/", True),
        ("http://prometheus:9090/other", False),
        ("https://prometheus:9090", False),
        ("http://prometheus", False),
        ("http://prometheus.evil.example:9090", False),
    ],
)
def test_only_addresses_of_the_installation_are_asked(address: str, allowed: bool) -> None:
    installation = Installation("i", "n", "image", prometheus_addresses=("http://prometheus:9090",))
    source = {"address": address, "query": "1"}
    chosen = spec({**metric(), "prometheus": source})
    assert analysis.forbidden_address(chosen, installation) == ("" if allowed else address)
    assert analysis.forbidden_address(None, installation) == ""


def test_the_largest_entries_stay_small() -> None:
    chosen = spec(*(metric(f"{index:02}-{'m' * 27}") for index in range(10)))
    at = NOW + timedelta(seconds=60)
    verdict = analysis.judge(
        chosen, [], RUN, {each.name: Measurement(RUN, at, error="e" * 9000) for each in chosen.metrics}
    )
    assert len(str(verdict.entries)) < 4000
    assert conditions.parse_timestamp(verdict.entries[0]["lastRunAt"]) == at
