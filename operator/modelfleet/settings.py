"""The operator's settings: the YAML file that the chart mounts, checked and typed. Nothing else reads it."""

import os
import socket
import uuid
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from modelfleet.api.model_version import Channel
from modelfleet.plan.channel import DEFAULT_RULES, ChannelRule
from modelfleet.plan.installation import ImagePullPolicy, Installation, NodePool, SignaturePolicy, TrustedKey
from modelfleet.plan.traffic import traffic

PATH_ENV: Final = "MODELFLEET_CONFIG"
ADDRESS_ENV: Final = "MODELFLEET_POD_IP"
DEFAULT_PATH: Final = "/etc/modelfleet/config.yaml"

Address = Annotated[str, Field(pattern=r"^https?://[^/?#@]+(/[^?#@]*)?$")]
Seconds = Annotated[float, Field(gt=0)]


class SettingsError(Exception):
    """The settings cannot be used; the message names the file, the field and what is wrong with it."""


class _Setting(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class NodePoolSetting(_Setting):
    """Where training pods of a named pool go; as in a pod's spec."""

    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    backend: Literal["nccl", "gloo"] | None = None
    env: dict[str, str] = {}


class ChannelSetting(_Setting):
    """The channel of what is trained from some branches or tags; the name is a pattern with ``*``."""

    branch: str | None = Field(default=None, min_length=1)
    tag: str | None = Field(default=None, min_length=1)
    channel: Channel

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "ChannelSetting":
        if (self.branch is None) == (self.tag is None):
            raise ValueError("give either branch or tag")
        return self

    def rule(self) -> ChannelRule:
        """As plans have it."""
        return ChannelRule("tag" if self.branch is None else "branch", self.branch or self.tag or "", self.channel)


class AnalysisSetting(_Setting):
    """What canaries may be judged by."""

    prometheus_addresses: Annotated[list[Address], Field(max_length=100)] = []
    """URLs of the Prometheus servers that an analysis may ask."""


class LeaseSetting(_Setting):
    """Leader election; seconds, as client-go names them."""

    name: str = "modelfleet"
    duration_seconds: Seconds = 15.0
    renew_deadline_seconds: Seconds = 10.0
    retry_period_seconds: Seconds = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> "LeaseSetting":
        if not self.duration_seconds > self.renew_deadline_seconds > 1.2 * self.retry_period_seconds:
            raise ValueError("durationSeconds > renewDeadlineSeconds > 1.2 x retryPeriodSeconds must hold")
        return self


class TrafficSetting(_Setting):
    """Whose routing objects the operator has rights on, the chart sets both alike; and where it may ask."""

    istio: bool = True
    gateway_api: Annotated[bool, Field(alias="gatewayAPI")] = True
    probe_addresses: Annotated[list[Address], Field(max_length=100)] = []
    """Where the data plane may be probed, these and what lies below."""

    def providers(self) -> frozenset[str]:
        """By the names that an EdgeDeployment gives in ``traffic.provider``."""
        chosen = {"Istio": self.istio, "GatewayAPI": self.gateway_api}
        return frozenset(name for name, enabled in chosen.items() if enabled)

    def kinds(self) -> list[str]:
        """The kinds of their objects."""
        return [kind for provider in sorted(self.providers()) for kind in traffic.KINDS[provider]]


class PublicKeySetting(_Setting):
    """A key that artifacts may be signed with."""

    name: str = Field(min_length=1, max_length=63)
    key: str = Field(pattern=r"^-----BEGIN PUBLIC KEY-----\s")
    """SubjectPublicKeyInfo as PEM."""
    namespaces: list[str] = []
    """Where it counts; empty: everywhere."""


class SignaturesSetting(_Setting):
    """What is demanded of artifacts' signatures."""

    policy: SignaturePolicy = "Ignore"
    public_keys: list[PublicKeySetting] = []

    @model_validator(mode="after")
    def _usable(self) -> "SignaturesSetting":
        if self.policy != "Ignore" and not self.public_keys:
            raise ValueError(f"policy {self.policy} needs publicKeys")
        return self


class VerificationSetting(_Setting):
    """How ModelVersions are verified, beyond what their specs say."""

    every_hours: Annotated[int, Field(ge=0, le=99_999)] = 0
    """When versions in use are verified again; 0: not by themselves."""
    signatures: SignaturesSetting = SignaturesSetting()


class ProgressSetting(_Setting):
    """How training pods tell the leader their progress; the chart brings the Service and the Secret."""

    service: str = ""
    """Name of the Service, in the operator's namespace and without a selector; empty: pods tell nothing."""
    secret: str = ""
    """Name of the Secret there that holds the server's key and certificate; the operator fills it."""
    host: str = "0.0.0.0"  # noqa: S104 (pods of all namespaces report)
    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """Where it listens; 0 picks a free port."""
    address: str = ""
    """IP address at which pods reach this replica; MODELFLEET_POD_IP in the chart."""

    @model_validator(mode="after")
    def _complete(self) -> "ProgressSetting":
        if self.service and not (self.secret and self.address):
            raise ValueError("service needs secret and address (or MODELFLEET_POD_IP in the environment)")
        return self


class Settings(_Setting):
    """Everything that can be set; the file's keys are these names in camelCase."""

    installation_name: str = Field(min_length=1)
    """Identity of this installation, unique in the cluster."""
    namespace: str = Field(min_length=1)
    """Where the operator runs; its Lease is here."""
    runtime_image: str = Field(min_length=1)
    """Default serving image; also runs fetch and verify."""
    image_pull_policy: ImagePullPolicy = "IfNotPresent"
    image_pull_secrets: list[str] = []
    """Secrets for the runtime image, to be found in the namespaces of those who use it."""
    node_pools: dict[str, NodePoolSetting] = {}
    verification: VerificationSetting = VerificationSetting()
    channels: list[ChannelSetting] = [
        ChannelSetting.model_validate({rule.kind: rule.pattern, "channel": rule.channel}) for rule in DEFAULT_RULES
    ]
    """The first that matches counts; a branch or tag that none matches is of channel experiment."""
    analysis: AnalysisSetting = AnalysisSetting()
    workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Reconciles at once."""
    resync_seconds: Annotated[float, Field(ge=10)] = 720.0
    """Mean time after which an untouched object is looked at again."""
    audit_seconds: Annotated[float, Field(ge=5)] = 120.0
    """Time between two comparisons of the view with the API server."""
    sweep_interval_seconds: Seconds = 300.0
    """Time between the two looks that must agree before a node label without an owner is taken off."""
    lease: LeaseSetting = LeaseSetting()
    traffic: TrafficSetting = TrafficSetting()
    progress: ProgressSetting = ProgressSetting()
    http_host: str = "0.0.0.0"  # noqa: S104 (probes and Prometheus come from outside the pod)
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Probes and metrics; 0 picks a free port."""
    log_format: Literal["plain", "json"] = "plain"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def installation(self) -> Installation:
        """What plans need to know of it."""
        pools = {
            name: NodePool(pool.node_selector, tuple(pool.tolerations), pool.backend, pool.env)
            for name, pool in self.node_pools.items()
        }
        signatures = self.verification.signatures
        return Installation(
            self.installation_name,
            self.namespace,
            self.runtime_image,
            self.image_pull_policy,
            tuple(self.image_pull_secrets),
            pools,
            traffic_providers=self.traffic.providers(),
            verify_every_hours=self.verification.every_hours,
            signatures=signatures.policy,
            public_keys=tuple(
                TrustedKey(each.name, each.key, tuple(each.namespaces)) for each in signatures.public_keys
            ),
            channels=tuple(setting.rule() for setting in self.channels),
            prometheus_addresses=tuple(self.analysis.prometheus_addresses),
            probe_addresses=tuple(self.traffic.probe_addresses),
        )


def load(path: str | None = None) -> Settings:
    """The settings of the file; ``MODELFLEET_LOG_FORMAT`` and ``MODELFLEET_LOG_LEVEL`` win over it.

    Raises :class:`SettingsError`.
    """
    path = path or os.environ.get(PATH_ENV, DEFAULT_PATH)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; set {PATH_ENV} to the settings file") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: a mapping is expected")
    for name in ("log_format", "log_level"):
        value = os.environ.get(f"MODELFLEET_{name.upper()}")
        if value:
            content[to_camel(name)] = value
    address = os.environ.get(ADDRESS_ENV)
    if address and isinstance(content.get("progress"), dict):
        content["progress"] = {"address": address, **content["progress"]}
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise SettingsError(f"{path}: {wrong}") from error


def identity() -> str:
    """Who we are in the Lease: the pod's name, made unique in case two processes share a host name."""
    return f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
