"""Kubernetes quantities: the subset the contract takes, and the numbers they stand for.

Not negative, at most 15 digits before the point and 3 after it, decimal or binary suffix, no exponent: every such
text is a quantity to Kubernetes, so a pattern is enough and CEL's ``isQuantity`` is not needed.
"""

import decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from modelfleet.api.rules import Rules, number_or_matches

QUANTITY_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
LARGEST_PLAIN_QUANTITY = 999_999_999_999_999


def _quantity_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_quantity_text),
    Field(max_length=22),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 22}),
    Rules(
        number_or_matches(
            0,
            LARGEST_PLAIN_QUANTITY,
            QUANTITY_PATTERN,
            "must be a quantity that is not negative, such as 500m, 1.5 or 2Gi",
        )
    ),
]
"""A Kubernetes quantity, not negative; text in Python, also where the user wrote a bare number."""

_SUFFIXES = {"": decimal.Decimal(1), "m": decimal.Decimal("0.001"), "k": decimal.Decimal(1000)}
for _power, _letter in enumerate("KMGTP", start=1):
    _SUFFIXES[_letter] = decimal.Decimal(1000**_power)
    _SUFFIXES[f"{_letter}i"] = decimal.Decimal(1024**_power)


def quantity_value(text: str) -> decimal.Decimal:
    """The number that a quantity of :data:`Quantity` stands for, exactly."""
    number = text.rstrip("mkKMGTPi")
    return decimal.Decimal(number) * _SUFFIXES[text[len(number) :]]
