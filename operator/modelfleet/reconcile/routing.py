"""Which keys a change concerns: the object itself, its owner, and whoever's plan reads it.

Waking a key too often costs a reconcile; not waking it costs up to a resync, so in doubt a key is woken. The six
floods are filtered: node heartbeats (a Node is written every few minutes, by the thousand), the counts of a moving
fleet (an EdgeDeployment's status concerns its ModelVersions only when what it serves changes; that of a DaemonSet its
EdgeDeployment when pods are lacking, or no more), the stages of a serving pod's start and end, what the operator itself
just told in an EdgeDeployment's status, and who uses a version (of a ModelVersion's status, only what was verified
concerns its thousand EdgeDeployments).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from modelfleet.api import names
from modelfleet.cluster import references
from modelfleet.cluster.kinds import CHILD_KINDS, OWN_KINDS, ROUTING_KINDS, SELECTED_KINDS
from modelfleet.cluster.view import View
from modelfleet.plan import conditions
from modelfleet.plan.edge import daemon_sets, edge_status, serving_pod
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import routed_pods
from modelfleet.reconcile.key import Key

_OWNERS: Final = (
    (names.EDGE_DEPLOYMENT_LABEL, "EdgeDeployment"),
    (names.TRAINING_JOB_LABEL, "TrainingJob"),
    (names.MODEL_VERSION_LABEL, "ModelVersion"),
)

_CLAIMING: Final = ("hosts", "gateways", "hostnames", "parentRefs")
"""The fields of our own routes by which they are for the same requests as another one."""


def keys(view: View, before: RawObject | None, after: RawObject | None, *, own: bool = False) -> set[Key]:
    """The keys to look at after an object changed; one of the two forms may be missing, not both.

    ``own``: it was changed by a status that the operator wrote.
    """
    obj = after if after is not None else before
    if obj is None:
        return set()
    kind = obj["kind"]
    found: set[Key] = set()
    if kind in OWN_KINDS and not (own and _is_echo(before, after)):
        found.add(_key(obj))
    if kind in CHILD_KINDS:
        if _child_facts(before) != _child_facts(after):
            for form in (before, after):
                found.update(_owners(form) if form is not None else ())
    elif kind in ROUTING_KINDS:
        found.update(_of_route(view, before, after))
    elif kind == "ModelVersion":
        found.update(_of_model_version(view, before, after))
    elif kind == "EdgeDeployment":
        found.update(_of_edge_deployment(before, after))
    elif kind == "Node":
        found.update(_of_node(view, before, after))
    return found


def _key(obj: Mapping[str, Any]) -> Key:
    return Key(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def _owners(child: Mapping[str, Any]) -> Iterator[Key]:
    """By the controller reference, and by our labels for what is owned at second hand (pods)."""
    metadata = child["metadata"]
    namespace = metadata.get("namespace", "")
    for owner in metadata.get("ownerReferences") or ():
        if owner["kind"] in OWN_KINDS and owner["apiVersion"] == names.API_VERSION:
            yield Key(owner["kind"], namespace, owner["name"])
    labels = metadata.get("labels") or {}
    for label, kind in _OWNERS:
        # A serving pod names the model version it serves, too; only verification concerns the ModelVersion.
        if label in labels and (kind != "ModelVersion" or names.VERIFICATION_LABEL in labels):
            yield Key(kind, namespace, labels[label])


def _is_echo(before: RawObject | None, after: RawObject | None) -> bool:
    """Whether an EdgeDeployment says nothing new to its own plan, by which it came to say it."""
    is_deployment = after is not None and after["kind"] == "EdgeDeployment"
    return is_deployment and bool(_decided_by(before) == _decided_by(after))


def _decided_by(deployment: RawObject | None) -> Any:
    if deployment is None:
        return None
    return _lasting_metadata(deployment), deployment["spec"], edge_status.decided(deployment.get("status") or {})


def is_calm(key: Key, before: RawObject | None, after: RawObject | None) -> bool:
    """Whether a change is such that the plan of this key is not waiting for it: it may wait for what comes next.

    A ModelVersion only tells who uses it, be it a thousand; when one goes, it may be about to be deleted. A serving pod
    that is new has everything before it. Pods that a DaemonSet lacks are asked about when it lacked them for a while.
    """
    if key.kind == "ModelVersion":
        return after is not None and bool(after["kind"] == "EdgeDeployment")
    if before is None or after is None:
        return after is not None and _serves(after) and _begins(after)
    return bool(after["kind"] == "DaemonSet" and before["spec"] == after["spec"])


def _begins(pod: RawObject) -> bool:
    facts = serving_pod.read(pod)
    return not (facts.running or facts.terminating or facts.trouble)


def _child_facts(obj: RawObject | None) -> Any:
    """What a plan reads of a child."""
    if obj is None:
        return None
    if obj["kind"] == "DaemonSet":
        # Its status counts each pod that comes and goes: whether there are too few.
        return _lasting_metadata(obj), obj["spec"], daemon_sets.lacks_pods(obj)
    if _serves(obj):
        pod = serving_pod.read(obj)
        # Since when it is not ready moves a deadline further away, which the plan finds out when that is reached.
        return _lasting_metadata(obj), replace(pod, unready_since=""), routed_pods.ready_since(obj)
    return obj


def _lasting_metadata(obj: RawObject) -> RawObject:
    return {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}


def _serves(obj: RawObject) -> bool:
    return obj["kind"] == "Pod" and names.EDGE_DEPLOYMENT_LABEL in (obj["metadata"].get("labels") or {})


def _of_route(view: View, before: RawObject | None, after: RawObject | None) -> Iterator[Key]:
    """The owner; and where it claims something else than before, all who may be concerned by it."""
    for form in (before, after):
        if form is not None:
            yield from _owners(form)
    if _claims(before) == _claims(after):
        return
    provider = "GatewayAPI" if (after or before or {})["kind"] == "HTTPRoute" else "Istio"
    yield from map(_key, view.naming("EdgeDeployment", references.provider(provider)))


def _claims(route: RawObject | None) -> Any:
    """What other deployments read of a route: anything of somebody else's; of ours which requests it is for.

    Our own routes change with each step of each canary, and a thousand deployments are not to look at each of them.
    """
    if route is None or route["kind"] in SELECTED_KINDS:
        return None
    spec = route["spec"]
    if any(owner["apiVersion"] == names.API_VERSION for owner in route["metadata"].get("ownerReferences") or ()):
        return {key: spec.get(key) for key in _CLAIMING}
    return spec


def routed(view: View) -> set[Key]:
    """The EdgeDeployments that have requests routed; for when a routing kind appeared or vanished."""
    providers = [references.provider(name) for name in ("Istio", "GatewayAPI")]
    return set(map(_key, view.naming("EdgeDeployment", *providers)))


def _of_model_version(view: View, before: RawObject | None, after: RawObject | None) -> Iterator[Key]:
    """Those that serve or make it, where it changed for them; the model's others where an alias may have moved."""
    obj: RawObject = after or before or {}
    namespace = obj["metadata"]["namespace"]
    if _version_facts(before) != _version_facts(after):
        named = references.model_version(namespace, obj["metadata"]["name"])
        for kind in ("EdgeDeployment", "TrainingJob"):
            yield from map(_key, view.naming(kind, named))
    if _alias_facts(before) != _alias_facts(after):
        same_model = references.model(namespace, obj["spec"].get("model", ""))
        yield from map(_key, view.naming("ModelVersion", same_model))


