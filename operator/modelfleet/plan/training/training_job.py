"""The plan of a TrainingJob: bring its steps on, judge their results, register the ModelVersion, or say why not.

Reads from top to bottom as the life of a job: what ends it early, what holds it, its steps, its gate, its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from modelfleet.api.model_version import ModelVersion
from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.plan import backoff, conditions
from modelfleet.plan.conditions import Condition
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Note, Outcome, RawObject
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.training import (
    cleanup,
    dag,
    gate,
    progress,
    queueing,
    registration,
    rendezvous,
    status_size,
    steps,
    trainer_status,
    training_status,
    unreachable,
)
from modelfleet.plan.training import resolution as resolving
from modelfleet.plan.training.record import Halt, Progress, Setting
from modelfleet.plan.training.training_status import FINISHED, Report, status

_SOON_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Observed:
    """What the plan sees beside the TrainingJob."""

    attempts: Mapping[str, steps.Attempt] = field(default_factory=dict)
    """By step name: the latest attempt at each step that was begun and is not done."""
    jobs: Sequence[RawObject] = ()
    """All Jobs of this TrainingJob."""
    model_version: RawObject | None = None
    """The ModelVersion of the name that the job shall register."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """What the API server would not take, by name."""
    source: steps.Attempt | None = None
    """The latest attempt at finding the source's commit, while there is none."""
    online: Sequence[gate.Baseline] = ()
    """The versions of this model that are online."""
    services: Sequence[RawObject] = ()
    """All Services of this TrainingJob."""
    pods: Sequence[RawObject] = ()
    """All pods of this TrainingJob, those of attempts long over included."""
    nodes: unreachable.Nodes = field(default_factory=dict)
    """The nodes that its pods are on."""
    reports: Sequence[trainer_status.Report] = ()
    """What pods told of their progress, one for each step that any did."""
    listening_since: datetime | None = None
    """Since when this operator could be told anything; ``None``: always."""


def plan(obj: RawObject, observed: Observed, installation: Installation, now: datetime) -> Outcome:
    """The writes for one TrainingJob, its status included."""
    outcome = _plan(obj, observed, installation, now)
    before = obj.get("status") or {}
    if before.get("phase") not in FINISHED:
        outcome = trainer_status.show(outcome, obj["spec"], before, observed.reports)
    if outcome.status is not None:
        outcome = replace(outcome, status=status_size.bounded(outcome.status))
    forced, wait = unreachable.to_be_forced(observed.pods, observed.nodes, now)
    due = [seconds for seconds in (outcome.requeue_after, wait) if seconds is not None]
    return replace(outcome, delete=[*outcome.delete, *forced], requeue_after=min(due, default=None))


def _plan(obj: RawObject, observed: Observed, installation: Installation, now: datetime) -> Outcome:
    before = obj.get("status") or {}
    if before.get("phase") in FINISHED:
        done_with, wait = cleanup.of_finished(obj, observed.jobs, observed.services, now)
        return Outcome(delete=done_with, status=training_status.unchanged(obj, now), requeue_after=wait)
    spec = TrainingJobSpec.model_validate(obj["spec"])
    written = dag.steps_of(spec)
    try:
        order = dag.ordered(written)
    except dag.InvalidDagError as error:
        report = Report("Failed", "InvalidDag", str(error), steps=[training_status.not_run(step) for step in written])
        return _end(obj, report, observed, now)
    known = training_status.known_steps(before, written)
    reports = {report.step: report for report in observed.reports}
    setting = Setting(
        obj, spec, installation, observed.attempts, observed.refusals, now, observed.listening_since, reports
    )
    resolution = resolving.advance(setting, order, observed.source)
    if resolution is not None:
        # As it now stands; a commit that was found just now counts from the next plan on.
        obj = {**obj, "status": {**before, "source": resolution.status}}
    made = progress.advance(order, setting) if resolution is None or resolution.done else resolution.progress
    statuses = [made.statuses[step.name] for step in written]
    if observed.model_version is not None:
        done = len(made.done) == len(order)
        report = _already_there(obj, spec, observed.model_version, statuses if done else known, made)
        # Where the operator died after registering, the Events before that were never made.
        verdicts = gate.recorded(report.gate)
        missed = [*made.notes, *_gate_notes(before, verdicts)] if done and report.reason == "Registered" else []
        return _end(obj, report, observed, now, missed)
    deadline = _deadline(spec, before, now)
    # What was done in time is registered, however late the operator sees it; a version that is refused is not done.
    over = len(made.done) < len(order) or spec.output.model_version_name in observed.refusals
    if deadline is not None and now >= deadline and over and not spec.suspend:
        message = f"the job did not end within activeDeadlineSeconds ({spec.active_deadline_seconds} s)"
        stopped = training_status.stopped(known, message)
        report = Report("Failed", "DeadlineExceeded", message, steps=stopped, restarts=int(before.get("restarts", 0)))
        return _end(obj, report, observed, now)
    if made.failure is not None:
        report = Report(
            "Failed",
            made.failure.reason,
            made.failure.message,
            steps=training_status.stopped(statuses, "stopped, because another step failed"),
            restarts=made.restarts,
        )
        return _end(obj, report, observed, now, made.notes)
    if spec.suspend:
        return _suspend(obj, statuses, made, observed, now)
    if len(made.done) == len(order):
        return _register(obj, spec, statuses, made, observed, now)
    return _run(obj, order, statuses, made, observed, deadline, now)


