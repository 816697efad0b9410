"""Streams that are cut, end, fall silent or come too late: what happened is told all the same, and in its order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelfleet.cluster import connection, streams
from modelfleet.cluster.connection import Connection, load_configuration
from modelfleet.cluster.kinds import KINDS
from modelfleet.cluster.streams import Streams
from modelfleet.plan.outcome import RawObject
from tests.plane import Plane
from tests.proxy import Proxy, server_of, with_port
from tests.replicas import Hands, deployment, service, until

Told = list[tuple[str | None, str]]


class Following:
    """The Services of the cluster, followed through a network that can be cut."""

    def __init__(self, hands: Hands, through: Connection, space: str) -> None:
        self.told: Told = []
        self.listed = 0
        self._hands = hands
        self._space = space
        self._streams = Streams(through, self._list_again, self._sink)
        self._task: asyncio.Task[None] | None = None

    async def start(self, version: str = "") -> None:
        version = version or await self._version()
        self._task = asyncio.create_task(self._streams.follow("Service", version))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def hears(self, type_: str, name: str, seconds: float = 60) -> None:
        await until(lambda: (type_, name) in self.told, f"{name} to be told as {type_}", seconds)

    async def _version(self) -> str:
        return await self._hands.cluster.list_watched("Service", lambda _: None)

    async def _list_again(self, kind: str) -> str:
        self.listed += 1
        return await self._hands.cluster.list_watched(kind, lambda each: self._sink(None, each))

    def _sink(self, type_: str | None, obj: RawObject) -> None:
        if obj["metadata"]["namespace"] == self._space:
            self.told.append((type_, obj["metadata"]["name"]))


@pytest.fixture
async def network(hands: Hands, plane: Plane) -> AsyncIterator[Proxy]:
    up = Proxy(*server_of(plane.kubeconfig))
    yield up
    await up.stop()


@pytest.fixture
async def following(
    hands: Hands, network: Proxy, plane: Plane, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Following]:
    path = with_port(plane.kubeconfig, await network.start(), tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(path))
    through = Connection(await load_configuration(), "tests")
    up = Following(hands, through, space)
    yield up
    await up.stop()
    await through.close()


@pytest.fixture
async def make(hands: Hands, space: str) -> Callable[[str], Any]:
    owner = await hands.cluster.create(deployment(space))

    async def made(name: str) -> RawObject:
        obj = service(owner)
        return await hands.cluster.create({**obj, "metadata": {**obj["metadata"], "name": name}})

    return made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that streams wanted to take; they take none."""
    wanted: list[float] = []

    class Counted(streams.Patience):
        def __iter__(self) -> Iterator[float]:
            for seconds in super().__iter__():
                wanted.append(seconds)
                yield 0.0

    monkeypatch.setattr(streams, "Patience", Counted)
    return wanted


async def test_a_cut_stream_goes_on_where_it_ended(
    following: Following, network: Proxy, make: Callable[[str], Any], plane: Plane, space: str
) -> None:
    await following.start()
    for name in ("a", "b"):
        await make(name)
        await following.hears("ADDED", name)
    await network.cut()
    await make("c")
    await asyncio.to_thread(plane.kubectl.within(space), "delete", "service", "a")
    network.mend()
    await following.hears("DELETED", "a")
    assert following.told == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c"), ("DELETED", "a")]
    assert following.listed == 0


async def test_a_stream_from_too_long_ago_begins_with_a_list(
    following: Following, make: Callable[[str], Any], plane: Plane
) -> None:
    await make("a")
    # Its watch cache begins anew with it, and etcd's history is older than the first version.
    await asyncio.to_thread(plane.restart_api_server)
    await following.start("1")
    await until(lambda: (None, "a") in following.told, "the list", 60)
    await make("b")
    await following.hears("ADDED", "b")
    assert following.listed >= 1


async def test_a_silent_stream_is_taken_up_anew(
    following: Following, make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "modelfleet.cluster.streams")
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT", 0.3)
    await following.start()
    await until(lambda: "is silent; taken up anew" in caplog.text, "the silence to be noticed")
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT", 70.0)
    await make("a")
    await following.hears("ADDED", "a")
    assert following.listed == 0
    # Nothing that anybody should look at: in a quiet cluster each quiet kind would say it every minute.
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_a_large_object_comes_whole(following: Following, make: Callable[[str], Any], hands: Hands) -> None:
    """Larger than what the transport takes in at once: the API server takes annotations up to 256 KiB."""
    await following.start()
    made = await make("a")
    patch = {"metadata": {"annotations": {"example.com/note": "x" * 250_000}}}
    path = KINDS["Service"].path(made["metadata"]["namespace"], "a")
    await hands.connection.request(
        "PATCH", path, kind="Service", body=patch, content_type="application/merge-patch+json"
    )
    await following.hears("MODIFIED", "a")


class Said:
    """An answer of these lines, at once and at an end."""

    def __init__(self, *lines: bytes) -> None:
        self.content = asyncio.StreamReader()
        for line in lines:
            self.content.feed_data(line + b"\n")
        self.content.feed_eof()

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.usefixtures("pauses")
async def test_a_stream_goes_on_at_the_last_bookmark_and_one_that_is_gone_at_a_list(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = b'{"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}'
    answers = [
        Said(b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}'),
        Said(gone),
        Said(),
    ]
    asked: list[str] = []

    async def stream(self: Connection, path: str, **details: Any) -> Any:
        asked.append(details["query"]["resourceVersion"])
        return answers.pop(0) if answers else Said()

    monkeypatch.setattr(Connection, "stream", stream)
    await following.start("3")
    await until(lambda: len(asked) > 3, "the stream to be opened again and again")
    assert asked[:2] == ["3", "7"]
    assert following.listed == 1
    assert asked[2] == asked[3] not in ("3", "7")
    assert following.told == []


async def test_a_stream_that_ends_at_once_is_asked_for_with_growing_pauses(
    following: Following, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    opened = []

    async def stream(self: Connection, path: str, **details: Any) -> Any:
        opened.append(path)
        return Said()

    monkeypatch.setattr(Connection, "stream", stream)
    await following.start()
    await until(lambda: len(opened) > 6, "the stream to be opened again and again")
    assert pauses[:6] == [1.0, 1.0, 2.0, 3.0, 5.0, 5.0]
    assert len(pauses) in (len(opened), len(opened) - 1)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "ADDED", "obj',
        b"<html>\n",
        b"[]\n",
        b'{"kind": "Status"}\n',
        b'{"type": "ERROR", "object": null}\n',
        b'{"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}\n',
        b"x" * (2**22 + 1) + b"\n",
    ],
    ids=["cut off", "a page", "a list", "an answer", "an empty error", "an error", "too long"],
)
async def test_what_is_no_event_breaks_the_stream_and_nothing_else(
    following: Following, make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    original, odd = Connection.stream, []

    async def stream(self: Connection, path: str, **details: Any) -> Any:
        answer = await original(self, path, **details)
        if not odd:
            odd.append(line)
            answer.content.feed_data(line)
            answer.content.feed_eof()
        return answer

    monkeypatch.setattr(Connection, "stream", stream)
    await following.start()
    await make("a")
    await following.hears("ADDED", "a")
    assert odd
    assert following.listed == 0
