"""Reconciling a ModelVersion: gather what its plan needs, and plan."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pydantic import ValidationError

from modelfleet.api import names
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.cluster import references
from modelfleet.plan import job_state
from modelfleet.plan.outcome import Outcome, RawObject
from modelfleet.plan.version import aliases, attempts, model_version, verification
from modelfleet.reconcile import jobs
from modelfleet.reconcile.context import Context
from modelfleet.reconcile.key import Key


async def reconcile(key: Key, context: Context) -> Outcome | None:
    """The writes that bring the ModelVersion on; ``None`` when it is gone or going."""
    obj = context.view.get(key.kind, key.namespace, key.name)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    observed = await _gather(obj, context)
    outcome = model_version.plan(obj, observed, context.installation, context.now())
    if await jobs.is_outdated(context, obj, outcome.create):
        return Outcome()
    refusals = await jobs.refusals(context, outcome.create)
    if refusals:
        observed = replace(observed, latest=replace(observed.latest, refusals=refusals))
        outcome = model_version.plan(obj, observed, context.installation, context.now())
    return outcome


async def _gather(obj: RawObject, context: Context) -> model_version.Observed:
    view, namespace, name = context.view, obj["metadata"]["namespace"], obj["metadata"]["name"]
    observed = model_version.Observed(
        deployments=view.naming("EdgeDeployment", references.model_version(namespace, name)),
        siblings=list(_siblings(obj, view.naming("ModelVersion", references.model(namespace, obj["spec"]["model"])))),
    )
    run = attempts.read(obj)
    if not run.is_under_way:
        return observed
    job_name = verification.job_name(name, run.attempt)
    job = await jobs.job(context, namespace, job_name)
    if job is None:
        return observed
    pods = job_state.pods_of(job, view.labelled("Pod", namespace, names.MODEL_VERSION_LABEL, name))
    if job_state.ending(job) is not None and not verification.has_report(pods):
        pods = await jobs.fresh_pods(context, job)
    return replace(observed, latest=attempts.Seen(job, pods, await jobs.trouble(context, job, pods)))


def _siblings(obj: RawObject, versions: Iterable[RawObject]) -> Iterator[aliases.Sibling]:
    """The other versions of the model that claim an alias.

    One that this contract does not take (it was stored under an older one) or that is on its way out claims nothing:
    it must not keep the others from being reconciled.
    """
    for other in versions:
        metadata = other["metadata"]
        if metadata["name"] == obj["metadata"]["name"] or metadata.get("deletionTimestamp"):
            continue
        if not other["spec"].get("aliases"):
            continue
        try:
            spec = ModelVersionSpec.model_validate(other["spec"])
        except ValidationError:
            continue
        yield aliases.Sibling(spec, (other.get("status") or {}).get("aliases") or ())
