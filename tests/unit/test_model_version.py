"""The plan of a ModelVersion: one verification, and again only where that can help."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelfleet.api import wire
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.api.model_version_status import ModelVersionStatus
from modelfleet.plan import conditions, job_state
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.version import aliases, stage, verification
from modelfleet.runtime import report
from tests.unit.job_world import INSTALLATION, START, World, artifact, verified, version

HASH_MISMATCH = {"name": "fp32", "verified": False, "reason": "HashMismatch", "message": "its sha256 is ab12"}
UNREACHABLE = {"name": "fp32", "verified": False, "reason": "Unreachable", "message": "connection refused"}


@pytest.fixture
def world() -> World:
    up = World(version())
    up.settle()
    return up


def deployment(name: str, wants: str, stable: str = "", candidate: str = "") -> dict[str, Any]:
    status = {
        role: {"modelVersion": used, "revision": "r"}
        for role, used in (("stable", stable), ("candidate", candidate))
        if used
    }
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "EdgeDeployment",
        "metadata": {"name": name},
        "spec": {"modelVersion": wants},
        "status": status,
    }


def test_artifacts_are_verified_once_and_never_again(world: World) -> None:
    assert world.condition("Verified")["status"] == "Unknown"
    assert world.condition("Reconciling")["status"] == "True"
    assert world.unfinished() == ["verify-m-1-0-0-1"]
    world.finish("verify-m-1-0-0-1", verified())
    world.settle()
    assert world.condition("Verified")["status"] == "True"
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Reconciling")["status"] == "False"
    assert world.status["artifacts"] == [
        {"name": "fp32", "verified": True, "sizeBytes": 1000, "verifiedAt": "2026-11-21T06:00:00Z"}
    ]
    assert world.reasons == ["Verified"]
    assert world.status["history"] == [
        {"stage": "Registered", "since": "2026-11-21T06:00:00Z"},
        {"stage": "Verified", "since": "2026-11-21T06:00:00Z"},
    ]
    # The finished Job is cleaned away by its time to live; that is no reason to hash again.
    world.delete_job("verify-m-1-0-0-1")
    assert world.wait(86_400) == 0
    ModelVersionStatus.model_validate(world.status)


def test_the_report_of_a_predecessor_of_the_same_name_counts_for_nothing(world: World) -> None:
    """A version deleted and registered again: the old Job's pod may outlive it, and saw other bytes."""
    world.finish("verify-m-1-0-0-1", verified(HASH_MISMATCH), code=1)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "verify-m-1-0-0-1", "uid": "before", "controller": True}
    old = world.objects.pop(("Pod", "verify-m-1-0-0-1-0"))
    old["metadata"] |= {"name": "a-predecessors", "ownerReferences": [owner]}
    world.put(old)
    world.finish("verify-m-1-0-0-1", verified())
    world.settle()
    assert world.condition("Verified")["status"] == "True"


def test_the_largest_status_stays_below_its_bound() -> None:
    ports = ["x" * 96] * 8
    files = [
        wire.VerifiedFile(
            name=f"{'a' * 28}{index:02}",
            verified=False,
            reason="Unreachable",
            message="x" * 4000,
            inputs=ports,
            outputs=ports,
            agreement=wire.AgreementReport(reference="a" * 30, difference="0.000123", tolerance="0.001"),
            signed_by="k" * 63,
        )
        for index in range(16)
    ]
    up = World(version(artifacts=tuple(artifact(file.name) for file in files)))
    up.settle()
    for index in range(100):
        up.put(deployment(f"{'d' * 37}{index:03}", "m-1-0-0", stable="m-1-0-0"))
    users = [f"{'d' * 37}{index:03}" for index in range(5)]
    entry = {"stage": "Registered", "since": "2026-11-21T06:00:00Z", "usedBy": users}
    up.obj["status"]["history"] = [entry | {"stage": ("Registered", "Verified")[at % 2]} for at in range(50)]
    up.finish("verify-m-1-0-0-1", report.trimmed(wire.VerifyReport(artifacts=files)).decode(), code=75)
    up.settle()
    ModelVersionStatus.model_validate(up.status)
    assert len(up.status["usedBy"]) == 100
    assert len(up.status["history"]) == 50
    assert len(json.dumps(up.status)) < 32 * 1024


