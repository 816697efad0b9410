"""Bringing each step of a training job on: what starts now, what is tried again and when, what failed for good.

The status is the record of what was decided; Jobs say what became of it. Which attempt comes next follows from those
two alone, and an attempt's Job has a fixed name: so a plan made twice starts nothing twice.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from modelfleet.api import wire
from modelfleet.api.training_job import Step
from modelfleet.plan import backoff, conditions, job_state
from modelfleet.plan.outcome import Note
from modelfleet.plan.training import (
    dag,
    gang,
    lost_report,
    placement,
    queueing,
    rendezvous,
    step_job,
    steps,
    termination,
)
from modelfleet.plan.training.record import Halt, Progress, Setting, StepStatus, step_status

RESULTS_LENGTH: Final = 16 * 1024
"""Bytes that the results of all steps may take in the status, as JSON; it shall stay below 32 KiB as a whole."""


def advance(order: Sequence[Step], setting: Setting) -> Progress:
    """Bring every step on. ``order`` is that of the DAG."""
    before = setting.obj.get("status") or {}
    progress = Progress(setting, {status["name"]: status for status in before.get("steps") or ()})
    for step in order:
        status = _advance(step, progress.known.get(step.name, {}), progress)
        known = progress.known.get(step.name, {})
        kept = {key: known[key] for key in ("restarts", *termination.KEPT) if known.get(key)}
        progress.statuses[step.name] = {**kept, **status}
    return progress


def _advance(step: Step, before: Mapping[str, Any], progress: Progress) -> StepStatus:
    if before.get("phase") == "Succeeded":
        return dict(before)
    attempt = int(before.get("attempt", 0))
    if attempt == 0:
        if waits_for := dag.waits_for(step, progress.done, progress.up):
            return step_status(step, "Pending", message=f"waiting for {waits_for}")
        return _start(step, 1, progress)
    if before.get("nextAttemptTime"):
        return _wait(step, before, progress)
    seen = progress.setting.attempts.get(step.name, steps.Attempt(None))
    policy = progress.setting.spec.failure_policy
    verdict = steps.look(step.name, seen, progress.setting.now, policy.by_exit_code if policy is not None else ())
    if not progress.setting.spec.suspend:
        before, verdict = _judge(step, before, seen, verdict, progress)
    if isinstance(verdict, steps.Over) and verdict.unseen:
        found = lost_report.settle(step, before, seen, verdict, progress)
        if isinstance(found, dict):
            return found
        verdict = found
    if isinstance(verdict, steps.Succeeded):
        return _succeed(step, attempt, verdict, progress)
    if isinstance(verdict, steps.Over):
        return _begin_again(step, before, verdict, progress)
    if progress.setting.spec.suspend:
        return step_status(step, "Pending", attempt, before["jobName"], "suspended")
    return _go_on(step, attempt, before["jobName"], verdict, progress)


def _judge(
    step: Step, before: Mapping[str, Any], seen: steps.Attempt, verdict: steps.Verdict, progress: Progress
) -> tuple[Mapping[str, Any], steps.Verdict]:
    """The verdict with what ``spec.termination`` has to say; what it recorded counts from now on."""
    setting = progress.setting
    heard = termination.Heard(setting.reports.get(step.name), setting.listening_since)
    judged = termination.judge(setting.spec, step, before, seen, verdict, heard, setting.now)
    progress.notes += judged.notes
    progress.due += judged.due
    before = {**before, **judged.fields}
    progress.known = {**progress.known, step.name: before}
    return before, judged.verdict


def _go_on(step: Step, attempt: int, job_name: str, running: steps.Running, progress: Progress) -> StepStatus:
    if running.look_in is not None:
        progress.due.append(running.look_in)
    if running.held_back:
        return _held_back(step, attempt, job_name, running.held_back, progress)
    progress.pods_ready += running.ready
    progress.pods_wanted += running.wanted
    if running.ready >= running.wanted:
        progress.up.add(step.name)
    else:
        progress.due.append(backoff.LOOK_AGAIN_SECONDS if running.trouble else job_state.QUIET_SECONDS + 1.0)
    message = ""
    if running.trouble is not None:
        message = running.trouble.message
        progress.trouble = progress.trouble or job_state.Trouble(
            running.trouble.reason, f"step {step.name}: {running.trouble.message}"
        )
    return step_status(step, "Running", attempt, job_name, message)


def _held_back(step: Step, attempt: int, job_name: str, why: str, progress: Progress) -> StepStatus:
    """Pods it had are gone, without its being anybody's failure; with the same Job it keeps its place in the queue."""
    if progress.known[step.name]["phase"] == "Running":
        progress.notes.append(Note("Normal", "Preempted", f"step {step.name} was stopped: {why}"))
    progress.held_back = progress.held_back or Halt("Queued", f"step {step.name}: {why}")
    return step_status(step, "Pending", attempt, job_name, why)


