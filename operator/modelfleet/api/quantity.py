"""Kubernetes quantities: the subset the contract takes, and the numbers that all of them stand for.

The subset: not negative, at most 15 digits before the point and 3 after it, decimal or binary suffix, no exponent.
Every such text is a quantity to Kubernetes, so a pattern is enough and CEL's ``isQuantity`` is not needed.
"""

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Final

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

_SUFFIXES: Final = {
    "Ki": Decimal(1 << 10),
    "Mi": Decimal(1 << 20),
    "Gi": Decimal(1 << 30),
    "Ti": Decimal(1 << 40),
    "Pi": Decimal(1 << 50),
    "Ei": Decimal(1 << 60),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}


@lru_cache(maxsize=4096)
def parse(text: str) -> Decimal:
    """The number that any quantity of Kubernetes, such as ``2Gi``, ``500m`` or ``1e3``, stands for, exactly.

    In the resource's base unit. Raises ``ValueError`` where the text is none. Source: ``resource.Quantity`` of
    k8s.io/apimachinery.
    """
    for length in (2, 1):
        factor = _SUFFIXES.get(text[-length:])
        if factor is not None and len(text) > length:
            return _number(text[:-length], text) * factor
    return _number(text, text)


def parse_bytes(text: str) -> int:
    """The same in whole bytes."""
    return int(parse(text))


def _number(digits: str, text: str) -> Decimal:
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise ValueError(f"not a quantity: {text!r}") from None
    if not number.is_finite():
        raise ValueError(f"not a quantity: {text!r}")
    return number
