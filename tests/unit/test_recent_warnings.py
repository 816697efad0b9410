"""What Warning Events told: asked for as rarely as it can be, whoever wonders."""

import asyncio
from typing import Any

import pytest

from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.recent_warnings import CROWDED_SECONDS, FRESH_SECONDS, KEPT, RecentWarnings

Event = dict[str, Any]


def event(name: str, reason: str, at: int = 0, kind: str = "Pod") -> Event:
    return {
        "regarding": {"kind": kind, "name": name},
        "reason": reason,
        "eventTime": f"2026-01-01T00:00:{at:02d}.000000Z",
    }


class Server:
    """Namespaces with Events; notes what it was asked."""

    def __init__(self, *events: Event, page: int = 500) -> None:
        self.events = list(events)
        self.page = page
        self.now = 0.0
        self.broken = False
        self.asked: list[tuple[str, str]] = []
        self.warnings = RecentWarnings(self.answer, lambda: self.now)

    async def answer(self, namespace: str, selector: str) -> tuple[list[Event], bool]:
        self.asked.append((namespace, selector))
        await asyncio.sleep(0)
        if self.broken:
            raise ApiError(503, "ServiceUnavailable", "later")
        name = selector.partition("regarding.name=")[2]
        found = [each for each in self.events if name in ("", each["regarding"]["name"])]
        return found[: self.page], len(found) <= self.page

    async def reasons(self, name: str, namespace: str = "n", kind: str = "Pod") -> list[str]:
        return [each["reason"] for each in await self.warnings.about(namespace, kind, name)]


async def test_one_question_answers_for_all_objects_of_a_namespace() -> None:
    server = Server(event("a", "Old", 1), event("b", "Other"), event("a", "New", 2), event("a", "Job", 3, "Job"))
    assert await asyncio.gather(*(server.reasons(name) for name in "abc")) == [["New", "Old"], ["Other"], []]
    assert await server.reasons("a", kind="Job") == ["Job"]
    assert server.asked == [("n", "type=Warning")]
    await server.reasons("a", namespace="m")
    assert server.asked[1:] == [("m", "type=Warning")]


async def test_it_is_asked_again_when_it_is_no_longer_fresh() -> None:
    server = Server()
    assert await server.reasons("a") == []
    server.events.append(event("a", "FailedMount"))
    server.now = FRESH_SECONDS - 0.1
    assert await server.reasons("a") == []
    server.now = FRESH_SECONDS
    assert await server.reasons("a") == ["FailedMount"]


async def test_where_there_are_too_many_each_object_is_asked_for_by_itself() -> None:
    server = Server(*(event("noisy", f"r{number}", number) for number in range(20)), event("a", "FailedMount"), page=20)
    assert await server.reasons("a") == ["FailedMount"]
    assert await server.reasons("a") == ["FailedMount"]
    assert await server.reasons("noisy") == [f"r{number}" for number in range(19, 19 - KEPT, -1)]
    singly = [
        "type=Warning,regarding.kind=Pod,regarding.name=a",
        "type=Warning,regarding.kind=Pod,regarding.name=noisy",
    ]
    assert [selector for _, selector in server.asked] == ["type=Warning", *singly]
    server.now = FRESH_SECONDS
    assert await server.reasons("a") == ["FailedMount"]
    assert [selector for _, selector in server.asked[3:]] == singly[:1], "not all of them again"
    server.events, server.now = [], CROWDED_SECONDS
    assert await server.reasons("a") == []
    assert [selector for _, selector in server.asked[4:]] == ["type=Warning"]


async def test_a_question_that_failed_is_asked_again() -> None:
    server = Server(event("a", "FailedMount"))
    server.broken = True
    with pytest.raises(ApiError):
        await server.reasons("a")
    server.broken = False
    assert await server.reasons("a") == ["FailedMount"]