def _succeed(step: Step, attempt: int, verdict: steps.Succeeded, progress: Progress) -> StepStatus:
    others = [
        each.get("results") for each in {**progress.known, **progress.statuses}.values() if each["name"] != step.name
    ]
    if sum(len(json.dumps(results)) for results in [*others, verdict.results] if results) > RESULTS_LENGTH:
        message = (
            f"its results and those of the other steps take more than {RESULTS_LENGTH} bytes: report metrics and"
            " artifacts once, in the step that makes them, and the rest as files"
        )
        progress.failure = progress.failure or Halt("ResultsTooLarge", f"step {step.name}: {message}")
        return step_status(step, "Failed", attempt, _job_name(step, attempt, progress), message)
    dropped = ", ".join(verdict.dropped)
    message = f"metrics that are no finite numbers were dropped: {dropped}" if dropped else ""
    progress.notes.append(Note("Normal", "StepSucceeded", f"step {step.name} succeeded in attempt {attempt}"))
    status = step_status(step, "Succeeded", attempt, _job_name(step, attempt, progress), message)
    return {**status, "results": dict(verdict.results)}


def _begin_again(step: Step, before: Mapping[str, Any], over: steps.Over, progress: Progress) -> StepStatus:
    """After an attempt that came to nothing: fail for good, or settle when the next one starts.

    That is settled once: what becomes of the Job during the pause changes neither the count nor the time.
    """
    attempt, setting = int(before["attempt"]), progress.setting
    what = f"attempt {attempt} of step {step.name}: {over.message}"
    used_up = _used_up(step, before, progress) if over.kind == "Failed" else ""
    if used_up or over.kind == "Final":
        progress.failure = progress.failure or Halt(over.reason, f"step {step.name}{used_up}: {over.message}")
        return step_status(step, "Failed", attempt, before.get("jobName"), over.message)
    if before.get("phase") == "Running" and not setting.spec.suspend:
        progress.notes.append(Note("Normal" if over.reason == "Yielded" else "Warning", over.reason, what))
    pause = _pause(step, before, over)
    due = over.at + pause if over.at is not None else setting.now
    if over.pause_seconds is not None:
        due = (over.at or setting.now) + timedelta(seconds=over.pause_seconds)
    if over.reason == "GangIncomplete":
        due += gang.apart(str(setting.obj["metadata"]["uid"]), pause)
    moment = conditions.timestamp(due)
    message = f"{what}; the next attempt starts at {moment}"
    waiting = step_status(step, "Pending", attempt, before.get("jobName"), message) | {"nextAttemptTime": moment}
    restarts = int(before.get("restarts", 0)) + (over.kind == "Failed")
    return _wait(step, waiting | {"restarts": restarts} if restarts else waiting, progress)


def _pause(step: Step, before: Mapping[str, Any], over: steps.Over) -> timedelta:
    """How long the next attempt waits: longer after each failure of the step; always as short after a disruption.

    Whoever disrupted it says nothing about the step, and a pod that finds no room waits in the scheduler. What is
    neither (a store out of reach, no room for the whole gang) goes by the attempts: it would come to nothing again.
    """
    first = step.retry.backoff_seconds if step.retry is not None else backoff.FIRST_SECONDS
    if over.reason in steps.DISRUPTIONS:
        return backoff.delay(1, first)
    failures = int(before.get("restarts", 0)) + 1 if over.kind == "Failed" else int(before["attempt"])
    return backoff.delay(failures, first)


