"""ModelVersion: one immutable version of a model, its builds by digest, and where it came from."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from modelfleet.api import common, quantity
from modelfleet.api.model_version_status import ModelVersionStatus
from modelfleet.api.rules import NULLS_ARE_ABSENT, Contract, Rule, Rules, Unique, immutable, keys_match, matches
from modelfleet.api.verification import VerificationSpec

Format = Literal["onnx", "torchscript", "savedmodel", "tflite", "safetensors", "other"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Channel = Literal["experiment", "candidate", "preproduction", "production"]
"""From the least to the most trusted."""
FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)]
ResourceName = Annotated[str, Field(pattern=common.LABEL_KEY_PATTERN, max_length=316)]
Platform = Annotated[str, Field(pattern=r"^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$", max_length=63)]
Metrics = Annotated[
    dict[str, common.Decimal],
    Field(max_length=64),
    NULLS_ARE_ABSENT,
    Rules(
        keys_match(
            r"^[A-Za-z_][-A-Za-z0-9_.]{0,62}$",
            "every name of a metric must begin with a letter or underscore and have at most 63 letters, digits,"
            " underscores, dashes and dots",
        )
    ),
]
Parameters = Annotated[
    dict[str, Annotated[str, Field(max_length=256)]],
    Field(max_length=128),
    NULLS_ARE_ABSENT,
    Rules(keys_match(r"^[!-~]{1,128}$", "every name of a parameter must have 1 to 128 visible ASCII characters")),
]


class Artifact(Contract):
    """One build of the model: a file, its digest, and what a device needs to run it."""

    name: common.ShortName
    """Name of the build, unique in this version; pools choose by it."""
    uri: common.FileUri
    """Where the file lies: an http, https, s3, gs, abfs, hf or file URL. Not part of the version's identity."""
    sha256: common.Sha256
    """SHA-256 of the file, 64 lower-case hexadecimal digits. No digest, no deployment."""
    size_bytes: Annotated[int, Field(ge=1, le=1 << 50)]
    """Exact length of the file in bytes."""
    format: Format
    """Format of the file."""
    precision: Precision
    """Numeric precision of the weights."""
    platforms: Annotated[list[Platform], Field(max_length=16), Unique()] = Field(default_factory=list)
    """Platforms it runs on, such as linux/arm64; absent or empty: any."""
    accelerators: Annotated[list[ResourceName], Field(max_length=8), Unique()] = Field(default_factory=list)
    """Device resources that the node must offer, such as nvidia.com/gpu."""
    cpu_features: Annotated[list[FeatureName], Field(max_length=16), Unique()] = Field(default_factory=list)
    """CPU features that the node must have, such as avx512f or neon."""
    min_memory: quantity.Quantity | None = None
    """Device memory it needs, such as 2Gi: of the accelerator where it asks for one, else of the node."""
    credentials_secret_ref: common.SecretReference | None = None
    """Secret with the store's credentials; absent: the store is read anonymously."""
    signature_uri: common.FileUri | None = None
    """Where the artifact's signature lies; absent: beside the artifact, at its uri with .sig appended. Not part of the
    version's identity."""


class Git(Contract):
    """A commit."""

    repository: common.RepositoryUri
    """URL of the repository."""
    revision: common.Commit
    """Full commit hash: 40 or 64 hexadecimal digits."""


class DvcData(Contract):
    """A file or folder that DVC keeps beside Git."""

    path: Annotated[str, Field(min_length=1, max_length=256)]
    """Path below the project's folder."""
    digest: Annotated[
        str,
        Field(max_length=40),
        Rules(
            matches(
                r"^md5:[0-9a-f]{32}([.]dir)?$",
                "must be md5: and the 32 hexadecimal digits that dvc.lock has, of a folder followed by .dir",
            )
        ),
    ]
    """md5: and DVC's MD5 of the file, or of a folder's listing (.dir)."""
    size_bytes: Annotated[int, Field(ge=0, le=1 << 50)] | None = None
    """Length in bytes; of a folder, of all its files."""


