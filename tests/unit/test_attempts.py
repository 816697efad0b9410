"""Verified again: on demand, by schedule, and what holds meanwhile."""

import json
from dataclasses import replace
from typing import Any

import pytest

from modelfleet.api import names
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.api.model_version_status import ModelVersionStatus
from modelfleet.plan.installation import TrustedKey
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.version import attempts, verification
from tests.unit.job_world import INSTALLATION, World, artifact, verified, version

HASH_MISMATCH = {"name": "fp32", "verified": False, "reason": "HashMismatch", "message": "its sha256 is ab12"}
UNREACHABLE = {"name": "fp32", "verified": False, "reason": "Unreachable", "message": "connection refused"}
UNSIGNED = {"name": "fp32", "verified": False, "reason": "Unsigned", "message": "there is no signature"}
DAY = 86_400


def settled(*files: dict[str, Any], **spec: Any) -> World:
    """A version whose first verification found this out."""
    world = World(version(**spec))
    world.settle()
    world.finish("verify-m-1-0-0-1", verified(*files), code=1 if files else 0)
    world.settle()
    return world


def ask(world: World, value: str) -> None:
    world.obj["metadata"]["annotations"] = {names.VERIFY_ANNOTATION: value}
    world.settle()


def facts(world: World) -> tuple[str, str, str]:
    return tuple(world.condition(type_)["status"] for type_ in ("Verified", "Reconciling", "Stalled"))  # type: ignore[return-value]


def test_a_command_has_it_verified_again_once() -> None:
    world = settled()
    ask(world, "2026-11-21")
    assert world.unfinished() == ["verify-m-1-0-0-2"]
    assert facts(world) == ("True", "False", "False"), "what was found holds while it is looked at again"
    assert world.status["stage"] == "Verified"
    world.finish("verify-m-1-0-0-2", verified())
    world.settle()
    assert world.status["lastCommand"] == "verify 2026-11-21"
    assert world.status["verification"]["settledAttempt"] == 2
    assert world.wait(DAY) == 0
    world.obj["metadata"]["annotations"] = {}
    assert world.settle() == 0
    ask(world, "2026-11-21")
    assert world.unfinished() == []
    ask(world, "x" * 5000)
    assert world.unfinished() == ["verify-m-1-0-0-3"]
    ModelVersionStatus.model_validate(world.status)


def test_a_command_given_at_creation_is_answered_by_the_first_verification() -> None:
    world = World(version())
    ask(world, "now")
    world.finish("verify-m-1-0-0-1", verified())
    world.settle()
    assert world.unfinished() == []
    assert world.status["lastCommand"] == "verify now"


def test_a_command_given_while_it_is_verified_has_it_verified_after_that() -> None:
    world = World(version())
    world.settle()
    ask(world, "later")
    assert world.unfinished() == ["verify-m-1-0-0-1"]
    world.finish("verify-m-1-0-0-1", verified())
    world.settle()
    assert world.unfinished() == ["verify-m-1-0-0-2"]


def test_bytes_that_changed_later_take_the_verification_back() -> None:
    world = settled()
    ask(world, "1")
    world.finish("verify-m-1-0-0-2", verified(HASH_MISMATCH), code=1)
    world.settle()
    assert facts(world) == ("False", "False", "True")
    assert world.condition("Verified")["reason"] == "HashMismatch"
    assert "annotate it modelfleet.dev/verify" in world.condition("Ready")["message"]
    assert world.status["artifacts"][0]["verified"] is False
    assert world.reasons == ["Verified", "HashMismatch"]
    assert world.status["stage"] == "Registered"
    # Put back, it is verified again.
    ask(world, "2")
    assert facts(world) == ("False", "True", "False")
    world.finish("verify-m-1-0-0-3", verified())
    world.settle()
    assert facts(world) == ("True", "False", "False")
    assert [entry["stage"] for entry in world.status["history"]] == ["Registered", "Verified", "Registered", "Verified"]


