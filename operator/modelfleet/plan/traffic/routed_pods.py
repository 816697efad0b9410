"""The pods that routed requests may go to, by what they serve, and whether a revision can take requests.

Which requests go to which revision is ``route.py``'s and ``traffic.py``'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan import conditions
from modelfleet.plan.edge import serving_pod
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import routed_services

ENDPOINTS: Final = timedelta(seconds=3)
"""How long a pod must have been ready before requests are first sent to its revision: its endpoints have to reach the
proxies, too."""


@dataclass(frozen=True)
class Pods:
    """The routed pods, by what they serve."""

    ready: Mapping[str, int]
    """Number of ready pods by revision."""
    present: Sequence[RawObject] = ()
    """All, those on their way out included."""

    @property
    def revisions(self) -> frozenset[str]:
        """The revisions that have any pod."""
        labels = (pod["metadata"].get("labels") or {} for pod in self.present)
        return frozenset(each[names.REVISION_LABEL] for each in labels if each.get(names.REVISION_LABEL))

    def bears(self, revision: str, now: datetime, *, reached: bool) -> bool:
        """Whether requests can be sent to a revision; one that is not ``reached`` yet must have been ready a while."""
        if reached or not self.ready.get(revision):
            return bool(self.ready.get(revision))
        return any(
            now - conditions.parse_timestamp(since) >= ENDPOINTS
            for pod in self.present
            if (pod["metadata"].get("labels") or {}).get(names.REVISION_LABEL) == revision
            and (since := ready_since(pod))
        )


def ready_since(pod: RawObject) -> str:
    """RFC 3339; empty where it is not ready."""
    if "deletionTimestamp" in pod["metadata"] or not serving_pod.read(pod).ready:
        return ""
    ready = conditions.find((pod.get("status") or {}).get("conditions") or (), "Ready") or {}
    return str(ready.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp") or "")


def find(owner: RawObject, spec: EdgeDeploymentSpec, pods: Iterable[RawObject]) -> Pods:
    """The pods that routed requests may go to."""
    wanted = routed_services.selector(owner, spec)
    ready: dict[str, int] = {}
    present = []
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if not wanted.items() <= labels.items():
            continue
        present.append(pod)
        if "deletionTimestamp" not in pod["metadata"] and serving_pod.read(pod).ready:
            revision = labels.get(names.REVISION_LABEL, "")
            ready[revision] = ready.get(revision, 0) + 1
    return Pods(ready, present)
