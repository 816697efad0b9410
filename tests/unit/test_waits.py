"""Since when something lacks pods: only what lasts is worth asking the API server about."""

from datetime import UTC, datetime, timedelta

from modelfleet.reconcile.key import Key
from modelfleet.reconcile.waits import Waits

KEY = Key("EdgeDeployment", "plant", "line")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LONG = timedelta(seconds=5)


def after(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def test_what_lacks_pods_is_named_when_it_has_done_so_for_a_while() -> None:
    waits = Waits()
    assert waits.lasting(KEY, ["a", "b"], after(0), LONG) == []
    assert waits.lasting(KEY, ["a", "b", "c"], after(4.9), LONG) == []
    assert waits.lasting(KEY, ["a", "c"], after(5), LONG) == ["a"]
    assert waits.lasting(KEY, ["a", "c"], after(60), LONG) == ["a", "c"], "and for as long as it does"


def test_what_had_its_pods_in_between_begins_anew() -> None:
    waits = Waits()
    waits.lasting(KEY, ["a", "b"], after(0), LONG)
    waits.lasting(KEY, ["b"], after(4), LONG)
    assert waits.lasting(KEY, ["a", "b"], after(6), LONG) == ["b"]
    waits.lasting(KEY, [], after(7), LONG)
    assert waits.lasting(KEY, ["b"], after(13), LONG) == []


def test_each_object_waits_for_itself_and_what_is_gone_for_nothing() -> None:
    waits, other = Waits(), Key("EdgeDeployment", "plant", "other")
    waits.lasting(KEY, ["a"], after(0), LONG)
    assert waits.lasting(other, ["a"], after(9), LONG) == []
    waits.forget(KEY)
    assert waits.lasting(KEY, ["a"], after(9), LONG) == []
