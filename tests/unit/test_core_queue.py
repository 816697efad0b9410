"""The workers on a real event loop: order of what happens is asserted, never how long it took."""

import asyncio

from modelfleet.reconcile.key import Key
from modelfleet.reconcile.queue import Queue
from modelfleet.reconcile.schedule import Pace, Schedule

PACE = Pace(window=0.001)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_stop_lets_a_running_reconcile_finish() -> None:
    started, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def process(key: Key, schedule: Schedule) -> None:
        started.set()
        await go_on.wait()
        schedule.done(key, now(), None)
        finished.set()

    queue = Queue(process, PACE, workers=2)
    running = asyncio.create_task(queue.run())
    queue.add(Key("Kind", "n", "a"))
    await started.wait()
    queue.stop()
    await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    await running
    assert finished.is_set()


async def test_many_keys_and_events_never_overlap_and_all_are_seen() -> None:
    keys = [Key("Kind", "n", str(number)) for number in range(20)]
    running: set[Key] = set()
    state = dict.fromkeys(keys, 0)
    seen = dict.fromkeys(keys, 0)
    complete = asyncio.Event()

    async def process(key: Key, schedule: Schedule) -> None:
        assert key not in running
        running.add(key)
        at = state[key]
        await asyncio.sleep(0)
        running.discard(key)
        seen[key] = at
        schedule.done(key, now(), None)
        if all(value == 50 for value in seen.values()):
            complete.set()

    queue = Queue(process, PACE, workers=4)
    task = asyncio.create_task(queue.run())
    for round_ in range(1, 51):
        for key in keys:
            state[key] = round_
            queue.add(key)
        await asyncio.sleep(0)
    await complete.wait()
    queue.stop()
    await task


async def test_a_cancelled_worker_puts_its_key_back() -> None:
    started = asyncio.Event()
    again: list[Key] = []

    async def process(key: Key, schedule: Schedule) -> None:
        again.append(key)
        started.set()
        if len(again) == 1:
            await asyncio.Event().wait()
        schedule.done(key, now(), None)
        queue.stop()

    queue = Queue(process, PACE, workers=1)
    queue.add(Key("Kind", "n", "a"))
    task = asyncio.create_task(queue.run())
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    await queue.run()
    assert again == [Key("Kind", "n", "a")] * 2


async def test_a_key_added_as_a_worker_goes_idle_right_after_a_wake_up_is_seen() -> None:
    """In one turn of the loop: the wake-up finds all workers busy, one goes idle, a key comes, the wake-up ends."""
    go_on = {name: asyncio.Event() for name in "abcd"}
    started = {name: asyncio.Event() for name in "abcd"}

    def one_goes_idle_and_a_key_comes() -> None:
        go_on["b"].set()
        asyncio.get_running_loop().call_soon(queue.add, Key("Kind", "n", "d"))

    async def process(key: Key, schedule: Schedule) -> None:
        started[key.name].set()
        await go_on[key.name].wait()
        if key.name == "a":
            # Before the wake-up that follows the end of this reconcile.
            asyncio.get_running_loop().call_soon(one_goes_idle_and_a_key_comes)
        schedule.done(key, now(), None)

    queue = Queue(process, Pace(window=0.0), workers=2)
    task = asyncio.create_task(queue.run())
    for name in "ab":
        queue.add(Key("Kind", "n", name))
        await started[name].wait()
    queue.add(Key("Kind", "n", "c"))
    await asyncio.sleep(0.01)  # its wake-up found no idle worker and is over
    go_on["a"].set()
    await started["c"].wait()
    await asyncio.wait_for(started["d"].wait(), 30)
    for event in go_on.values():
        event.set()
    queue.stop()
    await task
