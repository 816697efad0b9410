"""The operator as the program that the image starts: its exit codes, its signals, its logs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plane import Plane
from tests.replicas import deployment

ROOT = Path(__file__).parents[3]


def start(config: Path, plane: Plane, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "modelfleet"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(plane.kubeconfig),
            "MODELFLEET_CONFIG": str(config),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def config(tmp_path: Path, space: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        json.dumps(
            {
                "installationName": space,
                "namespace": space,
                "runtimeImage": "modelfleet/runtime:dev",
                "httpHost": "127.0.0.1",
                "httpPort": 0,
                "logFormat": "json",
                "lease": {"durationSeconds": 3, "renewDeadlineSeconds": 2, "retryPeriodSeconds": 0.5},
            }
        )
    )
    return path


@pytest.fixture
def program(config: Path, plane: Plane) -> "Iterator[subprocess.Popen[str]]":
    process = start(config, plane)
    yield process
    process.kill()
    process.communicate()


def test_sigterm_ends_it_cleanly_and_gives_the_lease_up(
    program: "subprocess.Popen[str]", plane: Plane, space: str
) -> None:
    kubectl = plane.kubectl.within(space)
    kubectl.apply(deployment(space))
    kubectl.wait_for("edgedeployment", "a", lambda obj: obj.get("status", {}).get("conditions"), timeout=180)
    program.send_signal(signal.SIGTERM)
    output, _ = program.communicate(timeout=180)
    assert program.returncode == 0, output
    lines = [json.loads(line) for line in output.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    ours = [line for line in lines if line["logger"].startswith("modelfleet")]
    assert not [line for line in ours if line["level"] in ("ERROR", "CRITICAL")], output
    lease = kubectl.get("lease", "modelfleet")
    assert lease is not None
    assert lease["spec"].get("holderIdentity", "") == ""


def test_a_leader_that_froze_finds_another_one_in_its_place(
    program: "subprocess.Popen[str]", config: Path, plane: Plane, space: str
) -> None:
    kubectl = plane.kubectl.within(space)

    def led_by_other_than(holder: str) -> str:
        """The holder, once it is somebody else."""
        lease = kubectl.wait_for(
            "lease", "modelfleet", lambda obj: obj["spec"].get("holderIdentity", "") not in ("", holder), timeout=180
        )
        found: str = lease["spec"]["holderIdentity"]
        return found

    first = led_by_other_than("")
    other = start(config, plane)
    try:
        program.send_signal(signal.SIGSTOP)
        second = led_by_other_than(first)
        program.send_signal(signal.SIGCONT)
        kubectl.apply(deployment(space))
        kubectl.wait_for("edgedeployment", "a", lambda obj: obj.get("status", {}).get("conditions"), timeout=180)
        assert program.poll() is None
        other.send_signal(signal.SIGTERM)
        assert led_by_other_than(second) == first
        other.communicate(timeout=180)
        assert other.returncode == 0
    finally:
        other.kill()
        other.communicate()


def test_unusable_settings_are_named(config: Path, plane: Plane) -> None:
    config.write_text("installationName: x\n")
    process = start(config, plane)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 2
    assert f"{config}: " in output
    assert "runtimeImage: Field required" in output


def test_an_unusable_kubeconfig_ends_it(config: Path, plane: Plane, tmp_path: Path) -> None:
    process = start(config, plane, KUBECONFIG=str(tmp_path / "none"))
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "kube-config" in output