@pytest.mark.parametrize("reason", ["HashMismatch", "SizeMismatch"])
def test_wrong_bytes_are_final(world: World, reason: str) -> None:
    world.finish("verify-m-1-0-0-1", verified(HASH_MISMATCH | {"reason": reason}), code=1)
    world.settle()
    condition = world.condition("Verified")
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert "fp32" in condition["message"]
    assert "register a new version" in condition["message"]
    assert world.condition("Stalled")["status"] == "True"
    assert world.reasons == [reason]
    world.delete_job("verify-m-1-0-0-1")
    assert world.wait(86_400) == 0


def test_a_store_that_is_down_is_asked_again_with_growing_pauses(world: World) -> None:
    pauses = []
    for attempt in range(1, 10):
        world.finish(f"verify-m-1-0-0-{attempt}", verified(UNREACHABLE), code=75)
        world.settle()
        assert world.condition("Verified")["reason"] == "Unreachable"
        assert world.condition("Reconciling")["status"] == "True"
        pause = world.plan().requeue_after
        assert pause is not None
        pauses.append(round(pause))
        assert world.wait(pause - 2) == 0
        world.wait(3)
        assert world.unfinished() == [f"verify-m-1-0-0-{attempt + 1}"]
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert world.reasons == ["Unreachable"]
    world.finish("verify-m-1-0-0-10", verified())
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_while_it_is_tried_again_the_last_finding_stays(world: World) -> None:
    world.finish("verify-m-1-0-0-1", verified(UNREACHABLE), code=75)
    world.wait(11)
    condition = world.condition("Verified")
    assert world.unfinished() == ["verify-m-1-0-0-2"]
    assert (condition["status"], condition["reason"]) == ("False", "Unreachable")
    assert "next attempt" not in condition["message"]


@pytest.mark.parametrize("message", ["", "Traceback: boom", json.dumps({"artifacts": "none"})])
def test_a_report_that_is_lost_is_made_again(world: World, message: str) -> None:
    world.finish("verify-m-1-0-0-1", message, code=1)
    world.settle()
    assert world.condition("Verified")["reason"] == "ReportLost"
    world.wait(11)
    assert world.unfinished() == ["verify-m-1-0-0-2"]


def test_a_job_deleted_by_hand_is_made_again(world: World) -> None:
    world.delete_job("verify-m-1-0-0-1")
    world.wait(11)
    assert world.unfinished() == ["verify-m-1-0-0-2"]


def test_an_attempt_that_takes_too_long_is_given_up_and_repeated(world: World) -> None:
    world.finish("verify-m-1-0-0-1", reason="DeadlineExceeded")
    world.settle()
    assert world.condition("Verified")["reason"] == "Unreachable"
    assert "did not end within 1080 s" in world.condition("Verified")["message"]


def test_a_pod_on_a_node_that_is_dead_for_good_holds_nothing_up(world: World) -> None:
    """The Job controller says that the Job will fail, and then waits for the pod's end."""
    target = {
        "type": "FailureTarget",
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "lastTransitionTime": conditions.timestamp(world.now),
    }
    (world.job("verify-m-1-0-0-1") or {})["status"] = {"conditions": [target]}
    world.settle()
    assert world.condition("Verified")["reason"] == "Verifying"
    world.wait(179)
    assert world.unfinished() == ["verify-m-1-0-0-1"]
    world.wait(1)
    assert "verify-m-1-0-0-2" in world.unfinished()
    assert world.condition("Verified")["reason"] == "ReportLost"


def test_why_nothing_runs_is_told(world: World) -> None:
    world.trouble = job_state.Trouble("QuotaExceeded", "pods is forbidden: exceeded quota: none")
    world.settle()
    assert world.condition("Verified")["reason"] == "QuotaExceeded"
    assert "exceeded quota" in world.condition("Ready")["message"]
    assert world.reasons == ["QuotaExceeded"]
    world.trouble = None
    world.settle()
    assert world.condition("Verified")["reason"] == "Verifying"


def test_a_job_that_is_refused_is_told_and_asked_for_again() -> None:
    world = World(version())
    world.refusals = {"verify-m-1-0-0-1": Refusal("policy forbids it", final=False)}
    world.settle()
    assert world.condition("Verified")["reason"] == "JobRefused"
    assert world.condition("Stalled")["status"] == "True"
    assert world.plan().requeue_after == 30
    world.refusals = {}
    world.settle()
    assert world.unfinished() == ["verify-m-1-0-0-1"]


