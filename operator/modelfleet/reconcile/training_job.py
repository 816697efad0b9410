"""Reconciling a TrainingJob: gather what its plan needs, and plan."""

from dataclasses import replace

from modelfleet.api import names
from modelfleet.cluster import references
from modelfleet.plan import job_state
from modelfleet.plan.outcome import Outcome, RawObject
from modelfleet.plan.training import gate, placement, progress, queueing, recall, source, steps, training_job
from modelfleet.plan.training.training_status import FINISHED
from modelfleet.reconcile import jobs
from modelfleet.reconcile.context import Context
from modelfleet.reconcile.key import Key


async def reconcile(key: Key, context: Context) -> Outcome | None:
    """The writes that bring the TrainingJob on; ``None`` when it is gone or going."""
    obj = context.view.get(key.kind, key.namespace, key.name)
    if obj is None or (obj.get("status") or {}).get("phase") in FINISHED:
        context.reports.forget(key)
    if obj is None or obj["metadata"].get("deletionTimestamp") or not queueing.is_ours(obj):
        return None
    observed = await _gather(obj, context)
    outcome = training_job.plan(obj, observed, context.installation, context.now())
    if await jobs.is_outdated(context, obj, outcome.create):
        return Outcome()
    if _is_first(obj, outcome) and observed.model_version is None:
        # Before compute is spent: another job may have registered it a moment ago. At the end, creation itself decides.
        name = obj["spec"]["output"]["modelVersionName"]
        existing = await context.cluster.read("ModelVersion", key.namespace, name)
        observed = replace(observed, model_version=existing)
        if existing is not None:
            return training_job.plan(obj, observed, context.installation, context.now())
    refusals = await jobs.refusals(context, outcome.create)
    if refusals:
        observed = replace(observed, refusals=refusals)
        outcome = training_job.plan(obj, observed, context.installation, context.now())
    return outcome


async def _gather(obj: RawObject, context: Context) -> training_job.Observed:
    namespace, name, uid = obj["metadata"]["namespace"], obj["metadata"]["name"], obj["metadata"]["uid"]
    children = context.view.labelled("Job", namespace, names.TRAINING_JOB_LABEL, name)
    services = context.view.labelled("Service", namespace, names.TRAINING_JOB_LABEL, name)
    pods = context.view.labelled("Pod", namespace, names.TRAINING_JOB_LABEL, name)
    observed = training_job.Observed(
        jobs=[job for job in children if _is_owned(job, uid)],
        services=[service for service in services if _is_owned(service, uid)],
        pods=pods,
        nodes=jobs.nodes_of(context, pods),
        reports=context.reports.of(Key("TrainingJob", namespace, name)),
        listening_since=context.reports.listening_since,
    )
    before = obj.get("status") or {}
    if before.get("phase") in FINISHED:
        return observed
    attempts = {}
    for step in before.get("steps") or ():
        if step["phase"] == "Succeeded" or not step.get("jobName"):
            continue
        attempt = await _attempt(step["name"], step["jobName"], pods, namespace, context)
        if steps.is_unseen(step["name"], attempt):
            asking = recall.job_name(name, step["name"], int(step["attempt"]))
            attempt = replace(attempt, recalled=await _recalled(asking, pods, namespace, context))
        attempts[step["name"]] = attempt
    model_version = context.view.get("ModelVersion", namespace, obj["spec"]["output"]["modelVersionName"])
    found = before.get("source") or {}
    resolving = (
        await _source(found["jobName"], pods, namespace, context)
        if found.get("jobName") and not found.get("revision")
        else None
    )
    versions = context.view.naming("ModelVersion", references.model(namespace, obj["spec"]["model"]))
    online = gate.online(obj["spec"]["model"], versions)
    return replace(observed, attempts=attempts, model_version=model_version, source=resolving, online=online)


async def _source(job_name: str, pods: list[RawObject], namespace: str, context: Context) -> steps.Attempt:
    job = await jobs.job(context, namespace, job_name)
    if job is None:
        return steps.Attempt(None)
    mine = job_state.pods_of(job, pods)
    if job_state.ending(job) is not None and source.read(mine) is None:
        mine = await jobs.fresh_pods(context, job)
    return steps.Attempt(job, mine, await jobs.trouble(context, job, mine))


async def _attempt(step: str, job_name: str, pods: list[RawObject], namespace: str, context: Context) -> steps.Attempt:
    job = await jobs.job(context, namespace, job_name)
    if job is None:
        return steps.Attempt(None)
    mine = job_state.pods_of(job, pods)
    if steps.needs_fresh_pods(step, steps.Attempt(job, mine)):
        mine = await jobs.fresh_pods(context, job)
    if queueing.held_back(job):
        return steps.Attempt(job, mine, waits_for=await jobs.waits_for(context, job))
    trouble = await jobs.trouble(context, job, mine)
    if trouble is None and (seen := job_state.trouble(mine)) is not None and seen.reason == "Unschedulable":
        trouble = placement.explained(seen, job, context.view.nodes())
    return steps.Attempt(job, mine, trouble, jobs.nodes_of(context, mine))


async def _recalled(job_name: str, pods: list[RawObject], namespace: str, context: Context) -> steps.Attempt:
    job = await jobs.job(context, namespace, job_name)
    if job is None:
        return steps.Attempt(None)
    mine = await jobs.fresh_pods(context, job) if job_state.ending(job) else job_state.pods_of(job, pods)
    return steps.Attempt(job, mine, await jobs.trouble(context, job, mine))


def _is_first(obj: RawObject, outcome: Outcome) -> bool:
    """Whether this outcome starts the first step."""
    starts = any(created["kind"] == "Job" for created in outcome.create)
    return starts and not progress.is_begun(obj.get("status") or {})


def _is_owned(job: RawObject, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences") or ())