def _run(
    obj: RawObject,
    order: Sequence[Step],
    statuses: list[dict[str, Any]],
    made: Progress,
    observed: Observed,
    deadline: datetime | None,
    now: datetime,
) -> Outcome:
    """Steps are running, or wait for something."""
    before = obj.get("status") or {}
    running = any(each["phase"] == "Running" for each in statuses)
    sought = {"steps": statuses, "source": before.get("source")}
    begun = running or (made.held_back is None and progress.is_begun(sought))
    report = Report(
        "Running" if begun else "Pending",
        *_reason(made, statuses, begun=begun),
        steps=statuses,
        restarts=made.restarts,
        stalled=made.blocked is not None,
        trouble=made.trouble,
        pods_ready=made.pods_ready,
        pods_wanted=made.pods_wanted,
        start_time=before.get("startTime") or (conditions.timestamp(now) if begun else None),
        admitted=_admitted(obj, made, running=running),
    )
    due = [*made.due, *([backoff.seconds_until(deadline, now)] if deadline is not None else [])]
    return Outcome(
        create=made.create,
        apply=[rendezvous.service(obj)] if any(rendezvous.is_needed(step) for step in order) else [],
        delete=[
            *made.delete,
            *cleanup.strays(obj, statuses, observed.jobs),
            *cleanup.outdated(obj, statuses, observed.jobs),
        ],
        status=status(obj, report, now),
        notes=[*made.notes, *_trouble_notes(before, report)],
        requeue_after=min(due, default=None),
    )


def _suspend(
    obj: RawObject, statuses: list[dict[str, Any]], made: Progress, observed: Observed, now: datetime
) -> Outcome:
    """Nothing runs. The clock of activeDeadlineSeconds starts anew on resumption, as a Job's does."""
    message = "spec.suspend is true; set it to false to go on"
    report = Report("Suspended", "Suspended", message, steps=statuses, restarts=made.restarts)
    changed = (obj.get("status") or {}).get("phase") != "Suspended"
    notes = [*made.notes, *([Note("Normal", "Suspended", message)] if changed else [])]
    return Outcome(delete=cleanup.unfinished(observed.jobs), status=status(obj, report, now), notes=notes)


def _register(
    obj: RawObject,
    spec: TrainingJobSpec,
    statuses: list[dict[str, Any]],
    made: Progress,
    observed: Observed,
    now: datetime,
) -> Outcome:
    """All steps are done: judge the metrics, then create the ModelVersion. That it is there ends the job."""
    before = obj.get("status") or {}
    metrics, artifacts = registration.merged(made.results())
    # What was compared with is recorded before anything is registered: a version that goes online meanwhile changes
    # no verdict.
    told = bool(before.get("gate"))
    verdicts = gate.recorded(before["gate"]) if told else gate.judge(spec.gate, metrics, observed.online)
    pins = gate.needs_baseline(spec.gate) and not told
    judged = [verdict.status() for verdict in verdicts]
    wanted = registration.model_version(obj, spec, metrics, artifacts)
    halt = _objection(verdicts, artifacts, wanted)
    refusal = observed.refusals.get(wanted["metadata"]["name"])
    if halt is None and refusal is not None and refusal.final:
        halt = Halt("ModelVersionRefused", f"the API server refuses the ModelVersion: {refusal.message}")
    if halt is not None:
        report = Report("Failed", halt.reason, halt.message, steps=statuses, gate=judged, restarts=made.restarts)
        return _end(obj, report, observed, now, made.notes)
    notes = [*made.notes, *_gate_notes(before, verdicts)]
    name = wanted["metadata"]["name"]
    report = Report(
        "Running",
        "Registering" if refusal is None else "ModelVersionRefused",
        f"registering ModelVersion {name}" if refusal is None else f"ModelVersion {name}: {refusal.message}",
        steps=statuses,
        gate=judged,
        restarts=made.restarts,
        stalled=refusal is not None,
        start_time=before.get("startTime"),
    )
    return Outcome(
        create=[wanted] if refusal is None and not pins else [],
        status=status(obj, report, now),
        notes=notes,
        requeue_after=_SOON_SECONDS if refusal is None else backoff.LOOK_AGAIN_SECONDS,
    )