def test_killed_between_any_two_writes_it_comes_to_the_same_end() -> None:
    for writes in range(3):
        world = World(version())
        world.carry_out(world.plan(), writes)
        world.settle()
        assert world.unfinished() == ["verify-m-1-0-0-1"]
        world.finish("verify-m-1-0-0-1", verified())
        world.carry_out(world.plan(), writes)
        world.settle()
        assert world.condition("Ready")["status"] == "True"
        assert len(world.all("Job")) == 1


def test_the_worst_finding_is_told_with_how_many_more() -> None:
    spec = ModelVersionSpec.model_validate(version(artifacts=(artifact("fp32"), artifact("int8")))["spec"])
    report = {"artifacts": [UNREACHABLE, HASH_MISMATCH | {"name": "int8"}]}
    found = verification.judge(spec, wire.VerifyReport.model_validate(report))
    assert found.reason == "HashMismatch"
    assert found.message.startswith("artifact int8 (1 more): its sha256 is ab12")
    assert found.is_final


def test_an_artifact_that_the_report_passes_over_is_not_verified() -> None:
    spec = ModelVersionSpec.model_validate(version(artifacts=(artifact("fp32"), artifact("int8")))["spec"])
    found = verification.judge(
        spec, wire.VerifyReport(artifacts=[wire.VerifiedFile(name="fp32", verified=True, size_bytes=1)])
    )
    assert (found.reason, found.is_final) == ("Invalid", False)
    assert "int8" in found.message


def test_the_job_names_the_secret_and_runs_without_rights() -> None:
    obj = World(version(artifacts=(artifact(credentialsSecretRef={"name": "store"}),))).obj
    job = verification.job(obj, ModelVersionSpec.model_validate(obj["spec"]), 3, INSTALLATION)
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert [volume.get("secret", {}).get("secretName") for volume in pod["volumes"]] == [None, None, "store"]
    order = json.loads(pod["containers"][0]["env"][0]["value"])
    assert order["files"][0]["credentialsPath"] == "/var/run/modelfleet/credentials/store"
    assert job["metadata"]["ownerReferences"][0]["uid"] == obj["metadata"]["uid"]
    assert job["metadata"]["labels"].items() <= job["spec"]["template"]["metadata"]["labels"].items()


def test_a_long_name_still_makes_one_job_an_attempt() -> None:
    names = {verification.job_name("m" * 40 + "-10-20-30-rc-1-and-more", attempt) for attempt in range(1, 40)}
    assert len(names) == 39
    assert all(len(name) <= 63 for name in names)


@pytest.mark.parametrize(
    ("mine", "others", "effective", "lost"),
    [
        ("1.4.0", [], ("champion",), {}),
        ("1.4.0", [("1.3.9", True)], ("champion",), {}),
        ("1.4.0", [("1.10.0", True)], (), {"champion": "1.10.0"}),
        ("1.4.0", [("1.10.0", False)], ("champion",), {}),
        ("1.4.0-rc.1", [("1.4.0", True)], (), {"champion": "1.4.0"}),
        ("1.4.0", [("1.4.0-rc.9", True), ("2.0.0", True), ("10.0.0", True)], (), {"champion": "10.0.0"}),
    ],
)
def test_an_alias_means_the_highest_version_that_claims_it(
    mine: str, others: list[tuple[str, bool]], effective: tuple[str, ...], lost: dict[str, str]
) -> None:
    def spec(number: str, claims: bool = True) -> ModelVersionSpec:
        body = version(number, aliases=["champion"] if claims else [])
        return ModelVersionSpec.model_validate(body["spec"])

    settled = aliases.settle(spec(mine), [aliases.Sibling(spec(number, claims)) for number, claims in others])
    assert (settled.effective, dict(settled.lost)) == (effective, lost)


def test_the_loser_of_an_alias_says_so() -> None:
    world = World(version(aliases=["champion", "nightly"]))
    world.settle()
    assert world.status["aliases"] == ["champion", "nightly"]
    world.put(version("1.1.0", aliases=["champion"]))
    world.settle()
    assert world.status["aliases"] == ["champion", "nightly"]
    world.put(version("1.1.0", aliases=["champion"]) | {"status": {"aliases": ["champion"]}})
    world.settle()
    assert world.status["aliases"] == ["nightly"]
    assert "alias champion is in effect on 1.1.0" in world.condition("Ready")["message"]
    assert "AliasLost" in world.reasons


