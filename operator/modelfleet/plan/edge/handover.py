"""How a gateway is handed from one workload to the next: which labels are written on which node, now.

``PrefetchFirst`` takes two writes. The first starts the new pod beside the one that serves; it fetches, verifies and
becomes ready there. The second makes it the one that serves, the same pod, and the old one goes. A gateway that loses
its uplink anywhere in between goes on with what it has, and a version that does not come up takes no service away.
``StopFirst``, and a gateway that serves nothing, take one write.

Where the device has no room for two pods, the old one has to go first after all: at once where its size tells, else
when the scheduler says so.
Who is moved, and when, is ``waves.py``'s; what became of a node, ``fleet.py``'s.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from modelfleet.plan import naming
from modelfleet.plan.edge import room
from modelfleet.plan.edge.assignment import Failed, Keys, failed_value
from modelfleet.plan.edge.fleet import Member
from modelfleet.plan.edge.waves import State
from modelfleet.plan.edge.workload import Workload
from modelfleet.plan.outcome import NodeLabels, Note

_LACKING: Final = re.compile(r"(?:Insufficient |OutOf)[-A-Za-z0-9./]*[A-Za-z0-9]|Too many pods")


@dataclass(frozen=True)
class Terms:
    """What holds for every gateway of a deployment."""

    keys: Keys
    installation: str
    attempt: int
    """``status.attempt``: what a failure is noted under."""
    prefetch: bool
    """Whether the new pod is made ready before the old one goes."""
    held: bool = False
    """Whether what is ready beside stays there for now: its model version is in doubt."""
    find: Callable[[str], Workload | None] = lambda _: None
    """The workload that a hash stands for; ``None`` where that is not known any more."""
    undone: Collection[str] = ()
    """Hashes of the workloads of a revision that is being rolled back."""


@dataclass
class Writes:
    """What to write on the nodes."""

    labels: list[NodeLabels] = field(default_factory=list)
    workloads: dict[str, Workload] = field(default_factory=dict)
    """What the labels name, by hash: their DaemonSets have to be there first."""
    left_out: list[str] = field(default_factory=list)
    """Nodes that would be written on, but take no label."""
    notes: dict[str, Note] = field(default_factory=dict)
    """By pool: that nothing could be made ready beside what serves."""

    def add(self, terms: Terms, node: str, **named: Workload | str | None) -> None:
        """Set labels (by field of :class:`Keys`), or take them off."""
        values: dict[str, str | None] = {}
        for name, value in named.items():
            if isinstance(value, Workload):
                self.workloads[value.hash] = value
                value = naming.node_label_value(terms.installation, value.hash)
            values[getattr(terms.keys, name)] = value
        self.labels.append(NodeLabels(node, values))


def begin(moves: Mapping[str, Workload], members: Mapping[str, Member], terms: Terms) -> Writes:
    """Move these nodes: beside what serves there, where something does and is to be kept."""
    writes = Writes()
    for name, item in moves.items():
        member = members[name]
        beside = terms.prefetch and member.serves
        serving = terms.find(member.carried) if beside else None
        lacks = room.lacking(member.allocatable, serving, item) if serving else ""
        if lacks:
            writes.notes[member.pool] = _no_room(member.pool, f"Insufficient {lacks}")
        if beside and not lacks:
            writes.add(terms, name, **_off("failed", member.noted), next=item)
        else:
            writes.add(terms, name, **_off("failed", member.noted), **_off("next", member.next), serves=item)
    return writes


def go_on(members: Iterable[Member], moves: Mapping[str, Workload], terms: Terms, limit: int) -> Writes:
    """Finish or undo what was begun, on up to ``limit`` nodes."""
    writes = Writes()
    for member in members:
        if len(writes.labels) >= limit:
            break
        if member.gateway and member.name not in moves:
            _go_on(member, terms, writes) if not member.refused else _leave_out(member, terms, writes)
    return writes


def _leave_out(member: Member, terms: Terms, writes: Writes) -> None:
    wanted = Writes()
    _go_on(member, terms, wanted)
    if wanted.labels and member.state is not State.REFUSED:
        writes.left_out.append(member.name)


def _go_on(member: Member, terms: Terms, writes: Writes) -> None:
    wanted, name = member.wanted, member.name
    if member.next and (wanted is None or member.next != wanted.hash):
        # Superseded or undone. An absent gateway gets its next one on its return, in the same write.
        if member.reachable or member.state is not State.UNREACHABLE:
            writes.add(terms, name, next=None)
    elif wanted is None:
        return
    elif member.next:
        if member.state is State.FAILED:
            writes.add(terms, name, next=None, failed=_note(member, wanted, terms))
        elif (member.prepared or member.cramped) and not terms.held:
            writes.add(terms, name, serves=wanted, next=None)
            if member.cramped:
                why = _LACKING.search(member.trouble.message if member.trouble else "")
                writes.notes[member.pool] = _no_room(member.pool, why[0] if why else "no room")
    elif member.carried == wanted.hash:
        if member.state is State.FAILED and member.back and not member.stuck:
            writes.add(terms, name, serves=member.back, failed=_note(member, wanted, terms))
    elif member.stricken and member.carried in terms.undone:
        # What is rolled back may be what keeps the node from answering: its return is not waited for.
        writes.add(terms, name, serves=wanted)


def _no_room(pool: str, why: str) -> Note:
    """The same words for all gateways of a pool that lack the same: one Event a rollout, not one a gateway."""
    return Note(
        "Normal",
        "PrefetchSkipped",
        f"pool {pool}: gateways have no room for two pods ({why}), so the old one goes before the new one is ready; "
        "lower serving.resources, or set strategy.recreateOrder to StopFirst to say so",
    )


def _note(member: Member, wanted: Workload, terms: Terms) -> str:
    reason = member.trouble.reason if member.trouble else ""
    return failed_value(terms.installation, Failed(wanted.hash, terms.attempt, reason))


def _off(name: str, there: object) -> dict[str, None]:
    """The label to take off, where it is there."""
    return {name: None} if there else {}
