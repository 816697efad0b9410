"""A route: what share of the requests goes to which revision.

What objects it becomes is ``istio.py``'s and ``gateway_api.py``'s. *What* the route shall be at any time is decided by
the rollout; *whether* it is in force yet, and which revisions requests may still reach, is ``traffic.py``'s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelfleet.plan.edge.aim import Problem
from modelfleet.plan.outcome import ObjectRef, RawObject


@dataclass(frozen=True)
class Route:
    """Where requests go. All go to stable but for the candidate's share, and those that carry the header."""

    stable: str
    """Revision."""
    candidate: str | None = None
    """Revision; it may be named before any request is to go there, so that what it needs is there in time."""
    weight: int = 0
    """Percentage of the requests without the header that goes to the candidate."""
    header: tuple[str, str] | None = None
    """Name and exact value; requests that carry it all go to the candidate."""
    mirror: int = 0
    """Percentage of the requests of stable of which the candidate gets a copy; its answers are dropped."""

    @property
    def revisions(self) -> frozenset[str]:
        """The revisions that get requests."""
        stable = {self.stable} if self.weight < 100 or self.candidate is None else set()
        used = self.candidate is not None and (self.weight > 0 or self.header is not None or self.mirror > 0)
        return frozenset(stable | ({self.candidate} if used and self.candidate else set()))

    @property
    def main(self) -> str:
        """The revision that requests go to which nothing splits: the candidate once it gets all."""
        return self.candidate if self.candidate and self.weight == 100 else self.stable

    @property
    def shares(self) -> list[tuple[str, int]]:
        """Revisions with their percentages of the requests without the header; they sum up to 100."""
        if self.candidate is None or self.weight == 0:
            return [(self.stable, 100)]
        if self.weight == 100:
            return [(self.candidate, 100)]
        return [(self.stable, 100 - self.weight), (self.candidate, self.weight)]

    def without_candidate(self, *, keep_header: bool) -> "Route":
        """The same with no requests for the candidate but, perhaps, those that ask for it by the header."""
        return replace(self, weight=0, mirror=0, header=self.header if keep_header else None)

    def __str__(self) -> str:
        """For people."""
        parts = [f"{percentage}% of the requests to revision {revision}" for revision, percentage in self.shares]
        if self.candidate and self.header:
            parts.append(f"those with {self.header[0]}: {self.header[1]} to {self.candidate}")
        if self.candidate and self.mirror:
            parts.append(f"copies of {self.mirror}% to {self.candidate}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Stated:
    """What a provider states for a route."""

    apply: Sequence[RawObject] = ()
    """In make-before-break order, and only what may be applied already."""
    delete: Sequence[ObjectRef] = ()
    accepted: bool = False
    """Whether what exists is what the route asks for, and whoever implements it has taken it."""
    reason: str = "Updating"
    waiting: str = ""
    """Why it is not accepted, as one word and for a person."""
    problem: Problem | None = None
    """What keeps the route from being stated or accepted and will not pass by waiting."""
    names: Mapping[str, str] | None = None
    """Fields of the status that name the objects."""


def holds(live: Any, stated: Any) -> bool:
    """Whether a live value has all that is stated: maps may carry more (defaults), lists may not."""
    if isinstance(stated, Mapping):
        return isinstance(live, Mapping) and all(holds(live.get(key), value) for key, value in stated.items())
    if isinstance(stated, list):
        return (
            isinstance(live, list)
            and len(live) == len(stated)
            and all(holds(mine, each) for mine, each in zip(live, stated, strict=True))
        )
    return bool(live == stated)


def is_owned(obj: RawObject, owner: RawObject) -> bool:
    """Whether an object belongs to this owner, by uid."""
    uid = owner["metadata"]["uid"]
    return any(each.get("uid") == uid for each in obj["metadata"].get("ownerReferences") or ())


def reference(obj: RawObject) -> ObjectRef:
    """A reference to exactly this object, for its deletion."""
    metadata = obj["metadata"]
    return ObjectRef(obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"], metadata.get("uid", ""))


def one_of(objects: Collection[RawObject], namespace: str, name: str) -> RawObject | None:
    """The object of this name, where it is not on its way out."""
    found = (
        each for each in objects if each["metadata"]["name"] == name and each["metadata"]["namespace"] == namespace
    )
    return next((each for each in found if "deletionTimestamp" not in each["metadata"]), None)
