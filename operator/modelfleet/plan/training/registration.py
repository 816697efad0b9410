"""From a training job's results to the ModelVersion it registers, and whose a ModelVersion is that is there already."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from modelfleet.api import names
from modelfleet.api.training_job import TrainingJobSpec
from modelfleet.plan import naming
from modelfleet.plan.outcome import RawObject

Claim = Literal["Ours", "SameSpec", "Foreign"]

_NOT_HASHED: Final = frozenset({"suspend", "ttl_seconds_after_finished"})


def spec_hash(spec: TrainingJobSpec) -> str:
    """What makes two training jobs the same: all of the spec but what may change.

    Defaults are left out, so that a default added to the contract makes no job a different one.
    """
    return (
        f"sha256:{naming.content_hash(spec.model_dump(by_alias=True, exclude_defaults=True, exclude=set(_NOT_HASHED)))}"
    )


def claim(existing: Mapping[str, Any], uid: str, hashed: str) -> Claim:
    """Who registered the ModelVersion: this very job, one with the same spec, or somebody else."""
    origin = (existing["spec"].get("lineage") or {}).get("trainingJob") or {}
    if origin.get("uid") == uid:
        return "Ours"
    return "SameSpec" if origin.get("specHash") == hashed else "Foreign"


def registered_by(existing: Mapping[str, Any]) -> str:
    """In words, who registered it."""
    origin = (existing["spec"].get("lineage") or {}).get("trainingJob")
    return f"by TrainingJob {origin['name']} with another spec" if origin else "by hand"


def merged(results: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The metrics and the artifacts of all steps, given in the order of the DAG: by name, the later one counts."""
    metrics: dict[str, str] = {}
    artifacts: dict[str, dict[str, Any]] = {}
    for result in results:
        metrics.update(result.get("metrics") or {})
        artifacts.update({artifact["name"]: artifact for artifact in result.get("artifacts") or ()})
    return metrics, list(artifacts.values())


def model_version(
    obj: RawObject,
    spec: TrainingJobSpec,
    metrics: Mapping[str, str],
    artifacts: Iterable[Mapping[str, Any]],
) -> RawObject:
    """The ModelVersion to create. It has no owner: it outlives the job that trained it."""
    metadata = obj["metadata"]
    lineage: dict[str, Any] = {
        "trainingJob": {"name": metadata["name"], "uid": metadata["uid"], "specHash": spec_hash(spec)}
    }
    source = (obj.get("status") or {}).get("source") or {}
    if spec.source is not None and source.get("revision"):
        lineage["git"] = {"repository": spec.source.git.repository, "revision": source["revision"]}
    if source.get("dvc"):
        lineage["dvc"] = source["dvc"]
    if spec.initializer is not None and spec.initializer.dataset is not None:
        dataset = spec.initializer.dataset
        lineage["dataset"] = {"uri": dataset.storage_uri, "sha256": dataset.digest.removeprefix("sha256:")}
    secret = spec.output.secret_ref
    credentials = {"credentialsSecretRef": {"name": secret.name}} if secret is not None else {}
    body: dict[str, Any] = {
        "model": spec.model,
        "version": spec.version,
        "artifacts": [{**artifact, **credentials} for artifact in artifacts],
        "lineage": lineage,
    }
    if source.get("channel"):
        body["channel"] = source["channel"]
    if metrics:
        body["metrics"] = dict(metrics)
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelVersion",
        "metadata": {
            "name": spec.output.model_version_name,
            "namespace": metadata["namespace"],
            "labels": {names.TRAINING_JOB_LABEL: metadata["name"]},
        },
        "spec": body,
    }
