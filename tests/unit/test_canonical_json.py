"""The quick way to canonical JSON writes what RFC 8785 says, to the byte."""

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from modelfleet.plan import naming

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.text(st.characters(max_codepoint=127)),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_it_is_what_the_reference_writes(value: Any) -> None:
    assert naming.canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", ['\x00\x1f\x7f"\\\b\f\n\r\t/', {"é": 1, "z": 2, "a": [1.0, 1e21]}, ("a", True)])
def test_examples(value: Any) -> None:
    assert naming.canonical(value) == rfc8785.dumps(value)


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(rfc8785.IntegerDomainError):
        naming.canonical({"a": 2**53 + 1})