@pytest.mark.parametrize("finding", [verified(UNREACHABLE), ""], ids=["store down", "report lost"])
def test_what_finds_nothing_out_takes_nothing_back(finding: str) -> None:
    world = settled()
    ask(world, "1")
    world.finish("verify-m-1-0-0-2", finding, code=75)
    world.settle()
    assert facts(world) == ("True", "False", "False")
    assert world.status["artifacts"][0]["verified"] is True
    reason = "Unreachable" if finding else "ReportLost"
    assert world.status["verification"]["reason"] == reason
    assert world.reasons == ["Verified", reason]
    assert world.wait(5) == 0
    world.wait(6)
    assert world.unfinished() == ["verify-m-1-0-0-3"]
    world.finish("verify-m-1-0-0-3", verified())
    world.settle()
    assert "reason" not in world.status["verification"]
    assert world.wait(DAY) == 0


def test_a_signature_that_is_missing_takes_it_back_and_is_looked_for_again() -> None:
    world = settled()
    ask(world, "1")
    world.finish("verify-m-1-0-0-2", verified(UNSIGNED), code=75)
    world.settle()
    assert facts(world) == ("False", "True", "False")
    world.wait(11)
    world.finish("verify-m-1-0-0-3", verified({"name": "fp32", "verified": True, "signedBy": "release"}))
    world.settle()
    assert facts(world) == ("True", "False", "False")
    assert world.condition("Verified")["message"].endswith("signed by release")
    assert world.status["artifacts"][0]["signedBy"] == "release"


def test_by_schedule() -> None:
    world = settled(verification={"every": "24h"})
    due = world.plan().requeue_after
    assert due is not None
    assert DAY <= due <= 1.1 * DAY + 1
    assert world.wait(DAY - 1) == 0
    world.wait(0.1 * DAY + 2)
    assert world.unfinished() == ["verify-m-1-0-0-2"]
    world.finish("verify-m-1-0-0-2", verified())
    world.settle()
    assert world.wait(DAY - 1) == 0


def test_the_installations_schedule_is_for_versions_in_use() -> None:
    world = settled()
    world.installation = replace(INSTALLATION, verify_every_hours=1)
    assert world.wait(DAY) == 0
    user = {"apiVersion": names.API_VERSION, "kind": "EdgeDeployment", "metadata": {"name": "line"}}
    world.put({**user, "spec": {"modelVersion": "m-1-0-0"}})
    world.settle()
    assert world.unfinished() == ["verify-m-1-0-0-2"]


def test_versions_are_not_all_due_at_once() -> None:
    spec = ModelVersionSpec.model_validate(version(verification={"every": "100h"})["spec"])
    run = attempts.Run(attempt=1, settled=1, began="2026-11-21T06:00:00Z")
    moments = {
        attempts.next_time({"metadata": {"uid": f"uid-{number}"}}, spec, INSTALLATION, run, is_used=False)
        for number in range(50)
    }
    assert len(moments) > 40


def test_a_job_that_is_refused_takes_nothing_back() -> None:
    world = settled()
    world.refusals = {"verify-m-1-0-0-2": Refusal("policy forbids it", final=False)}
    ask(world, "1")
    assert facts(world) == ("True", "False", "False")
    assert world.status["verification"]["reason"] == "JobRefused"
    assert world.reasons == ["Verified", "JobRefused"]
    world.refusals = {}
    world.settle()
    assert world.unfinished() == ["verify-m-1-0-0-2"]


def test_killed_between_any_two_writes_one_job_an_attempt_is_made() -> None:
    for writes in range(3):
        world = settled()
        world.obj["metadata"]["annotations"] = {names.VERIFY_ANNOTATION: "1"}
        world.carry_out(world.plan(), writes)
        world.settle()
        assert world.unfinished() == ["verify-m-1-0-0-2"]
        world.finish("verify-m-1-0-0-2", verified(HASH_MISMATCH), code=1)
        world.carry_out(world.plan(), writes)
        world.settle()
        assert world.condition("Verified")["reason"] == "HashMismatch"
        assert len(world.all("Job")) == 2


