"""The audit of the view in a mass event: a stream that is late is not dead, and one that is dead costs few requests."""

from collections import Counter
from typing import Any

import pytest

from modelfleet.cluster import sync
from modelfleet.cluster.client import Take
from modelfleet.cluster.sync import DEAD_AFTER, READ_SINGLY, Synchronizer
from modelfleet.cluster.view import View

Object = dict[str, Any]


class Server:
    """Jobs of an API server, all changed at once by :meth:`change`; nothing of it reaches the view by itself."""

    def __init__(self, view: View, count: int) -> None:
        self.view, self.version, self.count = view, 1, count
        self.asked: Counter[str] = Counter()

    def change(self) -> None:
        self.version += 1

    def jobs(self) -> list[Object]:
        return [
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": self._metadata(number)}
            for number in range(self.count)
        ]

    def _metadata(self, number: int) -> Object:
        name = f"job-{number}"
        return {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(self.version)}

    async def list_metadata(self, _kind: str) -> tuple[list[Object], str]:
        return [each["metadata"] for each in self.jobs()], str(self.version)

    async def list_watched(self, _kind: str, take: Take) -> str:
        self.asked["list"] += 1
        for each in self.jobs():
            take(each)
        return str(self.version)

    async def read(self, _kind: str, _namespace: str, name: str) -> None:
        self.asked["read"] += 1
        self.view.observe(next(each for each in self.jobs() if each["metadata"]["name"] == name))


def audited(count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Server, Synchronizer]:
    monkeypatch.setattr(sync, "GRACE_SECONDS", 0.0)
    view = View()
    server = Server(view, count)
    for each in server.jobs():
        view.observe(each)
    return server, Synchronizer(server, view, 3600.0, lambda _: None)  # type: ignore[arg-type]


async def test_a_stream_that_brings_news_late_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    server, synchronizer = audited(3, monkeypatch)
    for _ in range(2 * DEAD_AFTER):
        server.change()
        synchronizer.heard("Job")
        assert await synchronizer.audit("Job") == 3
    assert synchronizer.dead_streams() == []


async def test_a_stream_that_brings_none_is_dead_whatever_others_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    server, synchronizer = audited(3, monkeypatch)
    for _ in range(DEAD_AFTER):
        server.change()
        synchronizer.heard("Node")
        await synchronizer.audit("Job")
    assert synchronizer.dead_streams() == ["Job"]
    assert await synchronizer.audit("Job") == 0
    assert synchronizer.dead_streams() == []


@pytest.mark.parametrize(("count", "asked"), [(READ_SINGLY, {"read": READ_SINGLY}), (10_000, {"list": 1})])
async def test_of_very_many_that_changed_unseen_the_kind_is_listed(
    count: int, asked: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, synchronizer = audited(count, monkeypatch)
    server.change()
    assert await synchronizer.audit("Job") == count
    assert server.asked == asked
    assert await synchronizer.audit("Job") == 0
