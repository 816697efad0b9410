"""Which node labels nobody owns any more. Two lists some minutes apart must agree before one is taken off.

An EdgeDeployment that is deleted while the operator is down leaves its label on its nodes. The label selects nothing
once the DaemonSets are gone, but it would be there for ever. A label is only swept where it is ours by value (this
installation's mark), no living EdgeDeployment has its key, and no DaemonSet selects it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from modelfleet.api import names
from modelfleet.plan import naming


class Stray(NamedTuple):
    """A label on a node that has no owner."""

    node: str
    key: str
    value: str


def strays(
    nodes: Iterable[Mapping[str, Any]],
    deployments: Iterable[Mapping[str, Any]],
    daemon_sets: Iterable[Mapping[str, Any]],
    installation: str,
) -> set[Stray]:
    """The labels of this installation without an owner, by one look at the whole cluster."""
    owned = {key for deployment in deployments for key in naming.node_label_keys(deployment["metadata"]["uid"])}
    selected = {pair for daemon_set in daemon_sets for pair in _selected(daemon_set["spec"]["template"]["spec"])}
    return {
        Stray(node["metadata"]["name"], key, value)
        for node in nodes
        for key, value in (node["metadata"].get("labels") or {}).items()
        if key.startswith(names.NODE_LABEL_PREFIX)
        and key not in owned
        and (key, value) not in selected
        and naming.workload_of(installation, value) is not None
    }


def _selected(pod_spec: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The node labels that a pod spec asks for, by selector or by required affinity."""
    yield from (pod_spec.get("nodeSelector") or {}).items()
    affinity = ((pod_spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for expression in term.get("matchExpressions") or ():
            yield from ((expression["key"], value) for value in expression.get("values") or ())