def test_a_status_that_was_lost_has_it_verified_anew() -> None:
    world = settled()
    world.obj["status"] = {}
    world.delete_job("verify-m-1-0-0-1")
    world.settle()
    assert world.unfinished() == ["verify-m-1-0-0-1"]


def test_an_object_restored_with_its_finding_is_not_verified_anew() -> None:
    world = settled()
    kept = world.condition("Verified")
    world.obj["status"] = {"conditions": [kept]}
    world.delete_job("verify-m-1-0-0-1")
    world.settle()
    assert world.unfinished() == []
    assert facts(world) == ("True", "False", "False")
    ask(world, "now")
    assert world.unfinished() == ["verify-m-1-0-0-2"]


def order(installation: Any = INSTALLATION, *artifacts: dict[str, Any], **spec: Any) -> dict[str, Any]:
    obj = World(version(artifacts=artifacts, **spec)).obj
    job = verification.job(obj, ModelVersionSpec.model_validate(obj["spec"]), 1, installation)
    container = job["spec"]["template"]["spec"]["containers"][0]
    told: dict[str, Any] = json.loads(container["env"][0]["value"])
    return told | {"resources": container["resources"], "seconds": job["spec"]["activeDeadlineSeconds"]}


def test_the_job_has_room_for_the_models_and_its_memory_is_bounded() -> None:
    large = artifact(sizeBytes=1 << 30)
    told = order(INSTALLATION, large, artifact("int8", sizeBytes=1 << 28, precision="int8"))
    assert told["resources"]["limits"] == {"cpu": "2", "memory": str((512 << 20) + (4 << 30))}
    assert told["resources"]["requests"]["ephemeral-storage"] == str((1 << 30) + (1 << 28))
    assert told["seconds"] == 600 + 1280 + 2 * 480
    assert told["inference"] == {"folder": "/scratch"}
    bounded = order(INSTALLATION, large, verification={"memoryLimit": "3Gi"})
    assert bounded["resources"]["limits"] == {"cpu": "2", "memory": "3Gi"}
    for plain in (
        order(INSTALLATION, large, verification={"inference": "None"}),
        order(INSTALLATION, {**large, "format": "safetensors"}),
    ):
        assert "inference" not in plain
        assert plain["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}


def test_samples_and_tolerance_are_handed_on_with_their_secret() -> None:
    samples = {"uri": "s3://a/s.npz", "sha256": "77aa" * 16, "sizeBytes": 9, "credentialsSecretRef": {"name": "other"}}
    told = order(INSTALLATION, verification={"tolerance": "0.05", "samples": samples})
    assert told["inference"]["tolerance"] == 0.05
    assert told["inference"]["samples"]["credentialsPath"] == "/var/run/modelfleet/credentials/other"


def test_signatures_are_looked_at_as_the_installation_has_it() -> None:
    keys = (TrustedKey("a", "PEM", ("vision",)), TrustedKey("b", "PEM", ("elsewhere",)), TrustedKey("c", "PEM"))
    assert "signing" not in order(replace(INSTALLATION, public_keys=keys))
    told = order(
        replace(INSTALLATION, public_keys=keys, signatures="Require"),
        artifact(),
        artifact("int8", signatureUri="s3://signatures/model.sig"),
    )
    assert [key["name"] for key in told["signing"]["keys"]] == ["a", "c"]
    assert told["signing"]["required"] is True
    assert [each["signatureUri"] for each in told["files"]] == [
        "s3://models/m/fp32.onnx.sig",
        "s3://signatures/model.sig",
    ]
    assert order(replace(INSTALLATION, public_keys=keys, signatures="IfPresent"))["signing"]["required"] is False
