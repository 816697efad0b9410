"""Whether two builds of a model mean the same: their inputs and outputs, what to try them on, how far they differ.

Pure functions on tensors; who loads and runs the models is ``onnx_check.py``.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelfleet.runtime.tensors import DATATYPES, Array

TOLERANCES: Final[Mapping[str, float]] = {"fp32": 0.001, "fp16": 0.05, "bf16": 0.1, "int8": 0.25}
"""By precision. Rounding of weights is a few of its units; quantisation to 8 bits moves outputs by several percent, a
wrong file moves them by 100 and more."""

PRECISIONS: Final = ("fp32", "bf16", "fp16", "int8")
"""The most precise first: the reference of a version is its first artifact in this order."""

SIZES: Final = (16, 224, 1)
"""What is tried for dimensions of any size, until the reference can be run: a short sequence, an image."""

_SAMPLES: Final = 4
"""Samples that are drawn, where the first dimension is of any size."""
_MOST_ELEMENTS: Final = 1 << 24
_MARK: Final = "tensor:"
_FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model. A dimension is its size, or a name (equal names are equal sizes), or ``None``."""

    name: str
    datatype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        """As a status shows it."""
        sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in self.shape)
        return f"{self.name}: {self.datatype}[{sizes}]"


def tolerance(reference: str, other: str) -> float:
    """How far outputs may differ by default, by the precisions of the two."""
    return max(TOLERANCES[reference], TOLERANCES[other])


def is_judged(reference: str, other: str, *, on_samples: bool, is_stated: bool) -> bool:
    """Whether a difference beyond the tolerance is held against a build; else it is only told.

    8-bit ranges are calibrated to the data a model is for. On drawn inputs, which may lie beyond them, a good build may
    be far off: it is judged on samples, or where somebody stated how far it may be off.
    """
    return on_samples or is_stated or "int8" not in (reference, other)


def mismatch(mine: Sequence[Port], theirs: Sequence[Port], what: str) -> str:
    """Why a client of one build could not use the other; empty where it can.

    Floats of other width are no mismatch, nor is a size that one of the two leaves open.
    """
    by_name = {port.name: port for port in theirs}
    if {port.name for port in mine} != set(by_name):
        return f"its {what}s are {_names(mine)}, not {_names(theirs)}"
    for port in mine:
        other = by_name[port.name]
        if port.datatype != other.datatype and not {port.datatype, other.datatype} <= _FLOATS | {"BF16"}:
            return f"{what} {port} is {other} there"
        sizes = zip(port.shape, other.shape, strict=False)
        if len(port.shape) != len(other.shape) or any(_differ(size, its) for size, its in sizes):
            return f"{what} {port} is {other} there"
    return ""


def narrowed(inputs: Sequence[Sequence[Port]]) -> list[Port]:
    """The inputs that all builds take: a size that any of them fixes is fixed."""
    first, *others = inputs
    result = []
    for port in first:
        shape = list(port.shape)
        for other in others:
            its = next(each for each in other if each.name == port.name)
            shape = [size if isinstance(size, int) else given for size, given in zip(shape, its.shape, strict=True)]
        result.append(Port(port.name, port.datatype, tuple(shape)))
    return result


def draw(inputs: Sequence[Port], size: int) -> dict[str, Array]:
    """Inputs of the signature, the same ones each time: floats from 0 to 1, whole numbers 0 and 1.

    ``size`` is what dimensions of any size get, the first one apart. ValueError where none can be drawn.
    """
    chance = np.random.default_rng(20_250_101)
    named: dict[str, int] = {}
    drawn = {}
    for port in inputs:
        shape = []
        for axis, given in enumerate(port.shape):
            chosen = given if isinstance(given, int) else (_SAMPLES if axis == 0 else size)
            if isinstance(given, str):
                chosen = named.setdefault(given, chosen)
            shape.append(chosen)
        if math.prod(shape) > _MOST_ELEMENTS:
            raise ValueError(f"input {port} is too large to draw one")
        if port.datatype in _FLOATS:
            drawn[port.name] = chance.random(shape).astype(DATATYPES[port.datatype])
        elif port.datatype != "BYTES" and port.datatype in DATATYPES:
            drawn[port.name] = chance.integers(0, 2, shape).astype(DATATYPES[port.datatype])
        else:
            raise ValueError(f"input {port} cannot be drawn")
    return drawn


def fitted(samples: Mapping[str, Array], inputs: Sequence[Port]) -> dict[str, Array]:
    """The samples as the inputs want them; as many as the model takes at once. ValueError says what does not fit."""
    fits = {}
    for port in inputs:
        if port.name not in samples:
            raise ValueError(f"there is no array for input {port}; there are {', '.join(sorted(samples))[:80]}")
        array = samples[port.name]
        if port.shape and isinstance(port.shape[0], int) and array.ndim and len(array) > port.shape[0]:
            array = array[: port.shape[0]]
        wrong = any(isinstance(size, int) and size != its for size, its in zip(port.shape, array.shape, strict=False))
        if array.ndim != len(port.shape) or wrong:
            raise ValueError(f"the array of shape {list(array.shape)} does not fit input {port}")
        fits[port.name] = array
    return fits


def difference(reference: Mapping[str, Array], other: Mapping[str, Array], *, classes: bool) -> float:
    """How far the outputs are apart, of all outputs the largest figure; infinite where only one is finite.

    Of floats, the root of the mean squared difference relative to the reference's root mean square. Of whole numbers
    and the like (classes), the share that differs; they count only with ``classes``: on random inputs, ties between
    classes are broken by the last bit.
    """
    figures = [0.0]
    for name, expected in reference.items():
        found = other[name]
        if expected.shape != found.shape:
            return math.inf
        if expected.dtype.kind == "f":
            figures.append(_relative(expected.astype(np.float64), found.astype(np.float64)))
        elif classes:
            figures.append(float(np.mean(expected != found)) if expected.size else 0.0)
    return max(figures)


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as an .npz file. A mark goes before each name, as NumPy has a meaning of its own for some."""
    np.savez(path, allow_pickle=False, **{f"{_MARK}{name}": array for name, array in arrays.items()})


def load(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file, by name; ours, or one that a user wrote. ValueError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name.removeprefix(_MARK): content[name] for name in content.files}
    except (OSError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"the file is no .npz of arrays: {error}") from error


def _relative(expected: Array, found: Array) -> float:
    finite = np.isfinite(expected)
    if (finite != np.isfinite(found)).any():
        return math.inf
    if not finite.any():
        return 0.0
    off = float(np.sqrt(np.mean((expected[finite] - found[finite]) ** 2)))
    scale = float(np.sqrt(np.mean(expected[finite] ** 2)))
    return off / scale if scale else (math.inf if off else 0.0)


def _differ(size: Any, other: Any) -> bool:
    return isinstance(size, int) and isinstance(other, int) and size != other


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(port.name for port in ports)
