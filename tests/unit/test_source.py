"""The commit of a training job's source: found once, recorded first, the same for all that rests on it."""

import json
from typing import Any

import pytest

from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.plan import job_state
from modelfleet.plan.refusal import Refusal
from tests.unit.job_world import COMMIT, START, World, artifact, job, report, resolved, step

REPOSITORY = "https://git.example/vision/defect"
RESOLVE_1, RESOLVE_2 = "nightly-resolve-git-source-1", "nightly-resolve-git-source-2"


def begin(*steps: dict[str, Any], revision: str = "main", **spec: Any) -> World:
    git = {"repository": REPOSITORY, "revision": revision, "path": "train", "secretRef": {"name": "git"}}
    world = World(job(*(steps or (step("train"),)), source={"git": git}, **spec))
    world.settle()
    return world


def containers(world: World, name: str) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The pod, its init containers and its own container of a Job."""
    found = world.job(name)
    assert found is not None
    spec = found["spec"]["template"]["spec"]
    return spec, spec.get("initContainers", []), spec["containers"][0]


def order(container: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(next(each["value"] for each in container["env"] if each["name"] == "MODELFLEET_ORDER")))


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container["env"]}


def test_the_commit_is_found_before_any_step_begins() -> None:
    world = begin(step("prepare"), step("train", "prepare"))
    assert world.unfinished() == [RESOLVE_1]
    assert world.status["phase"] == "Running"
    assert {each["phase"] for each in world.status["steps"]} == {"Pending"}
    assert world.condition("Ready")["message"] == "waiting for the source's commit"
    _, _, container = containers(world, RESOLVE_1)
    assert order(container) == {
        "repository": REPOSITORY,
        "revision": "main",
        "path": "train",
        "credentialsPath": "/var/run/modelfleet/credentials/git",
        "trust": [
            {"kind": "tag", "pattern": "*", "trust": 3},
            {"kind": "branch", "pattern": "main", "trust": 3},
            {"kind": "branch", "pattern": "master", "trust": 3},
            {"kind": "branch", "pattern": "release/*", "trust": 2},
            {"kind": "branch", "pattern": "develop", "trust": 1},
        ],
    }
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    world.settle()
    assert world.unfinished() == ["nightly-prepare-1"]
    source = world.status["source"]
    assert (source["revision"], source["channel"], source["refs"]) == (COMMIT, "production", ["refs/heads/main"])
    assert "SourceResolved" in world.reasons
    TrainingJobStatus.model_validate(world.status)


def test_the_pod_that_finds_it_may_pull_from_where_the_steps_do() -> None:
    world = begin(imagePullSecrets=[{"name": "registry"}])
    template = (world.job(RESOLVE_1) or {})["spec"]["template"]["spec"]
    assert template["imagePullSecrets"] == [{"name": "registry"}]


def test_the_commit_is_recorded_before_anything_rests_on_it() -> None:
    world = begin()
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    outcome = world.plan()
    assert outcome.create == []
    assert outcome.status is not None
    assert outcome.status["source"]["revision"] == COMMIT
    world.carry_out(outcome)
    assert [created["metadata"]["name"] for created in world.plan().create] == ["nightly-train-1"]


def test_every_step_and_attempt_gets_exactly_that_commit() -> None:
    world = begin(step("a"), step("b", "a"))
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    world.settle()
    world.finish("nightly-a-1", code=1)
    world.wait(60)
    world.finish("nightly-a-2", report())
    world.settle()
    for name in ("nightly-a-1", "nightly-a-2", "nightly-b-1"):
        pod, (checkout, *_), own = containers(world, name)
        assert checkout["name"] == job_state.SOURCE
        assert checkout["args"] == ["checkout"]
        assert order(checkout) == {
            "repository": REPOSITORY,
            "commit": COMMIT,
            "path": "train",
            "folder": "/workspace/source",
            "credentialsPath": "/var/run/modelfleet/credentials/git",
        }
        assert own["workingDir"] == "/workspace/source/train"
        assert (environment(own)["GIT_COMMIT"], environment(own)["GIT_REPOSITORY"]) == (COMMIT, REPOSITORY)
        # The repository's Secret is checkout's; the step's own code does not see it.
        mounted = [mount["mountPath"] for mount in own["volumeMounts"]]
        assert "/var/run/modelfleet/credentials/git" not in mounted
        assert any(volume.get("secret", {}).get("secretName") == "git" for volume in pod["volumes"])
    assert world.status["source"]["attempt"] == 1


def test_the_version_carries_the_commit_its_channel_and_what_dvc_recorded() -> None:
    world = begin()
    data = [{"path": "data", "digest": f"md5:{'0' * 32}.dir", "sizeBytes": 7}]
    world.finish(RESOLVE_1, resolved("refs/heads/release/1.0", params={"lr": "0.1"}, data=data))
    world.settle()
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert world.status["phase"] == "Succeeded"
    spec = world.objects["ModelVersion", "m-1-0-0"]["spec"]
    assert spec["channel"] == "preproduction"
    assert spec["lineage"]["git"] == {"repository": REPOSITORY, "revision": COMMIT}
    assert spec["lineage"]["dvc"] == {"revision": COMMIT, "params": {"lr": "0.1"}, "data": data}


@pytest.mark.parametrize(
    ("refs", "channel"),
    [
        (["refs/heads/feature/x"], "experiment"),
        (["refs/heads/develop"], "candidate"),
        (["refs/tags/v1.0.0"], "production"),
        (["refs/heads/feature/x", "refs/heads/develop"], "candidate"),
        ([], None),
    ],
)
def test_the_channel_is_that_of_the_branch_or_tag(refs: list[str], channel: str | None) -> None:
    world = begin()
    world.finish(RESOLVE_1, resolved(*refs))
    world.settle()
    assert world.status["source"].get("channel") == channel
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert world.objects["ModelVersion", "m-1-0-0"]["spec"].get("channel") == channel


def test_a_branch_that_moves_on_changes_nothing() -> None:
    world = begin()
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    world.settle()
    world.delete_job(RESOLVE_1)
    world.finish("nightly-train-1", code=1)
    world.wait(60)
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["source"]["revision"] == COMMIT


def test_a_server_that_is_down_is_asked_again_with_growing_pauses() -> None:
    world = begin()
    said = json.dumps({"reason": "Unreachable", "message": "https://git.example: connection refused"})
    world.finish(RESOLVE_1, said, code=75)
    world.settle()
    assert world.unfinished() == []
    assert world.condition("Ready")["reason"] == "Unreachable"
    assert "connection refused" in world.condition("Ready")["message"]
    assert world.condition("Stalled")["status"] == "False"
    assert "asked again at" in world.status["source"]["message"]
    world.wait(11)
    assert world.unfinished() == [RESOLVE_2]
    world.finish(RESOLVE_2, said, code=75)
    world.wait(11)
    assert world.unfinished() == []
    world.wait(10)
    assert world.unfinished() == ["nightly-resolve-git-source-3"]
    world.finish("nightly-resolve-git-source-3", resolved("refs/heads/main"))
    world.settle()
    assert world.unfinished() == ["nightly-train-1"]
    assert world.status["restarts"] == 0


@pytest.mark.parametrize("reason", ["UnknownRevision", "Invalid"])
def test_a_revision_that_is_none_ends_the_job(reason: str) -> None:
    world = begin()
    world.finish(RESOLVE_1, json.dumps({"reason": reason, "message": "no branch or tag mian"}), code=1)
    world.settle()
    assert world.status["phase"] == "Failed"
    assert world.condition("Failed")["reason"] == reason
    assert "no branch or tag mian" in world.condition("Failed")["message"]
    assert world.all("ModelVersion") == []


def test_a_resolving_pod_that_dies_is_told_and_replaced() -> None:
    world = begin()
    world.finish(RESOLVE_1, "MemoryError", code=137)
    world.settle()
    assert world.condition("Ready")["reason"] == "SourceFailed"
    assert "MemoryError" in world.condition("Ready")["message"]
    world.wait(11)
    assert world.unfinished() == [RESOLVE_2]


def test_a_commit_that_is_gone_when_a_step_wants_it_ends_the_job() -> None:
    world = begin()
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    world.settle()
    said = json.dumps({"file": "source", "reason": "UnknownRevision", "message": f"has no commit {COMMIT}"})
    world.finish("nightly-train-1", said, code=1, container=job_state.SOURCE)
    world.settle()
    assert world.condition("Failed")["reason"] == "UnknownRevision"


def test_a_server_that_is_down_when_a_step_starts_is_not_charged() -> None:
    world = begin()
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    world.settle()
    said = json.dumps({"file": "source", "reason": "Unreachable", "message": "connection refused"})
    world.finish("nightly-train-1", said, code=75, container=job_state.SOURCE)
    world.wait(60)
    assert world.unfinished() == ["nightly-train-2"]
    assert world.status["restarts"] == 0


def test_suspension_stops_the_search_and_resumption_begins_it_again() -> None:
    world = begin()
    world.edit(suspend=True)
    world.settle()
    assert world.unfinished() == []
    assert world.status["phase"] == "Suspended"
    world.edit(suspend=False)
    world.settle()
    assert world.unfinished() == [RESOLVE_2]
    suspended = begin(suspend=True)
    assert suspended.all("Job") == []


def test_what_the_api_server_refuses_is_told() -> None:
    world = World(job(step("train"), source={"git": {"repository": REPOSITORY, "revision": "main"}}))
    world.refusals[RESOLVE_1] = Refusal("exceeded quota", final=False)
    world.settle()
    assert world.condition("Stalled")["reason"] == "JobRefused"
    world.refusals.clear()
    world.wait(31)
    assert world.unfinished() == [RESOLVE_1]


def test_a_pool_that_does_not_exist_is_told_before_anything_runs() -> None:
    world = begin(nodePool="none")
    assert world.condition("Stalled")["reason"] == "UnknownNodePool"
    assert world.all("Job") == []


def test_the_search_runs_where_the_steps_do() -> None:
    pod, _, container = containers(begin(nodePool="cuda"), RESOLVE_1)
    assert pod["nodeSelector"] == {"pool": "cuda"}
    assert "nvidia.com/gpu" not in str(container.get("resources"))


def test_a_deadline_counts_from_the_search_on() -> None:
    world = begin(activeDeadlineSeconds=30)
    world.wait(31)
    assert world.condition("Failed")["reason"] == "DeadlineExceeded"
    assert world.unfinished() == []


def test_a_pod_that_does_not_start_is_told() -> None:
    world = begin()
    world.trouble = job_state.Trouble("FailedMount", "secret git not found")
    world.settle()
    assert world.condition("Ready")["reason"] == "FailedMount"
    assert "source: secret git" in world.condition("Ready")["message"]


@pytest.mark.parametrize("writes", range(6))
def test_killed_between_any_two_writes_it_finds_one_commit(writes: int) -> None:
    world = World(job(step("train"), source={"git": {"repository": REPOSITORY, "revision": "main"}}))
    world.carry_out(world.plan(), writes)
    world.settle()
    assert world.unfinished() == [RESOLVE_1]
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    for _ in range(3):
        world.carry_out(world.plan(), writes)
    world.settle()
    assert world.unfinished() == ["nightly-train-1"]
    _, (checkout, *_), _ = containers(world, "nightly-train-1")
    assert order(checkout)["commit"] == COMMIT
    assert world.now == START


def test_a_finished_job_keeps_what_it_was_made_from() -> None:
    world = begin()
    world.finish(RESOLVE_1, resolved("refs/heads/main"))
    world.settle()
    world.finish("nightly-train-1", report((artifact(),)))
    world.settle()
    assert world.settle() == 0
    assert world.status["source"]["revision"] == COMMIT


def test_without_a_source_nothing_is_looked_for() -> None:
    world = World(job(step("train")))
    world.settle()
    assert world.unfinished() == ["nightly-train-1"]
    assert "source" not in world.status
    _, first, own = containers(world, "nightly-train-1")
    assert first == []
    assert "workingDir" not in own
