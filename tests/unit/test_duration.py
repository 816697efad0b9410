"""Durations: what is taken, what is refused, and what a text stands for."""

from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from modelfleet.api import duration

ANY: TypeAdapter[str] = TypeAdapter(duration.Duration)
POSITIVE: TypeAdapter[str] = TypeAdapter(duration.PositiveDuration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h0m1s", 3601), ("2h5s", 7205), ("0s", 0), ("00099m", 5940)],
)
def test_a_text_stands_for_its_parts_together(text: str, seconds: int) -> None:
    assert duration.parse(ANY.validate_python(text)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "10", "m", "1m1h", "1.5h", "-1s", "1d", "100ms", "1h 5m", "10m\n", "١s", "123456s"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must be a duration such as"):
        ANY.validate_python(text)


def test_nothing_is_not_a_positive_duration() -> None:
    assert POSITIVE.validate_python("1h0s") == "1h0s"
    with pytest.raises(ValidationError, match="longer than nothing"):
        POSITIVE.validate_python("0h0m00s")
