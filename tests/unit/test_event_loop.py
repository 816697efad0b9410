"""The loop that gathers: nothing waits after a silence, what follows soon comes together, and nothing is lost."""

import asyncio
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from modelfleet import event_loop
from modelfleet.event_loop import GATHER_SECONDS, GatheringSelector


class Time:
    """A clock that moves when somebody sleeps, and what arrives meanwhile."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.arrives: list[socket.socket] = []
        """Each hears something during the next sleep."""

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        while self.arrives:
            self.arrives.pop().send(b"x")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def selector(time: Time) -> Iterator[GatheringSelector]:
    with GatheringSelector(time.clock, time.sleep) as made:
        yield made


@pytest.fixture
def wires(selector: GatheringSelector) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Three wires, the near end of each registered."""
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(3)]
        for near, far in made:
            stack.enter_context(near)
            stack.enter_context(far)
            selector.register(near, selectors.EVENT_READ)
        yield made


Wires = list[tuple[socket.socket, socket.socket]]


def _ready(selector: GatheringSelector, timeout: float | None = None) -> set[object]:
    ready = {key.fileobj for key, _ in selector.select(timeout)}
    for wire in ready:
        assert isinstance(wire, socket.socket)
        wire.recv(10)
    return ready


def test_the_first_after_a_silence_waits_for_nothing(selector: GatheringSelector, time: Time, wires: Wires) -> None:
    for _ in range(3):
        wires[0][1].send(b"x")
        assert _ready(selector) == {wires[0][0]}
        time.now += GATHER_SECONDS
    assert time.slept == []


def test_what_follows_soon_is_handled_together(selector: GatheringSelector, time: Time, wires: Wires) -> None:
    wires[0][1].send(b"x")
    _ready(selector)
    time.now += GATHER_SECONDS / 4
    wires[1][1].send(b"x")
    time.arrives = [wires[0][1], wires[2][1]]
    assert _ready(selector) == {near for near, _ in wires}
    assert time.slept == [pytest.approx(GATHER_SECONDS * 3 / 4)]


def test_who_has_work_to_do_does_not_wait(selector: GatheringSelector, time: Time, wires: Wires) -> None:
    wires[0][1].send(b"x")
    _ready(selector)
    wires[1][1].send(b"x")
    assert _ready(selector, 0) == {wires[1][0]}
    assert time.slept == []


def test_a_timer_is_no_wake_up(selector: GatheringSelector, time: Time, wires: Wires) -> None:
    assert _ready(selector, 0.001) == set()
    wires[0][1].send(b"x")
    assert _ready(selector, 1.0) == {wires[0][0]}
    assert time.slept == []


def test_nobody_waits_while_something_long_is_read(selector: GatheringSelector, time: Time, wires: Wires) -> None:
    selector.hurried += 1
    for _ in range(2):
        wires[0][1].send(b"x")
        assert _ready(selector) == {wires[0][0]}
    assert time.slept == []


def test_who_reads_something_long_says_so() -> None:
    async def read() -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, event_loop.GatheringLoop)
        seen = [loop.selector.hurried]
        with event_loop.without_gathering(), event_loop.without_gathering():
            seen.append(loop.selector.hurried)
        return [*seen, loop.selector.hurried]

    assert event_loop.run(read()) == [0, 2, 0]


async def test_on_another_loop_that_changes_nothing() -> None:
    with event_loop.without_gathering():
        await asyncio.sleep(0)


def test_a_loop_runs_on_it() -> None:
    async def answer() -> bytes:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line.upper())
            writer.close()
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        said = b""
        for _ in range(5):
            writer.write(b"so it is\n")
            said += await reader.readline()
        writer.close()
        await served.wait()
        server.close()
        return said

    assert event_loop.run(answer()) == b"SO IT IS\n" * 5
