"""A long list of metadata, decoded bit by bit: as the whole would be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.cluster.metadata_list import KEPT, decode

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


@given(st.lists(METADATA, max_size=4), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_it_finds_what_the_whole_says(metadata: list[dict[str, Any]], separators: tuple[str, str]) -> None:
    items = [{"kind": "PartialObjectMetadata", "metadata": each, "items": []} for each in metadata]
    data = json.dumps(listed(items), separators=separators).encode()
    assert decode(data) == ([{key: each[key] for key in KEPT if key in each} for each in metadata], "7")


def test_no_items_and_fields_after_them() -> None:
    assert decode(json.dumps(listed(None)).encode()) == ([], "7")
    assert decode(json.dumps(listed([], more={"a": []})).encode()) == ([], "7")


@pytest.mark.parametrize("cut", [1, 2, 30, 120])
def test_a_torn_answer_is_an_error(cut: int) -> None:
    whole = json.dumps(listed([{"metadata": {"name": "a", "uid": "a", "resourceVersion": "1"}}])).encode()
    with pytest.raises(ValueError, match=r"."):
        decode(whole[:-cut])
