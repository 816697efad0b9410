"""Status of a ModelVersion: what the operator found out about it; what users write is in ``model_version.py``."""

from typing import Annotated, Literal

from pydantic import Field

from modelfleet.api import common
from modelfleet.api.rules import Contract

Stage = Literal["Registered", "Verified", "Gray", "Online", "Retired"]


class Use(Contract):
    """An object that uses this version."""

    kind: Annotated[str, Field(max_length=63)]
    """Kind of the object."""
    name: Annotated[str, Field(max_length=63)]
    """Name of the object."""
    role: Literal["Stable", "Canary"]
    """Stable: it serves. Canary: it is being rolled out."""


class Agreement(Contract):
    """How near an artifact's outputs are to those of the most precise one."""

    reference: common.ShortName
    """Name of the artifact it was compared with."""
    difference: Annotated[str, Field(max_length=16)]
    """Root of the mean squared difference, relative to the root mean square."""
    tolerance: Annotated[str, Field(max_length=16)]
    """What was allowed."""


Tensor = Annotated[str, Field(max_length=96)]
"""An input or output as ``name: FP32[?, 3, 224, 224]``; a question mark is a dimension of any size."""


class ArtifactStatus(Contract):
    """What verification found about one artifact."""

    name: common.ShortName
    """Name of the artifact."""
    verified: bool
    """Whether the bytes in the store have the registered digest and length, and all else that is demanded holds."""
    reason: Annotated[str, Field(max_length=64)] | None = None
    """Why it could not be verified, as one word."""
    message: common.Message = ""
    """Why it could not be verified, and the remedy; of a verified one, what could not be tried."""
    size_bytes: Annotated[int, Field(ge=0)] | None = None
    """Length found, in bytes."""
    verified_at: common.Timestamp | None = None
    """When it was verified."""
    opset: Annotated[int, Field(ge=0)] | None = None
    """Version of ONNX's default operator set that the model was written for."""
    inputs: Annotated[list[Tensor], Field(max_length=8)] = Field(default_factory=list)
    """Inputs of the ONNX model as ``name: FP32[?, 3, 224, 224]``, the first eight; a question mark is a dimension of
    any size."""
    outputs: Annotated[list[Tensor], Field(max_length=8)] = Field(default_factory=list)
    """Its outputs, likewise."""
    agreement: Agreement | None = None
    """How near its outputs are to those of the most precise artifact."""
    signed_by: Annotated[str, Field(max_length=63)] | None = None
    """Name of the installation's public key that its signature was made with."""


class Verification(Contract):
    """The attempts to verify the artifacts."""

    attempt: Annotated[int, Field(ge=0)]
    """Number of the latest attempt, from 1."""
    settled_attempt: Annotated[int, Field(ge=0)] | None = None
    """The attempt whose finding the condition Verified tells; a later attempt is under way or found nothing out."""
    last_attempt_time: common.Timestamp | None = None
    """When the latest attempt began."""
    reason: Annotated[str, Field(max_length=64)] | None = None
    """What kept the latest attempt from finding anything out, as one word."""
    message: common.Message = ""
    """The same in words, with the remedy."""


class StageEntry(Contract):
    """The beginning of a stage."""

    stage: Stage
    """The stage."""
    since: common.Timestamp
    """When it was entered; it lasted until the next entry's."""
    used_by: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=5)] = Field(default_factory=list)
    """EdgeDeployments that used the version when the stage was entered, five at most."""


class ModelVersionStatus(Contract):
    """What was found out about the version, and who uses it."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """metadata.generation that this status speaks of."""
    snapshot_hash: common.PrefixedSha256 | None = None
    """Digest of the version's identity: model, version, artifacts' digests and needs, lineage, metrics."""
    stage: Stage | None = None
    """Derived from use: Registered, Verified, Gray (being rolled out), Online (serves) or Retired."""
    history: Annotated[list[StageEntry], Field(max_length=50)] = Field(default_factory=list)
    """The stages so far, oldest first; of more than 50 the oldest are dropped."""
    aliases: Annotated[list[common.ShortName], Field(max_length=16)] = Field(default_factory=list)
    """Aliases in effect, ties settled. One that moves stays here until the version that has it next shows it."""
    used_by: Annotated[list[Use], Field(max_length=100)] = Field(default_factory=list)
    """Objects that use this version."""
    artifacts: Annotated[list[ArtifactStatus], Field(max_length=16)] = Field(default_factory=list)
    """What verification found, by artifact."""
    verification: Verification | None = None
    """The attempts to verify the artifacts."""
    last_command: Annotated[str, Field(max_length=128)] | None = None
    """The command that was acted on last, as verify and the annotation's value."""
    conditions: common.Conditions = Field(default_factory=list)
    """Verified, Ready, Reconciling, Stalled."""
