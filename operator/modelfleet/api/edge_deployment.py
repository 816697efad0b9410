"""EdgeDeployment: a ModelVersion on pools of gateways, moved wave by wave."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from modelfleet.api import common, duration, pod
from modelfleet.api.canary import Canary
from modelfleet.api.edge_deployment_status import EdgeDeploymentStatus
from modelfleet.api.rules import Contract, Rule, Rules, Unique, lacks, matches, short_dns_name
from modelfleet.api.traffic import Traffic

Placement = Literal["EveryNode", "Replicas"]
MountPath = Annotated[
    str,
    Field(pattern=r"^(/[-A-Za-z0-9._]+)+$", max_length=255),
    Rules(
        lacks(r"/[.][.]?(/|$)", "must not have . or .. as a part: give the folder itself"),
        lacks(
            r"^/(bin|dev|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr|var/run)(/|$)",
            "must not lie in a folder of the system, such as /tmp or /etc: choose another, such as /models",
        ),
    ),
]
Provider = Literal["KubeEdge", "OpenYurt", "Kubernetes"]
WaveName = Annotated[
    common.ShortName,
    Rules(lacks(r"^(full|[0-9]+)$", "must not be full or a number: promotions mean something else by these")),
]


class Ports(Contract):
    """Ports of the serving container."""

    rules: ClassVar = (
        Rule(
            "!has(self.grpc) || self.grpc != self.http",
            "http and grpc must be different ports",
            lambda self: self.grpc != self.http,
        ),
    )

    http: pod.Port = 8080
    """Port of the REST protocol, and of the readiness probe."""
    grpc: pod.Port | None = None
    """Port of the gRPC protocol, for images that speak it."""


class Serving(Contract):
    """The container that serves the model."""

    image: pod.Image | None = None
    """Serving image; absent: the installation's own runtime image."""
    command: pod.Command = Field(default_factory=list)
    """Entrypoint; absent: the image's."""
    args: pod.Command = Field(default_factory=list)
    """Arguments; absent: the image's."""
    env: pod.Environment = Field(default_factory=list)
    """Environment variables."""
    model_mount_path: MountPath = "/models"
    """Folder where the container finds the model, read-only."""
    ports: Ports = Field(default_factory=Ports)
    """Ports of the container."""
    image_pull_secrets: pod.PullSecrets = Field(default_factory=list)
    """Secrets with the registries' credentials."""
    resources: pod.Resources | None = None
    """Requests and limits."""


class Overrides(Contract):
    """What differs in one pool."""

    env: pod.Environment = Field(default_factory=list)
    """Environment variables; one of the same name in serving.env is replaced."""


class Pool(Contract):
    """A group of nodes that is served alike."""

    rules: ClassVar = (
        Rule(
            "!has(self.replicas) || self.placement == 'Replicas'",
            "replicas needs placement: Replicas; with EveryNode each node of the pool gets one pod",
            lambda self: self.replicas is None or self.placement == "Replicas",
            field="replicas",
        ),
        Rule(
            "size(self.nodeSelector) > 0",
            "nodeSelector must have at least one label: a pool names its nodes",
            lambda self: len(self.node_selector) > 0,
            field="nodeSelector",
        ),
    )

    name: common.ShortName
    """Name of the pool, unique in the deployment."""
    provider: Provider | None = None
    """Edge platform of the nodes; absent: told from their labels."""
    node_selector: pod.NodeSelector
    """Labels of the pool's nodes. A node belongs to the first pool that it matches."""
    tolerations: pod.Tolerations = Field(default_factory=list)
    """Taints that the pods tolerate."""
    placement: Placement = "EveryNode"
    """EveryNode: one pod on each node. Replicas: a number of pods, spread by the scheduler."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Number of pods of a Replicas pool; absent: 1."""
    artifact: common.ShortName | None = None
    """Name of the artifact to serve; absent: the best one that fits each node."""
    overrides: Overrides | None = None
    """What differs from serving in this pool."""


