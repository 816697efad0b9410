"""The observed state: every object the operator watches, fed by watch events and by the answers to its own writes.

Why not kopf's index: it wakes every handler for each object. Why fold in our own writes: a plan made between a
write and its echo would otherwise count the same node or child twice. The two feeds arrive in any order, so an
object is only ever replaced by a later resourceVersion (comparable integers since Kubernetes 1.35, and in practice
ever since etcd 3), and a deletion is remembered with its version, so that a late echo does not bring it back.

Nothing here makes a request: filling the view at start and pruning what vanished unseen is ``cluster/sync.py``'s.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from modelfleet.api import names
from modelfleet.cluster import references
from modelfleet.cluster.kinds import ROUTING_KINDS
from modelfleet.cluster.node_index import NodeIndex
from modelfleet.cluster.references import Term
from modelfleet.plan.outcome import RawObject

INDEXED_LABELS: Final = (names.EDGE_DEPLOYMENT_LABEL, names.TRAINING_JOB_LABEL, names.MODEL_VERSION_LABEL)
"""The labels that :meth:`View.labelled` can answer for."""

RawObjects = list[RawObject]
"""Named here because the methods below that are called ``list`` hide the type of that name."""

_TOMBSTONES: Final = 20_000
"""Deleted uids remembered; far more than can be in flight, about 3 MB."""

_NODE_STATUS: Final = ("allocatable", "capacity", "nodeInfo")
_NODE_METADATA: Final = (
    "name",
    "uid",
    "labels",
    "annotations",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)

_GIVEN: Final = frozenset(
    {"allocatedResources", "allocatedResourcesStatus", "imageID", "resources", "user", "volumeMounts"}
)
"""Of a container's status."""

_SHARED_LENGTH: Final = 64
"""Longest text that objects share; longer ones are rarely alike."""

_shared = lru_cache(maxsize=20_000)(str)
"""The same text as one object, however often it was decoded; what is rare is forgotten again."""

_ALIKE_KEPT: Final = 4_096
"""Parts of objects remembered; those that thousands have come again long before so many others do."""

_alike: Final[OrderedDict[tuple[Any, ...], Any]] = OrderedDict()
"""Parts of objects by what they say, the longest unseen first."""

_Place = tuple[str, str]

Listener = Callable[[RawObject | None, RawObject | None, bool], None]
"""Told of each change: the object before (``None``: new) and after (``None``: gone), both trimmed; and whether it was
the operator's own write."""


class View:
    """Objects by kind, namespace and name. They are shared: read-only for everyone who gets one."""

    def __init__(self) -> None:
        self._objects: defaultdict[str, dict[_Place, RawObject]] = defaultdict(dict)
        self._index: defaultdict[tuple[str, Term], set[_Place]] = defaultdict(set)
        self._deleted: OrderedDict[str, str] = OrderedDict()
        self._nodes = NodeIndex()
        self._listeners: list[Listener] = []
        self._routing: frozenset[str] = frozenset()

    def listen(self, listener: Listener) -> None:
        """Have every change from now on told to ``listener``; it must be quick and must not fail."""
        self._listeners.append(listener)

    def get(self, kind: str, namespace: str, name: str) -> RawObject | None:
        """The object as last seen; ``None`` when there is none. Nodes have the namespace ``""``."""
        return self._objects[kind].get((namespace, name))

    def list(self, kind: str, namespace: str | None = None) -> RawObjects:
        """All objects of a kind, by namespace and name; in one namespace where one is given."""
        objects = self._objects[kind]
        return [objects[place] for place in sorted(objects) if namespace is None or place[0] == namespace]

    def labelled(self, kind: str, namespace: str, label: str, value: str) -> RawObjects:
        """The objects of a namespace that carry this label with this value, by name; an indexed look-up.

        Raises ``KeyError`` for a label that is not in :data:`INDEXED_LABELS`.
        """
        if label not in INDEXED_LABELS:
            raise KeyError(label)
        return self.naming(kind, Term(namespace, label, value))

    def naming(self, kind: str, *terms: Term) -> RawObjects:
        """The objects of a kind that name any of these, by namespace and name; an indexed look-up."""
        objects = self._objects[kind]
        places = set().union(*(self._index.get((kind, term), ()) for term in terms))
        return [objects[place] for place in sorted(places)]

    def nodes(self) -> RawObjects:
        """All nodes, by name, trimmed to what decisions are made from (see :func:`trim`)."""
        return self.list("Node")

    def nodes_of(self, selectors: Iterable[Mapping[str, str]], keys: Iterable[str]) -> RawObjects:
        """The nodes, by name, that match any of the selectors or carry any of these labels of ours: a look-up."""
        objects = self._objects["Node"]
        return [objects["", name] for name in self._nodes.find(selectors, keys)]

    @property
    def routing_kinds(self) -> frozenset[str]:
        """The kinds that route requests and are served, completely listed and watched."""
        return self._routing

    def hold(self, routing_kinds: Iterable[str]) -> None:
        """From now on these routing kinds are held; what is held of others is dropped, untold: their kind is gone."""
        self._routing = frozenset(routing_kinds)
        for kind in set(ROUTING_KINDS) - self._routing:
            for held in list(self._objects[kind].values()):
                self._unindex(kind, _place(held["metadata"]), held)
            self._objects[kind].clear()

    def observe(self, obj: RawObject, *, own: bool = False) -> bool:
        """Take in an object as some answer or event showed it; whether that was news (not older, not deleted).

        ``own``: it is the answer to a write of our own.
        """
        kind, metadata = obj["kind"], obj["metadata"]
        place = _place(metadata)
        if self.knows(kind, metadata):
            return False
        held = self._objects[kind].get(place)
        if held is not None:
            self._unindex(kind, place, held)
        trimmed = self._objects[kind][place] = trim(obj, held)
        for term in _indexed(obj):
            self._index[kind, term].add(place)
        if kind == "Node":
            self._nodes.put(trimmed)
        self._tell(held, trimmed, own)
        return True

    def knows(self, kind: str, metadata: Mapping[str, Any]) -> bool:
        """Whether this state of an object, or a later one, was taken in; its deletion counts as later."""
        version = metadata["resourceVersion"]
        deleted = self._deleted.get(metadata["uid"])
        if deleted is not None and at_most(version, deleted):
            return True
        held = self._objects[kind].get(_place(metadata))
        return held is not None and at_most(version, held["metadata"]["resourceVersion"])

    def forget(self, kind: str, metadata: Mapping[str, Any], version: str = "") -> bool:
        """Take an object out: it is known to be gone as of ``version`` (default: its own); whether it was held.

        A later state of the same uid brings it back: a child that lost its managed-by label and got it again.
        """
        uid, place = metadata["uid"], _place(metadata)
        version = version or metadata["resourceVersion"]
        if not at_most(version, self._deleted.get(uid, "0")):
            self._deleted[uid] = version
        if len(self._deleted) > _TOMBSTONES:
            self._deleted.popitem(last=False)
        held = self._objects[kind].get(place)
        if held is None or held["metadata"]["uid"] != uid or not at_most(held["metadata"]["resourceVersion"], version):
            return False
        self._unindex(kind, place, held)
        del self._objects[kind][place]
        if kind == "Node":
            self._nodes.drop(metadata["name"])
        self._tell(held, None, own=False)
        return True

    def _tell(self, before: RawObject | None, after: RawObject | None, own: bool) -> None:
        for listener in self._listeners:
            listener(before, after, own)

    def _unindex(self, kind: str, place: _Place, held: RawObject) -> None:
        for term in set(_indexed(held)):
            places = self._index[kind, term]
            places.discard(place)
            if not places:
                del self._index[kind, term]