class Dvc(Contract):
    """What DVC recorded of the training."""

    revision: common.Commit
    """Full commit hash whose dvc.lock was used."""
    params: Parameters = Field(default_factory=dict)
    """Parameters, by name, as text."""
    data: Annotated[list[DvcData], Field(max_length=32), Unique("path")] = Field(default_factory=list)
    """Files and folders under DVC's control at that commit."""


class Dataset(Contract):
    """The data it was trained on."""

    uri: common.StoreUri
    """Where the dataset lies."""
    sha256: common.Sha256
    """SHA-256 of the dataset, 64 hexadecimal digits."""


class TrainingJobOrigin(Contract):
    """The TrainingJob that registered it."""

    name: common.ObjectName
    """Name of the TrainingJob."""
    uid: Annotated[str, Field(max_length=64)]
    """Its uid."""
    spec_hash: Annotated[str, Field(max_length=80)]
    """Hash of its spec: the same spec created again is known to be registered already."""


class Lineage(Contract):
    """Where the model came from."""

    git: Git | None = None
    """Commit of the training code."""
    dvc: Dvc | None = None
    """What DVC recorded."""
    dataset: Dataset | None = None
    """Data it was trained on."""
    training_job: TrainingJobOrigin | None = None
    """TrainingJob that registered it."""


class ModelVersionSpec(Contract):
    """What the version is. Immutable, except aliases, deprecated and verification."""

    rules: ClassVar = immutable(
        "model",
        "version",
        "channel",
        "artifacts",
        "lineage",
        "metrics",
        remedy="create a ModelVersion with a new version instead",
    )

    model: common.ModelName
    """Name of the model."""
    version: common.Version
    """Version of the model (SemVer 2)."""
    channel: Channel | None = None
    """How far the code it was trained from had come: experiment (never deployed), candidate, preproduction, production.

    A TrainingJob sets it by the branch or tag of its source; absent: not known. Not part of the version's identity.
    """
    aliases: Annotated[list[common.ShortName], Field(max_length=8), Unique()] = Field(default_factory=list)
    """Movable names of this version, such as champion. Of several claims the highest version wins."""
    deprecated: bool = False
    """Whether new rollouts of this version are refused."""
    artifacts: Annotated[list[Artifact], Field(min_length=1, max_length=16), Unique("name")]
    """Builds of the model."""
    lineage: Lineage | None = None
    """Where the model came from."""
    metrics: Metrics = Field(default_factory=dict)
    """Figures of the evaluation, by name, as decimal strings."""
    verification: VerificationSpec | None = None
    """How the artifacts are verified. Not part of the version's identity."""


class ModelVersion(Contract):
    """One version of a model, verified by digest before anything serves it.

    Its name is model, a dash, and version in lower case with dots as dashes: so it is unique in its namespace.
    """

    model_config = ConfigDict(extra="ignore")

    rules: ClassVar = (
        Rule(
            "self.metadata.name == self.spec.model + '-' + self.spec.version.lowerAscii().replace('.', '-')",
            "metadata.name must be spec.model, a dash, and spec.version in lower case with dashes for dots,"
            " such as defect-detector-1-4-0: that keeps model and version unique in the namespace",
            lambda self: self.metadata.name == common.version_object_name(self.spec.model, self.spec.version),
            field="metadata.name",
        ),
        Rule(
            "size(self.metadata.name) <= 63",
            "metadata.name must have at most 63 characters: shorten spec.model or spec.version",
            lambda self: len(self.metadata.name) <= 63,
            field="metadata.name",
        ),
    )

    metadata: common.Metadata
    """Name, labels, owner."""
    spec: ModelVersionSpec
    """What the version is. Immutable, except aliases, deprecated and verification."""
    status: ModelVersionStatus | None = None
    """What was found out about it."""
