"""What reconciles of run-to-completion work gather beyond the view: the few fresh reads that it is worth.

Each is made only where acting on a view that lags behind would be wrong (a Job taken for deleted, a report taken for
lost), or where the reason for a standstill is in Events, which are not watched.
"""

from collections.abc import Iterable

from modelfleet.plan import job_state
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.training import queueing
from modelfleet.reconcile.context import Context


async def is_outdated(context: Context, obj: RawObject, wanted: Iterable[RawObject]) -> bool:
    """Whether something would be created for what ``obj`` is no more; the view then knows it, and wakes us again.

    Its status says what was made before. One that is older (a list from an API server that lags behind) would have a
    Job made again that was done and deleted since.
    """
    if not list(wanted):
        return False
    metadata = obj["metadata"]
    fresh = await context.cluster.read(obj["kind"], metadata["namespace"], metadata["name"])
    return fresh is None or fresh["metadata"]["resourceVersion"] != metadata["resourceVersion"]


async def job(context: Context, namespace: str, name: str) -> RawObject | None:
    """The Job; before it is taken for deleted, the API server is asked."""
    held = context.view.get("Job", namespace, name)
    if held is None:
        held = await context.cluster.read("Job", namespace, name)
    return None if held is None or held["metadata"].get("deletionTimestamp") else held


async def fresh_pods(context: Context, ended: RawObject) -> list[RawObject]:
    """The Job's pods from the API server: a Job's end is often seen before that of its pods."""
    metadata = ended["metadata"]
    selector = f"{job_state.JOB_NAME_LABEL}={metadata['name']}"
    return job_state.pods_of(ended, await context.cluster.list("Pod", metadata["namespace"], selector))


def nodes_of(context: Context, pods: Iterable[RawObject]) -> dict[str, RawObject]:
    """The nodes that the pods are on, by name."""
    names = {(pod.get("spec") or {}).get("nodeName") for pod in pods}
    found = {name: context.view.get("Node", "", name) for name in names if name}
    return {name: node for name, node in found.items() if node is not None}


async def trouble(context: Context, unfinished: RawObject, pods: list[RawObject]) -> job_state.Trouble | None:
    """Why nothing goes on, where pods do not say it themselves: a queue, a pod that is overdue, or what Events tell."""
    metadata = unfinished["metadata"]
    if job_state.ending(unfinished) is None:
        if why := queueing.held_back(unfinished, await waits_for(context, unfinished)):
            return job_state.Trouble("Queued", f"Job {metadata['name']}: {why}")
        if (stuck := job_state.stuck(pods, context.now())) is not None:
            return stuck
        if (seen := job_state.trouble(pods)) is not None and seen.reason == "ImagePullFailed":
            events = await context.cluster.latest_warnings(metadata["namespace"], "Pod", seen.pod)
            return job_state.without_secret(seen, events)
    quiet = job_state.is_quiet(unfinished, pods, context.now())
    if quiet is None:
        return None
    kind, name = ("Job", metadata["name"]) if quiet == "Job" else ("Pod", quiet)
    return job_state.event_trouble(await context.cluster.latest_warnings(metadata["namespace"], kind, name))


async def waits_for(context: Context, suspended: RawObject) -> str:
    """What the queue says that the Job waits for; empty where it says nothing, or there is none."""
    if not queueing.queue(suspended):
        return ""
    metadata = suspended["metadata"]
    workload = await context.cluster.workload(metadata["namespace"], metadata["uid"])
    return queueing.waits_for(workload) if workload is not None else ""


async def refusals(context: Context, wanted: Iterable[RawObject]) -> dict[str, Refusal]:
    """What cannot be created, by name, so that the plan can say so in the status.

    What was not taken when it was last to be created is asked for in a dry run; all else is simply created. A name
    that another owner's child has is no matter of waiting either.
    """
    found = {}
    for obj in wanted:
        kind, metadata = obj["kind"], obj["metadata"]
        held = context.view.get(kind, metadata["namespace"], metadata["name"])
        if held is None and context.cluster.was_not_taken(obj):
            error = await context.cluster.refusal(obj)
            if error is not None and error.code != 409:
                found[metadata["name"]] = Refusal(error.message, final=error.code != 403)
            elif error is not None:
                held = await context.cluster.read(kind, metadata["namespace"], metadata["name"])
        if held is not None and (other := foreign_owner(obj, held)):
            message = f"{kind} {metadata['name']} exists and belongs to {other}; one of the two needs another name"
            found[metadata["name"]] = Refusal(message, final=False)
    return found


def foreign_owner(obj: RawObject, held: RawObject) -> str:
    """Who owns the object that has the name which ``obj`` needs; empty where that is ``obj``'s owner.

    An owner of the same kind and name is a predecessor that was deleted: the garbage collector frees the name.
    """
    ours, theirs = _owner(obj), _owner(held)
    return "" if ours == theirs or not ours else " ".join(theirs) or "nobody of ours"


def _owner(obj: RawObject) -> tuple[str, str] | tuple[()]:
    """Kind and name of the controlling owner."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next(((owner["kind"], owner["name"]) for owner in owners if owner.get("controller")), ())
