"""Faults in mid-verification, on a real API server: each ends as the fault-free run does, with one Job an attempt."""

import itertools
import json
import random
import re
from typing import Any

import pytest

from e2e.cluster.commands import wait_until
from e2e.kubectl import condition, is_true
from tests.faults import Fault, Faults, Kind, injected
from tests.integration.training.conftest import Bench, artifact, found, model_version
from tests.objects import RawObject

WRITES = ("job", "begun", "event", "verdict")
"""Of a version that is verified: its Job, the status that says so, the Event, and the status with the result."""


def sort(path: str, body: Any) -> tuple[str, str]:
    """The version that a write is about, and which of its writes it is."""
    text = f"{path} {json.dumps(body)}"
    match = re.search(r"m-[12]-[0-9]+-[0-9]+", text)
    name = match[0] if match else ""
    if path.endswith("/jobs"):
        return name, "job"
    if path.endswith("/status"):
        return name, "verdict" if '"reason": "Verified"' in text else "begun"
    return name, "event" if path.endswith("/events") and body["reason"] == "Verified" else ""


def end_state(version: RawObject) -> RawObject:
    """What the faults must not change."""
    status = version["status"]
    return {
        "conditions": [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
        "stage": status["stage"],
        "history": [entry["stage"] for entry in status["history"]],
        "attempt": status["verification"]["attempt"],
        "artifacts": [(each["name"], each["verified"]) for each in status["artifacts"]],
    }


def jobs_of(bench: Bench, name: str) -> list[str]:
    return [job["metadata"]["name"] for job in bench.kubectl.list("jobs", f"modelfleet.dev/model-version={name}")]


def ends_as_if_nothing_had_been(bench: Bench, names: list[str], fault_free: str) -> None:
    expected = end_state(bench.until("modelversion", fault_free, lambda each: is_true(each, "Ready")))
    for name in names:
        version = bench.until("modelversion", name, lambda each: is_true(each, "Ready"))
        assert end_state(version) == expected, name
        assert jobs_of(bench, name) == [f"verify-{name}-1"]
        events = [
            each
            for each in bench.kubectl.list("events.events.k8s.io")
            if each["regarding"]["name"] == name and each["reason"] == "Verified"
        ]
        assert len(events) == 1, name


def test_errors_and_lost_answers_make_no_second_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: tuple[Kind, ...] = ("lost answer", "409", "422", "429", "500")
    cases = {
        f"m-1-{at}-{index}": Fault(write, kind)
        for (at, write), (index, kind) in itertools.product(enumerate(WRITES), enumerate(kinds))
        # An Event's creation answered by 409 was told before: its name says what it tells. One that is refused is
        # not waited for: the status tells the same.
        if (write, kind) not in (("event", "409"), ("event", "422"))
    }
    with injected(Faults(sort, dict(cases)), monkeypatch) as faults:
        names = ["m-2-0-0", *cases]
        bench.kubectl.apply(*(model_version(version=name[2:].replace("-", ".")) for name in names))
        for name in names:
            bench.finish(f"verify-{name}-1", found())
        ends_as_if_nothing_had_been(bench, list(cases), "m-2-0-0")
        for name, fault in cases.items():
            again = fault.kind != "lost answer" or fault.write == "event"
            assert faults.written[name, fault.write] >= (2 if again else 1), name


def test_killed_before_and_after_each_write_it_ends_alike(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {f"m-1-{at}-0": Fault(write, "crash before") for at, write in enumerate(WRITES)}
    cases["m-1-3-1"] = Fault("verdict", "crash after")
    with injected(Faults(sort, dict(cases)), monkeypatch) as faults:
        bench.kubectl.apply(model_version(version="2.0.0"))
        bench.finish("verify-m-2-0-0-1", found())
        for name, fault in cases.items():
            bench.kubectl.apply(model_version(version=name[2:].replace("-", ".")))
            late = fault.write in ("event", "verdict")
            if late:
                bench.finish(f"verify-{name}-1", found())
            wait_until(faults.crashed.is_set, f"the operator to be killed at the write: {fault.write}", 60)
            bench.operator.stop()
            faults.crashed.clear()
            bench.operator.start()
            if not late:
                bench.finish(f"verify-{name}-1", found())
        ends_as_if_nothing_had_been(bench, list(cases), "m-2-0-0")


def test_what_others_change_is_put_right(bench: Bench) -> None:
    bench.kubectl.apply(model_version(aliases=["champion"]))
    bench.finish("verify-m-1-0-0-1", found())
    before = bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))["status"]
    for change in (
        {"stage": "Online"},
        {"aliases": ["another"]},
        {"snapshotHash": "sha256:" + "0" * 64},
        {"usedBy": [{"kind": "EdgeDeployment", "name": "nobody", "role": "Stable"}]},
    ):
        patch = json.dumps({"status": change})
        bench.kubectl("patch", "mv", "m-1-0-0", "--subresource=status", "--type=merge", f"--patch={patch}")
        (key,) = change

        def is_right(each: RawObject, key: str = key) -> bool:
            return bool(each["status"].get(key) == before.get(key))

        bench.until("modelversion", "m-1-0-0", is_right)
    bench.kubectl("patch", "mv", "m-1-0-0", "--subresource=status", "--type=merge", '--patch={"status": null}')
    again = bench.until("modelversion", "m-1-0-0", lambda each: condition(each, "Verified"))
    assert jobs_of(bench, "m-1-0-0") == ["verify-m-1-0-0-1"]
    again = bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))
    assert again["status"]["artifacts"] == before["artifacts"], "the report of the Job is still there to be read"


