"""Which commands hold, for which rollout, and for how long."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.plan.edge import commands
from modelfleet.plan.edge.commands import Orders

OLD, NEW = "aaaaaaaaaa", "bbbbbbbbbb"
SCOPES = ("pilot", "all", "0")
UNDER_WAY = {"stable": {"revision": OLD}, "candidate": {"revision": NEW}, "attempt": 1}
ABORTED = {"stable": {"revision": OLD}, "abortedRevision": NEW, "attempt": 1, "lastCommand": f"abort {NEW}/1"}


def obey(before: dict[str, Any], revision: str = NEW, **said: str) -> Orders:
    return commands.obey({f"modelfleet.dev/{verb}": value for verb, value in said.items()}, before, revision, SCOPES)


@pytest.mark.parametrize(
    ("before", "said", "expected"),
    [
        ({}, {}, Orders(NEW)),
        (UNDER_WAY, {}, Orders(NEW)),
        (UNDER_WAY, {"abort": f"{NEW}/1"}, Orders(NEW, aborted=NEW, last=f"abort {NEW}/1", fresh=True)),
        (UNDER_WAY, {"abort": f"{NEW}/1/pilot"}, Orders(NEW, aborted=NEW, last=f"abort {NEW}/1", fresh=True)),
        (UNDER_WAY, {"promote": f"{NEW}/1/pilot"}, Orders(NEW, last=f"promote {NEW}/1/pilot")),
        (UNDER_WAY, {"pause": f" {NEW}/1 "}, Orders(NEW, paused=True)),
        (UNDER_WAY, {"retry": f"{NEW}/1"}, Orders(NEW, attempt=2, last=f"retry {NEW}/1", fresh=True)),
        # Latched: the annotation is gone, or still there.
        (ABORTED, {}, Orders(NEW, aborted=NEW, last=f"abort {NEW}/1")),
        (ABORTED, {"abort": f"{NEW}/1", "pause": f"{NEW}/1"}, Orders(NEW, aborted=NEW, last=f"abort {NEW}/1")),
        # With the retry, the abort of the attempt before is stale.
        (
            ABORTED,
            {"abort": f"{NEW}/1", "retry": f"{NEW}/1"},
            Orders(NEW, attempt=2, last=f"retry {NEW}/1", fresh=True),
        ),
        # Stale: another revision, another attempt.
        (UNDER_WAY, {"abort": f"{OLD}/1", "promote": f"{NEW}/2/pilot", "pause": "cccc/1"}, Orders(NEW)),
        ({**UNDER_WAY, "attempt": 2}, {"abort": f"{NEW}/1"}, Orders(NEW, attempt=2)),
        # A new revision begins with its first attempt.
        ({**UNDER_WAY, "candidate": {}, "attempt": 3}, {}, Orders(NEW)),
        # One that comes again goes on counting: what was said in its earlier rollout is stale.
        ({"stable": {"revision": OLD}}, {"promote": f"{NEW}/1/full"}, Orders(NEW, attempt=2)),
        ({"stable": {"revision": OLD}}, {"retry": f"{NEW}/1", "abort": f"{NEW}/2"}, Orders(NEW, attempt=3)),
        ({"stable": {"revision": OLD}}, {"promote": f"{OLD}/7/full"}, Orders(NEW)),
        (
            {"stable": {"revision": OLD}, "lastCommand": f"promote {NEW}/4/full"},
            {},
            Orders(NEW, attempt=5, last=f"promote {NEW}/4/full"),
        ),
        # With a lost status nothing tells that: an abort counts.
        ({}, {"abort": f"{NEW}/1"}, Orders(NEW, aborted=NEW, last=f"abort {NEW}/1", fresh=True)),
    ],
)
def test_orders(before: dict[str, Any], said: dict[str, str], expected: Orders) -> None:
    assert obey(before, **said) == expected


def test_what_is_stable_cannot_be_aborted_or_paused() -> None:
    assert obey(UNDER_WAY, OLD, abort=f"{OLD}/1", pause=f"{OLD}/1") == Orders(OLD)


def test_a_promotion_lets_its_wave_pass_and_full_lets_all_pass() -> None:
    pilot = obey(UNDER_WAY, promote=f"{NEW}/1/pilot")
    assert (pilot.promotes("pilot"), pilot.promotes("all")) == (True, False)
    full = obey({**UNDER_WAY, "lastCommand": pilot.last}, promote=f"{NEW}/1/full")
    assert (full.promotes("pilot"), full.promotes("all"), full.promotes("0")) == (True, True, True)
    again = obey({**UNDER_WAY, "lastCommand": full.last}, promote=f"{NEW}/1/pilot")
    assert again.promotes("all"), "a lesser promotion takes nothing back"
    assert not obey({**UNDER_WAY, "attempt": 2, "lastCommand": full.last}).promotes("pilot")


@pytest.mark.parametrize(
    "said",
    [
        {"promote": "yes"},
        {"promote": f"{NEW}/1"},
        {"promote": f"{NEW}/1/plot"},
        {"abort": ""},
        {"abort": f"{NEW}/0"},
        {"retry": f"{NEW}/one"},
        {"pause": f"{NEW}/1/a/b"},
    ],
)
def test_what_cannot_be_obeyed_is_told_with_the_form_and_an_example(said: dict[str, str]) -> None:
    orders = obey(UNDER_WAY, **said)
    (verb,) = said
    assert orders.refused.startswith(f"annotation modelfleet.dev/{verb} must be <revision>/<attempt>")
    assert f"such as modelfleet.dev/{verb}={NEW}/1" in orders.refused
    assert len(orders.refused) <= 256
    assert (orders.last, orders.aborted, orders.paused, orders.attempt) == ("", "", False, 1)


TEXT = st.text(max_size=20) | st.sampled_from([f"{NEW}/1", f"{NEW}/1/pilot", f"{NEW}/1/full", f"{OLD}/1", f"{NEW}/2"])


@given(said=st.dictionaries(st.sampled_from(["promote", "abort", "retry", "pause", "resume"]), TEXT), revision=TEXT)
def test_whatever_is_written_there_is_read_and_obeyed_once(said: dict[str, str], revision: str) -> None:
    first = obey(UNDER_WAY, revision, **said)
    latched = {**UNDER_WAY, "abortedRevision": first.aborted, "attempt": first.attempt, "lastCommand": first.last}
    second = obey(latched | {"candidate": {"revision": revision}}, revision, **said)
    third = obey(
        latched | {"candidate": {"revision": revision}, "attempt": second.attempt, "abortedRevision": second.aborted},
        revision,
        **said,
    )
    assert third.attempt == second.attempt <= 3
