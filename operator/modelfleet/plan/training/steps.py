"""What became of a step's latest attempt: read from its Job and pods, with what its rank 0 reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import ValidationError

from modelfleet.api import wire
from modelfleet.api.training_job_status import StepResultsStatus
from modelfleet.api.training_policy import FailureRule
from modelfleet.plan import job_state
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import gang, gate, queueing, step_job, unreachable

_FINAL_FETCHES: Final = frozenset({"HashMismatch", "SizeMismatch", "Invalid", "UnknownRevision"})
"""What ``fetch`` says of a dataset, or ``checkout`` of a commit, that another attempt would find again."""


DISRUPTIONS: Final = frozenset({"Disrupted", "Preempted", "NodeLost"})
"""Reasons why an attempt was lost that say nothing about the step itself."""


@dataclass(frozen=True)
class Attempt:
    """What is seen of the latest attempt at a step."""

    job: RawObject | None
    """``None``: it was deleted."""
    pods: Sequence[RawObject] = ()
    trouble: job_state.Trouble | None = None
    """Why nothing runs, where the pods alone do not say it (as well)."""
    nodes: unreachable.Nodes = field(default_factory=dict)
    """The nodes that its pods are on."""
    waits_for: str = ""
    """What the queue says that it waits for."""
    recalled: "Attempt | None" = None
    """What is seen of the Job that asks the store for its results, where nobody was told of them (``recall.py``)."""


@dataclass(frozen=True)
class Running:
    """It goes on; ``trouble`` says why a pod does not."""

    trouble: job_state.Trouble | None
    ready: int
    wanted: int
    look_in: float | None = None
    """Seconds until something may be decided that nothing else wakes us for: a node that is out of reach, a queue."""
    held_back: str = ""
    """Who keeps it from having pods, in words."""


@dataclass(frozen=True)
class Succeeded:
    """It is done, and this is what it hands on."""

    results: Mapping[str, Any]
    """As ``status.steps[].results`` has them."""
    dropped: tuple[str, ...] = ()
    """Names of metrics that were no finite numbers."""


@dataclass(frozen=True)
class Over:
    """It came to nothing; whether there is another attempt depends on ``kind``."""

    kind: Literal["Failed", "Lost", "Final"]
    """Failed counts against backoffLimit; Lost (disrupted, deleted, a store out of reach) does not; Final ends it."""
    reason: str
    message: str
    at: datetime | None
    """When; ``None``: it was deleted, and the next attempt need not wait."""
    pause_seconds: int | None = None
    """How long the next attempt waits, where that is settled; ``None``: see ``progress.py``."""
    unseen: bool = False
    """Nobody saw how it ended: it may have done all its work, and its results lie in the store."""


Verdict = Running | Succeeded | Over


def look(step: str, attempt: Attempt, now: datetime, rules: Sequence[FailureRule] = ()) -> Verdict:
    """What became of the attempt. ``rules`` are those of the job's failurePolicy."""
    if attempt.job is None:
        return Over("Lost", "JobDeleted", "its Job was deleted", None, unseen=True)
    ended = job_state.ending(attempt.job)
    if ended is None:
        return _look_at_running(attempt, attempt.job["spec"]["completions"], now)
    if ended.succeeded:
        return _read_report(step, ended, attempt.pods)
    if where := unreachable.blamed(attempt.pods, attempt.nodes):
        return Over("Lost", "NodeLost", where, ended.at)
    if job_state.was_suspended(attempt.job):
        return Over(
            "Lost", "Preempted", "its Job was suspended, by a queue or by somebody, and its pods ended", ended.at
        )
    return _explain(step, ended, attempt.pods, rules)


def _look_at_running(attempt: Attempt, wanted: int, now: datetime) -> Running | Over:
    if where := unreachable.lost(attempt.pods, attempt.nodes, now):
        return Over("Lost", "NodeLost", where, None)
    if attempt.job is not None and (held_back := queueing.held_back(attempt.job, attempt.waits_for)):
        look_again = queueing.LOOK_AGAIN_SECONDS if attempt.waits_for else job_state.QUIET_SECONDS + 1.0
        return Running(None, 0, wanted, look_again if queueing.queue(attempt.job) else None, held_back)
    queued = attempt.job is not None and queueing.queue(attempt.job)
    if not queued and (half := gang.stuck_halfway(attempt.pods, wanted, now)):
        return Over("Lost", "GangIncomplete", half, now)
    return Running(
        attempt.trouble or job_state.trouble(attempt.pods),
        job_state.ready_count(attempt.pods),
        wanted,
        unreachable.until_lost(attempt.pods, attempt.nodes, now),
    )


