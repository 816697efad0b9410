"""What a serving pod's status is read as."""

from typing import Any

import pytest

from modelfleet.plan.edge import serving_pod
from modelfleet.plan.edge.serving_pod import Trouble

MISMATCH = '{"file":"int8","reason":"HashMismatch","message":"other bytes"}'
AWAY = '{"file":"int8","reason":"Unreachable","message":"no route to the store"}'
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}


def pod(init: dict[str, Any] | None = None, serve: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """A pod that is not ready, with these states of its containers."""
    statuses = {
        "initContainerStatuses": [{"name": "fetch", **(init or {"state": {}})}],
        "containerStatuses": [{"name": "serve", **(serve or {"state": {"waiting": {"reason": "PodInitializing"}}})}],
    }
    return {
        "metadata": {
            "name": "p",
            "creationTimestamp": "2026-11-21T00:00:00Z",
            "labels": {"modelfleet.dev/workload": "w"},
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": "Pending", **statuses, **status},
    }


def ended(message: str, exit_code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}


DONE = {"state": ended("", 0, "Completed"), "lastState": ended(MISMATCH)}


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (pod(), None),
        (pod({"state": ended(MISMATCH)}), Trouble("HashMismatch", "int8: other bytes", permanent=True)),
        # Between two deaths, and while it runs once more, it is still known what it died of.
        (pod({"state": BACK_OFF, "lastState": ended(MISMATCH)}), Trouble("HashMismatch", "int8: other bytes", True)),
        (
            pod({"state": {"running": {}}, "lastState": ended(MISMATCH)}),
            Trouble("HashMismatch", "int8: other bytes", True),
        ),
        (pod({"state": BACK_OFF, "lastState": ended(AWAY, 75)}), Trouble("Unreachable", "int8: no route to the store")),
        # What has succeeded in the end is not held against it.
        (pod(DONE), None),
        (pod(DONE, {"state": ended(MISMATCH)}), Trouble("HashMismatch", "int8: other bytes", True)),
        (
            pod(DONE, {"state": BACK_OFF, "lastState": ended("boom", 137, "OOMKilled")}),
            Trouble("OOMKilled", "container serve ended with exit code 137: boom"),
        ),
        (
            pod({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}),
            Trouble("ImagePullBackOff", "no such image"),
        ),
        (
            pod(
                conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}]
            ),
            Trouble("Unschedulable", "no GPU"),
        ),
        (pod(phase="Failed", reason="Evicted", message="out of disk"), Trouble("Evicted", "out of disk")),
    ],
)
def test_why_a_pod_is_not_ready(observed: dict[str, Any], expected: Trouble | None) -> None:
    found = serving_pod.read(observed)
    assert found.trouble == expected
    assert not found.ready


def test_events_speak_where_the_status_is_silent() -> None:
    hint = Trouble("FailedMount", 'secret "store" not found')
    assert serving_pod.read(pod(), hint).trouble == hint
    told = serving_pod.read(pod({"state": ended(MISMATCH)}), hint).trouble
    assert told is not None
    assert told.reason == "HashMismatch"


def test_a_ready_pod_has_no_trouble_whatever_it_went_through() -> None:
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T00:01:00Z"}]
    found = serving_pod.read(pod(DONE, {"state": {"running": {}}}, phase="Running", conditions=ready))
    assert (found.ready, found.running, found.trouble, found.unready_since) == (True, True, None, "")


def test_it_is_not_ready_since_it_lost_readiness_or_was_made() -> None:
    assert serving_pod.read(pod()).unready_since == "2026-11-21T00:00:00Z"
    lost = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-21T09:00:00Z"}]
    assert serving_pod.read(pod(conditions=lost)).unready_since == "2026-11-21T09:00:00Z"


def test_a_pod_that_waits_for_its_node_is_known_to_belong_to_it() -> None:
    waiting = pod()
    field = {"key": "metadata.name", "operator": "In", "values": ["gw-1"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    waiting["spec"] = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert serving_pod.read(waiting).node == "gw-1"


def run_of(minutes: int, restarts: int, now: str = "waiting") -> dict[str, Any]:
    """A serving container that was restarted so often, the last time after so many minutes."""
    ended_run = {"exitCode": 1, "startedAt": "2026-11-21T01:00:00Z", "finishedAt": f"2026-11-21T01:{minutes:02}:00Z"}
    states = {
        "waiting": {"state": BACK_OFF, "lastState": {"terminated": ended_run}},
        "terminated": {"state": {"terminated": ended_run}},
        "running": {
            "state": {"running": {"startedAt": "2026-11-21T02:00:00Z"}},
            "lastState": {"terminated": ended_run},
        },
    }
    return {"restartCount": restarts, **states[now]}


@pytest.mark.parametrize(
    ("serve", "deaths"),
    [
        (None, 0),
        ({"restartCount": 9, "state": {"running": {}}}, 0),
        ({"restartCount": 9, "state": BACK_OFF, "lastState": ended("boom")}, 0),
        (run_of(1, restarts=2), 0),
        (run_of(1, restarts=3), 3),
        (run_of(1, restarts=7, now="terminated"), 7),
        (run_of(1, restarts=3, now="running"), 3),
        # It ran long enough: whatever it did before is forgotten.
        (run_of(10, restarts=30), 0),
    ],
)
def test_deaths_count_while_they_come_soon_after_the_start(serve: dict[str, Any] | None, deaths: int) -> None:
    assert serving_pod.read(pod(DONE, serve)).deaths == deaths
