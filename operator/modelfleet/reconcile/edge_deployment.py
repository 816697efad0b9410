"""EdgeDeployment: gather what the plan needs from the view, and plan.

Three things are asked of the API server, all rarely: why a workload that should have pods has had none for a while,
what keeps a pod whose status says nothing (both are told by Events only, which the view does not hold), and whose a
Service is that could not be made.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from modelfleet.api import names
from modelfleet.api.canary import Analysis
from modelfleet.plan import conditions, naming
from modelfleet.plan.edge import edge_deployment, serving_pod
from modelfleet.plan.edge.daemon_sets import lacks_pods
from modelfleet.plan.edge.edge_deployment import Observed
from modelfleet.plan.edge.serving_pod import Trouble
from modelfleet.plan.outcome import Outcome, RawObject
from modelfleet.plan.refusal import reason_in
from modelfleet.plan.traffic import analysis, canary_state, traffic
from modelfleet.plan.traffic.analysis import Measurement
from modelfleet.reconcile.context import Context
from modelfleet.reconcile.execute import controlling_owner
from modelfleet.reconcile.key import Key

ASKED_AT_ONCE: Final = 3
"""Most objects whose Events are read in one reconcile: samples are enough for a message."""

LACKING: Final = timedelta(seconds=5)
"""How long a DaemonSet may have too few pods, as each has that was just made, before its Events are read."""

SILENT_SECONDS: Final = 20
"""How long a pod may say nothing before its Events are read."""


async def reconcile(key: Key, context: Context) -> Outcome | None:
    """Plan the next step of an EdgeDeployment; ``None`` when it is gone or going, and its children with it."""
    view = context.view
    deployment = view.get("EdgeDeployment", key.namespace, key.name)
    if deployment is None or "deletionTimestamp" in deployment["metadata"]:
        context.measurements.forget(key)
        context.confirmations.forget(key)
        context.waits.forget(key)
        return None

    def children(kind: str) -> list[RawObject]:
        return view.labelled(kind, key.namespace, names.EDGE_DEPLOYMENT_LABEL, key.name)

    now = context.now()
    daemon_sets, pods = children("DaemonSet"), children("Pod")
    deployments = children("Deployment")
    observed = Observed(
        deployment=deployment,
        model_version=view.get("ModelVersion", key.namespace, deployment["spec"]["modelVersion"]),
        revisions=children("ControllerRevision"),
        daemon_sets=daemon_sets,
        deployments=deployments,
        services=children("Service"),
        routes=_routes(context, key, deployment),
        pods=pods,
        nodes=view.nodes_of(
            [pool["nodeSelector"] for pool in deployment["spec"]["pools"]],
            naming.node_label_keys(deployment["metadata"]["uid"]),
        ),
        refusals=await _refusals(context, key, daemon_sets, deployments, now),
        hints=await _hints(context, key.namespace, pods, now),
        measured=_measured(context, key, deployment, now),
        probed=context.confirmations.of(key),
        waiting=context.waits.of(key),
        refused_labels=context.refused_labels.standing(deployment["metadata"]["uid"]),
    )
    outcome = edge_deployment.plan(observed, context.installation, now)
    taken = await _taken(context, outcome.apply)
    if taken:
        outcome = edge_deployment.plan(replace(observed, taken=taken), context.installation, now)
    context.confirmations.ask(key, outcome.probe)
    context.waits.found(key, outcome.waiting)
    return outcome


async def _taken(context: Context, objects: list[RawObject]) -> set[str]:
    """Names of the Services among these that are somebody else's, as far as the view or a failed attempt tells."""
    taken = set()
    for each in objects:
        metadata = each["metadata"]
        if each["kind"] != "Service":
            continue
        held = context.view.get("Service", metadata["namespace"], metadata["name"])
        if held is None and context.cluster.was_not_taken(each):
            held = await context.cluster.read("Service", metadata["namespace"], metadata["name"])
        if held is not None and controlling_owner(held) != controlling_owner(each):
            taken.add(metadata["name"])
    return taken


def _routes(context: Context, key: Key, deployment: RawObject) -> dict[str, list[RawObject]]:
    """What routes requests: ours, and where requests are to be routed everybody's, as somebody may own the host."""
    view, provider = context.view, (deployment["spec"].get("traffic") or {}).get("provider", "None")
    wanted = traffic.KINDS.get(provider, ())
    return {
        kind: view.list(kind)
        if kind in wanted
        else view.labelled(kind, key.namespace, names.EDGE_DEPLOYMENT_LABEL, key.name)
        for kind in view.routing_kinds
    }


def _measured(context: Context, key: Key, deployment: RawObject, now: datetime) -> Mapping[str, Measurement]:
    """What came in for the canary's analysis; what is due is asked for, and wakes the object when it is there."""
    state = (deployment.get("status") or {}).get("canary") or {}
    asked = (deployment["spec"].get("canary") or {}).get("analysis")
    run = canary_state.running(state) if asked and state else None
    if run is None:
        return context.measurements.take(key, None, ())
    spec = Analysis.model_validate(asked)
    allowed = not analysis.forbidden_address(spec, context.installation)
    due = analysis.questions(spec, state.get("analysis") or (), run, key.namespace, key.name, now) if allowed else []
    return context.measurements.take(key, run, due)


async def _refusals(
    context: Context, key: Key, daemon_sets: list[RawObject], deployments: list[RawObject], now: datetime
) -> dict[str, str]:
    """By name of a workload: why the API server lets it make no pods (a quota, an admission policy)."""
    refusals = {}
    for each in deployments:
        failure = conditions.find((each.get("status") or {}).get("conditions") or (), "ReplicaFailure")
        if failure is not None and failure.get("status") == "True":
            refusals[each["metadata"]["name"]] = reason_in(failure.get("message") or "")
    lacking = [each["metadata"]["name"] for each in daemon_sets if lacks_pods(each)]
    for name in context.waits.lasting(key, lacking, now, LACKING)[:ASKED_AT_ONCE]:
        events = await context.cluster.latest_warnings(key.namespace, "DaemonSet", name)
        failed = next((event for event in events if event.get("reason") == "FailedCreate"), None)
        if failed is not None:
            refusals[name] = reason_in(failed.get("note") or "")
    return refusals


async def _hints(context: Context, namespace: str, pods: list[RawObject], now: datetime) -> dict[str, Trouble]:
    """By name of a pod that has been silent for long: what its Events tell, such as a Secret that is missing."""
    silent = []
    for pod in pods:
        facts = serving_pod.read(pod)
        if facts.ready or facts.terminating or facts.running or facts.trouble is not None or not facts.created:
            continue
        if now - conditions.parse_timestamp(facts.created) >= timedelta(seconds=SILENT_SECONDS):
            silent.append(facts.name)
            if len(silent) == ASKED_AT_ONCE:
                break
    hints = {}
    for name in silent:
        events = await context.cluster.latest_warnings(namespace, "Pod", name)
        if events:
            hints[name] = Trouble(events[0].get("reason") or "Unknown", events[0].get("note") or "")
    return hints
