"""Lives of an operator, one after the other: each lists what there is, and writes until nothing is left, or a fault.

No watch, no queue, no Lease: one object's reconciles, one after the other, so that every write can be the last.
"""

import json
import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any, ClassVar

from modelfleet.cluster.client import Cluster
from modelfleet.cluster.connection import Connection, load_configuration
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.kinds import ROUTING_KINDS, VIEWED_KINDS
from modelfleet.cluster.view import View
from modelfleet.plan.installation import Installation
from modelfleet.plan.traffic.probe import Question, Reply
from modelfleet.reconcile.confirmations import Confirmations
from modelfleet.reconcile.context import Context, Reconcile
from modelfleet.reconcile.execute import Executor, LabelsRefusedError
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.measurements import Measurements
from modelfleet.reconcile.reports import Reports
from tests.objects import RawObject
from tests.replicas import Open

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|\"resourceVersion\": \"[0-9]+\"")

Call = tuple[str, str, str]


class DeathError(Exception):
    """The operator died here."""


class Witness(Connection):
    """Notes every write that was done, in order: method, path and body."""

    written: ClassVar[list[tuple[str, str, Any]]] = []

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        answer = await super().request(method, path, **fields)
        if _writes(method, fields):
            Witness.written.append((method, path, fields.get("body")))
        return answer


class Mortal(Witness):
    """Dies before each write, and when that is tried again, after it was done and before it is told."""

    deaths: ClassVar[Counter[Call]] = Counter()

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        if not _writes(method, fields):
            return await super().request(method, path, **fields)
        call = _call(method, path, fields)
        if Mortal.deaths[call] == 0:
            Mortal.deaths[call] += 1
            raise DeathError(f"before {method} {path}")
        answer = await super().request(method, path, **fields)
        if Mortal.deaths[call] == 1:
            Mortal.deaths[call] += 1
            raise DeathError(f"after {method} {path}")
        return answer


class Lossy(Witness):
    """Does every write, and loses the answer the first time."""

    lost: ClassVar[set[Call]] = set()

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        answer = await super().request(method, path, **fields)
        call = _call(method, path, fields)
        if not _writes(method, fields) or call in Lossy.lost:
            return answer
        Lossy.lost.add(call)
        raise ApiError(0, "Unreachable", f"{method} {path}: no answer in time")


class Refused(Witness):
    """Refuses each write in several ways, one after the other, before it does it."""

    refusals: ClassVar[Counter[Call]] = Counter()

    async def request(self, method: str, path: str, **fields: Any) -> RawObject:
        if not _writes(method, fields):
            return await super().request(method, path, **fields)
        # To an Event, 409 says that it was made before, and a refusal that it is not wanted.
        codes = (429, 500) if path.endswith("/events") else (409, 422, 429, 500)
        call = _call(method, path, fields)
        Refused.refusals[call] += 1
        if Refused.refusals[call] <= len(codes):
            code = codes[Refused.refusals[call] - 1]
            raise ApiError(code, "Injected", f"{method} {path}: injected", 1.0 if code == 429 else None)
        return await super().request(method, path, **fields)


class Memory:
    """What an operator knows: its view, and what its executor remembers. A new one is that of a new process."""

    def __init__(self, installation: Installation) -> None:
        self.view = View()
        self._installation = installation
        self._executor: Executor | None = None

    async def work(self, key: Key, reconcile: Reconcile, kind_of_connection: type[Witness]) -> None:
        """Live until nothing is left to write, or a fault."""
        connection = kind_of_connection(await load_configuration(), "modelfleet-operator/faults")
        cluster = Cluster(connection, self.view, Open())
        executor = self._executor = self._executor or Executor(cluster, self.view, time.monotonic, lambda *_: None)
        # Connections live as long as an event loop, the memory longer.
        executor._cluster = cluster
        measurements = Measurements(_nothing_is_measured, lambda _: None, _now, lambda _: None)
        confirmations = Confirmations(_nobody_is_asked, lambda _: None, _now)
        reports = Reports(lambda _: None)
        context = Context(self.view, cluster, self._installation, measurements, confirmations, reports, _now)
        try:
            await self._look(cluster)
            written = True
            while written:
                seen = self.view.get(*key)
                outcome = await reconcile(key, context)
                assert seen is not None
                assert outcome is not None
                written, _ = await executor.execute(seen, outcome)
        except (DeathError, ApiError, LabelsRefusedError):
            pass
        finally:
            await connection.close()

    async def _look(self, cluster: Cluster) -> None:
        """List what there is, as a watch would tell it, and what is not there any more."""
        served = set()
        for kind in (*VIEWED_KINDS, *ROUTING_KINDS):
            try:
                there: list[RawObject] = []
                await cluster.list_watched(kind, there.append)
            except ApiError as error:
                if error.code != 404:
                    raise
                continue
            if kind in ROUTING_KINDS:
                served.add(kind)
                self.view.hold(served)
            alive = {each["metadata"]["uid"] for each in there}
            for held in self.view.list(kind):
                if held["metadata"]["uid"] not in alive:
                    self.view.forget(kind, held["metadata"])
            for obj in there:
                self.view.observe(obj)


def _writes(method: str, fields: dict[str, Any]) -> bool:
    return method != "GET" and not (fields.get("query") or {}).get("dryRun")


def _call(method: str, path: str, fields: dict[str, Any]) -> Call:
    """The same write tried again says another time."""
    return method, path, _MOMENT.sub("", json.dumps(fields.get("body"), sort_keys=True))


async def _nothing_is_measured(address: str, query: str) -> float | None:
    raise AssertionError("no metrics server is asked")


async def _nobody_is_asked(question: Question) -> list[Reply]:
    raise AssertionError("no data plane is asked")


def _now() -> datetime:
    return datetime.now(UTC)
