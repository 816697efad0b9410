"""What the operator and its pods tell each other: orders through the environment, reports through termination messages.

An order is JSON in the environment variable ``MODELFLEET_ORDER`` of a container (never a shell word). A report is JSON
in the container's termination message (``/dev/termination-log``, at most 4,096 bytes), so a pod needs no right on
the API server to be heard. Both sides use these models; user-facing kinds live in their own modules.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ORDER_ENV: Final = "MODELFLEET_ORDER"
REVISION_ENV: Final = "MODEL_REVISION"
"""Tells a pod that requests are routed to which revision it serves."""
REPORT_LIMIT: Final = 4096
"""Bytes that the kubelet keeps of a termination message."""

CREDENTIALS_ROOT: Final = "/var/run/modelfleet/credentials"
"""Each store Secret is mounted at ``<root>/<secret name>``, a file a key."""

BEST_METRIC: Final = "early_stop.best"
WAIT_METRIC: Final = "early_stop.wait"
"""Metrics by which the train library reports the best evaluation of an attempt, and how many since were no better."""
CPU_METRIC: Final = "pressure.cpu"
MEMORY_METRIC: Final = "pressure.memory"
"""Metrics by which a pod reports what share of its node is in use."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FailureReason = Literal[
    "HashMismatch",
    "SizeMismatch",
    "SignatureInvalid",
    "Unsigned",
    "InvalidModel",
    "InterfaceMismatch",
    "PrecisionMismatch",
    "InvalidSamples",
    "OutOfMemory",
    "TimedOut",
    "Unreachable",
    "Unauthorized",
    "NoSpace",
    "Invalid",
    "UnknownRevision",
]


class Wire(BaseModel):
    """Base of all messages: camelCase in JSON; unknown fields are ignored, so that old pods outlive an upgrade."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class StoredFile(Wire):
    """One file in a store, and what its bytes must be."""

    name: str
    uri: str
    sha256: Sha256
    size_bytes: int | None = None
    """Exact length in bytes; ``None`` where it is not known (then only the hash counts)."""
    credentials_path: str | None = None
    """Folder with the store Secret's keys as files; ``None``: anonymous."""


class FetchItem(StoredFile):
    """A file to bring onto the device."""

    path: str
    """Where it shall lie, absolute; it appears there whole and verified, or not at all."""


class FetchFolder(Wire):
    """A file or folder whose digest nobody stated, to be brought as it lies in the store."""

    name: str
    uri: str
    path: str
    """Folder where it shall lie, absolute."""
    credentials_path: str | None = None


class FetchOrder(Wire):
    """Order of the ``fetch`` program (init containers)."""

    files: list[FetchItem]
    folders: list[FetchFolder] | None = None
    """``None``, not empty, where there are none: orders are part of what pod templates are known by."""


class FetchReport(Wire):
    """Report of ``fetch`` when it fails: the first file that could not be had."""

    file: str
    reason: FailureReason
    message: str


class CheckedFile(StoredFile):
    """An artifact to verify."""

    format: str = "other"
    precision: str = "fp32"
    accelerated: bool = False
    """It is made for a device that the verifying pod does not have."""
    signature_uri: str = ""
    """Where its signature lies."""


class InferenceCheck(Wire):
    """How ONNX models are tried."""

    folder: str
    """Where there is room for the largest one."""
    tolerance: float | None = None
    samples: StoredFile | None = None


class PublicKey(Wire):
    """A key that artifacts may be signed with."""

    name: str
    pem: str


class SigningCheck(Wire):
    """What is demanded of signatures."""

    required: bool
    """Whether an artifact without a signature is refused; a wrong signature always is."""
    keys: list[PublicKey]


class RefTrust(Wire):
    """How much a branch or tag says about a commit that several end in."""

    kind: Literal["branch", "tag"]
    pattern: str
    """As in a shell: ``*`` is any text, slashes included."""
    trust: int
    """More is more; of a name that no pattern matches, it is 0."""


class ResolveOrder(Wire):
    """Order of the ``resolve`` program: find out which commit a revision is."""

    repository: str
    revision: str
    """Branch, tag or full commit hash."""
    path: str = ""
    """Folder of the repository that holds the project; empty: its root."""
    credentials_path: str | None = None
    trust: list[RefTrust] = []
    """The first that matches counts. Of many branches and tags, those that are trusted most are reported."""


class DataDigest(Wire):
    """A file or folder under DVC's control at a commit."""

    path: str
    digest: str
    """``md5:`` and 32 hexadecimal digits; of a folder, those of its listing."""
    size_bytes: int | None = None