@pytest.mark.parametrize(
    ("claims", "shown", "rival_claims", "rival_shows", "effective"),
    [
        (True, True, True, False, ("champion",)),
        (True, True, True, True, ()),
        (True, False, True, False, ()),
        (False, True, True, False, ("champion",)),
        (False, True, True, True, ()),
        (False, True, False, False, ()),
        (False, False, True, False, ()),
    ],
    ids=["handing over", "handed over", "never had it", "given up, not taken", "given up, taken", "dropped", "foreign"],
)
def test_an_alias_is_shown_until_the_next_version_shows_it(
    claims: bool, shown: bool, rival_claims: bool, rival_shows: bool, effective: tuple[str, ...]
) -> None:
    def spec(number: str, claims: bool) -> ModelVersionSpec:
        return ModelVersionSpec.model_validate(version(number, aliases=["champion"] if claims else [])["spec"])

    rival = aliases.Sibling(spec("1.1.0", rival_claims), ("champion",) if rival_shows else ())
    settled = aliases.settle(spec("1.0.0", claims), [rival], ("champion",) if shown else ())
    assert settled.effective == effective


def test_the_history_grows_by_each_stage_and_is_capped() -> None:
    entries: list[dict[str, Any]] = []
    now = START
    users = [stage.Use(f"line-{index}", "Canary") for index in range(7)]
    for _ in range(40):
        entries = stage.history(entries, "Gray", users, now)
        entries = stage.history(entries, "Gray", users, now + timedelta(hours=1))
        entries = stage.history(entries, "Verified", [], now + timedelta(hours=2))
        now += timedelta(days=1)
    assert len(entries) == 50
    assert [entry["stage"] for entry in entries[-2:]] == ["Gray", "Verified"]
    assert entries[-2]["since"] == conditions.timestamp(now - timedelta(days=1))
    assert entries[-2]["usedBy"] == ["line-0", "line-1", "line-2", "line-3", "line-4"]
    assert entries[-1]["since"] == conditions.timestamp(now - timedelta(days=1) + timedelta(hours=2))


@pytest.mark.parametrize(
    ("roles", "is_verified", "before", "expected"),
    [
        ([], False, None, "Registered"),
        ([], True, None, "Verified"),
        (["Canary"], False, None, "Registered"),
        (["Canary"], True, "Verified", "Gray"),
        (["Canary", "Stable"], True, "Gray", "Online"),
        (["Stable"], True, "Gray", "Online"),
        ([], True, "Online", "Retired"),
        ([], True, "Retired", "Retired"),
        ([], True, "Gray", "Verified"),
        (["Canary"], True, "Retired", "Gray"),
        (["Stable"], True, "Retired", "Online"),
    ],
)
def test_the_stage_follows_from_use(
    roles: list[stage.Role], is_verified: bool, before: str | None, expected: str
) -> None:
    used_by = [stage.Use(f"line-{index}", role) for index, role in enumerate(roles)]
    assert stage.stage(verified=is_verified, used_by=used_by, before=before) == expected


def test_uses_come_from_what_serves_and_what_is_asked_for() -> None:
    deployments = [
        deployment("serves", "m-1-0-0", stable="m-1-0-0"),
        deployment("rolls", "m-1-0-0", stable="m-0-9-0", candidate="m-1-0-0"),
        deployment("asks", "m-1-0-0"),
        deployment("leaves", "m-2-0-0", stable="m-1-0-0", candidate="m-2-0-0"),
        deployment("other", "m-2-0-0", stable="m-2-0-0"),
    ]
    assert [(use.name, use.role) for use in stage.uses("m-1-0-0", deployments)] == [
        ("asks", "Canary"),
        ("leaves", "Stable"),
        ("rolls", "Canary"),
        ("serves", "Stable"),
    ]


def test_an_edit_of_what_may_change_is_observed_and_hashes_nothing_again(world: World) -> None:
    world.finish("verify-m-1-0-0-1", verified())
    world.settle()
    before = world.status
    world.edit(deprecated=True)
    world.settle()
    assert world.status["observedGeneration"] == 2
    assert world.status["snapshotHash"] == before["snapshotHash"]
    assert world.condition("Ready")["status"] == "True"
    assert world.unfinished() == []


def test_gateways_of_any_platform_are_spared_where_there_is_another_node() -> None:
    world = World(version())
    world.settle()
    job = world.job("verify-m-1-0-0-1") or {}
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    keys = {each["key"]: each["operator"] for each in preferred["preference"]["matchExpressions"]}
    assert keys == {"node-role.kubernetes.io/edge": "DoesNotExist", "openyurt.io/is-edge-worker": "NotIn"}
