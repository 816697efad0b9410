"""Finding the commit of a training job's source: once, before any step, and recorded before anything rests on it.

The status is the record. A repository that is out of reach is asked again with growing pauses; a revision that it
does not have ends the job.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelfleet.api import wire
from modelfleet.api.training_job import SourceGit, Step
from modelfleet.plan import backoff, conditions, job_state
from modelfleet.plan.outcome import Note
from modelfleet.plan.training import placement, source
from modelfleet.plan.training.record import Halt, Progress, Setting
from modelfleet.plan.training.steps import Attempt

FINAL_REASONS: Final = frozenset({"UnknownRevision", "Invalid"})
"""What the repository would say again."""

_SOON_SECONDS: Final = 1.0
_WAITING: Final = "waiting for the source's commit"


@dataclass
class Resolution:
    """How far the source is."""

    status: dict[str, Any]
    """As ``status.source`` has it."""
    progress: Progress
    """What is to be done for it."""
    done: bool = False
    """Whether the commit stands, so that steps may rest on it."""


def advance(setting: Setting, order: Sequence[Step], attempt: Attempt | None) -> Resolution | None:
    """Bring the source on; ``None`` for a job without one. ``attempt`` is what is seen of the latest one."""
    if setting.spec.source is None:
        return None
    before = dict((setting.obj.get("status") or {}).get("source") or {})
    resolution = Resolution(before, Progress(setting, {}), done=bool(before.get("revision")))
    if not resolution.done:
        known = {status["name"]: status for status in (setting.obj.get("status") or {}).get("steps") or ()}
        resolution.progress = Progress(setting, known)
        resolution.progress.statuses |= {
            step.name: {"name": step.name, "phase": "Pending", "message": _WAITING} for step in order
        }
        _advance(resolution, setting, setting.spec.source.git, attempt)
    return resolution


def _advance(resolution: Resolution, setting: Setting, git: SourceGit, attempt: Attempt | None) -> None:
    number, made = int(resolution.status.get("attempt", 0)), resolution.progress
    if number == 0 or attempt is None or attempt.job is None:
        _start(resolution, setting, git, number + 1)
        return
    ended = job_state.ending(attempt.job)
    if ended is None:
        trouble = attempt.trouble or job_state.trouble(attempt.pods)
        if trouble is not None:
            made.trouble = job_state.Trouble(trouble.reason, f"source: {trouble.message}")
        made.pods_wanted += 1
        made.pods_ready += job_state.ready_count(attempt.pods)
        made.due.append(backoff.LOOK_AGAIN_SECONDS if trouble else job_state.QUIET_SECONDS + 1.0)
        resolution.status["message"] = conditions.shorten(trouble.message) if trouble else None
        return
    report = source.read(attempt.pods)
    if report is not None and report.commit:
        _record(resolution, setting, report)
        return
    reason, message = _failure(ended, report, attempt)
    if reason in FINAL_REASONS:
        made.failure = Halt(reason, f"source: {message}")
        resolution.status["message"] = conditions.shorten(message)
        return
    due = ended.at + backoff.delay(number)
    if setting.now >= due:
        _start(resolution, setting, git, number + 1)
        return
    made.trouble = job_state.Trouble(reason, f"source: {message}")
    made.due.append(backoff.seconds_until(due, setting.now))
    resolution.status["message"] = conditions.shorten(f"{message}; asked again at {conditions.timestamp(due)}")


def _failure(ended: job_state.Ending, report: wire.ResolveReport | None, attempt: Attempt) -> tuple[str, str]:
    """Reason and message of an attempt that found nothing."""
    if report is not None and report.reason is not None:
        return report.reason, report.message
    failure = job_state.first_failure(attempt.pods)
    if failure is not None:
        return "SourceFailed", job_state.describe(failure)
    return "SourceFailed", f"the resolving pod left no report: {ended.reason} {ended.message}".strip()


def _record(resolution: Resolution, setting: Setting, report: wire.ResolveReport) -> None:
    """The commit is found. It goes into the status first; steps begin when it is read from there."""
    resolution.status |= {
        "revision": report.commit,
        "refs": list(report.refs),
        "channel": source.channel_of(report.refs, setting.installation.channels),
        "dvc": source.recorded(report),
        "message": conditions.shorten(report.message) or None,
    }
    found = f" ({report.refs[0]})" if report.refs else ""
    resolution.progress.notes.append(Note("Normal", "SourceResolved", f"the source is commit {report.commit}{found}"))
    resolution.progress.due.append(_SOON_SECONDS)


def _start(resolution: Resolution, setting: Setting, git: SourceGit, number: int) -> None:
    made = resolution.progress
    if setting.spec.suspend:
        return
    try:
        pool = placement.pool_of(setting.spec, None, setting.installation)
    except placement.UnknownNodePoolError as error:
        made.blocked = Halt("UnknownNodePool", f"source: {error}")
        return
    where = placement.fields(setting.spec, pool)
    job = source.job(setting.obj, setting.spec, git, number, where, setting.installation)
    name = job["metadata"]["name"]
    refusal = setting.refusals.get(name)
    if refusal is not None:
        halt = Halt("JobRefused", f"source: the API server refuses its Job: {refusal.message}")
        resolution.status["message"] = conditions.shorten(halt.message)
        if refusal.final:
            made.failure = halt
        else:
            made.blocked = halt
            made.due.append(backoff.LOOK_AGAIN_SECONDS)
        return
    made.create.append(job)
    made.due.append(job_state.QUIET_SECONDS + 1.0)
    resolution.status |= {"attempt": number, "jobName": name, "message": None}
