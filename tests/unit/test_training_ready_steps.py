"""Steps that start when another's pods are ready, and are not touched by what becomes of those afterwards."""

import json

import pytest

from modelfleet.api import wire
from modelfleet.api.training_job import Step
from modelfleet.plan.training import dag
from tests.unit.job_world import DIGEST, Object, World, artifact, job, report, step

SERVER = {"image": "registry.example/server:1", "numNodes": 2}


def client(*after: str, **fields: object) -> Object:
    """A step that waits for the server, and for others to be done."""
    waits = [{"name": "server", "status": "Ready"}, *({"name": each} for each in after)]
    return {"name": "client", "image": "registry.example/client:1", "dependsOn": waits, **fields}


@pytest.mark.parametrize(
    ("done", "up", "waits"),
    [
        ((), (), "server to be ready, data"),
        (("data",), (), "server to be ready"),
        ((), ("server",), "data"),
        (("data",), ("server",), ""),
        (("data", "server"), (), ""),
        ((), ("server", "data"), "data"),
    ],
)
def test_what_a_step_waits_for(done: tuple[str, ...], up: tuple[str, ...], waits: str) -> None:
    assert dag.waits_for(Step.model_validate(client("data")), done, up) == waits


def test_a_step_starts_when_all_pods_of_the_other_are_ready() -> None:
    world = World(job(step("server", trainer=SERVER), client()))
    world.settle()
    world.up("nightly-server-1", 1)
    world.settle()
    assert world.status["steps"][1]["message"] == "waiting for server to be ready"
    world.up("nightly-server-1")
    world.settle()
    assert world.unfinished() == ["nightly-client-1", "nightly-server-1"]
    assert (world.status["phase"], world.wait(60)) == ("Running", 0)


def test_one_that_was_ready_and_begins_again_disturbs_nobody() -> None:
    world = World(job(step("server"), client(), backoffLimit=1))
    world.settle()
    world.up("nightly-server-1")
    world.settle()
    world.finish("nightly-server-1", "boom", code=1)
    world.settle()
    world.wait(11)
    assert world.unfinished() == ["nightly-client-1", "nightly-server-2"]
    # Not even after a failure of its own does a step wait for it again.
    world.edit(backoffLimit=3)
    world.finish("nightly-client-1", "boom", code=1)
    world.settle()
    world.wait(11)
    assert world.unfinished() == ["nightly-client-2", "nightly-server-2"]


def test_one_that_was_over_before_anybody_looked_was_ready() -> None:
    world = World(job(step("server"), client()))
    world.settle()
    world.finish("nightly-server-1", report((artifact(),)))
    world.settle()
    world.finish("nightly-client-1", report())
    world.settle()
    assert world.status["phase"] == "Succeeded"


def test_a_server_that_goes_on_keeps_the_job_going_on() -> None:
    world = World(job(step("server"), client()))
    world.settle()
    world.up("nightly-server-1")
    world.settle()
    world.finish("nightly-client-1", report((artifact(),)))
    world.settle()
    assert world.status["phase"] == "Running"
    world.finish("nightly-server-1", report())
    world.settle()
    assert world.status["phase"] == "Succeeded"


@pytest.mark.parametrize(("after", "dataset", "inputs"), [((), True, []), (("data",), False, ["data"])])
def test_it_has_what_the_job_brings_along_and_only_results_that_are_complete(
    after: tuple[str, ...], dataset: bool, inputs: list[str]
) -> None:
    brought = {"dataset": {"storageUri": "s3://data/d.npz", "digest": f"sha256:{DIGEST}"}}
    steps = [step("server"), *(step(name) for name in after), client(*after)]
    world = World(job(*steps, initializer=brought))
    world.settle()
    for name in after:
        world.finish(f"nightly-{name}-1", report())
    world.up("nightly-server-1")
    world.settle()
    template = world.objects["Job", "nightly-client-1"]["spec"]["template"]["spec"]
    order = json.loads(
        next(each["value"] for each in template["containers"][0]["env"] if each["name"] == wire.ORDER_ENV)
    )
    assert sorted(order["inputs"]) == inputs
    assert ("datasetPath" in order, bool(template.get("initContainers"))) == (dataset, dataset)


def test_a_cycle_through_readiness_is_a_cycle() -> None:
    written = [{**step("server"), "dependsOn": [{"name": "client", "status": "Ready"}]}, client()]
    with pytest.raises(dag.InvalidDagError, match="server -> client -> server"):
        dag.ordered([Step.model_validate(each) for each in written])
