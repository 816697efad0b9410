"""What stops a rollout, lets it pass and sends it back, on a real API server with simulated gateways."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.edge.conftest import Line, artifact
from tests.objects import RawObject

SITE = "plant-d"
POOL = {"name": "x86", "nodeSelector": {"pool": "x86", "site": SITE}}
PILOT = [{"name": "pilot", "nodes": 2, "soak": "1s", "approval": "Manual"}, {"name": "all", "nodes": "100%"}]


@pytest.fixture
def piloted(line: Line) -> Line:
    """A line on the first version, 20 gateways, that has a pilot wave from now on."""
    line.register("1.0.0")
    line.register("2.0.0")
    line.deploy([POOL], strategy={"maxUnavailable": "100%"})
    line.until_healthy("1.0.0")
    line.edit(strategy={"waves": PILOT})
    return line


def annotate(line: Line, **said: str | None) -> None:
    annotations = {f"modelfleet.dev/{verb}": value for verb, value in said.items()}
    patch = json.dumps({"metadata": {"annotations": annotations}})
    line.kubectl("patch", "edgedeployment", "line", "--type=merge", "--patch", patch)


def rollout(status: RawObject) -> str:
    return f"{status['candidate']['revision']}/{status['attempt']}"


def until_paused(line: Line, reason: str) -> RawObject:
    return line.until(lambda at: at["phase"] == "Paused" and at["conditions"][4]["reason"] == reason)


def test_a_wave_soaks_and_is_approved_by_annotation(piloted: Line) -> None:
    line = piloted
    line.edit(modelVersion="m-2-0-0")
    status = until_paused(line, "AwaitingApproval")
    assert status["wave"] == "pilot"
    assert status["soakStartedAt"] >= status["waveStartedAt"]
    assert len(line.serving("2.0.0")) == 2
    assert f"modelfleet.dev/promote={rollout(status)}/pilot" in status["message"]
    annotate(line, promote="yes")
    line.until(lambda at: "refusedCommand" in at)
    annotate(line, promote=f"{rollout(status)}/pilot")
    status = line.until_healthy("2.0.0")
    assert status["lastCommand"].endswith("/1/pilot")
    assert "refusedCommand" not in status
    assert len(line.serving("2.0.0")) == 20
    assert {"AwaitingApproval", "CommandRefused", "CommandObeyed"} <= set(line.events())


def test_an_aborted_rollout_goes_back_and_is_tried_again_by_command_only(piloted: Line) -> None:
    line = piloted
    line.edit(modelVersion="m-2-0-0")
    begun = rollout(until_paused(line, "AwaitingApproval"))
    annotate(line, abort=begun)
    status = line.until(lambda at: at["phase"] == "RolledBack")
    assert status["abortedRevision"] == begun.partition("/")[0]
    assert len(line.serving("1.0.0")) == 20
    annotate(line, abort=None)
    line.edit(revisionHistoryLimit=6)
    line.until(lambda at: at["phase"] == "RolledBack")
    annotate(line, retry=begun)
    status = until_paused(line, "AwaitingApproval")
    assert (status["attempt"], status.get("abortedRevision")) == (2, None)
    line.operator.stop()
    line.operator.start()
    annotate(line, promote=f"{rollout(status)}/full", pause=rollout(status))
    until_paused(line, "Paused")
    assert len(line.serving("2.0.0")) == 2
    annotate(line, pause=None)
    line.until_healthy("2.0.0")


def test_a_status_lost_in_mid_rollout_costs_no_approval(piloted: Line) -> None:
    line = piloted
    line.edit(modelVersion="m-2-0-0")
    until_paused(line, "AwaitingApproval")
    line.operator.stop()
    remove = '--patch=[{"op":"remove","path":"/status"}]'
    line.kubectl("patch", "edgedeployment", "line", "--subresource=status", "--type=json", remove)
    line.operator.start()
    status = until_paused(line, "AwaitingApproval")
    assert status["stable"]["modelVersion"] == "m-1-0-0"
    assert len(line.serving("2.0.0")) == 2
    line.edit(modelVersion="m-1-0-0")
    line.until_healthy("1.0.0")
    assert len(line.serving("1.0.0")) == 20


def test_a_version_that_devices_refuse_is_rolled_back_and_not_tried_again(piloted: Line) -> None:
    line = piloted
    line.register("3.0.0", [artifact("broken", precision="int8")])
    before = len(line.operator.writes())
    line.edit(modelVersion="m-3-0-0")
    status = line.until(lambda at: at["phase"] == "RolledBack")
    assert status["conditions"][2]["reason"] == "HashMismatch"
    assert "rolled back to m-1-0-0: wave pilot: " in status["message"]
    assert "(HashMismatch): broken: the device got" in status["message"]
    assert len(line.serving("1.0.0")) == 20
    labels = [each for each in line.operator.writes()[before:] if each["objectRef"]["resource"] == "nodes"]
    assert len(labels) == 4, "two pilots, there and back"
    line.operator.stop()
    line.operator.start()
    line.edit(revisionHistoryLimit=6)
    line.until(lambda at: at["phase"] == "RolledBack")
    assert {"HashMismatch", "RolloutAborted", "RolledBack"} <= set(line.events())
    line.edit(modelVersion="m-2-0-0")
    until_paused(line, "AwaitingApproval")


def test_where_failures_pause_a_rollout_a_person_decides(piloted: Line) -> None:
    line = piloted
    line.register("3.0.0", [artifact("broken", precision="int8")])
    line.edit(modelVersion="m-3-0-0", strategy={"onFailure": "Pause"})
    status = until_paused(line, "FailureThresholdExceeded")
    assert status["counts"]["failed"] == 2
    assert len(line.serving("1.0.0")) == 20, "where it failed, the version before goes on"
    annotate(line, abort=rollout(status))
    line.until(lambda at: at["phase"] == "RolledBack")
    assert len(line.serving("1.0.0")) == 20


def test_outside_of_its_window_a_rollout_waits_and_a_roll_back_does_not(piloted: Line) -> None:
    line = piloted
    hour = (datetime.now(UTC) + timedelta(hours=12)).hour
    window = {"schedule": f"0 {hour} * * *", "duration": "1h", "timeZone": "Etc/UTC"}
    line.edit(modelVersion="m-2-0-0", strategy={"waves": PILOT, "maintenanceWindow": window, "startsPerMinute": 1})
    status = line.until(lambda at: at["conditions"][0]["reason"] == "OutsideMaintenanceWindow")
    assert f"T{hour:02}:00+00:00 (Etc/UTC)" in status["message"]
    assert len(line.serving("2.0.0")) == 0
    line.edit(strategy={"maintenanceWindow": None, "startsPerMinute": None})
    status = until_paused(line, "AwaitingApproval")
    line.edit(strategy={"maintenanceWindow": window})
    annotate(line, abort=rollout(status))
    line.until(lambda at: at["phase"] == "RolledBack")
    assert len(line.serving("1.0.0")) == 20