def test_a_verifying_job_that_others_change_is_still_the_one(bench: Bench) -> None:
    bench.kubectl.apply(model_version())
    name = "verify-m-1-0-0-1"
    bench.job(name)
    labels = {"app.kubernetes.io/managed-by": None, "modelfleet.dev/model-version": "another"}
    for change in (
        {"metadata": {"labels": labels, "annotations": {"team": "vision"}}},
        {"metadata": {"ownerReferences": []}},
        {"spec": {"suspend": True}},
        {"spec": {"ttlSecondsAfterFinished": 86_400}},
    ):
        bench.kubectl("patch", "job", name, "--type=merge", f"--patch={json.dumps(change)}")
    told = bench.until("modelversion", "m-1-0-0", lambda each: condition(each, "Verified").get("reason") == "Queued")
    assert "suspended by somebody else" in condition(told, "Verified")["message"]
    bench.kubectl("patch", "job", name, "--type=merge", '--patch={"spec": {"suspend": false}}')
    bench.finish(name, found())
    version = bench.until("modelversion", "m-1-0-0", lambda each: is_true(each, "Ready"))
    assert version["status"]["verification"]["attempt"] == 1
    assert [job["metadata"]["name"] for job in bench.kubectl.list("jobs")] == [name]


def test_a_version_of_the_same_name_takes_nothing_over_from_its_predecessor(bench: Bench) -> None:
    """Deleted and created again with other bytes while no operator runs, and the old Job says that all is well."""
    bench.kubectl.apply(model_version())
    bench.job("verify-m-1-0-0-1")
    bench.operator.stop()
    try:
        bench.finish("verify-m-1-0-0-1", found())
        bench.kubectl("delete", "modelversion", "m-1-0-0")
        bench.kubectl.apply(model_version(artifact(sha256="bb" * 32)))
    finally:
        bench.operator.start()
    wrong = found(verified=False, reason="HashMismatch", message="its sha256 is 77aa")
    first = bench.kubectl.get("modelversion", "m-1-0-0")
    assert first is not None
    uid = first["metadata"]["uid"]

    def is_of_the_new_one(job: RawObject) -> bool:
        return any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences", ()))

    bench.until("job", "verify-m-1-0-0-1", is_of_the_new_one)
    bench.finish("verify-m-1-0-0-1", wrong, code=1)
    version = bench.until("modelversion", "m-1-0-0", lambda each: condition(each, "Stalled").get("status") == "True")
    assert condition(version, "Verified")["reason"] == "HashMismatch"


def test_any_sequence_of_edits_ends_as_its_last_one_applied_at_once(bench: Bench) -> None:
    """Aliases, deprecation and schedules of three versions; which alias is whose depends on all of them."""
    chance = random.Random(20261121)
    versions = {f"m-{major}-0-0": f"{major}.0.0" for major in (1, 2, 3)}

    def edit() -> RawObject:
        names = chance.sample(["champion", "stable", "canary", "next"], chance.randint(0, 3))
        hours = chance.choice([None, "24h", "48h"])
        verification = {"every": hours} if hours else None
        return {"aliases": names or None, "deprecated": chance.random() < 0.3, "verification": verification}

    edits = {name: edit() for name in versions}
    for name, version in versions.items():
        bench.kubectl.apply(model_version(version=version, **without_none(edits[name])))
        bench.finish(f"verify-{name}-1", found())
    for _ in range(10):
        name = chance.choice(list(versions))
        edits[name] = edit()
        patch = json.dumps({"spec": edits[name]})
        bench.kubectl("patch", "modelversion", name, "--type=merge", f"--patch={patch}")
    edited = {name: settled(bench, name) for name in versions}
    bench.kubectl("delete", "modelversion", "--all")
    bench.kubectl("wait", "jobs", "--all", "--for=delete", "--timeout=120s")
    for name, version in versions.items():
        bench.kubectl.apply(model_version(version=version, **without_none(edits[name])))
        bench.finish(f"verify-{name}-1", found())
    for name in versions:
        bench.until("modelversion", name, lambda each, name=name: is_seen(each) and outcome(each) == edited[name])


def without_none(spec: RawObject) -> RawObject:
    return {key: value for key, value in spec.items() if value is not None}


def is_seen(version: RawObject) -> bool:
    return bool(version.get("status", {}).get("observedGeneration") == version["metadata"]["generation"])


def outcome(version: RawObject) -> RawObject:
    """What a version comes to, apart from its history: it tells the way there."""
    return {key: value for key, value in end_state(version).items() if key != "history"} | {
        "aliases": version["status"].get("aliases", [])
    }


def settled(bench: Bench, name: str) -> RawObject:
    """What a version comes to, once the operator has seen its last edit and those of the others."""
    earlier: RawObject = {}

    def same_again(version: RawObject) -> bool:
        nonlocal earlier
        earlier, last = outcome(version), earlier
        return is_seen(version) and is_true(version, "Ready") and earlier == last

    bench.until("modelversion", name, same_again)
    return earlier
