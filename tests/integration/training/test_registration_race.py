"""Two teams register one version at the same moment: exactly one wins, and the other is told by whom."""

import asyncio
from typing import Any

import pytest

from e2e.kubectl import condition
from modelfleet.cluster.connection import Connection
from tests.integration.training.conftest import Bench, artifact, report, step, training_job


def test_of_two_jobs_that_register_one_version_exactly_one_wins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Connection.request
    arrived: list[str] = []

    async def request(self: Connection, method: str, path: str, **options: Any) -> Any:
        """Neither registration is sent before both jobs have decided to register."""
        registers = method == "POST" and path.endswith("/modelversions") and "dryRun" not in options["query"]
        if registers:
            arrived.append(options["body"]["spec"]["lineage"]["trainingJob"]["name"])
            for _ in range(600):
                if len(set(arrived)) == 2:
                    break
                await asyncio.sleep(0.1)
        return await original(self, method, path, **options)

    monkeypatch.setattr(Connection, "request", request)
    teams = {"team-a": "0.94", "team-b": "0.95"}
    for team in teams:
        job = training_job(step("train", args=[team])) | {"metadata": {"name": team}}
        bench.kubectl.apply(job)
    for team, accuracy in teams.items():
        bench.finish(f"{team}-train-1", report(artifact(sha256=accuracy[2:] * 32), accuracy=accuracy))
    phases = {
        team: bench.until("trainingjob", team, lambda each: each["status"].get("phase") in ("Succeeded", "Failed"))
        for team in teams
    }
    assert set(arrived) == set(teams), "both had decided before either was answered"
    version = bench.kubectl.get("modelversion", "m-1-0-0")
    assert version is not None
    winner = version["spec"]["lineage"]["trainingJob"]["name"]
    (loser,) = set(teams) - {winner}
    assert version["spec"]["metrics"] == {"accuracy": teams[winner]}
    assert version["spec"]["artifacts"][0]["sha256"] == teams[winner][2:] * 32
    assert phases[winner]["status"]["phase"] == "Succeeded"
    assert phases[winner]["status"]["modelVersion"] == "m-1-0-0"
    assert phases[loser]["status"]["phase"] == "Failed"
    failed = condition(phases[loser], "Failed")
    assert failed["reason"] == "ModelVersionExists"
    assert f"registered by TrainingJob {winner}" in failed["message"]
    assert "Registered" in bench.events(winner)
    assert "Registered" not in bench.events(loser)