class Wave(Contract):
    """A part of the fleet that is moved and found healthy before the next."""

    name: WaveName
    """Name of the wave, unique in the deployment."""
    pools: Annotated[list[common.ShortName], Field(min_length=1, max_length=100), Unique()] = Field(
        default_factory=list
    )
    """Names of the pools it moves; absent: all."""
    nodes: common.CountOrPercent = "100%"
    """Nodes of those pools that are moved when it ends, earlier waves included: a number or a percentage."""
    soak: duration.Duration | None = None
    """How long the wave is watched, such as 30m, from when all its nodes are healthy; absent: not at all."""
    approval: Literal["Manual"] | None = None
    """Manual: after the soak, the next wave waits for the annotation modelfleet.dev/promote. Absent: it does not."""


class FailureThreshold(Contract):
    """How many nodes may fail before the rollout does."""

    percentage: Annotated[int, Field(ge=0, le=100)] = 5
    """The rollout fails when more than this share of the nodes that were tried failed; offline ones do not count."""
    min_samples: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Nodes whose outcome must be known before it is judged; a smaller wave is judged when all of it are known."""


def _cron_field(number: str) -> str:
    item = rf"({number}(-{number})?|[*])(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DAYS = "SUN|MON|TUE|WED|THU|FRI|SAT"
_CRON = " ".join(
    _cron_field(f"({number})")
    for number in (
        "[0-5]?[0-9]",
        "[01]?[0-9]|2[0-3]",
        "[1-9]|[12][0-9]|3[01]",
        f"[1-9]|1[0-2]|{_MONTHS}",
        f"[0-7]|{_DAYS}",
    )
)
Schedule = Annotated[
    str,
    Field(max_length=100),
    Rules(
        matches(
            f"^{_CRON}$",
            "must be a cron schedule of minute, hour, day of month, month and day of week with one space between them,"
            " such as 0 2 * * * or 30 22 * * FRI,SAT",
        )
    ),
]
TimeZone = Annotated[
    str,
    Field(max_length=64),
    Rules(
        matches(
            r"^[A-Za-z][-+A-Za-z0-9_]*(/[A-Za-z0-9][-+A-Za-z0-9_]*)*$",
            "must be the name of a time zone of the IANA database, such as Asia/Shanghai",
        )
    ),
]


class MaintenanceWindow(Contract):
    """When nodes may be moved. Rolling back, and starting what serves nothing, waits for no window."""

    schedule: Schedule
    """When it opens, as a cron schedule. What falls into the hour that summer time skips opens right after it."""
    duration: duration.PositiveDuration
    """How long it stays open, such as 4h."""
    time_zone: TimeZone = "UTC"
    """Time zone of the schedule."""


class Strategy(Contract):
    """How the fleet is moved to a new version."""

    update: Literal["Recreate"] = "Recreate"
    """Recreate: a gateway's pod is replaced."""
    recreate_order: Literal["PrefetchFirst", "StopFirst"] = "PrefetchFirst"
    """PrefetchFirst: a gateway's new pod is fetched, verified and ready beside the old one before that goes; where
    the device has no room for both, the old one goes first. StopFirst: the old one always goes first."""
    waves: Annotated[list[Wave], Field(max_length=20), Unique("name")] = Field(default_factory=list)
    """Waves in their order; absent: one wave of all nodes."""
    max_unavailable: common.CountOrPercent = "10%"
    """Most nodes in flight at once: a number or a percentage of the wave's reachable nodes, at least 1."""
    starts_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Most nodes that begin to be moved within a minute, so that not all fetch at once; absent: no limit."""
    maintenance_window: MaintenanceWindow | None = None
    """When nodes may be moved; absent: at any time."""
    failure_threshold: FailureThreshold = Field(default_factory=FailureThreshold)
    """How many nodes may fail; those within it are left out of their wave and stay counted."""
    on_failure: Literal["Rollback", "Pause"] = "Rollback"
    """What is done beyond that. Rollback: all nodes go back to the stable revision. Pause: no more are moved."""
    progress_deadline_seconds: common.Seconds = 1800
    """Seconds after which a node that has not come up counts as failed."""
    offline_after_seconds: common.Seconds = 300
    """Seconds after which an unreachable node counts as offline."""


def _waves_name_pools(self: Any) -> bool:
    names = {pool.name for pool in self.pools}
    return all(pool in names for wave in self.strategy.waves for pool in wave.pools)


def _replicas_pools(self: Any) -> set[str]:
    return {pool.name for pool in self.pools if pool.placement == "Replicas"}


def _routes_to_replicas(self: Any) -> bool:
    return self.traffic is None or self.traffic.provider == "None" or len(_replicas_pools(self)) > 0


def _routed_pools_are_replicas(self: Any) -> bool:
    return self.traffic is None or set(self.traffic.pools) <= _replicas_pools(self)


def _routes_to_one_or_all(self: Any) -> bool:
    return self.traffic is None or len(self.traffic.pools) <= 1 or set(self.traffic.pools) >= _replicas_pools(self)


def _splits_its_own_route(self: Any) -> bool:
    if self.canary is None or self.traffic is None or self.traffic.route_ref is None:
        return True
    return self.canary.mirror is None and all(step.weight == 0 for step in self.canary.steps)


class EdgeDeploymentSpec(Contract):
    """What is served where, and how the fleet gets there."""

    rules: ClassVar = (
        Rule(
            "!has(self.strategy.waves) || self.strategy.waves.all(wave, !has(wave.pools) ||"
            " wave.pools.all(name, self.pools.exists(pool, pool.name == name)))",
            "strategy.waves[].pools must be names of pools of this deployment",
            _waves_name_pools,
            field="strategy.waves",
        ),
        Rule(
            "!has(self.traffic) || self.traffic.provider == 'None' ||"
            " self.pools.exists(pool, pool.placement == 'Replicas')",
            "traffic needs a pool with placement: Replicas: requests are routed to replicas, a gateway serves its own",
            _routes_to_replicas,
            field="traffic",
        ),
        Rule(
            "!has(self.traffic) || !has(self.traffic.pools) || self.traffic.pools.all(name,"
            " self.pools.exists(pool, pool.name == name && pool.placement == 'Replicas'))",
            "traffic.pools must be names of pools with placement: Replicas",
            _routed_pools_are_replicas,
            field="traffic.pools",
        ),
        Rule(
            "!has(self.traffic) || !has(self.traffic.pools) || size(self.traffic.pools) == 1 ||"
            " self.pools.all(pool, pool.placement != 'Replicas' || pool.name in self.traffic.pools)",
            "traffic.pools must be one pool, or all pools with placement: Replicas; for others make a deployment of"
            " their own",
            _routes_to_one_or_all,
            field="traffic.pools",
        ),
        Rule(
            "!has(self.canary) || (has(self.traffic) && self.traffic.provider != 'None')",
            "canary needs traffic with provider: Istio or GatewayAPI, which share requests out",
            lambda self: self.canary is None or (self.traffic is not None and self.traffic.provider != "None"),
            field="canary",
        ),
        Rule(
            "!has(self.canary) || !has(self.traffic) || !has(self.traffic.routeRef) ||"
            " (!has(self.canary.mirror) && self.canary.steps.all(step, step.weight == 0))",
            "with traffic.routeRef every canary.steps[].weight must be 0, and there is no canary.mirror: shares need a"
            " route of our own, as with traffic.parentRefs",
            _splits_its_own_route,
            field="canary",
        ),
    )

    model_version: common.ObjectName
    """Name of the ModelVersion to serve. Change it to roll out, change it back to roll back."""
    minimum_channel: Literal["candidate", "preproduction", "production"] | None = None
    """Least channel a ModelVersion must have to be rolled out; absent: any but experiment."""
    revision_history_limit: Annotated[int, Field(ge=1, le=50)] = 5
    """Old revisions that are kept."""
    serving: Serving = Field(default_factory=Serving)
    """The container that serves the model."""
    pools: Annotated[list[Pool], Field(min_length=1, max_length=100), Unique("name")]
    """Groups of nodes."""
    strategy: Strategy = Field(default_factory=Strategy)
    """How the fleet is moved to a new version."""
    canary: Canary | None = None
    """How requests go over to a new version; absent: as its replicas become ready."""
    traffic: Traffic | None = None
    """How requests are routed to the replicas; absent: by a Service alone."""
    paused: bool = False
    """Whether to move no further node."""


class EdgeDeployment(Contract):
    """A model on pools of gateways: which version, which container, which nodes, and how they are moved."""

    model_config = ConfigDict(extra="ignore")

    rules: ClassVar = (short_dns_name("an EdgeDeployment"),)

    metadata: common.Metadata
    """Name, labels, owner."""
    spec: EdgeDeploymentSpec
    """What is served where, and how the fleet gets there."""
    status: EdgeDeploymentStatus | None = None
    """How far the fleet is."""
