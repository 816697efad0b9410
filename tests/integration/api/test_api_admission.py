"""What a real API server says to good and bad objects of the contract, as a user of kubectl reads it."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from e2e.kubectl import Kubectl, KubectlError
from tests import contract, refusals
from tests.contract import REMOVED

ANOTHER_COMMIT = "5a5a" * 10

IMMUTABLE: tuple[tuple[str, str, Any], ...] = (
    ("ModelVersion", "spec.artifacts.0.uri", "s3://models/elsewhere"),
    ("ModelVersion", "spec.artifacts.0.sha256", "2d2d" * 16),
    ("ModelVersion", "spec.artifacts.1", REMOVED),
    ("ModelVersion", "spec.lineage", REMOVED),
    ("ModelVersion", "spec.lineage.git.revision", ANOTHER_COMMIT),
    ("ModelVersion", "spec.channel", REMOVED),
    ("ModelVersion", "spec.metrics", REMOVED),
    ("ModelVersion", "spec.metrics.accuracy", "0.999"),
    ("TrainingJob", "spec.source", REMOVED),
    ("TrainingJob", "spec.source.git.revision", "main"),
    ("TrainingJob", "spec.initializer", REMOVED),
    ("TrainingJob", "spec.initializer.dataset.storageUri", "s3://data/elsewhere"),
    ("TrainingJob", "spec.steps.0.image", "registry.example/vision/prep:2"),
    ("TrainingJob", "spec.nodePool", REMOVED),
    ("TrainingJob", "spec.nodeSelector", REMOVED),
    ("TrainingJob", "spec.tolerations", REMOVED),
    ("TrainingJob", "spec.imagePullSecrets", REMOVED),
    ("TrainingJob", "spec.backoffLimit", 4),
    ("TrainingJob", "spec.failurePolicy", REMOVED),
    ("TrainingJob", "spec.managedBy", "kueue.x-k8s.io/multikueue"),
    ("TrainingJob", "spec.checkpoint.path", "/elsewhere"),
    ("TrainingJob", "spec.activeDeadlineSeconds", REMOVED),
    ("TrainingJob", "spec.gate", REMOVED),
    ("TrainingJob", "spec.gate.0.value", "0.5"),
    ("TrainingJob", "spec.output.storageUri", "s3://models/elsewhere"),
    ("TrainingJob-short", "spec.trainer.numNodes", 5),
)
"""Edits of an object that exists. (model, version and the name cannot be edited apart from each other.)"""

FREE: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("ModelVersion", {"spec.aliases": ["challenger", "champion"]}),
    ("ModelVersion", {"spec.aliases": REMOVED}),
    ("ModelVersion", {"spec.deprecated": True}),
    ("ModelVersion", {"spec.verification": REMOVED}),
    ("ModelVersion", {"spec.verification.tolerance": "0.1"}),
    ("TrainingJob", {"spec.suspend": True}),
    ("TrainingJob", {"spec.ttlSecondsAfterFinished": REMOVED}),
    ("TrainingJob", {"spec.ttlSecondsAfterFinished": 3600}),
    (
        "EdgeDeployment",
        {
            "spec.modelVersion": "defect-detector-1-3-0",
            "spec.paused": True,
            "spec.pools.1": REMOVED,
            "spec.canary": REMOVED,
            "spec.traffic": REMOVED,
        },
    ),
)


def refused(kubectl: Kubectl, document: contract.Document, verb: str = "create") -> str:
    """What the API server says, in one line; fails when it takes the document."""
    with pytest.raises(KubectlError) as error:
        kubectl(verb, "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    return " ".join(str(error.value).split())


@pytest.mark.parametrize("document", contract.valid().values(), ids=contract.valid().keys())
def test_valid_objects_are_taken(dry_run: Kubectl, document: contract.Document) -> None:
    dry_run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))


@pytest.mark.parametrize("document", contract.largest().values(), ids=contract.largest().keys())
def test_the_largest_objects_are_taken(dry_run: Kubectl, document: contract.Document) -> None:
    """The bounds of lists keep the rules below the API server's limit of cost also when they are reached."""
    dry_run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))


@pytest.mark.parametrize("refusal", refusals.SCHEMA + refusals.RULES, ids=str)
def test_a_refusal_names_the_field_and_the_remedy(dry_run: Kubectl, refusal: contract.Refusal) -> None:
    said = refused(dry_run, refusal.document())
    assert refusal.field in said
    assert refusal.message in said


