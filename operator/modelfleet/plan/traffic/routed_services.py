"""The Services of routed replicas: by revision, so that whoever calls one reaches that revision's pods only.

``<name>`` selects stable, ``<name>-canary`` the candidate: for callers that no route serves, and to try a candidate
out. Routes use Services whose selectors never change: ``<name>-routed`` selects all replicas (Istio, which tells them
apart by subsets), ``<name>-<revision>`` those of one revision (Gateway API). So no promotion has to wait for endpoints.
"""

from collections.abc import Iterable, Sequence

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import naming
from modelfleet.plan.edge import workload
from modelfleet.plan.outcome import ObjectRef, RawObject
from modelfleet.plan.traffic import route


def selector(owner: RawObject, spec: EdgeDeploymentSpec) -> dict[str, str]:
    """The labels that tell pods which take routed requests, of whatever revision."""
    labels = {names.EDGE_DEPLOYMENT_LABEL: owner["metadata"]["name"], names.PLACEMENT_LABEL: workload.REPLICAS}
    if spec.traffic and len(spec.traffic.pools) == 1:
        labels[names.POOL_LABEL] = spec.traffic.pools[0]
    return labels


def stable_name(owner: RawObject) -> str:
    """Name of the Service of stable."""
    return str(owner["metadata"]["name"])


def candidate_name(owner: RawObject) -> str:
    """Name of the Service of the candidate."""
    return naming.joined(owner["metadata"]["name"], "canary")


def routed_name(owner: RawObject) -> str:
    """Name of the Service of all replicas."""
    return naming.joined(owner["metadata"]["name"], "routed")


def revision_name(owner: RawObject, revision: str) -> str:
    """Name of the Service of one revision."""
    return naming.joined(owner["metadata"]["name"], revision)


def service(owner: RawObject, spec: EdgeDeploymentSpec, name: str, revision: str = "") -> RawObject:
    """A Service of the routed pods, of one revision where that is given."""
    ports = spec.serving.ports
    made = workload.service(owner, ports.http, ports.grpc)
    chosen = {names.REVISION_LABEL: revision} if revision else {}
    labels = {**made["metadata"]["labels"], **chosen}
    return {
        **made,
        "metadata": {**made["metadata"], "name": name, "labels": labels},
        "spec": {**made["spec"], "selector": {**selector(owner, spec), **chosen}},
    }


def selected(services: Iterable[RawObject], owner: RawObject, name: str) -> str:
    """The revision that the Service of this name selects now; empty where it is missing, or selects all."""
    live = route.one_of(list(services), owner["metadata"]["namespace"], name)
    return str(((live or {}).get("spec", {}).get("selector") or {}).get(names.REVISION_LABEL, ""))


def unneeded(services: Sequence[RawObject], owner: RawObject, needed: Iterable[str]) -> list[ObjectRef]:
    """Those of the Services named above, stable's apart, that are there and not needed."""
    keep = {*needed, stable_name(owner)}
    fixed = {candidate_name(owner), routed_name(owner)}
    found = []
    for each in services:
        name, labels = each["metadata"]["name"], each["metadata"].get("labels") or {}
        ours = name in fixed or name == revision_name(owner, labels.get(names.REVISION_LABEL, ""))
        if ours and name not in keep and route.is_owned(each, owner):
            found.append(route.reference(each))
    return found
