"""What our own objects name: the terms by which the view looks them up, beside their labels.

Without them each event of a ModelVersion would be held against all versions and deployments of its namespace, and each
node that changes against all deployments of the cluster: a thousand objects would cost a million comparisons.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from modelfleet.plan.outcome import RawObject


class Term(NamedTuple):
    """Something that an object names."""

    namespace: str
    """Of those who name it; empty where they are asked for in the whole cluster."""
    what: str
    value: str


def model(namespace: str, name: str) -> Term:
    """Named by the ModelVersions of a model."""
    return Term(namespace, "model", name)


def model_version(namespace: str, name: str) -> Term:
    """Named by EdgeDeployments that ask for this version, serve it or move to it, and by TrainingJobs that make it."""
    return Term(namespace, "modelVersion", name)


def provider(name: str) -> Term:
    """Named by the EdgeDeployments whose requests it routes."""
    return Term("", "provider", name)


def selecting(labels: Mapping[str, str]) -> Iterator[Term]:
    """Named by EdgeDeployments that may select a node with these labels: theirs are to be held against the node's."""
    yield Term("", "selector", "")
    for key, value in labels.items():
        yield _selector(key, value)


def versions_by_role(deployment: Mapping[str, Any]) -> tuple[str | None, ...]:
    """The ModelVersions that an EdgeDeployment asks for, serves, and moves to."""
    status = deployment.get("status") or {}
    held = [(status.get(role) or {}).get("modelVersion") for role in ("stable", "candidate")]
    return deployment["spec"].get("modelVersion"), *held


def of(obj: RawObject) -> Iterable[Term]:
    """All that an object names, some of it perhaps twice."""
    read = _READ.get(obj["kind"])
    return read(obj["metadata"].get("namespace", ""), obj) if read is not None else ()


def _of_model_version(namespace: str, obj: RawObject) -> Iterator[Term]:
    yield model(namespace, obj["spec"].get("model", ""))


def _of_training_job(namespace: str, obj: RawObject) -> Iterator[Term]:
    yield model_version(namespace, (obj["spec"].get("output") or {}).get("modelVersionName", ""))


def _of_edge_deployment(namespace: str, obj: RawObject) -> Iterator[Term]:
    spec = obj["spec"]
    for name in filter(None, versions_by_role(obj)):
        yield model_version(namespace, name)
    yield provider((spec.get("traffic") or {}).get("provider", ""))
    for pool in spec.get("pools", ()):
        # One label of each pool is enough to find it by, as a node must have them all.
        yield _selector(*min((pool.get("nodeSelector") or {}).items(), default=("", "")))


def _selector(key: str, value: str) -> Term:
    return Term("", "selector", f"{key}={value}" if key else "")


_READ = {
    "ModelVersion": _of_model_version,
    "TrainingJob": _of_training_job,
    "EdgeDeployment": _of_edge_deployment,
}
