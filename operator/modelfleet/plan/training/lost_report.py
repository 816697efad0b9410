"""A step that is over without anybody's having read its report: settled by what the store has, and never by a guess.

``recall.py`` has the Job that asks the store, and its answer.
"""

from collections.abc import Mapping
from typing import Any

from modelfleet.api.training_job import Step
from modelfleet.plan import backoff, job_state
from modelfleet.plan.outcome import Note, RawObject
from modelfleet.plan.training import cleanup, placement, recall, steps
from modelfleet.plan.training.record import Halt, Progress, StepStatus, step_status


def settle(
    step: Step, before: Mapping[str, Any], seen: steps.Attempt, over: steps.Over, progress: Progress
) -> StepStatus | steps.Succeeded | steps.Over:
    """What became of an attempt whose end nobody saw: what is done about it, or a verdict like any other.

    Nothing is run again before the store said that it has no results of it. While the job is suspended nobody is
    asked: that its Job is gone, then, is our own doing.
    """
    if progress.setting.spec.suspend:
        if seen.job is None:
            return over
        return step_status(step, "Pending", int(before["attempt"]), before.get("jobName"), "suspended")
    answer = recall.answer(seen.recalled, is_gone=seen.job is None)
    if isinstance(answer, recall.Asking):
        return _ask_the_store(step, before, over, answer, seen.recalled, progress)
    if isinstance(answer, recall.Missing):
        return over if seen.job is None else _left_without_results(step, before, answer, progress)
    return answer


def _ask_the_store(
    step: Step,
    before: Mapping[str, Any],
    over: steps.Over,
    asking: recall.Asking,
    asked: steps.Attempt | None,
    progress: Progress,
) -> StepStatus:
    """Have the Job made that asks, and tell what keeps it."""
    setting, attempt, where = progress.setting, int(before["attempt"]), ""
    message = f"{over.message}: the store is asked for the results of attempt {attempt}"
    if asked is None or asked.job is None:
        try:
            job = recall.job(setting.obj, setting.spec, step, attempt, setting.installation)
        except placement.UnknownNodePoolError as error:
            progress.blocked, where = Halt("UnknownNodePool", f"step {step.name}: {error}"), str(error)
        else:
            where = _create_asking(step, job, message, progress)
    elif asking.worthless:
        progress.delete.append(cleanup.ref(asked.job))
    elif asking.trouble is not None:
        where = asking.trouble.message
        again = "" if over.reason == "JobDeleted" else f" (or delete Job {before['jobName']} to run it again)"
        told = f"step {step.name}: {message}{again}: {where}"
        progress.trouble = progress.trouble or job_state.Trouble(asking.trouble.reason, told)
    progress.due.append(backoff.LOOK_AGAIN_SECONDS if where else job_state.QUIET_SECONDS + 1.0)
    return step_status(
        step, before["phase"], attempt, before.get("jobName"), f"{message}: {where}" if where else message
    )


def _create_asking(step: Step, job: RawObject, message: str, progress: Progress) -> str:
    """Have the Job made that asks the store; why it cannot be, in words."""
    refusal = progress.setting.refusals.get(job["metadata"]["name"])
    if refusal is not None:
        told = f"the API server refuses the Job that asks for its results: {refusal.message}"
        progress.blocked = Halt("JobRefused", f"step {step.name}: {told}")
        return told
    progress.create.append(job)
    progress.notes.append(Note("Normal", "Recalling", f"step {step.name}: {message}"))
    return ""


def _left_without_results(
    step: Step, before: Mapping[str, Any], missing: recall.Missing, progress: Progress
) -> StepStatus:
    """It is done, and what it made is nowhere to be found. Whether it is to be run again, for hours, a person says."""
    # What to do comes first: messages are cut at their end.
    message = (
        f"it is done, but its report was never read, and the store has no results: to run it again, from its last"
        f" checkpoint, delete Job {before['jobName']} ({missing.message})"
    )
    progress.blocked = progress.blocked or Halt("ReportLost", f"step {step.name}: {message}")
    return step_status(step, before["phase"], int(before["attempt"]), before.get("jobName"), message)
