"""The settings file: what is right is taken, what is wrong is named."""

from pathlib import Path

import pytest
import yaml

from modelfleet import settings
from modelfleet.plan.channel import DEFAULT_RULES, ChannelRule

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
analysis: {prometheusAddresses: ["http://prometheus:9090"]}
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
    assert installation.prometheus_addresses == ("http://prometheus:9090",)
    assert installation.node_pools["gpu"].node_selector == {"pool": "gpu"}
    assert (installation.verify_every_hours, installation.signatures) == (24, "Require")
    assert [key.name for key in installation.public_keys] == ["release"]
    assert installation.node_pools["gpu"].tolerations == ({"key": "gpu", "operator": "Exists"},)


def test_channels_are_the_usual_ones_or_those_of_the_file(path: Path) -> None:
    path.write_text(GOOD)
    assert settings.load(str(path)).installation().channels == DEFAULT_RULES
    path.write_text(GOOD + "channels: [{branch: trunk, channel: production}, {tag: v*, channel: candidate}]\n")
    assert settings.load(str(path)).installation().channels == (
        ChannelRule("branch", "trunk", "production"),
        ChannelRule("tag", "v*", "candidate"),
    )


def test_the_chart_states_the_usual_channels(path: Path) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "charts/modelfleet/values.yaml").read_text())
    path.write_text(GOOD + yaml.safe_dump({"channels": values["channels"]}))
    assert settings.load(str(path)).installation().channels == DEFAULT_RULES


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
        (GOOD + "channels: [{branch: main, channel: prod}]\n", "channels.0.channel: Input should be"),
        (GOOD + "channels: [{channel: production}]\n", "channels.0: Value error, give either branch or tag"),
        (GOOD + "workers: 0\n", "workers: Input should be greater"),
        (GOOD.replace("renewDeadlineSeconds: 4", "renewDeadlineSeconds: 7"), "lease: Value error, durationSeconds >"),
        (GOOD.replace("http://prometheus:9090", "prometheus:9090"), "analysis.prometheusAddresses.0: String should"),
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
