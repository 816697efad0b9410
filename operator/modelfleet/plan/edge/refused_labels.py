"""Nodes that take no label: what follows for a rollout when the API server refuses to label some of them.

An admission policy of the cluster's owner, say, may deny it. Such a node was never tried, so its refusal says nothing
of the model: it counts neither as failed nor as available, as one that is out of reach does, and others are moved in
its stead. A wave of which nothing else is left waits, as its point is to see some of them come up. It is named, with
the API server's own words, and asked again with growing pauses: it is for a person to change what refuses it. How long
it is left alone is remembered by the executor (``reconcile/refused_labels.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelfleet.plan import conditions
from modelfleet.plan.edge.aim import Problem
from modelfleet.plan.edge.member import Member
from modelfleet.plan.edge.serving_pod import Trouble
from modelfleet.plan.edge.waves import State

REASON: Final = "LabelRefused"

NAMED: Final = 3
"""Nodes that the message names."""

_LEAST: Final = 40
"""Characters of the API server's words that are always quoted."""


@dataclass(frozen=True)
class Refusal:
    """That the API server did not let a node be labelled."""

    message: str
    """Its own words."""
    until: datetime
    """When to ask again."""


def mark(members: Sequence[Member], refusals: Mapping[str, Refusal]) -> None:
    """Leave these nodes alone, and count those that would be moved, or handed over, as refused."""
    if not refusals:
        return
    for member in members:
        refusal = refusals.get(member.name) if member.gateway else None
        if refusal is None:
            continue
        member.refused, member.on_stable = True, None
        if member.state is State.WAITING or (member.state is State.IN_FLIGHT and (member.prepared or member.cramped)):
            member.state, member.trouble = State.REFUSED, Trouble(REASON, refusal.message)


def problem(nodes: Sequence[str], refusals: Mapping[str, Refusal]) -> Problem | None:
    """What to say of nodes that need a label and do not get it."""
    if not nodes:
        return None
    first = sorted(nodes)[:NAMED]
    named = ", ".join(first) + (" …" if len(nodes) > NAMED else "")
    told = f"{len(nodes)} cannot be labelled: {named}; have what refuses it let the operator pass: "
    room = max(_LEAST, conditions.MESSAGE_LENGTH - len(told))
    return Problem(REASON, told + conditions.shorten(refusals[first[0]].message, room))
