"""What a plan needs to know of the installation itself: set by the chart, the same for every reconcile.

Only the values live here; reading them from the mounted file is ``settings.py``'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from modelfleet.plan.channel import DEFAULT_RULES, ChannelRule

ImagePullPolicy = Literal["Always", "IfNotPresent", "Never"]
SignaturePolicy = Literal["Ignore", "IfPresent", "Require"]


@dataclass(frozen=True)
class NodePool:
    """Where the pods of a training step with this ``nodePool`` go; pod-spec fields as Kubernetes has them."""

    node_selector: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tolerations: tuple[Mapping[str, Any], ...] = ()
    backend: Literal["nccl", "gloo"] | None = None
    """What distributed steps communicate by; ``None``: nccl where a step asks for NVIDIA GPUs, else gloo."""
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Environment of distributed steps, such as NCCL_SOCKET_IFNAME; a step's own wins."""


@dataclass(frozen=True)
class TrustedKey:
    """A public key that artifacts may be signed with."""

    name: str
    pem: str
    """SubjectPublicKeyInfo as PEM."""
    namespaces: tuple[str, ...] = ()
    """Where it counts; empty: everywhere."""


@dataclass(frozen=True)
class ProgressServer:
    """Where the pods of distributed steps tell their progress."""

    url: str
    """Without a path: ``https://<service>.<namespace>.svc:<port>``."""
    authority: str
    """Certificates of those who may sign for it, as PEM."""


@dataclass(frozen=True)
class Installation:
    """One installed operator: its identity, its own images, and the node pools its administrator named."""

    name: str
    """Identity of the install, unique in the cluster: Helm release and namespace."""
    namespace: str
    """Where the operator itself lives; its Lease is here."""
    runtime_image: str
    """Default serving image; also runs ``fetch`` and ``verify``."""
    image_pull_policy: ImagePullPolicy = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets by which pods get the runtime image, each in the pod's own namespace."""
    node_pools: Mapping[str, NodePool] = field(default_factory=lambda: MappingProxyType({}))
    """By the name that TrainingJobs give in ``nodePool``."""
    verify_every_hours: int = 0
    """When versions in use are verified again; 0: only when somebody asks, or their spec says so."""
    signatures: SignaturePolicy = "Ignore"
    """What is demanded of artifacts' signatures. IfPresent: one that is there must be good."""
    public_keys: tuple[TrustedKey, ...] = ()
    """The keys that signatures may be made with."""
    channels: tuple[ChannelRule, ...] = DEFAULT_RULES
    """From a source's branch or tag to the channel of what is trained from it."""
    prometheus_addresses: tuple[str, ...] = ()
    """Prometheus servers that an analysis may ask; all others are refused, as the operator's network is not the
    user's."""
    probe_addresses: tuple[str, ...] = ()
    """Addresses at which, or below which, the data plane may be probed; all others are refused alike."""
    traffic_providers: frozenset[str] = frozenset({"Istio", "GatewayAPI"})
    """Whose routing objects the operator has rights on."""
    progress: ProgressServer | None = None
    """``None``: the installation has none, or its certificate is not there yet."""
