"""A release: everything one revision of an EdgeDeployment resolved to, kept in an immutable ControllerRevision.

The revision is the hash of what the *user* wrote (model snapshot, serving, pool overrides), with what defaults
filled in left out. What it resolved to (images, URIs, digests) is pinned beside it, so that a new chart, a new default
or a new image tag in the installation rolls nothing. How a release becomes pods is ``workload.py``'s.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.api.model_version import Artifact, ModelVersionSpec
from modelfleet.plan import naming
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject

FORMAT: Final = 1
"""Version of the rules by which releases become pods. Releases of an older format keep being built by its rules."""


class Stored(BaseModel):
    """Base of what is kept in a ControllerRevision; unknown fields are ignored, so that a downgrade can read it."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class ReleaseArtifact(Stored):
    """One build of the model, as the ModelVersion had it."""

    name: str
    uri: str
    sha256: str
    size_bytes: int | None = None
    format: str
    precision: str
    platforms: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ()
    cpu_features: tuple[str, ...] = ()
    min_memory: str | None = None
    secret: str | None = None
    """Name of the store's Secret."""


class ReleaseVariable(Stored):
    """One environment variable."""

    name: str
    value: str = ""


class ReleaseServing(Stored):
    """The serving container with every default resolved."""

    image: str | None = None
    """The user's own image; ``None``: the runtime image below."""
    runtime_image: str
    """The installation's image when the revision was made; it runs ``fetch``, and ``serve`` where no image is set."""
    runtime_pull_policy: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[ReleaseVariable, ...] = ()
    model_mount_path: str
    http_port: int
    grpc_port: int | None = None
    image_pull_secrets: tuple[str, ...] = ()
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class PoolChoice(Stored):
    """What one pool asked for that differs from the others."""

    artifact: str | None = None
    env: tuple[ReleaseVariable, ...] = ()


class Release(Stored):
    """One revision, resolved. Equal revisions of one EdgeDeployment are equal releases."""

    format: int = FORMAT
    revision: str
    model_version: str
    """Name of the ModelVersion."""
    model: str
    version: str
    snapshot_hash: str
    artifacts: tuple[ReleaseArtifact, ...]
    serving: ReleaseServing
    pools: dict[str, PoolChoice] = {}
    """By pool name; pools that ask for nothing of their own are not here."""

    def __hash__(self) -> int:
        """Of what tells nearly all releases apart; its mappings have no hash."""
        return hash((self.revision, self.snapshot_hash))

    def choice(self, pool: str) -> PoolChoice:
        """What this pool asked for."""
        return self.pools.get(pool, _NO_CHOICE)


_NO_CHOICE: Final = PoolChoice()


class Model(Stored):
    """The part of a release that comes from the ModelVersion."""

    model_version: str
    model: str
    version: str
    snapshot_hash: str
    artifacts: tuple[ReleaseArtifact, ...]


def model_of(name: str, spec: ModelVersionSpec, snapshot_hash: str) -> Model:
    """The model part for a verified ModelVersion."""
    return Model(
        model_version=name,
        model=spec.model,
        version=spec.version,
        snapshot_hash=snapshot_hash,
        artifacts=tuple(_artifact(artifact) for artifact in spec.artifacts),
    )


def model_in(release: Release) -> Model:
    """The model part of a release that exists: for when its ModelVersion is gone or has changed since."""
    return Model(
        model_version=release.model_version,
        model=release.model,
        version=release.version,
        snapshot_hash=release.snapshot_hash,
        artifacts=release.artifacts,
    )


def revision_hash(spec: EdgeDeploymentSpec, snapshot_hash: str) -> str:
    """The hash of what the user wrote; values that equal the default count as not written."""
    return naming.content_hash(
        {
            "modelVersion": spec.model_version,
            "snapshotHash": snapshot_hash,
            "serving": _written(spec.serving.model_dump(mode="json", by_alias=True, exclude_defaults=True)),
            "pools": {
                name: choice.model_dump(mode="json", by_alias=True, exclude_defaults=True)
                for name, choice in _choices(spec).items()
            },
        },
        naming.REVISION_LENGTH,
    )


