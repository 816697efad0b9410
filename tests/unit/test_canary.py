"""The canary's state machine: a table of what each situation leads to, and whole runs with interruptions anywhere."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api.canary import Canary, CanaryStatus
from modelfleet.plan import conditions
from modelfleet.plan.edge.commands import Orders
from modelfleet.plan.traffic import canary, canary_state
from modelfleet.plan.traffic.analysis import Measurement
from modelfleet.plan.traffic.canary_state import Backends, Decision, ReplicasPool, Situation, Split

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, NEW, THIRD = "5d9c000000", "7be1000000", "aaaa000000"
STEPS = [{"weight": 0, "pause": "Manual"}, {"weight": 5, "pause": "10m"}, {"weight": 50, "pause": "10m"}]
HEADER = {"name": "x-version", "value": "v2"}
ERRORS = {"name": "errors", "prometheus": {"address": "http://p:9090", "query": "up"}, "max": "0.01"}
ANALYSIS = {"interval": "30s", "failureLimit": 0, "inconclusiveLimit": 0, "metrics": [ERRORS]}


def spec(**fields: Any) -> Canary:
    return Canary.model_validate({"header": HEADER, "steps": STEPS, **fields})


class Bench:
    """A rollout from OLD to NEW with one routed pool of four replicas, whose pods and routing the test plays."""

    def __init__(self, chosen: Canary | None, total: int = 4, **fields: Any) -> None:
        self.spec = chosen
        self.total = total
        self.status: Mapping[str, Any] = {}
        self.stable = self.ready = 0
        self.stable = total
        self.route = Split()
        self.target = NEW
        self.old = OLD
        self.last = ""
        self.attempt = 1
        self.now = NOW
        self.first_wave_passed = True
        self.paused = False
        self.accepts = True
        self.measured: dict[str, Measurement] = {}
        self.__dict__.update(fields)

    def decide(self) -> Decision:
        pools = [ReplicasPool(self.total, self.stable, self.ready)]
        return canary.decide(
            Situation(
                spec=self.spec,
                before=self.status,
                stable=self.old,
                target=self.target,
                orders=Orders(NEW, self.attempt, last=self.last),
                backends=Backends(pools),
                first_wave_passed=self.first_wave_passed,
                paused=self.paused,
                annotate="kubectl annotate -n vision ed line",
                accepted=lambda split: self.accepts and split == self.route,
                measured=self.measured,
                now=self.now,
            )
        )

    def step(self, *, write_route: bool = True, write_status: bool = True) -> Decision:
        """Decide, carry out (or a part of it), and let the pods come up that are asked for."""
        decision = self.decide()
        if decision.demand is not None:
            self.ready = max(self.ready, canary_state.share(self.total, decision.demand))
        if write_route:
            self.route = decision.split
            if write_status:
                self.status = dict(decision.status or {})
        if self.status:
            CanaryStatus.model_validate(self.status)
        return decision

    def settle(self) -> Decision:
        """Steps until nothing changes any more without time."""
        for _ in range(12):
            before = (self.route, self.status, self.ready)
            decision = self.step()
            if (self.route, self.status, self.ready) == before:
                return decision
        raise AssertionError("it never comes to rest")

    def wait(self, **times: float) -> Decision:
        self.now += timedelta(**times)
        return self.settle()

    def promote(self, scope: str) -> Decision:
        self.last = f"promote {NEW}/{self.attempt}/{scope}"
        return self.settle()

    def measure(self, value: float | None, error: str = "") -> Decision:
        self.now += timedelta(seconds=30)
        run = canary_state.running(self.status)
        assert run is not None
        self.measured = {"errors": Measurement(run, self.now, value, error)}
        return self.settle()


def test_before_the_first_wave_has_passed_nothing_is_routed_to_the_new_version() -> None:
    bench = Bench(spec(), first_wave_passed=False, ready=1)
    assert bench.settle() == Decision(keeps_stable=True, promotable=False)


def test_a_whole_run_goes_through_header_and_weights_to_all_requests() -> None:
    bench = Bench(spec())
    decision = bench.settle()
    assert (bench.route, bench.ready) == (Split(0, header=True), 1)
    assert decision.pause is not None
    assert decision.pause.message == (
        "canary step 0, weight 0%, is in force; to go on: kubectl annotate -n vision ed line"
        f" --overwrite modelfleet.dev/promote={NEW}/1/0"
    )
    assert bench.wait(days=3).pause is not None
    decision = bench.promote("0")
    assert (bench.route, bench.ready, decision.pause) == (Split(5, header=True), 1, None)
    assert decision.look_again == bench.now + timedelta(minutes=10)
    assert decision.message == "canary step 1 of 3, weight 5%, until 2026-11-24T12:10:00Z"
    bench.wait(minutes=9, seconds=59)
    assert bench.route == Split(5, header=True)
    decision = bench.wait(seconds=1)
    assert (bench.route, bench.ready, decision.holds_waves) == (Split(50, header=True), 2, True)
    assert not decision.promotable
    decision = bench.wait(minutes=10)
    assert (bench.route, bench.ready) == (Split(100, header=True), 4)
    assert (decision.promotable, decision.holds_waves, decision.keeps_stable) == (True, False, False)
    assert (decision.lingers, bench.wait(seconds=30).lingers) == (True, False)
    bench.old = NEW
    assert bench.settle() == Decision()
    assert bench.status == {}


def test_requests_go_nowhere_before_the_pods_for_them_are_ready() -> None:
    bench = Bench(spec(steps=[{"weight": 50, "pause": "10m"}]))
    for ready, route in ((0, Split()), (1, Split()), (2, Split(50, header=True))):
        bench.ready = ready
        decision = bench.decide()
        assert decision.demand == 50
        bench.route, bench.status = decision.split, dict(decision.status or {})
        assert bench.route == route
        assert ("stepStartedAt" in bench.status) is False
    assert "waits for its pods" not in bench.decide().message


def test_a_step_begins_when_its_routing_is_accepted() -> None:
    bench = Bench(spec(steps=[{"weight": 5, "pause": "10m"}]), accepts=False)
    decision = bench.settle()
    assert decision.message == "canary step 0 of 1, weight 5%: waits until its routing is in force"
    assert decision.look_again == bench.now + canary_state.LOOK_AGAIN
    bench.wait(hours=1)
    assert "stepStartedAt" not in bench.status
    bench.accepts = True
    bench.wait(seconds=5)
    assert bench.status["stepStartedAt"] == conditions.timestamp(bench.now)


def test_a_step_does_not_end_while_its_routing_is_not_in_force() -> None:
    bench = Bench(spec(steps=[{"weight": 5, "pause": "10m"}, {"weight": 50, "pause": "10m"}]))
    bench.settle()
    bench.accepts = False
    bench.wait(hours=1)
    assert bench.route == Split(5, header=True)
    bench.accepts = True
    bench.wait(seconds=5)
    assert bench.route == Split(50, header=True)


def test_with_no_pod_of_the_new_version_left_only_the_header_leads_to_it() -> None:
    bench = Bench(spec(steps=[{"weight": 50, "pause": "10m"}]))
    bench.settle()
    bench.ready = 0
    assert bench.decide().split == Split(0, header=True)
    bench.ready = 1
    assert bench.decide().split == Split(50, header=True), "what is left of them is better than none"


def test_copies_of_requests_go_along_until_all_requests_do() -> None:
    bench = Bench(spec(mirror={"percentage": 80}, steps=[{"weight": 0, "pause": "10m"}, {"weight": 5}]))
    bench.settle()
    assert (bench.route, bench.ready) == (Split(0, header=True, mirror=80), 4)
    bench.wait(minutes=10)
    assert bench.route == Split(100, header=True)


def test_full_promotion_leaves_out_all_steps() -> None:
    bench = Bench(spec())
    bench.settle()
    assert bench.promote("full").promotable
    assert (bench.route, bench.ready) == (Split(100, header=True), 4)


def test_a_stale_promotion_is_inert() -> None:
    bench = Bench(spec(steps=[STEPS[0], STEPS[0]]))
    bench.settle()
    bench.promote("0")
    decision = bench.settle()
    assert bench.status["stepIndex"] == 1
    assert decision.pause is not None


def test_paused_it_stays_as_it_is() -> None:
    bench = Bench(spec(steps=[{"weight": 5, "pause": "10m"}, {"weight": 50}]))
    bench.settle()
    bench.paused = True
    bench.wait(hours=1)
    assert bench.route == Split(5, header=True)
    bench.paused = False
    bench.settle()
    assert bench.route == Split(100, header=True)


def test_going_back_takes_header_and_weight_away() -> None:
    bench = Bench(spec(steps=[{"weight": 50, "pause": "Manual"}]))
    bench.settle()
    bench.target = OLD
    bench.accepts = False
    decision = bench.settle()
    assert (bench.route, decision.message) == (Split(), "requests go back to the stable version")
    assert bench.wait(hours=1).status is not None, "as long as a proxy may still route to it"
    bench.accepts = True
    decision = bench.settle()
    assert (decision.lingers, decision.look_again) == (True, bench.now + canary_state.LINGER)
    assert bench.wait(seconds=29).lingers
    assert bench.wait(seconds=1) == Decision()
    assert bench.status == {}


def test_after_promotion_requests_go_back_only_to_pods_that_are_there() -> None:
    bench = Bench(spec(steps=[{"weight": 50}]))
    bench.settle()
    bench.stable = 0
    bench.target = OLD
    for stable in (0, 1, 3):
        bench.stable = stable
        decision = bench.settle()
        assert (bench.route, decision.keeps_stable) == (Split(100, header=True), True)
    bench.stable = 4
    bench.settle()
    assert bench.route == Split()


def test_a_third_version_takes_the_requests_from_the_second_first() -> None:
    bench = Bench(spec(steps=[{"weight": 50, "pause": "Manual"}]))
    bench.settle()
    bench.target = THIRD
    decision = bench.decide()
    assert (decision.split, decision.holds_waves) == (Split(), True)
    bench.first_wave_passed = False
    assert not bench.decide().holds_waves, "the third version's first wave need not wait"
    bench.first_wave_passed = True
    bench.ready = 0
    bench.settle()
    bench.wait(seconds=30)
    assert bench.status["revision"] == THIRD
    assert bench.route == Split(50, header=True)


def test_a_retry_begins_the_step_anew() -> None:
    bench = Bench(spec(steps=[{"weight": 5, "pause": "Manual"}], analysis=ANALYSIS))
    bench.settle()
    assert bench.measure(0.5).failure is not None
    bench.attempt, bench.measured = 2, {}
    assert bench.settle().failure is None
    assert bench.status["stepStartedAt"] == conditions.timestamp(bench.now)
    assert bench.route == Split(5, header=True)


def test_without_a_canary_all_requests_move_when_all_pods_are_there() -> None:
    bench = Bench(None)
    for ready in range(4):
        bench.ready = ready
        decision = bench.settle()
        assert (bench.route, bench.status, decision.keeps_stable, decision.promotable) == (Split(), {}, True, False)
    bench.ready = 4
    assert bench.settle().promotable
    assert bench.route == Split(100)


def test_a_canary_in_mid_rollout_may_be_taken_away() -> None:
    bench = Bench(spec(steps=[{"weight": 50, "pause": "Manual"}]))
    bench.settle()
    bench.spec = None
    decision = bench.settle()
    assert (bench.route, decision.holds_waves) == (Split(50), False)
    bench.ready = 4
    bench.settle()
    assert bench.route == Split(100)


def test_a_pool_without_replicas_holds_nothing_up() -> None:
    bench = Bench(spec(), total=0)
    bench.stable = 0
    assert bench.settle().promotable


def test_without_a_stable_version_there_is_nothing_to_compare_with() -> None:
    assert Bench(spec(), old="").settle() == Decision()


def test_a_status_that_is_lost_late_costs_no_request() -> None:
    bench = Bench(spec(), stable=0, ready=4)
    bench.settle()
    assert bench.route == Split(100)


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [(None, "", "AnalysisInconclusive"), (float("nan"), "", "AnalysisInconclusive"), (None, "away", "AnalysisError")],
)
def test_without_numbers_it_pauses_and_goes_on_when_they_come(value: float | None, error: str, reason: str) -> None:
    limits = {"consecutiveErrorLimit": 0}
    bench = Bench(spec(steps=[{"weight": 5, "pause": "60s"}, {"weight": 50}], analysis={**ANALYSIS, **limits}))
    bench.settle()
    for _ in range(5):
        decision = bench.measure(value, error)
        assert decision.pause is not None
        assert (decision.pause.reason, decision.failure) == (reason, None)
        assert bench.route == Split(5, header=True)
    assert decision.pause.message.endswith(f"--overwrite modelfleet.dev/promote={NEW}/1/0")  # type: ignore[union-attr]
    bench.measure(0.0)
    assert bench.route == Split(50, header=True)


def test_a_bad_number_fails_it_and_a_person_may_let_it_pass() -> None:
    bench = Bench(spec(steps=[{"weight": 5, "pause": "60s"}, {"weight": 50, "pause": "Manual"}], analysis=ANALYSIS))
    bench.settle()
    failure = bench.measure(0.5).failure
    assert failure is not None
    assert failure.reason == "AnalysisFailed"
    assert failure.message == "metric errors is 0.5, required at most 0.01, bad 1 times in this step"
    assert bench.wait(hours=1).failure is not None
    assert bench.promote("0").failure is None
    assert bench.route == Split(50, header=True)


def test_a_step_does_not_pass_without_a_good_measurement() -> None:
    limits = {"failureLimit": 5, "inconclusiveLimit": 5}
    bench = Bench(spec(steps=[{"weight": 5}, {"weight": 50, "pause": "Manual"}], analysis={**ANALYSIS, **limits}))
    bench.settle()
    for value in (None, 0.5, None):
        bench.measure(value)
        assert bench.route == Split(5, header=True)
    bench.measure(0.001)
    assert bench.route == Split(50, header=True)


def test_only_a_step_in_force_is_measured() -> None:
    bench = Bench(spec(analysis=ANALYSIS), accepts=False)
    bench.settle()
    assert canary_state.running(bench.status) is None
    bench.accepts = True
    bench.settle()
    run = canary_state.running(bench.status)
    assert run is not None
    assert (run.revision, run.step, run.started) == (NEW, 0, NOW)
    bench.promote("full")
    assert canary_state.running(bench.status) is None


@given(st.data())
def test_interrupted_anywhere_it_ends_the_same(data: st.DataObject) -> None:
    """Writes may be lost, pods and routing come and go; in the end all requests go to what the spec asks for."""
    bench = Bench(spec(steps=[{"weight": 0}, {"weight": 25, "pause": "10s"}, {"weight": 50, "pause": "10s"}]))
    for _ in range(data.draw(st.integers(1, 30))):
        event = data.draw(st.sampled_from(["step", "cut", "half", "time", "pods", "spec", "accept", "lost", "pause"]))
        if event == "step":
            decision = bench.step()
            assert decision.split.weight in (0, 25, 50, 100)
            if decision.split.weight or decision.split.header:
                assert bench.ready or bench.status["header"] or bench.status["weight"]
        elif event == "cut":
            bench.step(write_route=False)
        elif event == "half":
            bench.step(write_status=False)
        elif event == "time":
            bench.now += timedelta(seconds=data.draw(st.integers(1, 40)))
        elif event == "pods":
            bench.ready = data.draw(st.integers(0, 4))
        elif event == "spec":
            bench.target = data.draw(st.sampled_from([OLD, NEW, THIRD]))
        elif event == "accept":
            bench.accepts = data.draw(st.booleans())
        elif event == "pause":
            bench.paused = data.draw(st.booleans())
        else:
            bench.status = {}
    bench.accepts, bench.paused = True, False
    for _ in range(8):
        decision = bench.wait(seconds=40)
    assert decision.promotable
    assert bench.route == (Split() if bench.target == OLD else Split(100, header=bench.route.header))
