"""The attempts to verify a ModelVersion: when one begins, how it goes on, and what is known meanwhile.

Artifacts are verified once, and again when somebody asks (an annotation) or the time has come. What was found holds
until a later attempt finds something else out: a store that is down for an hour unsettles nothing that was verified.
What one attempt does is ``verification.py``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api import names
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import backoff, conditions, job_state, naming
from modelfleet.plan.conditions import Condition
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.version import verification
from modelfleet.plan.version.verification import Finding

VERB: Final = "verify"

COMMAND_LENGTH: Final = 100
"""Characters of the annotation's value that count."""

_SPREAD: Final = 0.1
"""Part of the interval over which scheduled verifications are spread, so that they do not all begin at once."""

VERIFYING: Final = Condition("Verified", "Unknown", "Verifying", "the artifacts are being hashed in the cluster")


@dataclass(frozen=True)
class Seen:
    """What there is of the latest attempt."""

    job: RawObject | None = None
    """Its Job."""
    pods: Sequence[RawObject] = ()
    """Its pods."""
    trouble: job_state.Trouble | None = None
    """What Events say about why nothing runs."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """What the API server would not take, by name."""


@dataclass(frozen=True)
class Run:
    """The attempts so far, as the status has them."""

    attempt: int = 0
    """Number of the latest one; 0 before the first."""
    settled: int = 0
    """The one whose finding holds; 0 while none does."""
    began: str | None = None
    reason: str | None = None
    """What kept the latest attempt from finding anything out."""
    message: str | None = None
    command: str = ""
    """The command that was acted on last."""

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt has begun that found nothing out yet."""
        return self.attempt > self.settled

    def status(self) -> dict[str, Any]:
        """As ``status.verification``."""
        return {
            "attempt": self.attempt,
            "settledAttempt": self.settled,
            "lastAttemptTime": self.began,
            "reason": self.reason,
            "message": conditions.shorten(self.message) if self.message else None,
        }


