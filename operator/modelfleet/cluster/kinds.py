"""The kinds of object the operator touches, and where the API server keeps them. No request is made here."""

from dataclasses import dataclass
from typing import Final

from modelfleet.api import names


@dataclass(frozen=True)
class Kind:
    """One kind of object: what its requests and its objects are headed with."""

    name: str
    api_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of an object, or of the collection; without a namespace: over all namespaces."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        parts = [root + self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


_ALL: Final = (
    Kind("ModelVersion", names.API_VERSION, "modelversions"),
    Kind("TrainingJob", names.API_VERSION, "trainingjobs"),
    Kind("EdgeDeployment", names.API_VERSION, "edgedeployments"),
    Kind("Node", "v1", "nodes", namespaced=False),
    Kind("Pod", "v1", "pods"),
    Kind("Service", "v1", "services"),
    Kind("Job", "batch/v1", "jobs"),
    Kind("DaemonSet", "apps/v1", "daemonsets"),
    Kind("Deployment", "apps/v1", "deployments"),
    Kind("ControllerRevision", "apps/v1", "controllerrevisions"),
    Kind("VirtualService", "networking.istio.io/v1", "virtualservices"),
    Kind("DestinationRule", "networking.istio.io/v1", "destinationrules"),
    Kind("PeerAuthentication", "security.istio.io/v1", "peerauthentications"),
    Kind("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes"),
    Kind("Workload", "kueue.x-k8s.io/v1beta1", "workloads"),
    Kind("Event", "events.k8s.io/v1", "events"),
    Kind("Lease", "coordination.k8s.io/v1", "leases"),
    Kind("Secret", "v1", "secrets"),
    Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
    Kind("TokenReview", "authentication.k8s.io/v1", "tokenreviews", namespaced=False),
    Kind("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False),
)

KINDS: Final = {kind.name: kind for kind in _ALL}
"""By ``kind``; the operator knows each kind in one version only."""

OWN_KINDS: Final = ("ModelVersion", "TrainingJob", "EdgeDeployment")
"""The kinds that are reconciled."""

CHILD_KINDS: Final = ("Pod", "Job", "DaemonSet", "Deployment", "Service", "ControllerRevision")
"""The kinds of what we create, routes apart; watched by their managed-by label only."""

FOLLOWED_KINDS: Final = (*CHILD_KINDS, "Node")
"""The kinds that are followed by light streams (``cluster/streams.py``); the others are kopf's."""

VIEWED_KINDS: Final = (*OWN_KINDS, *FOLLOWED_KINDS)
"""What the view holds in any case."""

ROUTING_KINDS: Final = ("VirtualService", "DestinationRule", "PeerAuthentication", "HTTPRoute")
"""The kinds that route requests: in the view while the API server serves them and the installation has rights on them.
Other people's VirtualServices and HTTPRoutes count, too: they may own a host."""

SELECTED_KINDS: Final = frozenset({*CHILD_KINDS, "DestinationRule", "PeerAuthentication"})
"""The kinds of which the view holds our children only, by their managed-by label."""

ATOMIC_KINDS: Final = frozenset({"VirtualService", "DestinationRule", "HTTPRoute"})
"""The kinds whose rules must be ours to the letter: one more, or one more condition, is another route."""

_MANAGED: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
_HISTORY_LABEL: Final = "controller-revision-hash"
"""Of the ControllerRevisions that a DaemonSet's controller makes (``apps/v1``, ``DefaultDaemonSetUniqueLabelKey``)."""


def label_selector(kind: str) -> str:
    """Which objects of a kind the view holds; empty: all."""
    if kind == "ControllerRevision":
        # A DaemonSet's own history has the labels of its pods, ours among them, and the whole of their template.
        return f"{_MANAGED},!{_HISTORY_LABEL}"
    return _MANAGED if kind in SELECTED_KINDS else ""
