"""The identity of a ModelVersion."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan.version import snapshot
from tests import contract

Edit = Callable[[dict[str, Any]], None]


def hashed(edit: Edit = lambda spec: None) -> str:
    spec = copy.deepcopy(contract.model_version()["spec"])
    edit(spec)
    return snapshot.snapshot_hash(ModelVersionSpec.model_validate(spec))


def at(*path: Any, value: Any) -> Edit:
    def edit(spec: dict[str, Any]) -> None:
        for part in path[:-1]:
            spec = spec[part]
        spec[path[-1]] = value

    return edit


def test_the_hash_is_pinned() -> None:
    """It is stored in clusters: a change of it is a new FORMAT, and rolls fleets."""
    assert hashed() == "sha256:e6dc84b044dafdbdc5eeb92f336f2e113128d638b91ca2fea0292f87849d403a"


@pytest.mark.parametrize(
    "edit",
    [
        at("aliases", value=["other"]),
        at("deprecated", value=True),
        at("artifacts", 0, "uri", value="s3://mirror/int8.onnx"),
        at("artifacts", 0, "credentialsSecretRef", value={"name": "other"}),
        lambda spec: spec["artifacts"].reverse(),
        lambda spec: spec["artifacts"][0]["platforms"].reverse(),
        at("artifacts", 1, "platforms", value=[]),
    ],
)
def test_what_is_not_identity_changes_nothing(edit: Edit) -> None:
    assert hashed(edit) == hashed()


@pytest.mark.parametrize(
    "edit",
    [
        at("model", value="other"),
        at("version", value="1.4.1"),
        at("artifacts", 0, "name", value="small"),
        at("artifacts", 0, "sha256", value="ab" * 32),
        at("artifacts", 0, "sizeBytes", value=1),
        at("artifacts", 0, "format", value="tflite"),
        at("artifacts", 0, "precision", value="fp16"),
        at("artifacts", 0, "platforms", value=["linux/arm64"]),
        at("artifacts", 0, "accelerators", value=[]),
        at("artifacts", 0, "cpuFeatures", value=["avx512f"]),
        at("artifacts", 0, "minMemory", value="3Gi"),
        at("lineage", "git", "revision", value="ab" * 20),
        at("lineage", "dvc", "params", value={}),
        at("lineage", "dataset", "sha256", value="ab" * 32),
        at("metrics", "accuracy", value="0.944"),
        lambda spec: spec.pop("lineage"),
        lambda spec: spec["artifacts"].pop(),
    ],
)
def test_each_field_of_the_identity_changes_the_hash(edit: Edit) -> None:
    assert hashed(edit) != hashed()
