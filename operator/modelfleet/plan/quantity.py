"""Kubernetes quantities as numbers. Which quantity matters is decided elsewhere."""

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

GIBIBYTE: Final = 1 << 30

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
    """The number that a quantity such as ``2Gi``, ``500m`` or ``1e3`` stands for, in the resource's base unit.

    Raises ``ValueError`` where it is none. Source: ``resource.Quantity`` of k8s.io/apimachinery.
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
