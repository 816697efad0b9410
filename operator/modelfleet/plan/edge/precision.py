"""Which build of a model fits a node, and which of those that fit it gets.

The rule: a node that offers an accelerator gets a build made for it where there is one; among those, the most
precise one that the device is big enough for (fp32 and bf16 from 32 GiB, fp16 from 16 GiB, int8 on any); among
equals the one that says most about the node. A pool that names an artifact gets that one or none.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from modelfleet.api import quantity
from modelfleet.plan import node_class
from modelfleet.plan.edge.revision import ReleaseArtifact
from modelfleet.plan.node_class import NodeClass

PRECISIONS: Final = ("int8", "fp16", "bf16", "fp32")
"""From the least precise to the most."""

_GIBIBYTE: Final = 1 << 30

COMFORTABLE_MEMORY: Final = {
    "int8": 0,
    "fp16": 16 * _GIBIBYTE,
    "bf16": 32 * _GIBIBYTE,
    "fp32": 32 * _GIBIBYTE,
}
"""Device memory in bytes from which a precision is preferred to a lesser one that fits as well."""

NOMINAL_SHARE: Final = Fraction(7, 8)
"""What a device must report of a nominal size to pass for it: firmware, ECC and the kubelet's reserve take their
part. A T4 of 16 GiB reports 15, a cloud node of 32 GiB has 28.2 allocatable; sizes sold differ by a quarter or more."""

DEFAULT_IMAGE_FORMATS: Final = frozenset({"onnx"})
"""Formats that the runtime image's ``serve`` loads; a serving image of the user's own may load any."""


@dataclass(frozen=True)
class Choice:
    """The artifact for a node (or for all nodes of a Replicas pool), or why there is none."""

    artifact: ReleaseArtifact | None
    why_not: str = ""


def choose(
    artifacts: Sequence[ReleaseArtifact],
    classes: Collection[NodeClass],
    *,
    named: str | None = None,
    formats: frozenset[str] | None = None,
) -> Choice:
    """The artifact that every one of these node classes can hold, the best by the weakest of them.

    ``formats`` are those that the serving image loads, ``None`` for any.
    """
    if named is not None and all(artifact.name != named for artifact in artifacts):
        known = ", ".join(artifact.name for artifact in artifacts)
        return Choice(None, f"the version has no artifact {named} (it has {known})")
    considered = [artifact for artifact in artifacts if named in (None, artifact.name)]
    fitting, reasons = [], []
    for artifact in considered:
        why = _format_problem(artifact, formats) or _first_problem(artifact, classes)
        if why:
            reasons.append(f"{artifact.name} {why}")
        else:
            fitting.append(artifact)
    if not fitting:
        return Choice(None, "; ".join(reasons))
    return Choice(max(fitting, key=lambda artifact: _preference(artifact, classes)))


def problem(artifact: ReleaseArtifact, device: NodeClass) -> str:
    """Why the node cannot hold the artifact, as the end of a sentence that begins with its name; empty if it can."""
    if artifact.platforms and not any(_runs_on(platform, device.platform) for platform in artifact.platforms):
        return f"is for {', '.join(artifact.platforms)} and the node is {device.platform}"
    missing = [name for name in artifact.accelerators if name not in device.accelerators]
    if missing:
        return f"needs {missing[0]}, which the node does not offer"
    features = [name for name in artifact.cpu_features if node_class.feature(name) not in device.cpu_features]
    if features:
        return f"needs CPU feature {features[0]}, which no label of the node tells of"
    if artifact.min_memory is not None:
        need, has = quantity.parse_bytes(artifact.min_memory), device_memory(artifact, device)
        nominal = bool(artifact.accelerators) and device.accelerator_memory is not None
        if has < (need * NOMINAL_SHARE if nominal else need):
            return f"needs {artifact.min_memory} of device memory and the node has {has >> 20}Mi"
    return ""


def device_memory(artifact: ReleaseArtifact, device: NodeClass) -> int:
    """The memory in bytes where the model would lie: the accelerator's for a build that needs one, else the node's."""
    if artifact.accelerators and device.accelerator_memory is not None:
        return device.accelerator_memory
    return device.memory


def _first_problem(artifact: ReleaseArtifact, classes: Iterable[NodeClass]) -> str:
    return next((why for device in classes if (why := problem(artifact, device))), "")


def _format_problem(artifact: ReleaseArtifact, formats: frozenset[str] | None) -> str:
    if formats is None or artifact.format in formats:
        return ""
    return f"is {artifact.format}, which the default serving image does not load (set spec.serving.image)"


def _preference(artifact: ReleaseArtifact, classes: Collection[NodeClass]) -> tuple[object, ...]:
    memory = min((device_memory(artifact, device) for device in classes), default=0)
    rank = PRECISIONS.index(artifact.precision)
    comfortable = memory >= COMFORTABLE_MEMORY[artifact.precision] * NOMINAL_SHARE
    return (
        bool(artifact.accelerators),
        comfortable,
        rank if comfortable else -rank,
        len(artifact.cpu_features),
        bool(artifact.platforms),
        # The first in the alphabet, so that the choice does not hang on the order of a list.
        tuple(-ord(letter) for letter in artifact.name),
    )


def _runs_on(wanted: str, platform: str) -> bool:
    # A variant, as in linux/arm/v7, is not told by any node label: os and architecture decide.
    return wanted.split("/")[:2] == platform.split("/")
