"""The stage of a ModelVersion: derived from who uses it, never typed in; and the history of its stages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from modelfleet.plan import conditions

Role = Literal["Stable", "Canary"]
Stage = Literal["Registered", "Verified", "Gray", "Online", "Retired"]

LISTED: Final = 100
"""Uses listed in a status at most; the stage is derived from all."""

REMEMBERED: Final = 50
"""Entries of a history at most; the oldest are dropped."""

NAMED: Final = 5
"""Users named in an entry of a history at most."""


@dataclass(frozen=True, order=True)
class Use:
    """One EdgeDeployment that uses the version."""

    name: str
    role: Role

    def status(self) -> dict[str, str]:
        """As ``status.usedBy`` lists it."""
        return {"kind": "EdgeDeployment", "name": self.name, "role": self.role}


def uses(version: str, deployments: Iterable[Mapping[str, Any]]) -> list[Use]:
    """Who uses the ModelVersion of this name, by name.

    Stable: it serves. Canary: it is being rolled out, or is asked for and not begun yet.
    """
    found = []
    for deployment in deployments:
        status = deployment.get("status") or {}
        if _serves(status.get("stable"), version):
            found.append(Use(deployment["metadata"]["name"], "Stable"))
        elif _serves(status.get("candidate"), version) or deployment["spec"].get("modelVersion") == version:
            found.append(Use(deployment["metadata"]["name"], "Canary"))
    return sorted(found)


def stage(*, verified: bool, used_by: Iterable[Use], before: str | None) -> Stage:
    """The stage that follows from verification, use, and the stage ``before`` (the last of the history).

    Retired is a version that was online and is used no more; used again, it comes back.
    """
    roles = {use.role for use in used_by}
    if "Stable" in roles:
        return "Online"
    if not verified:
        return "Registered"
    if "Canary" in roles:
        return "Gray"
    return "Retired" if before in ("Online", "Retired") else "Verified"


def history(
    before: Sequence[Mapping[str, Any]], current: Stage, used_by: Iterable[Use], now: datetime
) -> list[dict[str, Any]]:
    """The stages so far: ``before``, and an entry more where ``current`` is another one than the last."""
    entries = [dict(entry) for entry in before]
    if not entries or entries[-1]["stage"] != current:
        users = [use.name for use in used_by][:NAMED]
        entries.append({"stage": current, "since": conditions.timestamp(now), "usedBy": users or None})
    return entries[-REMEMBERED:]


def _serves(revision: Mapping[str, Any] | None, version: str) -> bool:
    return revision is not None and revision.get("modelVersion") == version
