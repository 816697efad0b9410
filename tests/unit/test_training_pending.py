"""Why is it pending? One sentence of the condition Ready says it, whatever keeps a job from going on."""

from collections.abc import Callable

import pytest

from modelfleet.plan.job_state import Trouble
from tests.unit.job_world import Object, World, job, step

TRAINER = {"image": "registry.example/train:1", "numNodes": 2}


def started(*steps: Object, **spec: object) -> World:
    world = World(job(*(steps or (step("train", trainer=TRAINER),)), **spec))
    world.settle()
    return world


def troubled(reason: str, message: str) -> Callable[[], World]:
    """With what Events say of a Job without pods, or the kubelet of a pod."""

    def build() -> World:
        world = started()
        world.trouble = Trouble(reason, message)
        world.settle()
        return world

    return build


def without_room() -> World:
    world = started()
    world.run("nightly-train-1", "a", "")
    condition = world.objects["Pod", "nightly-train-1-1"]["status"]["conditions"][0]
    condition["message"] = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    world.settle()
    return world


def image_lacking() -> World:
    world = started()
    world.run("nightly-train-1", "a", "b")
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    world.objects["Pod", "nightly-train-1-0"]["status"] |= {
        "phase": "Pending",
        "containerStatuses": [{"name": "train", "image": "registry.example/train:1", "state": {"waiting": waiting}}],
    }
    world.settle()
    return world


def queued() -> World:
    obj = job(step("train", trainer=TRAINER))
    obj["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "vision-gpu"}
    world = World(obj)
    world.settle()
    return world


def after_a_failure() -> World:
    world = started()
    world.finish("nightly-train-1", "boom", code=3)
    world.settle()
    return world


def waits_for_another() -> World:
    waits = [{"name": "server", "status": "Ready"}]
    world = started(step("server"), {**step("train", trainer=TRAINER), "dependsOn": waits})
    world.finish("nightly-server-1", "boom", code=3)
    world.settle()
    return world


@pytest.mark.parametrize(
    ("build", "reason", "sentence"),
    [
        (
            troubled("QuotaExceeded", "pods is forbidden: exceeded quota: gpus"),
            "QuotaExceeded",
            "step train: pods is forbidden: exceeded quota: gpus",
        ),
        (
            troubled(
                "Unschedulable", "no node takes pod p: no node has the labels pool=cuda of its nodePool: 0/3 nodes"
            ),
            "Unschedulable",
            "no node has the labels pool=cuda of its nodePool",
        ),
        (without_room, "Unschedulable", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        (image_lacking, "ImagePullFailed", "image registry.example/train:1 cannot be pulled"),
        (queued, "Queued", "step train: it waits for admission by queue vision-gpu"),
        (after_a_failure, "Restarting", "exit code 3: boom; the next attempt starts at"),
        (waits_for_another, "Restarting", "exit code 3: boom; the next attempt starts at"),
        (lambda: started(nodePool="tpu"), "UnknownNodePool", "nodePool tpu is not one of this installation's"),
        (lambda: started(suspend=True), "Suspended", "spec.suspend is true; set it to false to go on"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_one_sentence_says_it(build: Callable[[], World], reason: str, sentence: str) -> None:
    ready = build().condition("Ready")
    assert ready["reason"] == reason
    assert sentence in ready["message"]


def test_each_step_says_what_it_waits_for() -> None:
    steps = waits_for_another().status["steps"]
    assert steps[1]["message"] == "waiting for server to be ready"
