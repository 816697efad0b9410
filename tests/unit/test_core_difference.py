"""What counts as already written: the API server's spelling of quantities, defaults and empty values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.cluster import difference

COVERED = [
    ("defaults of the server", {"a": 1, "b": {"c": 2, "protocol": "TCP"}}, {"a": 1, "b": {"c": 2}}),
    ("an empty list that is not stored", {}, {"a": [], "b": {}, "c": "", "d": None, "e": False, "f": 0}),
    ("a rewritten cpu quantity", {"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}),
    ("a rewritten memory quantity", {"requests": {"memory": "1Gi"}}, {"requests": {"memory": "1024Mi"}}),
    ("a quantity given as a number", {"requests": {"nvidia.com/gpu": "1"}}, {"requests": {"nvidia.com/gpu": 1}}),
    ("a rewritten size limit", {"sizeLimit": "1Gi"}, {"sizeLimit": "1073741824"}),
    ("an injected sidecar", {"c": [{"name": "proxy"}, {"name": "a", "x": 1}]}, {"c": [{"name": "a"}]}),
]

NOT_COVERED = [
    ("another value", {"a": 1}, {"a": 2}),
    ("a missing field", {}, {"a": "x"}),
    ("another quantity", {"limits": {"cpu": "1"}}, {"limits": {"cpu": "1001m"}}),
    ("text that merely looks like a quantity", {"value": "1"}, {"value": "1000m"}),
    ("a named item that is missing", {"c": [{"name": "b"}]}, {"c": [{"name": "a"}]}),
    ("an argument more", {"args": ["a", "b"]}, {"args": ["a"]}),
    ("another type", {"a": "x"}, {"a": {"b": 1}}),
    ("a list where a text is", {"a": "x"}, {"a": ["x"]}),
]


@pytest.mark.parametrize(("live", "stated"), [case[1:] for case in COVERED], ids=[case[0] for case in COVERED])
def test_covered(live: Any, stated: Any) -> None:
    assert difference.covers(live, stated)


@pytest.mark.parametrize(("live", "stated"), [case[1:] for case in NOT_COVERED], ids=[case[0] for case in NOT_COVERED])
def test_not_covered(live: Any, stated: Any) -> None:
    assert not difference.covers(live, stated)


JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=1), inner),
    max_leaves=8,
)
MAPS = st.dictionaries(st.text("abc", min_size=1, max_size=1), JSON)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(MAPS, MAPS)
def test_a_merge_patch_leads_from_one_to_the_other(live: dict[str, Any], wanted: dict[str, Any]) -> None:
    patch = difference.merge_patch(live, wanted)
    assert merged(live, patch) == wanted
    assert difference.merge_patch(wanted, wanted) == {}


@given(MAPS)
def test_everything_covers_itself(value: dict[str, Any]) -> None:
    assert difference.covers(value, value)


def test_nulls_are_left_out_of_statuses() -> None:
    assert difference.without_nulls({"a": None, "b": {"c": None, "d": [{"e": None}]}}) == {"b": {"d": [{}]}}


def test_counts_messages_and_times_are_not_significant() -> None:
    before = {
        "observedGeneration": 1,
        "phase": "Progressing",
        "message": "10 of 200",
        "counts": {"updated": 10},
        "conditions": [{"type": "Ready", "status": "False", "reason": "Rolling", "message": "x"}],
    }
    progress = {"progressPercentage": 3, "metrics": [{"name": "loss", "value": "0.5"}]}
    after = {**before, "message": "11 of 200", "counts": {"updated": 11}, "trainerStatus": progress}
    assert difference.significant(before) == difference.significant(after)
    for change in (
        {"observedGeneration": 2},
        {"phase": "Healthy"},
        {"conditions": [{"type": "Ready", "status": "True", "reason": "Done", "message": "x"}]},
        {"wave": "all"},
    ):
        assert difference.significant(before) != difference.significant({**before, **change})
