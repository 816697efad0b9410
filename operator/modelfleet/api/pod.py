"""What users may say about the pods made for them: image, environment, scheduling, requests and limits."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelfleet.api import quantity
from modelfleet.api.common import LABEL_KEY_PATTERN, LabelValue, SecretReference
from modelfleet.api.quantity import Quantity
from modelfleet.api.rules import NULLS_ARE_ABSENT, Contract, Rule, Rules, Unique, keys_match, lacks

RESOURCE_PATTERN = (
    r"^(cpu|memory|ephemeral-storage|hugepages-[0-9]+[KMG]i|"
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$"
)

Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*$", max_length=512)]
Word = Annotated[str, Field(max_length=8192)]
Port = Annotated[int, Field(ge=1, le=65535)]
NodeSelector = Annotated[
    dict[str, LabelValue],
    Field(max_length=16),
    NULLS_ARE_ABSENT,
    Rules(keys_match(LABEL_KEY_PATTERN, "every key must be a label key, such as pool or kubernetes.io/arch")),
]


class EnvironmentVariable(Contract):
    """One environment variable of a container."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128),
        Rules(lacks("^MODELFLEET_", "names that begin with MODELFLEET_ are the operator's: choose another")),
    ]
    """Name of the variable. Names that begin with MODELFLEET_ are the operator's."""
    value: Annotated[str, Field(max_length=8192)] = ""
    """Its value."""


class Toleration(Contract):
    """A taint that the pods tolerate, as in a pod's spec."""

    rules: ClassVar = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without key needs operator: Exists",
            lambda self: self.key is not None or self.operator == "Exists",
        ),
        Rule(
            "!has(self.value) || !has(self.operator) || self.operator == 'Equal'",
            "operator: Exists takes no value: remove value, or use operator: Equal",
            lambda self: self.value is None or self.operator != "Exists",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect: NoExecute",
            lambda self: self.toleration_seconds is None or self.effect == "NoExecute",
        ),
    )

    key: Annotated[str, Field(pattern=LABEL_KEY_PATTERN, max_length=317)] | None = None
    """Key of the taint; absent with operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists matches any value of the key, Equal (the default) the one given."""
    value: LabelValue | None = None
    """Value of the taint, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; absent: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Seconds that a NoExecute taint is tolerated; absent: for ever."""


_amounts = Rules(
    keys_match(
        RESOURCE_PATTERN,
        "every key must be cpu, memory, ephemeral-storage, hugepages-<size> or an extended resource with its domain,"
        " such as nvidia.com/gpu",
    )
)
Amounts = Annotated[dict[str, Quantity], Field(max_length=16), NULLS_ARE_ABSENT, _amounts]


def _requests_fit(self: Any) -> bool:
    return all(
        quantity.parse(amount) <= quantity.parse(self.limits[name])
        for name, amount in self.requests.items()
        if name in self.limits
    )


def _extended_requests_are_limits(self: Any) -> bool:
    return all(
        name in self.limits and quantity.parse(amount) == quantity.parse(self.limits[name])
        for name, amount in self.requests.items()
        if "/" in name
    )


class Resources(Contract):
    """Requests and limits of a container."""

    rules: ClassVar = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) ||"
            " quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            "requests must not be greater than limits",
            _requests_fit,
        ),
        Rule(
            "!has(self.requests) || self.requests.all(name, !name.contains('/') ||"
            " (has(self.limits) && name in self.limits &&"
            " quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) == 0))",
            "requests of an extended resource, such as nvidia.com/gpu, must equal its limits: state it in limits alone",
            _extended_requests_are_limits,
        ),
    )

    requests: Amounts = Field(default_factory=dict)
    """Least amount of each resource that the node must have free, such as cpu, memory or nvidia.com/gpu."""
    limits: Amounts = Field(default_factory=dict)
    """Most of each resource that the container may use."""


Environment = Annotated[list[EnvironmentVariable], Field(max_length=64), Unique("name")]
Tolerations = Annotated[list[Toleration], Field(max_length=16)]
PullSecrets = Annotated[list[SecretReference], Field(max_length=8), Unique("name")]
Command = Annotated[list[Word], Field(max_length=64)]