@dataclass(frozen=True)
class Progress:
    """Where verification is: what to create and when to look again included."""

    run: Run
    verified: Condition
    artifacts: list[dict[str, Any]]
    create: tuple[RawObject, ...] = ()
    requeue_after: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more is done about it by itself."""
        return self.run.attempt > 0 and not self.run.is_under_way and not self.create


def read(obj: Mapping[str, Any]) -> Run:
    """The attempts so far; none where the finding that should hold was lost.

    A finding without attempts, as of an object that was restored with its status, counts as one.
    """
    status = obj.get("status") or {}
    held = status.get("verification") or {}
    found = conditions.find(status.get("conditions") or (), "Verified")
    if found is None:
        return Run()
    if not held and (found["status"] == "True" or found["reason"] in verification.FINAL_REASONS):
        return Run(attempt=1, settled=1, command=status.get("lastCommand") or "")
    return Run(
        attempt=int(held.get("attempt", 0)),
        settled=int(held.get("settledAttempt") or 0),
        began=held.get("lastAttemptTime"),
        reason=held.get("reason"),
        message=held.get("message"),
        command=status.get("lastCommand") or "",
    )


def command(obj: Mapping[str, Any]) -> str:
    """The command that the annotation gives; empty where there is none."""
    value = str((obj["metadata"].get("annotations") or {}).get(names.VERIFY_ANNOTATION) or "")
    return f"{VERB} {value[:COMMAND_LENGTH]}" if value else ""


def advance(
    obj: RawObject, spec: ModelVersionSpec, seen: Seen, installation: Installation, now: datetime, *, is_used: bool
) -> Progress:
    """The next step. ``is_used``: whether something serves the version, or is being moved to it."""
    run = read(obj)
    step = _Step(obj, spec, seen, installation, now, run)
    asked = command(obj) not in ("", run.command)
    if not run.is_under_way:
        due = next_time(obj, spec, installation, run, is_used=is_used)
        if run.attempt == 0 or asked or (due is not None and now >= due):
            return step.start()
        return Progress(run, step.standing, step.known, requeue_after=backoff.seconds_until(due, now) if due else None)
    ended = job_state.ending(seen.job) or job_state.given_up(seen.job, now) if seen.job is not None else None
    if seen.job is not None and ended is None:
        return step.running()
    return step.ended(ended, asked=asked)


def next_time(
    obj: Mapping[str, Any], spec: ModelVersionSpec, installation: Installation, run: Run, *, is_used: bool
) -> datetime | None:
    """When a verified version is verified again by itself; ``None``: never."""
    every = spec.verification.every if spec.verification is not None else None
    hours = int(every.removesuffix("h")) if every else (installation.verify_every_hours if is_used else 0)
    if not hours or run.began is None:
        return None
    share = int(naming.text_hash(obj["metadata"]["uid"], 4), 16) / 0x10000
    return conditions.parse_timestamp(run.began) + timedelta(hours=hours * (1 + _SPREAD * share))


@dataclass(frozen=True)
class _Step:
    """One step of the attempts, and what all of its outcomes have in common."""

    obj: RawObject
    spec: ModelVersionSpec
    seen: Seen
    installation: Installation
    now: datetime
    run: Run

    @property
    def known(self) -> list[dict[str, Any]]:
        """What the status tells of the artifacts."""
        return list((self.obj.get("status") or {}).get("artifacts") or ())

    @property
    def standing(self) -> Condition:
        """What was found last, or the first attempt as it stood."""
        last = conditions.find((self.obj.get("status") or {}).get("conditions") or (), "Verified")
        if last is None:
            return VERIFYING
        return Condition(last["type"], last["status"], last["reason"], last.get("message", ""))

    @property
    def is_first(self) -> bool:
        """Whether nothing was found out by any attempt yet: the condition then tells how the attempts go."""
        return self.run.settled == 0

    def start(self) -> Progress:
        """Begin an attempt. What the last one found stays until this one knows better."""
        number = self.run.attempt + 1
        job = verification.job(self.obj, self.spec, number, self.installation)
        refusal = self.seen.refusals.get(job["metadata"]["name"])
        if refusal is not None:
            message = f"the verifying Job was refused: {refusal.message}"
            run = Run(**{**vars(self.run), "reason": "JobRefused", "message": message})
            told = Condition("Verified", "Unknown", "JobRefused", message) if self.is_first else self.standing
            return Progress(run, told, self.known, requeue_after=backoff.LOOK_AGAIN_SECONDS)
        failed = self.run.reason if self.run.reason != "JobRefused" else None
        run = Run(
            attempt=number,
            settled=self.run.settled,
            began=conditions.timestamp(self.now),
            reason=failed,
            message=self.run.message if failed else None,
            command=command(self.obj) or self.run.command,
        )
        told = self._told(run) if self.is_first else self.standing
        return Progress(run, told, self.known, create=(job,))

    def running(self) -> Progress:
        """The attempt goes on: say why where it does not start."""
        trouble = self.seen.trouble or job_state.trouble(self.seen.pods)
        look_again = backoff.LOOK_AGAIN_SECONDS if trouble is not None else None
        if trouble is None and not job_state.ready_count(self.seen.pods):
            look_again = job_state.QUIET_SECONDS + 1.0
        if self.is_first:
            told = self._told(self.run)
            if trouble is not None:
                told = Condition("Verified", "Unknown", trouble.reason, trouble.message)
            return Progress(self.run, told, self.known, requeue_after=look_again)
        run = self.run
        if trouble is not None:
            run = Run(**{**vars(run), "reason": trouble.reason, "message": trouble.message})
        return Progress(run, self.standing, self.known, requeue_after=look_again)

    def ended(self, ended: job_state.Ending | None, *, asked: bool) -> Progress:
        """The attempt has ended, or its Job is gone: take in what it found, and try again where that may help."""
        since = conditions.parse_timestamp(self.run.began) if self.run.began else self.now
        finding = self._finding(ended)
        known, told, run = self.known, self.standing, self.run
        if finding is not None:
            run = Run(**{**vars(run), "reason": finding.reason, "message": finding.message})
            if ended is not None:
                since = ended.at
                if self.is_first or finding.is_conclusive:
                    known = artifact_statuses(finding, ended.at)
                    told = verification.verdict(finding)
                if finding.is_final:
                    run = Run(**{**vars(run), "settled": run.attempt, "reason": None, "message": None})
                    return Progress(run, told, known)
        step = _Step(self.obj, self.spec, self.seen, self.installation, self.now, run)
        due = since + backoff.delay(run.attempt - run.settled)
        if asked or self.now >= due:
            begun = step.start()
            return Progress(
                begun.run, told if not self.is_first else begun.verified, known, begun.create, begun.requeue_after
            )
        if self.is_first:
            next_at = conditions.timestamp(due + timedelta(seconds=1))
            told = Condition("Verified", "False", run.reason or "", f"{run.message} (next attempt at {next_at})")
        return Progress(run, told, known, requeue_after=backoff.seconds_until(due, self.now))

    def _finding(self, ended: job_state.Ending | None) -> Finding | None:
        """What the attempt found; ``None`` where its Job is gone and what it found is in the status already."""
        if ended is not None:
            return verification.read(self.spec, ended, self.seen.pods)
        if self.run.reason is not None:
            return None
        return Finding("ReportLost", "the verifying Job is gone and left no report; it is tried again")

    def _told(self, run: Run) -> Condition:
        """The condition of the first attempts: what the last one of them found, or that it is under way."""
        return Condition("Verified", "False", run.reason, run.message or "") if run.reason else VERIFYING


def artifact_statuses(finding: Finding, at: datetime) -> list[dict[str, Any]]:
    """``status.artifacts``, as a finding has them."""
    return [
        {
            "name": file.name,
            "verified": file.verified,
            "reason": file.reason,
            "message": conditions.shorten(file.message) or None,
            "sizeBytes": file.size_bytes,
            "verifiedAt": conditions.timestamp(at) if file.verified else None,
            "opset": file.opset,
            "inputs": [conditions.shorten(each, 96) for each in file.inputs[:8]] or None,
            "outputs": [conditions.shorten(each, 96) for each in file.outputs[:8]] or None,
            "agreement": file.agreement.model_dump() if file.agreement is not None else None,
            "signedBy": file.signed_by,
        }
        for file in finding.files
    ]