def resolve(spec: EdgeDeploymentSpec, model: Model, installation: Installation) -> Release:
    """The release that this spec and model make now; only for a revision that is not kept yet."""
    serving = spec.serving
    resources = serving.resources
    return Release(
        revision=revision_hash(spec, model.snapshot_hash),
        **{name: getattr(model, name) for name in Model.model_fields},
        serving=ReleaseServing(
            image=serving.image,
            runtime_image=installation.runtime_image,
            runtime_pull_policy=installation.image_pull_policy,
            command=tuple(serving.command),
            args=tuple(serving.args),
            env=tuple(ReleaseVariable(name=each.name, value=each.value) for each in serving.env),
            model_mount_path=serving.model_mount_path,
            http_port=serving.ports.http,
            grpc_port=serving.ports.grpc,
            # The runtime image is in each of its pods.
            image_pull_secrets=tuple(
                dict.fromkeys([*(each.name for each in serving.image_pull_secrets), *installation.image_pull_secrets])
            ),
            requests=dict(resources.requests) if resources else {},
            limits=dict(resources.limits) if resources else {},
        ),
        pools=_choices(spec),
    )


def object_name(deployment: str, revision: str) -> str:
    """Name of the ControllerRevision that keeps a revision."""
    return naming.joined(deployment, revision)


def stored(release: Release, owner: Mapping[str, Any], number: int) -> RawObject:
    """The ControllerRevision that keeps a release; ``number`` orders the history."""
    metadata = owner["metadata"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": object_name(metadata["name"], release.revision),
            "namespace": metadata["namespace"],
            "labels": {
                names.MANAGED_BY_LABEL: names.MANAGED_BY,
                names.EDGE_DEPLOYMENT_LABEL: metadata["name"],
                names.MODEL_VERSION_LABEL: release.model_version,
            },
            "ownerReferences": [naming.owner_reference(owner)],
        },
        "revision": number,
        "data": release.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def kept(objects: Iterable[RawObject], owner_uid: str) -> dict[str, tuple[int, Release]]:
    """The releases that an EdgeDeployment (by uid) keeps, by revision, each with its number.

    What is not ours or cannot be read is passed over: it is then made again from the spec, or never used.
    """
    releases = {}
    for obj in objects:
        owners = obj["metadata"].get("ownerReferences") or ()
        if not any(reference.get("uid") == owner_uid for reference in owners):
            continue
        try:
            release = Release.model_validate(obj.get("data"))
        except ValueError:
            continue
        releases[release.revision] = (int(obj.get("revision", 0)), release)
    return releases


def _written(value: Any) -> Any:
    """Without empty objects and lists: ``resources: {}`` says no more than no ``resources`` at all."""
    if isinstance(value, dict):
        pruned = {key: _written(each) for key, each in value.items()}
        return {key: each for key, each in pruned.items() if each not in ({}, [], None)}
    return [_written(each) for each in value] if isinstance(value, list) else value


def _choices(spec: EdgeDeploymentSpec) -> dict[str, PoolChoice]:
    choices = {}
    for pool in spec.pools:
        env = pool.overrides.env if pool.overrides else ()
        choice = PoolChoice(
            artifact=pool.artifact, env=tuple(ReleaseVariable(name=each.name, value=each.value) for each in env)
        )
        if choice != _NO_CHOICE:
            choices[pool.name] = choice
    return choices


def _artifact(artifact: Artifact) -> ReleaseArtifact:
    reference = artifact.credentials_secret_ref
    return ReleaseArtifact(
        name=artifact.name,
        uri=artifact.uri,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        format=artifact.format,
        precision=artifact.precision,
        platforms=tuple(artifact.platforms),
        accelerators=tuple(artifact.accelerators),
        cpu_features=tuple(artifact.cpu_features),
        min_memory=artifact.min_memory,
        secret=reference.name if reference else None,
    )