def _version_facts(obj: RawObject | None) -> Any:
    """What the plans of those read that serve or make it: not its stage and history, nor who uses it."""
    if obj is None:
        return None
    metadata, status = obj["metadata"], obj.get("status") or {}
    verified = conditions.find(status.get("conditions") or (), "Verified") or {}
    return (
        obj["spec"],
        [metadata.get(key) for key in ("uid", "labels", "annotations", "ownerReferences", "deletionTimestamp")],
        status.get("snapshotHash"),
        [verified.get(key) for key in ("status", "reason", "message")],
    )


def _alias_facts(obj: RawObject | None) -> Any:
    """What decides which version of a model an alias means, and whether it has been handed over."""
    if obj is None:
        return None
    spec = obj["spec"]
    shown = (obj.get("status") or {}).get("aliases")
    return spec.get("aliases"), shown, spec.get("version"), obj["metadata"].get("deletionTimestamp")


def _of_edge_deployment(before: RawObject | None, after: RawObject | None) -> Iterator[Key]:
    """The ModelVersions it uses or used, when that changed."""
    was, is_ = (references.versions_by_role(form) if form is not None else () for form in (before, after))
    if was != is_:
        namespace = (after or before or {})["metadata"]["namespace"]
        for name in filter(None, {*was, *is_}):
            yield Key("ModelVersion", namespace, name)


def _of_node(view: View, before: RawObject | None, after: RawObject | None) -> Iterator[Key]:
    if before is not None and after is not None and _node_facts(before) == _node_facts(after):
        return
    labels = [(form["metadata"].get("labels") or {}) for form in (before, after) if form is not None]
    terms = {term for each in labels for term in references.selecting(each)}
    for deployment in view.naming("EdgeDeployment", *terms):
        selectors = [pool.get("nodeSelector") or {} for pool in deployment["spec"].get("pools", ())]
        if any(selector.items() <= each.items() for selector in selectors for each in labels):
            yield _key(deployment)


def _node_facts(node: Mapping[str, Any]) -> Any:
    """What a plan reads of a node; heartbeats leave it as it is."""
    metadata, spec, status = node["metadata"], node["spec"], node["status"]
    ready = [(condition.get("status"), condition.get("lastTransitionTime")) for condition in status["conditions"]]
    return (
        metadata["uid"],
        metadata.get("labels"),
        metadata.get("deletionTimestamp"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        ready,
    )