def is_unseen(step: str, attempt: Attempt) -> bool:
    """Whether it is over without anybody's having seen what came of it (:attr:`Over.unseen`)."""
    ended = job_state.ending(attempt.job) if attempt.job is not None else None
    return attempt.job is None or (ended is not None and ended.succeeded and _rank_zero(step, attempt.pods) is None)


def needs_fresh_pods(step: str, attempt: Attempt) -> bool:
    """Whether the Job ended, and the pods at hand do not tell how."""
    ended = job_state.ending(attempt.job) if attempt.job is not None else None
    if ended is None:
        return False
    return _rank_zero(step, attempt.pods) is None if ended.succeeded else job_state.first_failure(attempt.pods) is None


def _explain(step: str, ended: job_state.Ending, pods: Sequence[RawObject], rules: Sequence[FailureRule]) -> Over:
    """Why the Job failed.

    A disruption comes first: when one pod of a gang is taken away, the others fail for want of it, and the Job may
    see that before it sees the pod's end.
    """
    code = job_state.exit_code(ended)
    if job_state.is_disrupted(pods) or (ended.reason == step_job.BY_POLICY and code is None):
        return Over("Lost", "Disrupted", f"a pod was preempted, evicted or drained: {ended.message}", ended.at)
    failure = job_state.first_failure(pods)
    report = job_state.fetch_report(failure) if failure is not None else None
    if failure is not None and report is not None:
        kind: Literal["Final", "Lost"] = "Final" if report.reason in _FINAL_FETCHES else "Lost"
        return Over(kind, report.reason, job_state.describe(failure), ended.at)
    words = job_state.describe(failure) if failure is not None else f"{ended.reason}: {ended.message}"
    if failure is not None:
        code = failure.code if failure.container == step else None
    return _ruled(code, words, ended, rules)


def _ruled(code: int | None, words: str, ended: job_state.Ending, rules: Sequence[FailureRule]) -> Over:
    """The verdict on a failure of the step's own container, by the first rule that names its exit code."""
    rule = next((rule for rule in rules if code in rule.on_exit_codes), None)
    if rule is not None and rule.action == "FailJob":
        return Over("Final", "FailurePolicy", f"rule {rule.name} of failurePolicy says FailJob: {words}", ended.at)
    if rule is not None and rule.action == "Ignore":
        return Over("Lost", "FailureIgnored", f"rule {rule.name} of failurePolicy says Ignore: {words}", ended.at)
    return Over("Failed", "StepFailed", words, ended.at)


def _read_report(step: str, ended: job_state.Ending, pods: Sequence[RawObject]) -> Succeeded | Over:
    """What rank 0 reported.

    Every step must report, if only that it has no metrics: the next one finds its input by the digest in it, and a
    program that ended well without having done its work would pass for done otherwise.
    """
    exit_ = _rank_zero(step, pods)
    if exit_ is None:
        return Over(
            "Lost",
            "ReportLost",
            "it is done, but its report was never read",
            ended.at,
            unseen=True,
        )
    if not exit_.message:
        message = (
            "it ended with exit code 0 but reported no results: end the program with modelfleet.runtime.train's"
            " finish(), which writes results.json and reports its digest"
        )
        return Over("Final", "ResultsMissing", message, ended.at)
    return read(exit_.message, ended.at)


def read(message: str, at: datetime) -> Succeeded | Over:
    """What a step hands on, by the report that was left for it."""
    try:
        report = wire.StepReport.model_validate_json(message)
        finite = {name: value for name, value in report.metrics.items() if gate.finite(value) is not None}
        wanted = {
            "uri": report.uri,
            "sha256": report.sha256,
            "metrics": finite,
            "artifacts": [artifact.model_dump(by_alias=True, exclude_defaults=True) for artifact in report.artifacts],
        }
        results = StepResultsStatus.model_validate({key: value for key, value in wanted.items() if value})
    except ValidationError as error:
        message = f"its results are malformed: {first_error(error)}; see the runtime's train library for their form"
        return Over("Final", "ResultsMalformed", message, at)
    return Succeeded(
        results.model_dump(by_alias=True, exclude_defaults=True), tuple(sorted(report.metrics.keys() - finite.keys()))
    )


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong, with the path of the field."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"{path}: {first['msg']}" if path else first["msg"]


def _rank_zero(step: str, pods: Sequence[RawObject]) -> job_state.Exit | None:
    ended = [
        exit_
        for pod in pods
        if job_state.rank(pod) == 0
        for exit_ in job_state.exits(pod)
        if exit_.container == step and exit_.code == 0
    ]
    return ended[0] if ended else None
