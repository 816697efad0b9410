"""Events on their way from the thread of the watch streams to the operator's loop."""

import asyncio
from typing import Any

from modelfleet.handlers.watch import WatchThread


def event(kind: str, name: str) -> dict[str, Any]:
    return {"type": "MODIFIED", "object": {"kind": kind, "metadata": {"name": name, "namespace": "n"}}}


async def test_events_arrive_in_their_order_and_one_that_cannot_be_taken_in_holds_up_no_other(caplog: Any) -> None:
    taken: list[str] = []
    done = asyncio.Event()

    def sink(_type: str | None, obj: dict[str, Any]) -> None:
        if obj["kind"] == "Odd":
            raise KeyError("spec")
        taken.append(obj["metadata"]["name"])
        if obj["metadata"]["name"] == "last":
            done.set()

    thread = WatchThread(sink, kinds=())
    for each in (event("Pod", "first"), event("Odd", "odd"), event("Pod", "second"), event("Pod", "last")):
        await thread._observe(each)
    async with asyncio.timeout(30):
        await done.wait()
    assert taken == ["first", "second", "last"]
    assert "An event of Odd n/odd could not be taken in" in caplog.text