def trim(obj: RawObject, before: RawObject | None = None) -> RawObject:
    """A copy without what no decision reads: managedFields of everything; of nodes and pods most of spec and status.

    A Node of a real fleet is 10–30 KB, images and addresses mostly; trimmed it is 2 KB. Field names and short texts are
    one object throughout the view, where each decoded event has its own; so is what the object ``before``, trimmed
    already, says just the same, its spec mostly, and what others say, as the containers of a thousand DaemonSets.
    """
    kept: RawObject = _sharing(_kept(obj), before)
    return kept


def _sharing(value: Any, before: Any) -> Any:
    kind = type(value)
    if kind is dict:
        if value == before:
            return before
        former = before if type(before) is dict else {}
        part = {_shared(key): _sharing(inner, former.get(key)) for key, inner in value.items()}
        return _one((dict, *part, *map(_token, part.values())), part)
    if kind is list:
        if value == before:
            return before
        items = [_sharing(inner, None) for inner in value]
        return _one((list, *map(_token, items)), items)
    return _shared(value) if kind is str and len(value) <= _SHARED_LENGTH else value


def _one(said: tuple[Any, ...], part: Any) -> Any:
    """The part that was the first to say this, as far as it is remembered."""
    held = _alike.get(said)
    if held is not None:
        _alike.move_to_end(said)
        return held
    _alike[said] = part
    if len(_alike) > _ALIKE_KEPT:
        _alike.popitem(last=False)
    return part


def _token(value: Any) -> Any:
    """What stands for a value: for a part which one it is, as it lives as long as what holds it is remembered."""
    kind = type(value)
    if kind is str:
        return value
    # To Python 1, 1.0 and true are equal.
    return id(value) if kind is dict or kind is list else (kind, value)


def _kept(obj: RawObject) -> RawObject:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if obj["kind"] == "Pod":
        return {**obj, "metadata": metadata, "spec": _pod_spec(obj), "status": _pod_status(obj)}
    if obj["kind"] != "Node":
        return {**obj, "metadata": metadata}
    spec, status = obj.get("spec", {}), obj.get("status", {})
    ready = [condition for condition in status.get("conditions", ()) if condition.get("type") == "Ready"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": "Node",
        "metadata": {key: metadata[key] for key in _NODE_METADATA if key in metadata},
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {"conditions": ready, **{key: status[key] for key in _NODE_STATUS if key in status}},
    }


def _pod_spec(pod: RawObject) -> RawObject:
    """Where it runs, or is to run as long as it is bound to no node; and which containers there are."""
    spec = pod.get("spec") or {}
    kept = {"nodeName": spec["nodeName"]} if spec.get("nodeName") else {"affinity": spec.get("affinity") or {}}
    for key in ("initContainers", "containers"):
        kept[key] = [{"name": container["name"]} for container in spec.get(key) or ()]
    return kept


def _pod_status(pod: RawObject) -> RawObject:
    """All of it but what its containers were given."""
    status = dict(pod.get("status") or {})
    for key in ("initContainerStatuses", "containerStatuses"):
        if key in status:
            status[key] = [{what: each[what] for what in each if what not in _GIVEN} for each in status[key]]
    return status


def _place(metadata: Mapping[str, Any]) -> _Place:
    return metadata.get("namespace", ""), metadata["name"]


def at_most(version: str, other: str) -> bool:
    """Whether ``version`` is not later than ``other``; where they are no numbers, only equality is known."""
    if version.isdecimal() and other.isdecimal():
        return int(version) <= int(other)
    return version == other


def _indexed(obj: RawObject) -> Iterable[Term]:
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    marked = [Term(metadata.get("namespace", ""), label, labels[label]) for label in INDEXED_LABELS if label in labels]
    return [*marked, *references.of(obj)]
