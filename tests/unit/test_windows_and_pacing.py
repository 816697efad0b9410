"""When nodes may be moved, and how many at a time: maintenance windows and starts per minute."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.api import names
from modelfleet.api.edge_deployment import MaintenanceWindow
from modelfleet.plan import conditions
from modelfleet.plan.edge import pacing, windows
from tests.unit.edge_world import START, World, node
from tests.unit.test_edge_deployment import V1, V2
from tests.unit.test_handover import assigned
from tests.unit.test_rollout_control import converged, revision

BERLIN, SHANGHAI = "Europe/Berlin", "Asia/Shanghai"


def window(schedule: str = "0 2 * * *", length: str = "4h", zone: str = "UTC") -> MaintenanceWindow:
    return MaintenanceWindow(schedule=schedule, duration=length, time_zone=zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "now", "is_open", "changes"),
    [
        (window(), "2026-11-21T01:59:59", False, "2026-11-21T02:00:00"),
        (window(), "2026-11-21T02:00:00", True, "2026-11-21T06:00:00"),
        (window(), "2026-11-21T05:59:59", True, "2026-11-21T06:00:00"),
        (window(), "2026-11-21T06:00:00", False, "2026-11-22T02:00:00"),
        (window(zone=SHANGHAI), "2026-11-20T18:00:00", True, "2026-11-20T22:00:00"),
        (window(zone=SHANGHAI), "2026-11-20T17:59:00", False, "2026-11-20T18:00:00"),
        # Over midnight, on some days only, longer than its period.
        (window("0 22 * * FRI,SAT"), "2026-11-21T01:00:00", True, "2026-11-21T02:00:00"),
        (window("0 22 * * FRI,SAT"), "2026-11-22T23:00:00", False, "2026-11-27T22:00:00"),
        (window("0 2 * * *", "48h"), "2026-11-21T01:00:00", True, "2026-11-21T02:00:00"),
        # Summer time begins: 2 o'clock is skipped, so it opens at 3, and is open for as long.
        (window(zone=BERLIN), "2026-03-29T00:59:00", False, "2026-03-29T01:00:00"),
        (window(zone=BERLIN), "2026-03-29T01:00:00", True, "2026-03-29T05:00:00"),
        # Summer time ends: 2 o'clock comes twice, and it opens at the first.
        (window(length="30m", zone=BERLIN), "2026-10-25T00:00:00", True, "2026-10-25T00:30:00"),
        (window(length="30m", zone=BERLIN), "2026-10-25T00:45:00", False, "2026-10-26T01:00:00"),
        (window(length="30m", zone=BERLIN), "2026-10-25T01:10:00", False, "2026-10-26T01:00:00"),
        (window(length="4h", zone=BERLIN), "2026-10-25T03:59:00", True, "2026-10-25T04:00:00"),
        # The hour that is asked from is the one that comes twice.
        (window("30 2 * * *", "1h", BERLIN), "2026-10-25T02:10:00", False, "2026-10-26T01:30:00"),
    ],
)
def test_when_a_window_is_open(given: MaintenanceWindow, now: str, is_open: bool, changes: str) -> None:
    assert windows.look(given, utc(now)) == windows.Window(is_open, utc(changes))


@given(
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
    schedule=st.sampled_from(["0 2 * * *", "30 1 * * SUN", "*/20 * * * *", "15 3 1 * *", "0 0,12 * * MON-FRI"]),
    length=st.sampled_from(["1m", "30m", "4h", "36h"]),
    zone=st.sampled_from(["UTC", BERLIN, SHANGHAI, "America/New_York", "Australia/Lord_Howe"]),
)
def test_a_window_changes_when_it_says_so(now: datetime, schedule: str, length: str, zone: str) -> None:
    given_window, moment = window(schedule, length, zone), now.replace(tzinfo=UTC)
    seen = windows.look(given_window, moment)
    assert seen.changes > moment
    just_before = windows.look(given_window, seen.changes.astimezone(UTC) - timedelta(seconds=1))
    assert just_before.is_open == seen.is_open
    if not seen.is_open:
        assert windows.look(given_window, seen.changes.astimezone(UTC)).is_open


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (window(zone="Europe/Berlim"), "timeZone: there is no time zone Europe/Berlim"),
        (window(zone="posix"), "timeZone: there is no time zone posix"),
        (window("0 5-2 * * *"), "schedule: bad hour in '0 5-2 * * *'"),
        (window("0 2 31 2 *"), "schedule: bad day-of-month"),
        (window("0 2 30 FEB *"), "schedule: bad day-of-month"),
    ],
)
def test_what_no_calendar_knows_is_refused_in_words(given: MaintenanceWindow, message: str) -> None:
    with pytest.raises(windows.InvalidWindowError) as refused:
        windows.look(given, START)
    assert f"spec.strategy.maintenanceWindow.{message}" in str(refused.value)
    assert len(str(refused.value)) <= conditions.MESSAGE_LENGTH


@pytest.mark.parametrize(
    ("ages", "per_minute", "room", "more_in"),
    [
        ([], 3, 3, None),
        ([59, 10], 3, 1, None),
        ([59, 10, 0], 3, 0, 1),
        ([61, 60, 10], 3, 2, None),
        ([50, 40, 30, 20, 10], 3, 0, 30),
        ([None, None], 2, 0, 60),
    ],
)
def test_pace(ages: list[int | None], per_minute: int, room: int, more_in: int | None) -> None:
    started = ["" if age is None else conditions.timestamp(START - timedelta(seconds=age)) for age in ages]
    allowed = pacing.allow(per_minute, started, START)
    wait = allowed.more_at and (allowed.more_at - START).total_seconds()
    assert (allowed.now, wait) == (room, more_in)


def starts(world: World) -> dict[datetime, int]:
    """Pods of the second version by when they were made."""
    made = [
        conditions.parse_timestamp(pod["metadata"]["creationTimestamp"])
        for pod in world.kind("Pod")
        if pod["metadata"]["labels"][names.MODEL_VERSION_LABEL] == V2
    ]
    return Counter(made)


def settle(world: World) -> None:
    """Go on as long as the plan says that it shall be looked at again."""
    for _ in range(200):
        world.run(rounds=4)
        wait = world.plan().requeue_after
        if wait is None:
            return
        world.now += timedelta(seconds=max(1.0, wait))
    raise AssertionError("it does not settle")


def test_no_minute_sees_more_starts_than_may_be() -> None:
    world = converged(20, startsPerMinute=4, maxUnavailable="100%")
    world.edit(modelVersion=V2)
    settle(world)
    assert Counter(world.serving().values()) == {V2: 20}
    made = starts(world)
    for begin in made:
        assert sum(count for at, count in made.items() if begin <= at < begin + timedelta(minutes=1)) <= 4
    assert max(made) - min(made) < timedelta(minutes=6), "nor far fewer"


def test_returning_gateways_keep_the_pace() -> None:
    world = converged(20, startsPerMinute=2, maxUnavailable="100%")
    away = sorted(world.nodes)[:10]
    world.offline(*away, ago=10_000)
    world.edit(modelVersion=V2)
    settle(world)
    world.online(*away)
    world.now += timedelta(minutes=5)
    assert len(world.step().label_nodes) == 2
    settle(world)
    assert Counter(world.serving().values()) == {V2: 20}


def test_a_roll_back_waits_for_no_window_and_no_pace() -> None:
    world = converged(20, maxUnavailable="100%", failureThreshold={"percentage": 50, "minSamples": 10})
    world.edit(modelVersion=V2)
    for _ in range(2):
        world.step()
        world.play()
    assert Counter(world.serving().values()) == {V2: 20}
    world.edit(
        strategy={"startsPerMinute": 1, "maintenanceWindow": {"schedule": "0 2 * * *", "duration": "1h"}},
        modelVersion=V1,
    )
    assert len(world.step().label_nodes) == 20
    world.run()
    assert Counter(world.serving().values()) == {V1: 20}


def test_outside_of_the_window_nothing_is_moved_and_it_is_told_when_it_opens() -> None:
    world = converged(maintenanceWindow={"schedule": "0 2 * * *", "duration": "4h", "timeZone": SHANGHAI})
    world.edit(modelVersion=V2)
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.condition("Ready")["reason"] == "OutsideMaintenanceWindow"
    assert "opens at 2026-11-22T02:00+08:00 (Asia/Shanghai)" in world.status["message"]
    assert world.status["phase"] == "Progressing"
    wait = world.plan().requeue_after
    assert wait is not None
    world.now += timedelta(seconds=wait)
    assert world.now >= utc("2026-11-21T18:00:00")
    world.run()
    assert Counter(world.serving().values()) == {V2: 10}


def test_what_is_ready_when_the_window_closes_is_switched_when_it_opens_again() -> None:
    world = converged(maintenanceWindow={"schedule": "0 0 * * *", "duration": "10s"}, maxUnavailable=3)
    world.now = utc("2026-11-22T00:00:00")
    world.edit(modelVersion=V2)
    world.step()
    world.play(seconds=20)
    world.run()
    ready = [name for name in world.nodes if assigned(world, name).next]
    assert (len(ready), len(world.kind("Pod"))) == (3, 13), "made ready, and not switched"
    assert world.condition("Ready")["reason"] == "OutsideMaintenanceWindow"
    world.edit(paused=True)
    world.run()
    assert all(assigned(world, name).next for name in ready), "nor while it is paused"
    world.edit(paused=False)
    world.now = utc("2026-11-23T00:00:00")
    world.step()
    world.play()
    assert {world.serving()[name] for name in ready} == {V2}
    assert len(world.kind("Pod")) == 10


def test_a_window_that_never_opens_is_told_of() -> None:
    world = converged(maintenanceWindow={"schedule": "0 2 31 2 *", "duration": "4h"})
    assert world.condition("Ready")["status"] == "True", "nobody waits for it"
    world.edit(modelVersion=V2)
    world.run()
    assert world.condition("Stalled")["reason"] == "MaintenanceWindowInvalid"
    assert Counter(world.serving().values()) == {V1: 10}


def test_an_abort_outside_of_the_window_goes_back_at_once() -> None:
    world = converged(recreateOrder="StopFirst", maxUnavailable="100%")
    world.edit(modelVersion=V2)
    world.step()
    world.edit(
        strategy={"recreateOrder": "StopFirst", "maintenanceWindow": {"schedule": "0 2 * * *", "duration": "1h"}}
    )
    world.command(abort=f"{revision(world)}/1")
    world.run()
    assert Counter(world.serving().values()) == {V1: 10}
    assert world.status["phase"] == "RolledBack"


def test_joiners_start_on_stable_whatever_window_and_pace_say() -> None:
    world = converged(startsPerMinute=1, maintenanceWindow={"schedule": "0 2 * * *", "duration": "1h"})
    for index in range(5):
        world.nodes[f"new-{index}"] = node(f"new-{index}")
    world.run()
    assert Counter(world.serving().values()) == {V1: 15}
    world.edit(modelVersion=V2)
    world.nodes["newest"] = node("newest")
    world.run()
    assert Counter(world.serving().values()) == {V1: 16}
