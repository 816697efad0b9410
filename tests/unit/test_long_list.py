"""A long list, decoded as it comes: whatever its pieces, as the whole would be."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.cluster.long_list import LongList

TEXT = st.text(max_size=5) | st.sampled_from(["items", '"items":[', "]", "}", "\\", ", "])
METADATA = st.fixed_dictionaries(
    {"name": TEXT, "uid": TEXT, "resourceVersion": TEXT},
    optional={
        "namespace": TEXT,
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
        "managedFields": st.lists(st.fixed_dictionaries({"fieldsV1": st.dictionaries(TEXT, st.none(), max_size=2)})),
    },
)


def listed(items: list[dict[str, Any]] | None, **more: Any) -> dict[str, Any]:
    head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "7"}}
    return {**head, "items": items, **more}


def decoded(pieces: Iterable[bytes]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    coming = LongList()
    items = [item for piece in pieces for item in coming.feed(piece)]
    return items, coming.end()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces, which may end in the middle of a character."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(ends)]


@given(
    st.lists(METADATA, max_size=4),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_it_finds_what_the_whole_says(
    metadata: list[dict[str, Any]], separators: tuple[str, str], ascii_only: bool, places: list[int]
) -> None:
    items = [{"kind": "PartialObjectMetadata", "metadata": each, "items": []} for each in metadata]
    data = json.dumps(listed(items), separators=separators, ensure_ascii=ascii_only).encode()
    assert decoded(cut(data, places)) == (items, listed([]))


def test_byte_by_byte() -> None:
    items = [{"metadata": {"name": "größer"}}, {"metadata": {"name": "}]"}}]
    data = json.dumps(listed(items), ensure_ascii=False).encode()
    assert decoded(data[place : place + 1] for place in range(len(data))) == (items, listed([]))


def test_what_has_come_whole_is_handed_over_at_once() -> None:
    coming = LongList()
    assert coming.feed(b'{"metadata": {}, "items": [{"a": 1}, {"a": 2}, {"a') == [{"a": 1}, {"a": 2}]
    assert coming.feed(b'": 3}') == [{"a": 3}]


def test_no_items_and_fields_after_them() -> None:
    assert decoded([json.dumps(listed(None)).encode()]) == ([], listed(None))
    # So the lists of custom resources come: by the order of the alphabet.
    late = {"items": [{"a": []}], "kind": "ThingList", "metadata": {"resourceVersion": "7"}}
    assert decoded([json.dumps(late).encode()]) == ([{"a": []}], {**late, "items": []})


@pytest.mark.parametrize("missing", [1, 2, 30, 120])
def test_a_torn_answer_is_an_error(missing: int) -> None:
    whole = json.dumps(listed([{"metadata": {"name": "a", "uid": "a", "resourceVersion": "1"}}])).encode()
    with pytest.raises(ValueError, match=r"."):
        decoded([whole[:-missing]])


def test_a_character_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(['{"items": [], "metadata": {"name": "ö'.encode()[:-1]])
