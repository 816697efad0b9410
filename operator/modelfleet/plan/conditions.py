"""Conditions as kstatus reads them: how one is set, and nothing about when.

Sources: Kubernetes API conventions (typical status properties); kstatus of sigs.k8s.io/cli-utils: ``Ready``,
``Reconciling`` and ``Stalled`` tell a tool whether to wait, be glad or give up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

MESSAGE_LENGTH = 256
"""Longest condition message kept, in characters: a status stays small at 10,000 gateways."""


@dataclass(frozen=True)
class Condition:
    """One condition as a plan states it; the time of its last transition is worked out by :func:`merge`."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def merge(
    observed: Iterable[Mapping[str, Any]], stated: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The conditions to write: those stated, in that order, each keeping its transition time while its status does.

    A condition that is observed but not stated is dropped: a plan states all of its conditions each time.
    """
    before = {condition.get("type"): condition for condition in observed}
    merged = []
    for condition in stated:
        old = before.get(condition.type)
        unchanged = old is not None and old.get("status") == condition.status and old.get("lastTransitionTime")
        merged.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": shorten(condition.message),
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if old is not None and unchanged else timestamp(now),
            }
        )
    return merged


def stuck(obj: Mapping[str, Any], reason: str, message: str, now: datetime) -> dict[str, Any]:
    """The status of an object whose plan cannot be made or carried out: stalled, and all else as it was."""
    before, generation = obj.get("status") or {}, obj["metadata"].get("generation", 0)
    observed = before.get("conditions") or ()
    stated = [
        Condition("Ready", "False", reason, message),
        Condition("Reconciling", "False", reason),
        Condition("Stalled", "True", reason, message),
    ]
    others = [each for each in observed if each.get("type") not in {condition.type for condition in stated}]
    return {
        **before,
        "observedGeneration": generation,
        "conditions": [*others, *merge(observed, stated, generation, now)],
    }


def find(conditions: Iterable[Mapping[str, Any]], type_: str) -> Mapping[str, Any] | None:
    """The condition of this type, if there is one."""
    return next((condition for condition in conditions if condition.get("type") == type_), None)


def is_true(conditions: Iterable[Mapping[str, Any]], type_: str) -> bool:
    """Whether the condition of this type is there and True."""
    condition = find(conditions, type_)
    return condition is not None and condition.get("status") == "True"


def shorten(message: str, length: int = MESSAGE_LENGTH) -> str:
    """The message on one line, cut to ``length`` characters with an ellipsis that shows the cut."""
    message = " ".join(message.split())
    return message if len(message) <= length else message[: length - 1] + "…"


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as ``metav1.Time`` prints it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """The moment that ``metav1.Time`` or ``MicroTime`` names, aware, in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
