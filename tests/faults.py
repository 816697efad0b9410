"""Faults in what the operator writes and in what it sees, injected at its own edges: the API server stays real.

A fault hits one write about one of our objects (its status, its children, its Events), the first of its sort. A crash
ends all of that operator's requests from then on, its Lease's included, as a killed process would; the test starts the
next one. What it sees may come late, out of order or never.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pytest

from modelfleet.application import Application
from modelfleet.cluster.connection import Connection
from modelfleet.cluster.errors import ApiError

Kind = Literal["crash before", "crash after", "lost answer", "409", "422", "429", "500"]


@dataclass(frozen=True)
class Fault:
    """What befalls which write."""

    write: str
    """The sort of write, as the test tells them apart."""
    kind: Kind


@dataclass
class Faults:
    """The faults to come, by the name of the object they are for, and what was written about each."""

    sort: Callable[[str, Any], tuple[str, str]]
    """Of a write (its path, its body): the name of our object that it is about, and its sort; empty: none of them."""
    planned: dict[str, Fault] = field(default_factory=dict)
    written: Counter[tuple[str, str]] = field(default_factory=Counter)
    crashed: threading.Event = field(default_factory=threading.Event)
    dead: set[int] = field(default_factory=set)

    async def request(self, original: Any, connection: Connection, method: str, path: str, **options: Any) -> Any:
        """The operator's request, with what befalls it."""
        self.check(connection, method, path)
        kind = self._befalls(method, path, options)
        if kind in ("409", "422", "429", "500"):
            raise ApiError(int(kind), "Injected", f"{method} {path}: injected", 1.0 if kind == "429" else None)
        if kind == "crash before":
            self._crash(connection)
        self.check(connection, method, path)
        answer = await original(connection, method, path, **options)
        if kind == "crash after":
            self._crash(connection)
        if kind == "lost answer":
            raise ApiError(0, "Unreachable", f"{method} {path}: no answer in time")
        self.check(connection, method, path)
        return answer

    def _befalls(self, method: str, path: str, options: dict[str, Any]) -> str:
        if method == "GET" or "dryRun" in (options.get("query") or {}):
            return ""
        name, write = self.sort(path, options.get("body"))
        self.written[name, write] += 1
        fault = self.planned.get(name)
        return fault.kind if fault and fault.write == write and self.written[name, write] == 1 else ""

    def _crash(self, connection: Connection) -> None:
        self.dead.add(id(connection))
        self.crashed.set()

    def check(self, connection: Connection, method: str, path: str) -> None:
        """Raise where the operator of this connection is dead."""
        if id(connection) in self.dead:
            raise ApiError(0, "Unreachable", f"{method} {path}: this operator was killed")


@contextmanager
def injected(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """All operators of this process meet these faults."""
    original, read_on_originally = Connection.request, Connection.read_on

    async def request(self: Connection, method: str, path: str, **options: Any) -> Any:
        return await faults.request(original, self, method, path, **options)

    async def read_on(self: Connection, path: str, take: Callable[[bytes], None], **options: Any) -> None:
        faults.check(self, "GET", path)
        await read_on_originally(self, path, take, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "request", request)
        patch.setattr(Connection, "read_on", read_on)
        yield faults


LOST: Final = -1.0
"""In the place of a delay: the event never comes."""


@contextmanager
def watching(delay: Callable[[str | None, Any], float], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Operators that start from now on get each event of their watch streams so many seconds late, or never.

    ``delay`` is given the event's type (``None``: from a list) and its object.
    """
    original = Application._observed

    def observed(self: Application, type_: str | None, obj: Any) -> None:
        seconds = delay(type_, obj)
        if seconds == 0.0:
            original(self, type_, obj)
        elif seconds != LOST:
            asyncio.get_running_loop().call_later(seconds, original, self, type_, obj)

    with monkeypatch.context() as patch:
        patch.setattr(Application, "_observed", observed)
        yield