@pytest.mark.parametrize(
    ("of", "field", "value"),
    [
        ("ModelVersion", "spec.stage", "Online"),
        ("ModelVersion", "spec.artifacts.0.md5", "d41d8cd9"),
        ("TrainingJob", "spec.checkpoint.retain", 3),
        ("TrainingJob", "spec.source.git.branch", "main"),
        ("EdgeDeployment", "spec.canary.baseline", {}),
        ("EdgeDeployment", "spec.strategy.maxSurge", 60),
    ],
)
def test_an_unknown_field_is_refused_by_name(dry_run: Kubectl, of: str, field: str, value: object) -> None:
    said = refused(dry_run, contract.edited(contract.valid()[of], {field: value}))
    path = re.sub("[.]([0-9])", r"[\1]", field)
    assert f'unknown field "{path}"' in said


@pytest.mark.parametrize("of", ["ModelVersion", "TrainingJob", "TrainingJob-short"])
def test_a_spec_is_immutable(kubectl: Kubectl, of: str) -> None:
    document = contract.valid()[of]
    kubectl("create", "-f", "-", stdin=json.dumps(document))
    for kind, path, value in IMMUTABLE:
        if kind == of:
            field = path.split(".")[1]
            said = refused(kubectl, contract.edited(document, {path: value}), "replace")
            assert f"spec.{field}" in said, path
            assert f"{field} is immutable: create a" in said, path


def test_a_field_cannot_be_added_to_an_immutable_spec(kubectl: Kubectl) -> None:
    document = contract.edited(contract.model_version(), {"spec.lineage": REMOVED, "spec.metrics": REMOVED})
    kubectl("create", "-f", "-", stdin=json.dumps(document))
    for field in ("lineage", "metrics"):
        full = contract.model_version()["spec"][field]
        assert f"{field} is immutable" in refused(
            kubectl, contract.edited(document, {f"spec.{field}": full}), "replace"
        )


def test_what_is_not_immutable_can_be_edited(kubectl: Kubectl) -> None:
    for of, edits in FREE:
        document = contract.valid()[of]
        kubectl("apply", "-f", "-", stdin=json.dumps(document))
        kubectl("replace", "-f", "-", stdin=json.dumps(contract.edited(document, edits)))
        kubectl("replace", "-f", "-", stdin=json.dumps(document))


def test_a_model_and_version_exist_once_in_a_namespace(kubectl: Kubectl) -> None:
    document = contract.model_version()
    kubectl("create", "-f", "-", stdin=json.dumps(document))
    assert "already exists" in refused(kubectl, document)
    assert "metadata.name must be" in refused(kubectl, contract.edited(document, {"metadata.name": "another"}))


def test_defaults_are_filled_in(dry_run: Kubectl) -> None:
    least = contract.valid()["EdgeDeployment-least"]
    stored = json.loads(dry_run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(least)))
    assert stored["spec"] == {
        "modelVersion": "a-1-0-0",
        "revisionHistoryLimit": 5,
        "serving": {"modelMountPath": "/models", "ports": {"http": 8080}},
        "pools": [{"name": "a", "nodeSelector": {"pool": "a"}, "placement": "EveryNode"}],
        "strategy": {
            "update": "Recreate",
            "recreateOrder": "PrefetchFirst",
            "maxUnavailable": "10%",
            "failureThreshold": {"percentage": 5, "minSamples": 10},
            "onFailure": "Rollback",
            "progressDeadlineSeconds": 1800,
            "offlineAfterSeconds": 300,
        },
        "paused": False,
    }


@pytest.mark.parametrize(
    ("kind", "short_name", "columns"),
    [
        ("ModelVersion", "mv", ["MODEL", "VERSION", "ACCURACY", "STAGE", "AGE"]),
        ("TrainingJob", "tj", ["MODEL", "VERSION", "PHASE", "PROGRESS", "RESTARTS", "AGE"]),
        ("EdgeDeployment", "ed", ["MODEL", "PHASE", "WAVE", "UPDATED", "DESIRED", "AGE", "MESSAGE"]),
    ],
)
def test_kubectl_get_shows_what_matters(kubectl: Kubectl, kind: str, short_name: str, columns: list[str]) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(contract.valid()[kind]))
    header, *rows = kubectl("get", short_name).splitlines()
    assert header.split() == ["NAME", *columns]
    assert len(rows) == 1
    assert kind.lower() in kubectl("get", "modelfleet", "-o", "name")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mv.spec.artifacts.sha256", "64 lower-case hexadecimal digits"),
        ("tj.spec.gate", "or no ModelVersion is registered"),
        ("ed.spec.strategy.waves.nodes", "earlier waves included"),
        ("ed.status.counts.pendingOffline", "wait for their return"),
    ],
)
def test_kubectl_explain_reads_as_documentation(dry_run: Kubectl, path: str, words: str) -> None:
    assert words in " ".join(dry_run("explain", path).split())
