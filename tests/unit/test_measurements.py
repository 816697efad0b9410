"""Measuring beside the reconciles: what is asked, how often, and who is woken."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelfleet.cluster.prometheus import PrometheusError
from modelfleet.plan import conditions
from modelfleet.plan.traffic.analysis import Question, Run
from modelfleet.reconcile import measurements
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.measurements import Measurements

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = Key("EdgeDeployment", "vision", "line")
RUN = Run("7be1c0ffee", 0, NOW)
ERRORS, LATENCY = Question("errors", "http://p", "a"), Question("latency", "http://p", "b")


class Bench:
    def __init__(self) -> None:
        self.answers: dict[str, float | PrometheusError | None] = {"a": 0.5, "b": None}
        self.asked: list[str] = []
        self.woken: list[Key] = []
        self.observed: list[str] = []
        self.gate = asyncio.Event()
        self.most = self.running = 0
        self.measurements = Measurements(self._query, self.woken.append, lambda: NOW, self.observed.append)

    async def _query(self, _: str, query: str) -> float | None:
        self.asked.append(query)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        answer = self.answers.get(query)
        if isinstance(answer, PrometheusError):
            raise answer
        return answer

    async def finish(self) -> None:
        self.gate.set()
        for _ in range(100):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.measurements.close()


async def test_what_is_due_together_comes_in_together_and_wakes_once(bench: Bench) -> None:
    taken = bench.measurements.take
    assert taken(KEY, RUN, [ERRORS, LATENCY]) == {}
    assert taken(KEY, RUN, [ERRORS, LATENCY]) == {}
    await bench.finish()
    assert bench.woken == [KEY]
    results = taken(KEY, RUN, [ERRORS, LATENCY])
    assert {name: result.value for name, result in results.items()} == {"errors": 0.5, "latency": None}
    assert all(result.run == RUN and result.at == NOW for result in results.values())
    assert taken(KEY, RUN, [ERRORS, LATENCY]) == results, "kept until they were counted"
    assert sorted(bench.asked) == ["a", "b"]
    assert bench.observed == ["ok", "ok"]
    assert taken(KEY, RUN, []) == {}
    assert taken(KEY, RUN, [ERRORS]) == {}, "due again: asked again"


async def test_what_was_counted_is_measured_anew_though_it_was_due_again_at_once(bench: Bench) -> None:
    bench.measurements.take(KEY, RUN, [ERRORS])
    await bench.finish()
    assert bench.measurements.take(KEY, RUN, [ERRORS])["errors"].value == 0.5
    later = replace(ERRORS, counted=conditions.timestamp(NOW))
    assert bench.measurements.take(KEY, RUN, [later]) == {}
    await bench.finish()
    assert bench.asked == ["a", "a"]


async def test_an_error_is_a_result_too(bench: Bench) -> None:
    bench.answers["a"] = PrometheusError("no answer in time")
    bench.measurements.take(KEY, RUN, [ERRORS])
    await bench.finish()
    assert bench.measurements.take(KEY, RUN, [ERRORS])["errors"].error == "no answer in time"
    assert bench.observed == ["error"]


@pytest.mark.parametrize("other", [None, Run("7be1c0ffee", 1, NOW), Run("other", 0, NOW)])
async def test_another_step_has_nothing_of_this_one(bench: Bench, other: Run | None) -> None:
    bench.measurements.take(KEY, RUN, [ERRORS])
    await asyncio.sleep(0)
    assert bench.running == 1
    assert bench.measurements.take(KEY, other, []) == {}
    await bench.finish()
    assert bench.woken == []
    assert bench.measurements.take(KEY, other, [ERRORS] if other else []) == {}


async def test_queries_in_flight_are_bounded_over_all_objects(bench: Bench) -> None:
    for number in range(3 * measurements.AT_ONCE):
        bench.measurements.take(Key("EdgeDeployment", "vision", f"line-{number}"), RUN, [ERRORS])
    await asyncio.sleep(0.01)
    assert bench.running == measurements.AT_ONCE
    await bench.finish()
    assert bench.most == measurements.AT_ONCE
    assert len(bench.woken) == 3 * measurements.AT_ONCE


async def test_after_close_nothing_runs(bench: Bench) -> None:
    bench.measurements.take(KEY, RUN, [ERRORS])
    await asyncio.sleep(0)
    await bench.measurements.close()
    assert bench.running == 0
    assert bench.woken == []