class ResolveReport(Wire):
    """Report of ``resolve``: the commit, or why there is none."""

    commit: str = ""
    """Full hash; empty where it was not found."""
    refs: list[str] = []
    """The branch or tag it was found by; for a commit, those whose tip it is, the most trusted ones first. Full names,
    as refs/heads/main."""
    params: dict[str, str] = {}
    """Of params.yaml at that commit, nested names joined by dots."""
    data: list[DataDigest] = []
    reason: FailureReason | None = None
    message: str = ""


class PullOrder(Wire):
    """What of the data under DVC's control is brought along."""

    remote: str = ""
    """Name of DVC's remote; empty: its default one."""
    targets: list[str] = []
    """Files and folders; empty: all."""
    credentials_path: str | None = None


class CheckoutOrder(Wire):
    """Order of the ``checkout`` program (init containers): the files of exactly this commit."""

    repository: str
    commit: str
    path: str = ""
    """Folder that the commit must have; empty: its root."""
    folder: str
    """Where the commit's files shall lie, absolute."""
    credentials_path: str | None = None
    pull: PullOrder | None = None
    """``None``: data under DVC's control is not fetched."""


class VerifyOrder(Wire):
    """Order of the ``verify`` program: hash these files in the cluster, keeping none."""

    files: list[CheckedFile]
    inference: InferenceCheck | None = None
    """``None``: only bytes are verified."""
    signing: SigningCheck | None = None
    """``None``: signatures are not looked at."""


class AgreementReport(Wire):
    """How near the outputs are to those of the reference."""

    reference: str
    difference: str
    tolerance: str


class VerifiedFile(Wire):
    """What ``verify`` found about one file."""

    name: str
    verified: bool
    reason: FailureReason | None = None
    message: str = ""
    size_bytes: int | None = None
    opset: int | None = None
    inputs: list[str] = []
    outputs: list[str] = []
    agreement: AgreementReport | None = None
    signed_by: str | None = None


class VerifyReport(Wire):
    """Report of ``verify``, successful or not."""

    artifacts: list[VerifiedFile]


class ServeOrder(Wire):
    """Order of the ``serve`` program."""

    model: str
    version: str
    path: str
    sha256: Sha256
    http_port: int = 8080


class ResultArtifact(Wire):
    """A build of the model that a step wrote to the store; the fields are ModelVersion's."""

    name: str
    uri: str
    sha256: Sha256
    size_bytes: int
    format: str
    precision: str
    platforms: list[str] = []
    accelerators: list[str] = []
    cpu_features: list[str] = []
    min_memory: str | None = None


class StepResults(Wire):
    """``results.json`` of a step, in the output store."""

    metrics: dict[str, str] = {}
    """Decimal strings by name."""
    artifacts: list[ResultArtifact] = []
    files: dict[str, StoredFile] = {}
    """Anything else the step hands to later steps, by name."""


class StepReport(Wire):
    """Report of rank 0 of a step: where its results lie, and what the DAG and the gate need of them."""

    uri: str
    sha256: Sha256
    metrics: dict[str, str] = {}
    artifacts: list[ResultArtifact] = []


class StepInput(Wire):
    """The results of an earlier step, by digest."""

    uri: str
    sha256: Sha256


def results_uri(output_uri: str) -> str:
    """Where the results lie of the attempt whose folder this is; written last of all that is in it."""
    return f"{output_uri.rstrip('/')}/results.json"


class RecallOrder(Wire):
    """Order of the ``recall`` program: report a step's results from the store, in its pod's stead."""

    uri: str
    credentials_path: str | None = None


class CheckpointOrder(Wire):
    """Where a step keeps its checkpoints; read by ``modelfleet.runtime.checkpoint``."""

    root: str
    """Folder of the step on the volume; each attempt has a folder of its own in it, by its number."""
    interval_seconds: int
    keep: int


class EarlyStopOrder(Wire):
    """What a step's evaluations are about, and whether it only has to finish."""

    metric: str
    maximize: bool
    min_delta: str
    """Decimal: better is better by more than this."""
    finish: bool | None = None
    """``True``: an earlier attempt was stopped early, this one has to finish with the best checkpoint."""


class StepOrder(Wire):
    """Order of a step's container; read by ``modelfleet.runtime.train``."""

    training_job: str
    namespace: str
    model: str
    version: str
    step: str
    attempt: int
    output_uri: str
    """Folder of this attempt alone: a zombie of an earlier attempt harms nobody."""
    credentials_path: str | None = None
    inputs: dict[str, StepInput] = {}
    """By step name: the steps this one depends on."""
    model_path: str | None = None
    """Folder where the initializer put the model to begin with."""
    dataset_path: str | None = None
    """Folder where the initializer put the verified dataset file."""
    checkpoint: CheckpointOrder | None = None
    early_stop: EarlyStopOrder | None = None
    tells_pressure: bool | None = None
    """Whether it reports what of its node is in use."""
