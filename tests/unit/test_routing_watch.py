"""The streams of the routing kinds are begun again whenever they end, also when that fails at first."""

import asyncio
from typing import Any, ClassVar

import pytest

from modelfleet.cluster import discovery
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.view import View
from modelfleet.handlers import routing_watch
from modelfleet.handlers.routing_watch import RoutingWatch

SERVED = frozenset({"HTTPRoute"})


class Streams:
    """In place of kopf's: they end when the test says so."""

    started: ClassVar[list["Streams"]] = []

    def __init__(self, _sink: object, _kinds: object) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self.started.append(self)

    async def stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class Lists:
    """In place of the synchronizer: its lists fail while there is an error."""

    error: Exception | None = None

    async def list_one(self, _kind: str) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(*_: object) -> frozenset[str]:
        return SERVED

    monkeypatch.setattr(discovery, "served", answer)
    monkeypatch.setattr(routing_watch, "WatchThread", Streams)
    monkeypatch.setattr(Streams, "started", [])


@pytest.mark.usefixtures("served")
def test_streams_that_ended_while_the_server_was_away_are_begun_again() -> None:
    async def scenario() -> None:
        view, lists = View(), Lists()
        arguments: Any = (None, view, lists, None, SERVED, lambda: None)
        watch = RoutingWatch(*arguments)
        await watch.look()
        assert (len(Streams.started), view.routing_kinds) == (1, SERVED)
        await watch.look()
        assert len(Streams.started) == 1
        Streams.started[0].ended.set_result(None)
        lists.error = ApiError(0, "Unreachable", "no answer in time")
        await watch.look()
        assert len(Streams.started) == 1
        lists.error = None
        await watch.look()
        assert len(Streams.started) == 2

    asyncio.run(scenario())
