"""What the operator asks of the API server and writes to it, as raw JSON objects. No decision is made here.

Every write passes one gate: it is refused unless the Lease is held, and cut off before another replica could have
taken it. Every answer is folded into the view, so that the next plan sees our own writes before the watch echoes them.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, Unpack

from modelfleet.api import names
from modelfleet.cluster.connection import APPLY_PATCH, MERGE_PATCH, METADATA_LIST, REQUEST_TIMEOUT, Asked, Connection
from modelfleet.cluster.errors import ApiError, NotLeaderError
from modelfleet.cluster.kinds import KINDS, ROUTING_KINDS, SELECTED_KINDS, VIEWED_KINDS, label_selector
from modelfleet.cluster.long_list import LongList
from modelfleet.cluster.recent_warnings import RecentWarnings
from modelfleet.cluster.view import RawObjects, View
from modelfleet.plan.outcome import NodeLabels, ObjectRef, RawObject
from modelfleet.plan.training import queueing

CHUNK: Final = 500
"""Objects asked for at once in a list: bounds the memory of one answer."""

WORKLOADS_FRESH_SECONDS: Final = 10.0
"""For how long what Kueue told of a namespace is not asked again: of all Jobs that wait in it, it is asked at once."""

_NO_OBJECTS_VERSION: Final = "1"
"""A resourceVersion that no object has: an empty etcd begins with it, before anything was written."""

_NOT_TAKEN_KEPT: Final = 10_000

COMPARED: Final = ("namespace", "name", "uid", "resourceVersion")
"""Of an object's metadata: what tells its states apart."""

Take = Callable[[RawObject], object]
"""Takes in one object of a list; what it returns is nobody's."""


class Fence(Protocol):
    """Says whether writes are allowed; the Lease in production."""

    def remaining(self) -> float:
        """Seconds for which nobody else can hold the Lease; 0 or less: do not write."""


