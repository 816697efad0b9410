"""TrainingJob: a DAG of steps, the gate its results must pass, and the ModelVersion it registers."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from modelfleet.api import common, pod
from modelfleet.api.rules import Contract, Rule, Unique, immutable, short_dns_name
from modelfleet.api.training_job_status import TrainingJobStatus
from modelfleet.api.training_policy import Checkpoint, FailurePolicy, Retry
from modelfleet.api.training_termination import Direction, Termination

StepName = Annotated[str, Field(pattern=common.LABEL_PATTERN, max_length=15)]
Framework = Literal["torch", "deepspeed", "mpi", "plain"]
Comparison = Literal[">=", ">", "<=", "<", "=="]


class SourceGit(Contract):
    """A Git repository, and which of its commits."""

    repository: common.GitUrl
    """URL of the repository: https, http or ssh."""
    revision: common.GitRevision
    """Branch, tag or full commit hash. Resolved once to a commit, which status.source and the ModelVersion tell."""
    path: common.FolderPath | None = None
    """Folder of the repository that holds the project: where the steps' programs start; absent: its root."""
    secret_ref: common.SecretReference | None = None
    """Secret that opens it: username and password, or token; ca.crt; for ssh, ssh-privatekey and known_hosts."""


class SourceDvc(Contract):
    """Data that DVC keeps beside Git, as of the source's commit."""

    remote: common.RemoteName | None = None
    """Name of a remote in .dvc/config; absent: its default one. http, https, s3, gs or azure."""
    targets: Annotated[list[common.FolderPath], Field(min_length=1, max_length=32), Unique()] = Field(
        default_factory=list
    )
    """Files and folders to bring, as dvc.lock or *.dvc files name them; absent: all of them."""
    secret_ref: common.SecretReference | None = None
    """Secret with the remote's credentials."""


class Source(Contract):
    """Where the steps' code comes from."""

    git: SourceGit
    """The commit is fetched into /workspace/source of every step, without its history."""
    dvc: SourceDvc | None = None
    """Bring data under DVC's control to the first steps (see initializer), verified by the MD5 in dvc.lock."""


class DatasetInitializer(Contract):
    """A dataset file that is fetched and verified before the first steps start."""

    storage_uri: common.FileUri
    """Where the file lies."""
    digest: common.PrefixedSha256
    """sha256: and the SHA-256 of the file, 64 hexadecimal digits."""
    secret_ref: common.SecretReference | None = None
    """Secret with the store's credentials."""


class ModelInitializer(Contract):
    """A model to begin with, a file or a folder."""

    rules: ClassVar = (
        Rule(
            f"!has(self.digest) || !self.storageUri.matches(r'{common.REPOSITORY_PATTERN}')",
            "digest is of one file, and storageUri names a whole repository of the Hub: name a file of it, or a commit"
            " (hf://org/backbone@<commit>) instead of the digest",
            lambda self: not self.has("digest") or not re.search(common.REPOSITORY_PATTERN, self.storage_uri),
        ),
    )

    storage_uri: common.StoreUri
    """Where it lies. Of a folder all files are brought, of a repository of the Hub (hf) those of one commit; http and
    https have files only."""
    digest: common.PrefixedSha256 | None = None
    """sha256: and the SHA-256 of the file; absent: what lies there is taken as it is, a folder always."""
    secret_ref: common.SecretReference | None = None
    """Secret with the store's credentials."""


class Initializer(Contract):
    """What is brought to the first steps."""

    rules: ClassVar = (
        Rule(
            "has(self.dataset) || has(self.model)",
            "initializer needs dataset, model, or both",
            lambda self: self.has("dataset") or self.has("model"),
        ),
    )

    dataset: DatasetInitializer | None = None
    """Dataset file for the steps that wait for no other to be Complete, in /workspace/dataset."""
    model: ModelInitializer | None = None
    """Model to begin with, for the steps that wait for no other to be Complete, in /workspace/model."""


class Dependency(Contract):
    """A step that this one waits for."""

    name: StepName
    """Name of the step."""
    status: Literal["Complete", "Ready"] = "Complete"
    """What it must have reached. Complete: it is done, and this step finds its results. Ready: its pods are all ready
    (or done), as those of a server that this step talks to; its results are not at hand, and should it begin again,
    this step goes on."""