def _wait(step: Step, waiting: Mapping[str, Any], progress: Progress) -> StepStatus:
    """Start the next attempt when its time has come."""
    attempt, now = int(waiting["attempt"]), progress.setting.now
    due = conditions.parse_timestamp(waiting["nextAttemptTime"])
    if now < due:
        progress.due.append(backoff.seconds_until(due, now))
        return dict(waiting)
    kept = {key: waiting[key] for key in ("attempt", "jobName", "restarts", "nextAttemptTime") if key in waiting}
    started = len(progress.create)
    status = _start(step, attempt + 1, progress)
    if len(progress.create) == started:
        return {**status, **kept}
    progress.notes.append(Note("Normal", "Restarting", f"step {step.name} begins attempt {attempt + 1}"))
    return status | {key: waiting[key] for key in ("restarts",) if key in waiting}


def _used_up(step: Step, before: Mapping[str, Any], progress: Progress) -> str:
    """The limit that leaves no further attempt after a failure, in words; empty while there is one left.

    A step with a retry of its own has its own count, the others share the job's.
    """
    setting = progress.setting
    if step.retry is not None:
        spent = int(before.get("restarts", 0)) >= step.retry.limit
        return f" (its retry.limit {step.retry.limit} is used up)" if spent else ""
    own = {each.name for each in setting.spec.steps if each.retry is not None}
    statuses = {**progress.known, **progress.statuses}
    shared = sum(int(status.get("restarts", 0)) for name, status in statuses.items() if name not in own)
    spent = shared >= setting.spec.backoff_limit
    return f" (backoffLimit {setting.spec.backoff_limit} is used up)" if spent else ""


def _start(step: Step, attempt: int, progress: Progress) -> StepStatus:
    """Create the Job of an attempt, unless the job is suspended, or somebody refuses it."""
    setting, before = progress.setting, progress.known.get(step.name, {})
    if setting.spec.suspend:
        return step_status(step, "Pending", message="suspended")
    told = step_job.Told(termination.finishes(setting.spec, before), before.get("priorityClassName") or "")
    inputs = _inputs(step, progress)
    try:
        job = step_job.job(setting.obj, setting.spec, step, attempt, inputs, setting.installation, told)
    except placement.UnknownNodePoolError as error:
        progress.blocked = Halt("UnknownNodePool", f"step {step.name}: {error}")
        return step_status(step, "Pending", message=str(error))
    name = job["metadata"]["name"]
    refusal = setting.refusals.get(name)
    if refusal is not None:
        halt = Halt("JobRefused", f"step {step.name}: the API server refuses its Job: {refusal.message}")
        if refusal.final:
            progress.failure = progress.failure or halt
            return step_status(step, "Failed", message=halt.message)
        progress.blocked = halt
        progress.due.append(backoff.LOOK_AGAIN_SECONDS)
        return step_status(step, "Pending", message=halt.message)
    progress.create.append(job)
    progress.due.append(job_state.QUIET_SECONDS + 1.0)
    progress.notes.append(Note("Normal", "StepStarted", f"step {step.name} started: Job {name}"))
    why = queueing.held_back(job)
    if why:
        progress.held_back = progress.held_back or Halt("Queued", f"step {step.name}: {why}")
    status = step_status(step, "Pending" if why else "Running", attempt, name, why)
    return status | termination.started(setting.spec, before)


def _inputs(step: Step, progress: Progress) -> dict[str, wire.StepInput]:
    inputs = {}
    for dependency in step.depends_on:
        if dependency.status == "Ready":
            # Whatever it has by now: a later attempt at this step shall find what the first one found.
            continue
        results = progress.statuses[dependency.name]["results"]
        inputs[dependency.name] = wire.StepInput(uri=results["uri"], sha256=results["sha256"])
    return inputs


def _job_name(step: Step, attempt: int, progress: Progress) -> str:
    return rendezvous.job_name(progress.setting.obj["metadata"]["name"], step.name, attempt)


def is_begun(before: Mapping[str, Any]) -> bool:
    """Whether any step was ever started, or the search for the source's commit, by the status."""
    return bool((before.get("source") or {}).get("attempt")) or any(
        status.get("attempt") for status in before.get("steps") or ()
    )
