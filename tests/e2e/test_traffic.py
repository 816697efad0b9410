"""Requests that never stop, through a real Envoy under Istio's real control plane, while versions come and go.

What is promised, and asserted here of every single request: none fails; none with the canary's header is answered by
the old version from the moment the status says that the step is in force until its end; none without it is answered by
the new version but for its weight. The operator is killed in the middle, more than once.
"""

import time

import pytest

from e2e.kubectl import is_true
from tests.line import Line
from tests.traffic import HEADER, VALUE

PROVIDERS = ("Istio", "GatewayAPI", "routeRef")


@pytest.mark.parametrize("line", PROVIDERS, indirect=True)
def test_no_request_fails_or_goes_astray_in_a_rollout_an_abort_and_kills(line: Line) -> None:
    weights = [0] if line.provider == "routeRef" else [0, 30]
    steps = [{"weight": weight, "pause": "Manual"} for weight in weights]
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        line.register(version)
    line.deploy("1.0.0", canary={"header": {"name": HEADER, "value": VALUE}, "steps": steps})
    foreign = line.foreign_now()
    with line.stream().running() as stream:
        assert set(stream.wait_for(20, header=False)) == {"1.0.0"}

        line.roll_out("2.0.0")
        line.kill_operator()
        line.in_force(0)
        first = time.monotonic()
        assert set(stream.wait_for(40, header=True)) == {"2.0.0"}
        weighted = time.monotonic()
        assert set(stream.versions(header=False, until=weighted)) == {"1.0.0"}
        line.command("promote", "0")
        line.kill_operator()
        if len(steps) > 1:
            line.in_force(1)
            split = stream.wait_for(200, header=False)
            assert 0.1 < split["2.0.0"] / split.total() < 0.55, split
            line.command("promote", "1")
            line.kill_operator()
        candidates = line.pods("2.0.0")
        done = line.until(lambda each: is_true(each, "Ready"))
        over = time.monotonic()
        assert set(stream.wait_for(40, header=False)) == {"2.0.0"}
        assert set(stream.versions(header=True, since=first)) == {"2.0.0"}
        assert done["status"]["stable"]["modelVersion"] == "m-2-0-0"
        assert candidates <= line.pods("2.0.0"), "promotion keeps the candidate's pods"
        assert not line.pods("1.0.0")

        line.roll_out("3.0.0")
        line.in_force(0)
        if len(steps) > 1:
            line.command("promote", "0")
            line.in_force(1)
        assert set(stream.wait_for(40, header=True)) == {"3.0.0"}
        line.command("abort")
        line.kill_operator()
        line.until(lambda each: not each["status"].get("canary") and not line.pods("3.0.0"))
        back = time.monotonic()
        stream.wait_for(40, header=True)
        for header in (True, False):
            assert set(stream.versions(header=header, since=back)) == {"2.0.0"}
        assert set(stream.versions(header=False, since=over)) <= {"2.0.0", "3.0.0"}
    assert stream.failed() == []
    assert line.foreign_now() == foreign
