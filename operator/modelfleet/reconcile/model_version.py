"""Reconciling a ModelVersion: gather what its plan needs, and plan."""

from dataclasses import replace

from modelfleet.api import names
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import job_state, model_version, verification
from modelfleet.plan.outcome import Outcome, RawObject
from modelfleet.reconcile import jobs
from modelfleet.reconcile.context import Context, Key


async def reconcile(key: Key, context: Context) -> Outcome | None:
    """The writes that bring the ModelVersion on; ``None`` when it is gone or going."""
    obj = context.view.get(key.kind, key.namespace, key.name)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    observed = await _gather(obj, context)
    outcome = model_version.plan(obj, observed, context.installation, context.now())
    refusals = await jobs.refusals(context, outcome.create)
    if refusals:
        observed = replace(observed, refusals=refusals)
        outcome = model_version.plan(obj, observed, context.installation, context.now())
    return outcome


async def _gather(obj: RawObject, context: Context) -> model_version.Observed:
    view, namespace, name = context.view, obj["metadata"]["namespace"], obj["metadata"]["name"]
    siblings = [
        ModelVersionSpec.model_validate(other["spec"])
        for other in view.list("ModelVersion", namespace)
        if other["spec"]["model"] == obj["spec"]["model"] and other["metadata"]["name"] != name
    ]
    observed = model_version.Observed(
        deployments=view.list("EdgeDeployment", namespace),
        siblings=siblings,
    )
    attempt = model_version.latest_attempt(obj)
    if attempt == 0 or model_version.is_settled(obj):
        return observed
    job_name = verification.job_name(name, attempt)
    job = await jobs.job(context, namespace, job_name)
    if job is None:
        return observed
    pods = job_state.pods_of(job, view.labelled("Pod", namespace, names.MODEL_VERSION_LABEL, name))
    if job_state.ending(job) is not None and not verification.has_report(pods):
        pods = await jobs.fresh_pods(context, job)
    return replace(observed, job=job, pods=pods, trouble=await jobs.trouble(context, job, pods))
