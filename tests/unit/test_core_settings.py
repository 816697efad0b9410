"""The settings file: what is right is taken, what is wrong is named."""

from pathlib import Path

import pytest

from modelfleet import settings

GOOD = """
installationName: fleet/modelfleet
namespace: fleet
runtimeImage: modelfleet/runtime:dev
nodePools:
  gpu:
    nodeSelector: {pool: gpu}
    tolerations: [{key: gpu, operator: Exists}]
verification:
  everyHours: 24
  signatures: {policy: Require, publicKeys: [{name: release, key: "-----BEGIN PUBLIC KEY-----\nabc"}]}
lease: {name: modelfleet, durationSeconds: 6, renewDeadlineSeconds: 4, retryPeriodSeconds: 1}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_a_good_file(path: Path) -> None:
    path.write_text(GOOD)
    found = settings.load(str(path))
    assert found.lease.renew_deadline_seconds == 4
    installation = found.installation()
    assert installation.name == "fleet/modelfleet"
    assert installation.node_pools["gpu"].node_selector == {"pool": "gpu"}
    assert (installation.verify_every_hours, installation.signatures) == (24, "Require")
    assert [key.name for key in installation.public_keys] == ["release"]
    assert installation.node_pools["gpu"].tolerations == ({"key": "gpu", "operator": "Exists"},)


def test_the_environment_names_the_file_and_wins_for_logs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(GOOD)
    monkeypatch.setenv("MODELFLEET_CONFIG", str(path))
    monkeypatch.setenv("MODELFLEET_LOG_FORMAT", "json")
    assert settings.load().log_format == "json"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("installationName: x\nnamespace: y\n", "runtimeImage: Field required"),
        (GOOD + "worker: 3\n", "worker: Extra inputs"),
        (GOOD + "workers: 0\n", "workers: Input should be greater"),
        (GOOD.replace("renewDeadlineSeconds: 4", "renewDeadlineSeconds: 7"), "lease: Value error, durationSeconds >"),
        ("[1, 2]", "a mapping is expected"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(path: Path, text: str, named: str) -> None:
    path.write_text(text)
    with pytest.raises(settings.SettingsError, match=r".+") as caught:
        settings.load(str(path))
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(settings.SettingsError, match="MODELFLEET_CONFIG"):
        settings.load(str(path))
