"""The plan of a ModelVersion: verify it once, then say who uses it, which aliases it has, and its stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import aliases, backoff, conditions, job_state, snapshot, stage, verification
from modelfleet.plan.conditions import Condition
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Note, Outcome, RawObject
from modelfleet.plan.refusal import Refusal


@dataclass(frozen=True)
class Observed:
    """What the plan sees beside the ModelVersion."""

    job: RawObject | None = None
    """The Job of the latest attempt."""
    pods: Sequence[RawObject] = ()
    """Its pods."""
    trouble: job_state.Trouble | None = None
    """What Events say about why nothing runs."""
    deployments: Sequence[RawObject] = ()
    """The EdgeDeployments of the namespace."""
    siblings: Sequence[aliases.Sibling] = ()
    """The other versions of the model."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """What the API server would not take, by name."""


@dataclass(frozen=True)
class _Progress:
    """Where verification is: what to create and when to look again included."""

    verified: Condition
    artifacts: list[dict[str, Any]]
    attempt: int
    last_attempt_time: str | None
    create: tuple[RawObject, ...] = ()
    requeue_after: float | None = None
    final: bool = False


def latest_attempt(obj: Mapping[str, Any]) -> int:
    """Number of the latest attempt; 0 before the first."""
    return int(((obj.get("status") or {}).get("verification") or {}).get("attempt", 0))


def is_settled(obj: Mapping[str, Any]) -> bool:
    """Whether verification came to an end: nothing about it is asked or done again."""
    condition = conditions.find((obj.get("status") or {}).get("conditions") or (), "Verified")
    return condition is not None and (
        condition["status"] == "True" or condition["reason"] in verification.FINAL_REASONS
    )


def plan(obj: RawObject, observed: Observed, installation: Installation, now: datetime) -> Outcome:
    """The writes for one ModelVersion, its status included."""
    spec = ModelVersionSpec.model_validate(obj["spec"])
    before = obj.get("status") or {}
    progress = _verify(obj, spec, observed, installation, now)
    used_by = stage.uses(obj["metadata"]["name"], observed.deployments)
    settled = aliases.settle(spec, observed.siblings, before.get("aliases") or ())
    current = stage.stage(verified=progress.verified.status == "True", used_by=used_by, before=before.get("stage"))
    stated = [progress.verified, *_summary(progress, settled)]
    status = {
        "observedGeneration": obj["metadata"]["generation"],
        "snapshotHash": snapshot.snapshot_hash(spec),
        "aliases": list(settled.effective),
        "stage": current,
        "history": stage.history(before.get("history") or (), current, used_by, now),
        "usedBy": [use.status() for use in used_by[: stage.LISTED]],
        "artifacts": progress.artifacts,
        "verification": {"attempt": progress.attempt, "lastAttemptTime": progress.last_attempt_time},
        "conditions": conditions.merge(before.get("conditions") or (), stated, obj["metadata"]["generation"], now),
    }
    return Outcome(
        create=list(progress.create),
        status=status,
        notes=_notes(before, progress, settled),
        requeue_after=progress.requeue_after,
    )


def _verify(
    obj: RawObject, spec: ModelVersionSpec, observed: Observed, installation: Installation, now: datetime
) -> _Progress:
    before = obj.get("status") or {}
    attempt = latest_attempt(obj)
    began = (before.get("verification") or {}).get("lastAttemptTime")
    known = before.get("artifacts") or []
    last = conditions.find(before.get("conditions") or (), "Verified")
    if is_settled(obj) and last is not None:
        return _Progress(_again(last), known, attempt, began, final=True)
    if attempt == 0:
        return _start(obj, spec, 1, known, None, observed, installation, now)
    ended = job_state.ending(observed.job) if observed.job is not None else None
    if observed.job is not None and ended is None:
        return _running(observed, known, attempt, began, last)
    finding, since = _finding(spec, observed, ended, last), conditions.parse_timestamp(began) if began else now
    if ended is not None and finding is not None:
        known = _artifact_statuses(finding, ended.at)
        since = ended.at
        if finding.final:
            verified = Condition(
                "Verified", "False" if finding.reason else "True", finding.reason or "Verified", finding.message
            )
            return _Progress(verified, known, attempt, began, final=True)
    due = since + backoff.delay(attempt)
    failed = _failed(finding, last)
    if now >= due:
        return _start(obj, spec, attempt + 1, known, failed, observed, installation, now)
    message = f"{failed.message} (next attempt at {conditions.timestamp(due + timedelta(seconds=1))})"
    return _Progress(
        Condition("Verified", "False", failed.reason, message),
        known,
        attempt,
        began,
        requeue_after=backoff.seconds_until(due, now),
    )


def _finding(
    spec: ModelVersionSpec,
    observed: Observed,
    ended: job_state.Ending | None,
    last: Mapping[str, Any] | None,
) -> verification.Finding | None:
    """What the latest attempt found; ``None`` where its Job is gone and what it found is in the condition already."""
    if ended is not None:
        return verification.read(spec, ended, observed.pods)
    if last is not None and last["status"] == "False":
        return None
    return verification.Finding("ReportLost", "the verifying Job is gone and left no report; it is tried again")


def _failed(finding: verification.Finding | None, last: Mapping[str, Any] | None) -> Condition:
    if finding is not None:
        return Condition("Verified", "False", finding.reason, finding.message)
    if last is None:
        raise AssertionError("without a finding there is a condition that holds it")
    return Condition("Verified", "False", last["reason"], last["message"].partition(" (next attempt")[0])


def _start(
    obj: RawObject,
    spec: ModelVersionSpec,
    attempt: int,
    known: list[dict[str, Any]],
    failed: Condition | None,
    observed: Observed,
    installation: Installation,
    now: datetime,
) -> _Progress:
    """Begin an attempt. What the last one found stays in the condition until this one knows better."""
    job = verification.job(obj, spec, attempt, installation)
    refusal = observed.refusals.get(job["metadata"]["name"])
    if refusal is not None:
        message = f"the verifying Job was refused: {refusal.message}"
        condition = Condition("Verified", "Unknown", "JobRefused", message)
        began = (obj.get("status") or {}).get("verification", {}).get("lastAttemptTime")
        return _Progress(condition, known, attempt - 1, began, requeue_after=backoff.LOOK_AGAIN_SECONDS)
    verified = failed or Condition("Verified", "Unknown", "Verifying", "the artifacts are being hashed in the cluster")
    return _Progress(verified, known, attempt, conditions.timestamp(now), create=(job,))


def _running(
    observed: Observed,
    known: list[dict[str, Any]],
    attempt: int,
    began: str | None,
    last: Mapping[str, Any] | None,
) -> _Progress:
    """The attempt goes on: say why where it does not start; keep what the last one found."""
    trouble = job_state.trouble(observed.pods) or observed.trouble
    look_again = backoff.LOOK_AGAIN_SECONDS if trouble is not None else None
    if observed.job is not None and trouble is None and not job_state.ready_count(observed.pods):
        look_again = job_state.QUIET_SECONDS + 1.0
    if trouble is not None:
        condition = Condition("Verified", "Unknown", trouble.reason, trouble.message)
    elif last is not None and last["status"] == "False":
        condition = _failed(None, last)
    else:
        condition = Condition("Verified", "Unknown", "Verifying", "the artifacts are being hashed in the cluster")
    return _Progress(condition, known, attempt, began, requeue_after=look_again)


def _again(condition: Mapping[str, Any]) -> Condition:
    return Condition(condition["type"], condition["status"], condition["reason"], condition.get("message", ""))


def _artifact_statuses(finding: verification.Finding, at: datetime) -> list[dict[str, Any]]:
    return [
        {
            "name": file.name,
            "verified": file.verified,
            "reason": file.reason,
            "message": conditions.shorten(file.message) or None,
            "sizeBytes": file.size_bytes,
            "verifiedAt": conditions.timestamp(at) if file.verified else None,
        }
        for file in finding.files
    ]


def _summary(progress: _Progress, settled: aliases.Aliases) -> Iterable[Condition]:
    """Ready, Reconciling and Stalled, as they follow from Verified."""
    verified = progress.verified
    done = verified.status == "True"
    stalled = (progress.final and not done) or verified.reason == "JobRefused"
    lost = ", ".join(f"alias {alias} is in effect on {version}" for alias, version in sorted(settled.lost.items()))
    message = "; ".join(part for part in (verified.message, lost) if part)
    yield Condition("Ready", "True" if done else "False", verified.reason, message)
    busy = not done and not stalled
    yield Condition("Reconciling", "True" if busy else "False", verified.reason, verified.message if busy else "")
    yield Condition("Stalled", "True" if stalled else "False", verified.reason, verified.message if stalled else "")


def _notes(before: Mapping[str, Any], progress: _Progress, settled: aliases.Aliases) -> list[Note]:
    notes = []
    last = conditions.find(before.get("conditions") or (), "Verified")
    verified = progress.verified
    if verified.reason != "Verifying" and (last is None or last["reason"] != verified.reason):
        notes.append(Note("Normal" if verified.status == "True" else "Warning", verified.reason, verified.message))
    for alias, version in sorted(settled.lost.items()):
        if last is None or alias in (before.get("aliases") or ()):
            notes.append(Note("Warning", "AliasLost", f"alias {alias} is in effect on the higher version {version}"))
    return notes
