"""Carrying an Outcome out: each write that still makes a difference, in order, the first error ending it.

A node that the API server lets take no label ends it as well, but not before the other nodes' labels are written.

A plan states the whole desired state; this module leaves out whatever is already so. Nothing is decided here, and
nothing is remembered that a restart would miss: the memories below only save requests.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from modelfleet.api import names
from modelfleet.cluster import difference, events
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.errors import ApiError, ClusterError, NameTakenError
from modelfleet.cluster.kinds import ATOMIC_KINDS
from modelfleet.cluster.view import View
from modelfleet.plan import naming
from modelfleet.plan.outcome import NodeLabels, Note, ObjectRef, Outcome, RawObject
from modelfleet.plan.refusal import reason_in
from modelfleet.reconcile.refused_labels import RefusedLabels

NODES_AT_ONCE: Final = 8
"""Node labels written in parallel."""

_REMEMBERED: Final = 20_000

Remembered = TypeVar("Remembered")

logger = logging.getLogger(__name__)

NoteObserver = Callable[[str, Note], None]
"""Told the kind and the note of each Event that was newly made."""


class LabelsRefusedError(ClusterError):
    """The API server let some nodes take no label: a new plan leaves them out."""

    def __init__(self, error: ApiError, *, written: bool) -> None:
        super().__init__(str(error))
        self.error = error
        """One of the refusals."""
        self.written = written
        """Whether anything else was written."""


class Executor:
    """Writes Outcomes to the cluster."""

    def __init__(self, cluster: Cluster, view: View, clock: Callable[[], float], observe: NoteObserver) -> None:
        self._cluster = cluster
        self._view = view
        self._clock = clock
        self._observe = observe
        self._settled: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._status_written: OrderedDict[str, float] = OrderedDict()
        self.refused_labels = RefusedLabels()
        """What plans have to know of nodes that take no label."""

    async def execute(self, seen: RawObject, outcome: Outcome) -> tuple[bool, float | None]:
        """Carry ``outcome`` out for the object ``seen`` before it was planned.

        Returns whether anything was written, and in how many seconds to look again. Raises
        :class:`~modelfleet.cluster.errors.ClusterError`; :class:`LabelsRefusedError` where nodes take no label.
        """
        written = False
        for obj in outcome.create:
            written |= await self._create(obj)
        for obj in outcome.apply:
            written |= await self._apply(obj)
        labelled, refused = await self._label(seen["metadata"]["uid"], outcome.label_nodes)
        written |= labelled
        if refused is not None:
            # What follows was planned as if they were labelled.
            raise LabelsRefusedError(refused, written=written)
        for ref in outcome.delete:
            if self._lives(ref):
                await self._cluster.delete(ref)
                written = True
        for note in outcome.notes:
            written |= await self._tell(seen, note)
        requeue_after = outcome.requeue_after
        if outcome.status is not None:
            status_written, wait = await self._status(seen, outcome.status, outcome.settle_status_seconds)
            written |= status_written
            if wait is not None:
                requeue_after = wait if requeue_after is None else min(wait, requeue_after)
        return written, requeue_after

    async def _create(self, obj: RawObject) -> bool:
        kind, namespace, name = _identity(obj)
        held = self._view.get(kind, namespace, name)
        if held is None:
            try:
                await self._cluster.create(obj)
            except ApiError as error:
                if error.code != 409 or error.reason != "AlreadyExists":
                    raise
                held = await self._cluster.read(kind, namespace, name)
            else:
                return True
        if held is not None and controlling_owner(held) not in (None, controlling_owner(obj)):
            raise NameTakenError(_taken(obj))
        return False

    async def _apply(self, obj: RawObject) -> bool:
        kind, namespace, name = _identity(obj)
        held = self._view.get(kind, namespace, name)
        text = hash(json.dumps(obj))
        if held is not None and self._is_settled(text, held):
            return False
        stated = _annotated(obj, names.APPLIED_HASH_ANNOTATION, naming.content_hash(obj, 16))
        if held is None:
            try:
                self._settle(text, await self._cluster.apply_new(stated))
            except ApiError as error:
                if error.code != 409:
                    raise
            else:
                return True
            # The view lags behind, or it is somebody else's.
            held = await self._cluster.read(kind, namespace, name)
        if held is not None:
            if controlling_owner(held) != controlling_owner(obj):
                raise NameTakenError(_taken(obj))
            if difference.covers(held, stated) and (kind not in ATOMIC_KINDS or _has_spec(held, stated)):
                self._settle(text, held)
                return False
        self._settle(text, await self._cluster.apply(stated))
        return True

    def _is_settled(self, text: int, held: RawObject) -> bool:
        """Most that is stated is what was stated before, of an object that nobody has changed since."""
        return self._settled.get(held["metadata"]["uid"]) == (text, held["metadata"]["resourceVersion"])

    def _settle(self, text: int, held: RawObject) -> None:
        """Remember that what was stated by this text is in the object, as the API server shows it.

        Where covers() reads something otherwise than the API server does, this keeps it from being applied for ever.
        """
        _remember(self._settled, held["metadata"]["uid"], (text, held["metadata"]["resourceVersion"]))

    async def _label(self, owner: str, labels: list[NodeLabels]) -> tuple[bool, ApiError | None]:
        """Whether any was written, and why some node was not."""
        wanted = iter([label for label in labels if self._differs(label)])
        written, refused = False, None
        for batch in _batches(wanted, NODES_AT_ONCE):
            answers = await asyncio.gather(*map(self._cluster.label_node, batch), return_exceptions=True)
            refusals = 0
            for label, answer in zip(batch, answers, strict=True):
                if isinstance(answer, ApiError) and _refuses(answer):
                    logger.warning("node %s takes no label: %s", label.node, answer)
                    self.refused_labels.refused(owner, label.node, reason_in(answer.message))
                    refused, refusals = answer, refusals + 1
                elif not isinstance(answer, BaseException):
                    self.refused_labels.written(owner, label.node)
                    written = True
            for answer in answers:
                if isinstance(answer, BaseException) and not _refuses(answer):
                    raise answer
            if refusals == len(batch):
                # It may not be about these nodes at all: the next plan tries some others, not the rest of thousands.
                break
        return written, refused

    def _differs(self, label: NodeLabels) -> bool:
        node = self._view.get("Node", "", label.node)
        if node is None:
            return False
        there = node["metadata"].get("labels") or {}
        return any(there.get(key) != value for key, value in label.values.items())

    def _lives(self, ref: ObjectRef) -> bool:
        held = self._view.get(ref.kind, ref.namespace, ref.name)
        if held is None or (held["metadata"].get("deletionTimestamp") and not ref.by_force):
            return False
        return ref.uid in ("", held["metadata"]["uid"])

    async def _tell(self, seen: RawObject, note: Note) -> bool:
        event = events.event(seen, note)
        name = event["metadata"]["name"]
        if name in self._told:
            return False
        try:
            await self._cluster.create(event)
        except ApiError as error:
            if error.code != 409 and not error.refused:
                raise
            if error.refused:
                # A quota on Events, say. The status tells the same: it must not wait for ever.
                logger.warning("Event %s about %s is refused: %s", note.reason, seen["metadata"]["name"], error)
            new = False
        else:
            new = True
            self._observe(seen["kind"], note)
        _remember(self._told, name, None)
        return new

    async def _status(self, seen: RawObject, status: Mapping[str, Any], settle: float) -> tuple[bool, float | None]:
        """Whether it was written, and where it was put off: for how many seconds."""
        live = seen.get("status") or {}
        wanted = difference.without_nulls(status)
        patch = difference.merge_patch(live, wanted)
        if not patch:
            return False, None
        uid, now = seen["metadata"]["uid"], self._clock()
        if settle > 0 and difference.significant(live) == difference.significant(wanted):
            wait = self._status_written.get(uid, now - settle) + settle - now
            if wait > 0:
                return False, wait
        await self._cluster.patch_status(seen, patch)
        _remember(self._status_written, uid, self._clock())
        return True, None


def _refuses(answer: BaseException) -> bool:
    return isinstance(answer, ApiError) and answer.may_be_this_object


def _identity(obj: RawObject) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


def _has_spec(held: RawObject, stated: RawObject) -> bool:
    """Whether every field of the spec that is stated is exactly that: nothing was added inside."""
    return all(held["spec"].get(field) == value for field, value in stated["spec"].items())


def controlling_owner(obj: RawObject) -> str | None:
    """The uid of the controlling owner."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _taken(obj: RawObject) -> str:
    kind, namespace, name = _identity(obj)
    return f"{kind} {namespace}/{name} exists and belongs to somebody else; rename or delete it"


def _annotated(obj: RawObject, key: str, value: str) -> RawObject:
    """A copy with one annotation more."""
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), key: value}}}


def _batches(items: Iterator[NodeLabels], size: int) -> Iterator[list[NodeLabels]]:
    while batch := list(islice(items, size)):
        yield batch


def _remember(memory: OrderedDict[str, Remembered], key: str, value: Remembered) -> None:
    """Set the value; the oldest is forgotten where there are too many."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
