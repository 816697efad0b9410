"""The plan of a ModelVersion: have it verified, then say who uses it, which aliases it has, and its stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import conditions
from modelfleet.plan.conditions import Condition
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Note, Outcome, RawObject
from modelfleet.plan.version import aliases, attempts, snapshot, stage
from modelfleet.plan.version.attempts import Progress, Run, Seen


@dataclass(frozen=True)
class Observed:
    """What the plan sees beside the ModelVersion."""

    latest: Seen = field(default_factory=Seen)
    """The latest attempt to verify it."""
    deployments: Sequence[RawObject] = ()
    """The EdgeDeployments that ask for it, serve it or move to it."""
    siblings: Sequence[aliases.Sibling] = ()
    """The other versions of the model that claim an alias."""


def plan(obj: RawObject, observed: Observed, installation: Installation, now: datetime) -> Outcome:
    """The writes for one ModelVersion, its status included."""
    spec = ModelVersionSpec.model_validate(obj["spec"])
    before = obj.get("status") or {}
    used_by = stage.uses(obj["metadata"]["name"], observed.deployments)
    progress = attempts.advance(obj, spec, observed.latest, installation, now, is_used=bool(used_by))
    settled = aliases.settle(spec, observed.siblings, before.get("aliases") or ())
    history = before.get("history") or ()
    last = history[-1]["stage"] if history else None
    current = stage.stage(verified=progress.verified.status == "True", used_by=used_by, before=last)
    stated = [progress.verified, *_summary(progress, settled)]
    status = {
        "observedGeneration": obj["metadata"]["generation"],
        "snapshotHash": snapshot.snapshot_hash(spec),
        "aliases": list(settled.effective),
        "stage": current,
        "history": stage.history(history, current, used_by, now),
        "usedBy": [use.status() for use in used_by[: stage.LISTED]],
        "artifacts": progress.artifacts,
        "verification": progress.run.status(),
        "lastCommand": progress.run.command or None,
        "conditions": conditions.merge(before.get("conditions") or (), stated, obj["metadata"]["generation"], now),
    }
    return Outcome(
        create=list(progress.create),
        status=status,
        notes=_notes(before, attempts.read(obj), progress, settled),
        requeue_after=progress.requeue_after,
    )


def _summary(progress: Progress, settled: aliases.Aliases) -> Iterable[Condition]:
    """Ready, Reconciling and Stalled, as they follow from Verified."""
    verified = progress.verified
    done = verified.status == "True"
    stalled = (progress.is_final and not done) or verified.reason == "JobRefused"
    lost = ", ".join(f"alias {alias} is in effect on {version}" for alias, version in sorted(settled.lost.items()))
    message = "; ".join(part for part in (verified.message, lost) if part)
    yield Condition("Ready", "True" if done else "False", verified.reason, message)
    busy = not done and not stalled
    yield Condition("Reconciling", "True" if busy else "False", verified.reason, verified.message if busy else "")
    yield Condition("Stalled", "True" if stalled else "False", verified.reason, verified.message if stalled else "")


def _notes(before: Mapping[str, Any], run: Run, progress: Progress, settled: aliases.Aliases) -> list[Note]:
    notes = []
    last = conditions.find(before.get("conditions") or (), "Verified")
    verified = progress.verified
    if verified.reason != "Verifying" and (last is None or last["reason"] != verified.reason):
        notes.append(Note("Normal" if verified.status == "True" else "Warning", verified.reason, verified.message))
    kept, again = progress.run.reason, progress.run.settled > 0
    if again and kept is not None and kept not in (run.reason, verified.reason):
        message = f"not verified again, what was found before holds: {progress.run.message}"
        notes.append(Note("Warning", kept, message))
    for alias, version in sorted(settled.lost.items()):
        if last is None or alias in (before.get("aliases") or ()):
            notes.append(Note("Warning", "AliasLost", f"alias {alias} is in effect on the higher version {version}"))
    return notes
