"""The identity of a ModelVersion: a digest of what it *is*, whatever it is called and wherever its files lie.

Aliases, deprecation, URIs and credentials are left out: a mirror of the store or a new alias is the same model. A
field that is absent and one that is empty are the same, so that a default added to the contract changes no digest.
"""

from typing import Any, Final

from modelfleet.api.model_version import Artifact, ModelVersionSpec
from modelfleet.plan import naming

FORMAT: Final = 1
"""Version of the list of fields below; part of what is hashed, so that a longer list never collides with this one."""

_ARTIFACT_FIELDS: Final = frozenset(
    {
        "name",
        "sha256",
        "size_bytes",
        "format",
        "precision",
        "platforms",
        "accelerators",
        "cpu_features",
        "min_memory",
    }
)


def snapshot_hash(spec: ModelVersionSpec) -> str:
    """``sha256:`` and the SHA-256 of the canonical JSON (RFC 8785) of the identity."""
    return f"sha256:{naming.content_hash(identity(spec))}"


def identity(spec: ModelVersionSpec) -> dict[str, Any]:
    """What is hashed. Lists that mean sets are sorted: the order they were written in says nothing."""
    lineage = spec.lineage.model_dump(by_alias=True, exclude_defaults=True) if spec.lineage is not None else {}
    return {
        "format": FORMAT,
        "model": spec.model,
        "version": spec.version,
        "artifacts": [_artifact(artifact) for artifact in sorted(spec.artifacts, key=lambda item: item.name)],
        "lineage": lineage,
        "metrics": dict(spec.metrics),
    }


def _artifact(artifact: Artifact) -> dict[str, Any]:
    fields = artifact.model_dump(by_alias=True, exclude_defaults=True, include=set(_ARTIFACT_FIELDS))
    return {key: sorted(value) if isinstance(value, list) else value for key, value in fields.items()}
