"""Requests that never stop, through a real Envoy under Istio's real control plane, while versions come and go.

What is promised, and asserted here of every single request: none fails; none with the canary's header is answered by
the old version from the moment the status says that the step is in force until its end; none without it is answered by
the new version but for its weight; copies of requests are answered to nobody. The operator is killed in the middle,
more than once.

Three lines take the same way at once, each routed by other means: most of the time is spent waiting.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack

from e2e.kubectl import is_true
from tests import onnx
from tests.line import Line, inferences
from tests.objects import RawObject
from tests.operator_pods import OperatorPods
from tests.traffic import HEADER, VALUE, Stream


def canary(line: Line) -> RawObject:
    """A step for those with the header alone and, where a route of ours can do it, copies and a step with a weight."""
    header = {"header": {"name": HEADER, "value": VALUE}}
    if line.provider == "routeRef":
        return header | {"steps": [{"weight": 0, "pause": "Manual"}]}
    steps = [{"weight": weight, "pause": "Manual"} for weight in (0, 30)]
    return header | {"mirror": {"percentage": 50}, "steps": steps}


def probed(line: Line) -> RawObject:
    """``spec.traffic``, with a probe where it can be told from the user's own rules."""
    if line.provider == "routeRef":
        return line.traffic()
    return line.traffic() | {"probe": {"url": f"{line.url}/v2/health/ready", "host": line.host}}


def copies(line: Line, stream: Stream, version: str) -> float:
    """How many requests a version answered, beyond those whose clients have the answer, while stable answered 40."""
    pods = line.ready(version)
    since, before = time.monotonic(), sum(map(inferences, pods))
    stream.wait_for(40, header=False)
    counted, until = sum(map(inferences, pods)) - before, time.monotonic()
    theirs = [each for each in list(stream.answers) if each.version == version]
    return counted - sum(each.ended >= since and each.began <= until for each in theirs)


def test_no_request_fails_or_goes_astray_in_a_rollout_an_abort_and_kills(
    make_line: Callable[[str, str], Line], operator: OperatorPods
) -> None:
    lines = [make_line(provider.lower(), provider) for provider in ("Istio", "GatewayAPI", "routeRef")]
    weighted = [line for line in lines if line.provider != "routeRef"]
    lines[0].register(dict.fromkeys(("1.0.0", "2.0.0", "3.0.0"), onnx.identity))
    for line in lines:
        line.deploy("1.0.0", canary=canary(line), traffic=probed(line))
    for line in lines:
        line.until_routed()
    foreign = {line: line.foreign_now() for line in lines}
    with ExitStack() as running:
        streams = {line: running.enter_context(line.stream(rate=8).running()) for line in lines}
        for stream in streams.values():
            assert set(stream.wait_for(20, header=False)) == {"1.0.0"}

        first, over = {}, {}
        for line in lines:
            line.roll_out("2.0.0")
        operator.kill()
        for line, stream in streams.items():
            routed = line.in_force(0)["status"]["traffic"]
            first[line] = time.monotonic()
            assert (routed.get("confirmedRoute") == routed["route"]) is (line in weighted)
            assert set(stream.wait_for(40, header=True)) == {"2.0.0"}
        for line in weighted:
            assert copies(line, streams[line], "2.0.0") > 5
        for stream in streams.values():
            assert set(stream.versions(header=False)) == {"1.0.0"}
        candidates = {line: line.pods("2.0.0") for line in lines}
        for line in lines:
            line.command("promote", "0")
        operator.kill()
        for line in weighted:
            line.in_force(1)
            split = streams[line].wait_for(200, header=False)
            assert 0.1 < split["2.0.0"] / split.total() < 0.55, split
            line.command("promote", "1")
        operator.kill()
        for line, stream in streams.items():
            done = line.until(lambda each: is_true(each, "Ready"))
            over[line] = time.monotonic()
            assert set(stream.wait_for(40, header=False)) == {"2.0.0"}
            assert set(stream.versions(header=True, since=first[line])) == {"2.0.0"}
            assert done["status"]["stable"]["modelVersion"] == "m-2-0-0"
            assert candidates[line] <= line.pods("2.0.0"), "promotion keeps the candidate's pods"
            assert not line.pods("1.0.0")

        for line in lines:
            line.roll_out("3.0.0")
        for line in weighted:
            line.in_force(0)
            line.command("promote", "0")
        for line, stream in streams.items():
            line.in_force(len(canary(line)["steps"]) - 1)
            assert set(stream.wait_for(40, header=True)) == {"3.0.0"}
            line.command("abort")
        operator.kill()
        for line, stream in streams.items():
            line.until(lambda each, line=line: not each["status"].get("canary") and not line.pods("3.0.0"))
            back = time.monotonic()
            stream.wait_for(40, header=True)
            for header in (True, False):
                assert set(stream.versions(header=header, since=back)) == {"2.0.0"}
            assert set(stream.versions(header=False, since=over[line])) <= {"2.0.0", "3.0.0"}
    for line, stream in streams.items():
        assert stream.failed() == []
        assert line.foreign_now() == foreign[line]