class Trainer(Contract):
    """A distributed step: one pod a node, all of them together."""

    image: pod.Image
    """Container image."""
    command: pod.Command = Field(default_factory=list)
    """Entrypoint; absent: the image's."""
    args: pod.Command = Field(default_factory=list)
    """Arguments; absent: the image's."""
    env: pod.Environment = Field(default_factory=list)
    """Environment variables."""
    num_nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of pods."""
    num_proc_per_node: Annotated[int, Field(ge=1, le=16)] = 1
    """Training processes in each pod."""
    resources_per_node: pod.Resources | None = None
    """Requests and limits of each pod."""
    framework: Framework = "torch"
    """torch: rendezvous for torchrun in PET_* variables. plain: ranks and addresses only, in NODE_RANK, NNODES,
    NPROC_PER_NODE, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. deepspeed: both, and /job/hostfile for its launcher.
    mpi: as plain, for the launcher of the train library (python -m modelfleet.runtime mpi), which needs MPICH."""


class Step(Contract):
    """One step of the DAG: a plain container or a distributed trainer."""

    rules: ClassVar = (
        Rule(
            "has(self.image) != has(self.trainer)",
            "a step needs either image (one container) or trainer (a distributed step), and not both",
            lambda self: self.has("image") != self.has("trainer"),
        ),
        Rule(
            "!has(self.trainer) || !(has(self.command) || has(self.args) || has(self.env) || has(self.resources))",
            "in a step with trainer, command, args, env and resourcesPerNode belong inside trainer",
            lambda self: (
                not (
                    self.has("trainer")
                    and (self.has("command") or self.has("args") or self.has("env") or self.has("resources"))
                )
            ),
        ),
    )

    name: StepName
    """Name of the step, unique in the job."""
    depends_on: Annotated[list[Dependency], Field(max_length=16), Unique("name")] = Field(default_factory=list)
    """Steps that this one waits for before it starts."""
    image: pod.Image | None = None
    """Container image of a plain step."""
    command: pod.Command = Field(default_factory=list)
    """Entrypoint; absent: the image's."""
    args: pod.Command = Field(default_factory=list)
    """Arguments; absent: the image's."""
    env: pod.Environment = Field(default_factory=list)
    """Environment variables."""
    resources: pod.Resources | None = None
    """Requests and limits."""
    trainer: Trainer | None = None
    """A distributed step, instead of image."""
    node_pool: common.ObjectName | None = None
    """Node pool of this step, a name from the installation's nodePools; absent: the job's."""
    retry: Retry | None = None
    """How often this step begins again after failures; absent: the job's backoffLimit, together with the others."""


class GateRule(Contract):
    """One condition on the results: a threshold, or a comparison with the version that is online now."""

    rules: ClassVar = (
        Rule(
            "has(self.baseline) ? !has(self.comparison) && !has(self.value) : has(self.comparison) && has(self.value)",
            "a rule of the gate needs either comparison and value (a threshold), or baseline and direction"
            " (a comparison with the version that is online), and not both",
            lambda self: self.has("comparison") == self.has("value") and self.has("comparison") != self.has("baseline"),
        ),
        Rule(
            "has(self.baseline) ? has(self.direction)"
            " : !has(self.direction) && !has(self.maxRegression) && !has(self.whenNoBaseline)",
            "direction, maxRegression and whenNoBaseline belong to baseline, which needs direction: Maximize where a"
            " greater metric is better, Minimize where a smaller one is",
            lambda self: (
                self.has("direction")
                if self.has("baseline")
                else not (self.has("direction") or self.has("max_regression") or self.has("when_no_baseline"))
            ),
        ),
    )

    metric: common.MetricName
    """Name of the metric."""
    comparison: Comparison | None = None
    """How the metric must compare with value."""
    value: common.Decimal | None = None
    """The threshold, as a decimal string."""
    baseline: Literal["Online"] | None = None
    """Compare with the version of this model that is online in this namespace; of several, with the best."""
    direction: Direction | None = None
    """Whether a greater (Maximize) or a smaller metric (Minimize) is better."""
    max_regression: common.Amount | None = None
    """How much worse than the baseline it may be, in the metric's own unit; absent: not at all."""
    when_no_baseline: Literal["Pass", "Fail"] | None = None
    """Verdict where no version is online, or it has no such metric; absent: Pass, as for a model's first version."""


class Output(Contract):
    """Where results and artifacts go, and the version they are registered as."""

    storage_uri: common.WritableStoreUri
    """Folder in a store (s3, gs or abfs) for results and artifacts."""
    model_version_name: common.ObjectName
    """Name of the ModelVersion to register: model, a dash, and version in lower case with dots as dashes."""
    secret_ref: common.SecretReference | None = None
    """Secret with the store's credentials; the ModelVersion's artifacts carry it too."""


def _dependencies_exist(self: Any) -> bool:
    names = {step.name for step in self.steps}
    return all(dependency.name in names for step in self.steps for dependency in step.depends_on)


