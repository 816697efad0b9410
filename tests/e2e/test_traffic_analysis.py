"""A new version judged by what a real Prometheus measured of it while it got requests: bad ones never get them all."""

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

BAD: dict[str, onnx.Model] = {"2.0.0": onnx.picky, "3.0.0": onnx.slow}


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


def test_versions_that_err_or_are_slow_are_rolled_back_and_a_good_one_passes(line: Line, measured: Prometheus) -> None:
    for version, model in {"1.0.0": onnx.identity, **BAD, "4.0.0": onnx.identity}.items():
        line.register(version, model)
    line.deploy("1.0.0", canary=canary(measured))
    with line.stream().running() as stream:
        for version, metric in {"2.0.0": "errors", "3.0.0": "slowness"}.items():
            line.roll_out(version)
            failed = line.until(lambda each: each["status"]["phase"] == "RolledBack")
            assert metric in str(failed["status"]["conditions"])
            assert failed["status"]["stable"]["modelVersion"] == "m-1-0-0"
            line.until(lambda _, version=version: not line.pods(version))
            revision = failed["status"]["abortedRevision"]
            assert measured.query(f'max_over_time(modelfleet_model_info{{revision="{revision}"}}[10m])'), "it served"
            assert set(stream.wait_for(20, header=True)) == {"1.0.0"}
        assert set(stream.versions(header=False)) == {"1.0.0"}
        assert {each.version for each in stream.answers if each.header} == {"1.0.0", "2.0.0", "3.0.0"}
        assert {each.version for each in stream.failed()} == {"2.0.0"}, "nothing fails but the model that errs"

        line.roll_out("4.0.0")
        line.until(lambda each: each["status"]["phase"] == "Healthy" and not line.pods("1.0.0"))
        assert set(stream.wait_for(20, header=False)) == {"4.0.0"}
    assert not [each for each in stream.failed() if not each.header], "who did not ask for it saw nothing of it"