def _gate_notes(before: Mapping[str, Any], verdicts: Sequence[gate.Verdict]) -> list[Note]:
    """An Event when the gate was passed, once."""
    told = bool(before.get("gate")) or not verdicts
    return [] if told else [Note("Normal", "GatePassed", "; ".join(str(verdict) for verdict in verdicts))]


def _objection(
    verdicts: Sequence[gate.Verdict], artifacts: Sequence[Mapping[str, Any]], wanted: RawObject
) -> Halt | None:
    """Why the results are not registered, if they are not."""
    failed = [str(verdict) for verdict in verdicts if not verdict.passed]
    if failed:
        return Halt("GateFailed", "; ".join(failed))
    if not artifacts:
        message = "no step reported an artifact: save the model with the train library's save_artifact()"
        return Halt("NoArtifacts", message)
    try:
        ModelVersion.model_validate(wanted)
    except ValidationError as error:
        return Halt("ModelVersionInvalid", f"the results make no valid ModelVersion: {steps.first_error(error)}")
    return None


def _already_there(
    obj: RawObject, spec: TrainingJobSpec, existing: RawObject, known: list[dict[str, Any]], made: Progress
) -> Report:
    """The end of a job whose ModelVersion exists: by its own doing, by an earlier one's like it, or by another's."""
    name, restarts = existing["metadata"]["name"], int((obj.get("status") or {}).get("restarts", 0))
    claim = registration.claim(existing, obj["metadata"]["uid"], registration.spec_hash(spec))
    judged = (obj.get("status") or {}).get("gate") or []
    if claim == "Ours" and not judged and not gate.needs_baseline(spec.gate):
        judged = [verdict.status() for verdict in gate.judge(spec.gate, registration.merged(made.results())[0])]
    stopped = training_status.stopped(known, "stopped, because the ModelVersion exists")
    if claim == "Foreign":
        message = (
            f"ModelVersion {name} exists, registered {registration.registered_by(existing)};"
            " give this job another version"
        )
        return Report("Failed", "ModelVersionExists", message, steps=stopped, gate=judged, restarts=restarts)
    ours = claim == "Ours"
    message = (
        f"registered ModelVersion {name}" if ours else f"ModelVersion {name} was registered by a job like this one"
    )
    return Report(
        "Succeeded",
        "Registered" if ours else "AlreadyRegistered",
        message,
        steps=stopped,
        gate=judged,
        restarts=restarts,
        model_version=name,
    )


def _end(obj: RawObject, report: Report, observed: Observed, now: datetime, notes: Sequence[Note] = ()) -> Outcome:
    """The job is over: what still runs is stopped, and its end is told."""
    kind = "Normal" if report.phase == "Succeeded" else "Warning"
    told = Note("Normal" if kind == "Normal" else "Warning", report.reason, report.message)
    return Outcome(delete=cleanup.unfinished(observed.jobs), status=status(obj, report, now), notes=[*notes, told])


def _reason(made: Progress, statuses: Sequence[Mapping[str, Any]], *, begun: bool) -> tuple[str, str]:
    """Reason and message of a job under way: what keeps it first, then what it does."""
    if made.blocked is not None:
        return made.blocked.reason, made.blocked.message
    if made.trouble is not None:
        return made.trouble.reason, made.trouble.message
    running = [step["name"] for step in statuses if step["phase"] == "Running"]
    if made.held_back is not None:
        return made.held_back.reason, made.held_back.message
    if running:
        return "StepsRunning", f"running: {', '.join(running)}"
    waiting = next((step["message"] for step in statuses if step["phase"] == "Pending" and step.get("message")), "")
    return "Restarting" if begun else "Pending", waiting


def _admitted(obj: RawObject, made: Progress, *, running: bool) -> Condition | None:
    """What the queue said; a job without a queue has no such condition."""
    if not queueing.queue(obj):
        return None
    if made.held_back is not None:
        return Condition("Admitted", "False", "Queued", made.held_back.message)
    return Condition("Admitted", "True" if running else "False", "Admitted" if running else "NoPods")


def _trouble_notes(before: Mapping[str, Any], report: Report) -> list[Note]:
    """An Event when a job gets stuck, once for each reason."""
    if not (report.stalled or report.trouble):
        return []
    ready = conditions.find(before.get("conditions") or (), "Ready")
    return (
        []
        if ready is not None and ready["reason"] == report.reason
        else [Note("Warning", report.reason, report.message)]
    )


def _deadline(spec: TrainingJobSpec, before: Mapping[str, Any], now: datetime) -> datetime | None:
    """When the job has to be over, if ever; one that starts now has its whole time before it."""
    if spec.active_deadline_seconds is None:
        return None
    started = before.get("startTime")
    since = conditions.parse_timestamp(started) if started else now
    return since + timedelta(seconds=spec.active_deadline_seconds)
