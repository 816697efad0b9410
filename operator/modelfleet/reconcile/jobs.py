"""What reconciles of run-to-completion work gather beyond the view: the few fresh reads that it is worth.

Each is made only where acting on a view that lags behind would be wrong (a Job taken for deleted, a report taken for
lost), or where the reason for a standstill is in Events, which are not watched.
"""

from collections.abc import Iterable

from modelfleet.plan import job_state
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.refusal import Refusal
from modelfleet.reconcile.context import Context


async def job(context: Context, namespace: str, name: str) -> RawObject | None:
    """The Job; before it is taken for deleted, the API server is asked."""
    held = context.view.get("Job", namespace, name)
    if held is None:
        held = await context.cluster.read("Job", namespace, name)
    return None if held is None or held["metadata"].get("deletionTimestamp") else held


async def fresh_pods(context: Context, namespace: str, job_name: str) -> list[RawObject]:
    """The Job's pods from the API server: a Job's end is often seen before that of its pods."""
    return await context.cluster.list("Pod", namespace, f"{job_state.JOB_NAME_LABEL}={job_name}")


async def trouble(context: Context, unfinished: RawObject, pods: Iterable[RawObject]) -> job_state.Trouble | None:
    """What Events say about why nothing runs, where neither the Job nor its pods say it themselves."""
    metadata = unfinished["metadata"]
    quiet = job_state.is_quiet(unfinished, pods, context.now())
    if quiet is None:
        return None
    kind, name = ("Job", metadata["name"]) if quiet == "Job" else ("Pod", quiet)
    return job_state.event_trouble(await context.cluster.warning_events(metadata["namespace"], kind, name))


async def refusals(context: Context, wanted: Iterable[RawObject]) -> dict[str, Refusal]:
    """What the API server would not create, by name: asked in a dry run, so that the plan can say so in the status."""
    found = {}
    for obj in wanted:
        metadata = obj["metadata"]
        if context.view.get(obj["kind"], metadata["namespace"], metadata["name"]) is None:
            error = await context.cluster.refusal(obj)
            if error is not None:
                found[metadata["name"]] = Refusal(error.message, final=error.code != 403)
    return found