class TrainingJobSpec(Contract):
    """What to run and what to register. Immutable, except suspend and ttlSecondsAfterFinished."""

    rules: ClassVar = (
        Rule(
            "has(self.steps) != has(self.trainer)",
            "give either steps (a DAG) or trainer (one distributed step), and not both",
            lambda self: self.has("steps") != self.has("trainer"),
        ),
        Rule(
            "!has(self.steps) || self.steps.all(step, !has(step.dependsOn) ||"
            " step.dependsOn.all(dependency, self.steps.exists(other, other.name == dependency.name)))",
            "steps[].dependsOn[].name must be the name of a step of this job",
            _dependencies_exist,
            field="steps",
        ),
        Rule(
            "self.output.modelVersionName == self.model + '-' + self.version.lowerAscii().replace('.', '-')",
            "output.modelVersionName must be model, a dash, and version in lower case with dashes for dots,"
            " such as defect-detector-1-4-0",
            lambda self: self.output.model_version_name == common.version_object_name(self.model, self.version),
            field="output.modelVersionName",
        ),
        Rule(
            "!has(self.termination) || has(self.trainer)"
            " || (has(self.steps) && self.steps.exists(step, has(step.trainer)))",
            "termination needs a distributed step (one with trainer): its pods tell how they are doing",
            lambda self: (
                not self.has("termination") or self.has("trainer") or any(step.has("trainer") for step in self.steps)
            ),
            field="termination",
        ),
        Rule(
            "!has(self.termination) || !has(self.termination.resourcePressure) || has(self.checkpoint)",
            "termination.resourcePressure needs checkpoint: the step gives way, and goes on from it later",
            lambda self: (
                not self.has("termination") or not self.termination.has("resource_pressure") or self.has("checkpoint")
            ),
            field="termination",
        ),
        *immutable(
            "model",
            "version",
            "source",
            "initializer",
            "steps",
            "trainer",
            "nodePool",
            "nodeSelector",
            "tolerations",
            "imagePullSecrets",
            "backoffLimit",
            "activeDeadlineSeconds",
            "failurePolicy",
            "checkpoint",
            "termination",
            "managedBy",
            "gate",
            "output",
            remedy="create a new TrainingJob instead; only suspend and ttlSecondsAfterFinished may change",
        ),
    )

    model: common.ModelName
    """Name of the model."""
    version: common.Version
    """Version to register (SemVer 2)."""
    source: Source | None = None
    """Where the steps' code comes from."""
    initializer: Initializer | None = None
    """What is brought to the first steps."""
    steps: Annotated[list[Step], Field(min_length=1, max_length=16), Unique("name")] = Field(default_factory=list)
    """The DAG of steps."""
    trainer: Trainer | None = None
    """Short form: one distributed step, instead of steps."""
    node_pool: common.ObjectName | None = None
    """Nodes to run on: a name from the installation's nodePools."""
    node_selector: pod.NodeSelector = Field(default_factory=dict)
    """Labels that the nodes must carry."""
    tolerations: pod.Tolerations = Field(default_factory=list)
    """Taints that the pods tolerate."""
    image_pull_secrets: pod.PullSecrets = Field(default_factory=list)
    """Secrets with the registries' credentials."""
    suspend: bool = False
    """Whether to stop what runs and start nothing; set back to false, the job goes on."""
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """How often failed steps begin again, all steps together but for those with a retry of their own. A pod that was
    preempted, evicted, drained or on a node that died is no failure."""
    failure_policy: FailurePolicy | None = None
    """What failures with certain exit codes mean."""
    checkpoint: Checkpoint | None = None
    """Where distributed steps keep checkpoints, from which their next attempt goes on."""
    termination: Termination | None = None
    """When distributed steps end early, begin again or give way, by what their pods tell."""
    active_deadline_seconds: common.Seconds | None = None
    """Seconds after which the job fails; absent: none."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Seconds after its end until the job is deleted with its Jobs and pods; absent: never. Where Argo CD, Flux, Helm
    or an owner keeps it in being and would create it again, only its Jobs and pods go."""
    managed_by: Literal["modelfleet.dev/training-job", "kueue.x-k8s.io/multikueue"] | None = None
    """Who runs the job: modelfleet in this cluster (the default), or MultiKueue in another one; modelfleet then leaves
    the job and its status alone here."""
    gate: Annotated[list[GateRule], Field(max_length=16)] = Field(default_factory=list)
    """Thresholds; all must hold, or no ModelVersion is registered."""
    output: Output
    """Where results go, and the version they become."""


class TrainingJob(Contract):
    """A training run: steps on the cluster, a gate on their results, a ModelVersion at the end."""

    model_config = ConfigDict(extra="ignore")

    rules: ClassVar = (short_dns_name("a TrainingJob"),)

    metadata: common.Metadata
    """Name, labels, owner."""
    spec: TrainingJobSpec
    """What to run and what to register. Immutable, except suspend and ttlSecondsAfterFinished."""
    status: TrainingJobStatus | None = None
    """How far the job is."""
