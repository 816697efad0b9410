"""Which pods may tell the progress of a training job, and what the others are told."""

import base64
import json
from typing import Any

import pytest

from modelfleet.api import progress
from modelfleet.cluster.tokens import PodIdentity, claimed
from modelfleet.handlers.rate import Rate
from modelfleet.plan.installation import Installation, ProgressServer
from modelfleet.plan.training import reporter
from modelfleet.plan.training.reporter import NotTaken, Reporter
from tests.unit.job_world import INSTALLATION, Object, World, job, step
from tests.unit.test_trainer_status import TRAINER


def owned(by: Object) -> list[Object]:
    return [{"kind": by["kind"], "uid": by["metadata"]["uid"], "controller": True}]


class Scene:
    """A training under way, its Job, and the pod of its rank 0."""

    def __init__(self) -> None:
        self.world = World(job(step("train", trainer=TRAINER)))
        self.world.settle()
        self.world.run("nightly-train-1", "gpu-1")
        self.job = self.world.objects["Job", "nightly-train-1"]
        self.pod = self.world.objects["Pod", "nightly-train-1-0"]
        self.pod["metadata"]["ownerReferences"] = owned(self.job)

    def admit(self, name: str = "nightly", namespace: str = "vision", **seen: Any) -> Reporter | NotTaken:
        seen = {"training_job": self.world.obj, "job": self.job} | seen
        return reporter.admit(pod=self.pod, namespace=namespace, name=name, **seen)

    def refusal(self, **seen: Any) -> NotTaken:
        found = self.admit(**seen)
        assert isinstance(found, NotTaken)
        return found


def test_a_pod_of_the_attempt_that_runs() -> None:
    assert Scene().admit() == Reporter("train", 1)


def test_pods_of_others() -> None:
    scene = Scene()
    assert scene.refusal(name="other").reason == "Forbidden"
    assert scene.refusal(namespace="plant").reason == "Forbidden"
    assert scene.refusal(job=None).reason == "Forbidden"
    assert scene.refusal(training_job=None).reason == "NotFound"
    scene.pod["metadata"]["ownerReferences"][0]["controller"] = False
    assert scene.refusal().reason == "Forbidden"
    scene.pod["metadata"]["ownerReferences"] = []
    assert scene.refusal().reason == "Forbidden"


def test_pods_of_a_job_that_was_made_again_or_by_somebody_else() -> None:
    scene = Scene()
    scene.job["metadata"]["ownerReferences"][0]["uid"] = "another"
    assert scene.refusal().reason == "Forbidden"
    scene.job["metadata"]["uid"] = "made-again"
    assert scene.refusal().reason == "Forbidden"


def test_what_is_over_is_over() -> None:
    scene = Scene()
    scene.world.finish("nightly-train-1", "boom", code=1)
    scene.pod = scene.world.objects["Pod", "nightly-train-1-0"]
    scene.pod["metadata"]["ownerReferences"] = owned(scene.job)
    scene.world.settle()
    waiting = scene.refusal()
    assert (waiting.reason, waiting.message) == ("Conflict", "attempt 1 at step train is over")
    scene.world.wait(11)
    assert scene.refusal().message == "attempt 1 at step train is over: the latest one is 2"
    scene.world.obj["status"]["phase"] = "Failed"
    assert scene.refusal().message == "TrainingJob vision/nightly is over: Failed"


def coded(payload: object) -> str:
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"e30.{text}.c2ln"


GOOD = {
    "aud": [progress.AUDIENCE],
    "kubernetes.io": {"namespace": "vision", "pod": {"name": "nightly-train-1-0-abcde", "uid": "u-1"}},
}


def test_what_a_token_says() -> None:
    pod = PodIdentity("vision", "nightly-train-1-0-abcde", "u-1")
    assert claimed(coded(GOOD), progress.AUDIENCE) == pod
    assert claimed(coded(GOOD | {"aud": progress.AUDIENCE}), progress.AUDIENCE) == pod


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c",
        "a.é.c",
        "a.!!!!.c",
        coded([]),
        coded("x"),
        coded(GOOD | {"aud": ["https://kubernetes.default.svc"]}),
        coded(GOOD | {"aud": None}),
        coded({"aud": [progress.AUDIENCE], "kubernetes.io": {"namespace": "vision"}}),
        coded(GOOD | {"kubernetes.io": {"namespace": "vision", "pod": {"name": ["a"], "uid": {}}}}),
        "a." + base64.urlsafe_b64encode(b"[" * 30_000).decode() + ".c",
    ],
)
def test_what_is_no_token_of_ours(token: str) -> None:
    assert claimed(token, progress.AUDIENCE) is None


def test_a_rate() -> None:
    now = [0.0]
    rate = Rate(per_second=0.5, burst=2, clock=lambda: now[0])
    assert [rate.allows("a") for _ in range(3)] == [True, True, False]
    assert rate.allows("b")
    now[0] = 2.0
    assert [rate.allows("a") for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [rate.allows("a") for _ in range(3)] == [True, True, False]


SERVER = ProgressServer("https://modelfleet-progress.system.svc:8443", "-----BEGIN CERTIFICATE-----")


def pod_of(name: str, installation: Installation) -> Object:
    world = World(job(step("prepare"), step("train", trainer=TRAINER | {"env": [{"name": "A", "value": "1"}]})))
    world.installation = installation
    world.settle()
    template: Object = world.objects["Job", name]["spec"]["template"]
    return template


def test_pods_of_distributed_steps_are_told_where_to_report() -> None:
    told = Installation(INSTALLATION.name, INSTALLATION.namespace, INSTALLATION.runtime_image, progress=SERVER)
    template = pod_of("nightly-train-1", told)
    (container,) = template["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    url = f"{SERVER.url}/apis/modelfleet.dev/v1alpha1/namespaces/vision/trainingjobs/nightly/status"
    assert environment["KUBEFLOW_TRAINER_SERVER_URL"] == url
    assert environment["KUBEFLOW_TRAINER_SERVER_CA_CERT"] == "/var/run/secrets/kubeflow/trainer/ca.crt"
    assert environment["KUBEFLOW_TRAINER_SERVER_TOKEN"] == "/var/run/secrets/kubeflow/trainer/token"  # noqa: S105
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"].startswith("/var/run/secrets/kube"))
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == mount["name"])
    token, authority = volume["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == progress.AUDIENCE
    path = authority["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"]
    assert template["metadata"]["annotations"] == {path.split("'")[1]: SERVER.authority}
    assert template["spec"]["automountServiceAccountToken"] is False
    for others in (pod_of("nightly-prepare-1", told), pod_of("nightly-train-1", INSTALLATION)):
        assert "KUBEFLOW" not in json.dumps(others)
        assert "annotations" not in others["metadata"]
