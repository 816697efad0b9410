"""A new version judged by what a real Prometheus measured of it while it got requests: bad ones never get them all."""

from collections.abc import Callable
from contextlib import ExitStack

from e2e.cluster.prometheus import Prometheus
from tests import onnx
from tests.line import Line
from tests.objects import RawObject
from tests.traffic import HEADER, VALUE

OF_IT = 'namespace="{{namespace}}",name="{{name}}",revision="{{revision}}"'
ERRORS = (
    f'(sum(rate(modelfleet_inference_requests_total{{{OF_IT},code!="200"}}[10s])) or vector(0))'
    f" / sum(rate(modelfleet_inference_requests_total{{{OF_IT}}}[10s]))"
)
SLOWNESS = f"histogram_quantile(0.9, sum by (le) (rate(modelfleet_inference_duration_seconds_bucket{{{OF_IT}}}[10s])))"

BAD: dict[str, tuple[onnx.Model, str]] = {"2.0.0": (onnx.picky, "errors"), "3.0.0": (onnx.slow, "slowness")}
"""Versions: the model, and the metric that tells what is wrong with it."""


def canary(measured: Prometheus) -> RawObject:
    """A canary by header alone, for as long as it takes to be sure."""

    def metric(name: str, query: str, limit: str) -> RawObject:
        return {"name": name, "prometheus": {"address": measured.url, "query": query}, "max": limit}

    return {
        "header": {"name": HEADER, "value": VALUE},
        "steps": [{"weight": 0, "pause": "10s"}],
        "analysis": {
            "initialDelay": "5s",
            "interval": "2s",
            "failureLimit": 1,
            "inconclusiveLimit": 20,
            "metrics": [metric("errors", ERRORS, "0.05"), metric("slowness", SLOWNESS, "0.15")],
        },
    }


def test_versions_that_err_or_are_slow_are_rolled_back_and_a_good_one_passes(
    make_line: Callable[[str, str], Line], measured: Prometheus
) -> None:
    lines = {version: make_line(metric, "Istio") for version, (_, metric) in BAD.items()}
    models = {version: model for version, (model, _) in BAD.items()}
    lines["2.0.0"].register({"1.0.0": onnx.identity, **models, "4.0.0": onnx.identity})
    for line in lines.values():
        line.deploy("1.0.0", canary=canary(measured))
    for line in lines.values():
        line.until_routed()
    with ExitStack() as running:
        streams = {version: running.enter_context(line.stream().running()) for version, line in lines.items()}
        for version, line in lines.items():
            line.roll_out(version)
        for version, line in lines.items():
            failed = line.until(lambda each: each["status"]["phase"] == "RolledBack")
            assert BAD[version][1] in str(failed["status"]["conditions"])
            assert failed["status"]["stable"]["modelVersion"] == "m-1-0-0"
            line.until(lambda _, line=line, version=version: not line.pods(version))
            revision = failed["status"]["abortedRevision"]
            assert measured.query(f'max_over_time(modelfleet_model_info{{revision="{revision}"}}[10m])'), "it served"
            stream = streams[version]
            assert set(stream.wait_for(20, header=True)) == {"1.0.0"}
            assert set(stream.versions(header=False)) == {"1.0.0"}
            assert {each.version for each in stream.answers if each.header} == {"1.0.0", version}
        assert {each.version for each in streams["2.0.0"].failed()} == {"2.0.0"}, (
            "nothing fails but the model that errs"
        )
        assert streams["3.0.0"].failed() == []

        line, stream = lines["2.0.0"], streams["2.0.0"]
        line.roll_out("4.0.0")
        line.until(lambda each: each["status"]["phase"] == "Healthy" and not line.pods("1.0.0"))
        assert set(stream.wait_for(20, header=False)) == {"4.0.0"}
    for stream in streams.values():
        assert not [each for each in stream.failed() if not each.header], "who did not ask for it saw nothing of it"