class Cluster:
    """The API server, with our rights. Errors are :class:`ApiError`; a write without the Lease is NotLeaderError."""

    def __init__(self, connection: Connection, view: View, fence: Fence) -> None:
        self._connection = connection
        self._view = view
        self._fence = fence
        self._warnings = RecentWarnings(self._events)
        self._workloads: dict[str, tuple[float, dict[str, RawObject]]] = {}
        self._not_taken: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    async def read(self, kind: str, namespace: str, name: str) -> RawObject | None:
        """The object, fresh from the API server; ``None`` when there is none."""
        try:
            obj = await self._connection.request("GET", KINDS[kind].path(namespace, name), kind=kind)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return self._fold(obj)

    async def list(
        self, kind: str, namespace: str | None = None, selector: str = "", field_selector: str = ""
    ) -> RawObjects:
        """All objects of a kind that the selectors match, fresh; over all namespaces without a namespace."""
        found: RawObjects = []
        await self._list(kind, namespace, {"labelSelector": selector, "fieldSelector": field_selector}, found.append)
        return found

    async def list_watched(self, kind: str, take: Take) -> str:
        """Have ``take`` take in each object of a kind that belongs in the view: children by their managed-by label.

        Whoever keeps only a part of each never holds them all. Returns the resourceVersion from which on to watch.
        """
        return await self._list(kind, None, {"labelSelector": label_selector(kind)}, take)

    async def _list(self, kind: str, namespace: str | None, query: dict[str, str], take: Take) -> str:
        """:data:`CHUNK` after :data:`CHUNK`; returns the resourceVersion of the first."""
        query = {"limit": str(CHUNK), **{key: value for key, value in query.items() if value}}
        heading = {"apiVersion": KINDS[kind].api_version, "kind": kind}
        version = ""
        while True:
            listed = await self._read_list(
                KINDS[kind].path(namespace), lambda item: take({**heading, **item}), kind=kind, query=query
            )
            version = version or listed["metadata"]["resourceVersion"]
            if not listed["metadata"].get("continue"):
                return version
            query["continue"] = listed["metadata"]["continue"]

    async def list_metadata(self, kind: str) -> tuple[RawObjects, str]:
        """Name, uid and resourceVersion of what belongs in the view, and the resourceVersion the list is true for.

        Served from the API server's watch cache (resourceVersion 0), so it costs etcd nothing.
        """
        query = {"resourceVersion": "0", "labelSelector": label_selector(kind)}
        found: RawObjects = []

        def take(item: RawObject) -> None:
            found.append({key: item["metadata"][key] for key in COMPARED if key in item["metadata"]})

        listed = await self._read_list(KINDS[kind].path(), take, kind=kind, query=query, accept=METADATA_LIST)
        return found, listed["metadata"]["resourceVersion"]

    async def _read_list(self, path: str, take: Take, **details: Unpack[Asked]) -> RawObject:
        """Have ``take`` take in each item of a list as it comes; returns the list without them."""
        coming = LongList()

        def feed(piece: bytes) -> None:
            for item in coming.feed(piece):
                take(item)

        await self._connection.read_on(path, feed, **details)
        return coming.end()

    async def create(self, obj: RawObject) -> RawObject:
        """Create the object; raises :class:`ApiError` with code 409 when the name is taken."""
        path = KINDS[obj["kind"]].path(obj["metadata"].get("namespace"))
        query = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"}
        try:
            made = await self._write("POST", path, obj["kind"], obj, query=query)
        except ApiError as error:
            if (error.refused or error.code == 409) and obj["kind"] != "Event":
                self._note_not_taken(obj)
            raise
        self._not_taken.pop(_identity(obj), None)
        return self._fold(made)

    def was_not_taken(self, obj: RawObject) -> bool:
        """Whether the API server did not take an object of this name when it was last to be created, or applied anew.

        A memory that saves asking beforehand what nearly always is answered with yes; a restart may lose it, as the
        next creation says the same again.
        """
        return _identity(obj) in self._not_taken

    async def refusal(self, obj: RawObject) -> ApiError | None:
        """Why the API server would not create the object, asked in a dry run; ``None``: it would.

        With code 409 it has an object of that name already.
        """
        path = KINDS[obj["kind"]].path(obj["metadata"].get("namespace"))
        query = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict", "dryRun": "All"}
        try:
            await self._write("POST", path, obj["kind"], obj, query=query)
        except ApiError as error:
            if error.refused or (error.code == 409 and error.reason == "AlreadyExists"):
                return error
            raise
        return None

    async def apply(self, obj: RawObject) -> RawObject:
        """Server-side apply with our field manager, forced: what we state is ours, what we leave out is not."""
        path = KINDS[obj["kind"]].path(obj["metadata"].get("namespace"), obj["metadata"]["name"])
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return self._fold(await self._write("PATCH", path, obj["kind"], obj, query=query, content_type=APPLY_PATCH))

    async def apply_new(self, obj: RawObject) -> RawObject:
        """As :meth:`apply`, of an object that is not there yet; raises :class:`ApiError` with code 409 when one is.

        Server-side apply makes what is missing and changes what is there, whosever it is. A resourceVersion in what is
        applied is held against that of the object there, and against nothing where there is none.
        """
        guarded = {**obj, "metadata": {**obj["metadata"], "resourceVersion": _NO_OBJECTS_VERSION}}
        try:
            made = await self.apply(guarded)
        except ApiError as error:
            if error.code == 409:
                self._note_not_taken(obj)
            raise
        self._not_taken.pop(_identity(obj), None)
        return made

    async def delete(self, ref: ObjectRef) -> None:
        """Delete with background propagation, guarded by what ``ref`` says; missing, or another by now: fine."""
        path = KINDS[ref.kind].path(ref.namespace, ref.name)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        seen = {"uid": ref.uid, "resourceVersion": ref.resource_version}
        guard = {key: value for key, value in seen.items() if value}
        guarded = {"preconditions": guard} if guard else {}
        force = {"gracePeriodSeconds": 0} if ref.by_force else {}
        try:
            answer = await self._write("DELETE", path, ref.kind, {**options, **guarded, **force})
        except ApiError as error:
            if error.code in (404, 409):
                return
            raise
        if answer["metadata"].get("deletionTimestamp"):
            self._fold(answer)
            return
        # Gone at once: the answer is a Status, or (Services) the object as it was.
        held = self._view.get(ref.kind, ref.namespace, ref.name)
        if held is not None and ref.uid in ("", held["metadata"]["uid"]):
            self._view.forget(ref.kind, held["metadata"])

    async def label_node(self, labels: NodeLabels) -> RawObject | None:
        """Set or take off labels, all at once; ``None`` when the node is gone."""
        patch = {"metadata": {"labels": dict(labels.values)}}
        try:
            return self._fold(
                await self._write(
                    "PATCH", KINDS["Node"].path(name=labels.node), "Node", patch, content_type=MERGE_PATCH
                )
            )
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def patch_status(self, obj: RawObject, difference: Mapping[str, Any]) -> RawObject:
        """Merge-patch ``difference`` into the status, guarded by ``obj``'s resourceVersion (409 when it moved on)."""
        metadata = obj["metadata"]
        path = KINDS[obj["kind"]].path(metadata["namespace"], metadata["name"], "status")
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": difference}
        return self._fold(await self._write("PATCH", path, obj["kind"], patch, content_type=MERGE_PATCH), own=True)

    async def latest_warnings(self, namespace: str, kind: str, name: str) -> RawObjects:
        """The latest few Warning Events about an object, up to :data:`recent_warnings.FRESH_SECONDS` old."""
        return await self._warnings.about(namespace, kind, name)

    async def _events(self, namespace: str, field_selector: str) -> tuple[RawObjects, bool]:
        """The first :data:`CHUNK` Events that the selector matches, and whether that is all of them."""
        query = {"limit": str(CHUNK), "fieldSelector": field_selector}
        answer = await self._connection.request("GET", KINDS["Event"].path(namespace), kind="Event", query=query)
        return answer["items"] or [], not answer["metadata"].get("continue")

    async def workload(self, namespace: str, job_uid: str) -> RawObject | None:
        """Kueue's Workload of a Job, its status alone, up to :data:`WORKLOADS_FRESH_SECONDS` old.

        ``None`` where there is none, or no Kueue, or no right to look.
        """
        now = time.monotonic()
        asked, found = self._workloads.get(namespace, (-math.inf, {}))
        if now - asked >= WORKLOADS_FRESH_SECONDS:
            try:
                listed = await self.list("Workload", namespace, selector=queueing.JOB_UID_LABEL)
            except ApiError as error:
                if error.code not in (403, 404):
                    raise
                listed = []
            found = {
                each["metadata"]["labels"][queueing.JOB_UID_LABEL]: {"status": each.get("status")} for each in listed
            }
            self._workloads = {
                each: held for each, held in self._workloads.items() if now - held[0] < WORKLOADS_FRESH_SECONDS
            }
            self._workloads[namespace] = (now, found)
        return found.get(job_uid)

    def _note_not_taken(self, obj: RawObject) -> None:
        self._not_taken[_identity(obj)] = None
        if len(self._not_taken) > _NOT_TAKEN_KEPT:
            self._not_taken.popitem(last=False)

    def _fold(self, obj: RawObject, *, own: bool = False) -> RawObject:
        """Take an answer into the view, where its kind belongs there; children only with their label."""
        labels = obj["metadata"].get("labels") or {}
        ours = obj["kind"] not in SELECTED_KINDS or labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
        if obj["kind"] in (*VIEWED_KINDS, *ROUTING_KINDS) and ours:
            self._view.observe(obj, own=own)
        return obj

    async def _write(
        self,
        method: str,
        path: str,
        kind: str,
        body: Mapping[str, Any],
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> RawObject:
        remaining = self._fence.remaining()
        if remaining <= 0:
            raise NotLeaderError(f"{method} {path} held back: the Lease is not held")
        return await self._connection.request(
            method,
            path,
            kind=kind,
            query=query or {"fieldManager": names.FIELD_MANAGER},
            body=body,
            content_type=content_type,
            limit=min(remaining, REQUEST_TIMEOUT),
        )


def _identity(obj: RawObject) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
