"""What an ONNX file says about itself, read from its bytes without any library for it.

Source of the field numbers: ``onnx.proto`` (ONNX 1.x), ModelProto and OperatorSetIdProto; of the encoding: Protocol
Buffers, wire format.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OPSET_IMPORT: Final = 8
_DOMAIN: Final = 1
_VERSION: Final = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10
_LARGEST_OPSET: Final = 2**31 - 1
"""A negative one is read as a number that no status can hold."""


def opset(path: Path) -> int | None:
    """Version of the default operator set; ``None`` where the file names none, or is no protocol buffer."""
    if path.stat().st_size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _default_opset(content)
        except ValueError:
            return None


def _default_opset(content: mmap.mmap) -> int | None:
    for field, value in _fields(content, 0, len(content)):
        if field != _OPSET_IMPORT or not isinstance(value, range):
            continue
        domain, version = b"", None
        for inner, part in _fields(content, value.start, value.stop):
            if inner == _DOMAIN and isinstance(part, range):
                domain = content[part.start : part.stop]
            elif inner == _VERSION and isinstance(part, int):
                version = part
        if domain in (b"", b"ai.onnx"):
            return version if version is not None and version <= _LARGEST_OPSET else None
    return None


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int | range]]:
    """The fields of one message: a number as such, bytes as the range where they lie, so that none are copied."""
    while at < end:
        tag, at = _varint(content, at, end)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(content, at, end)
            yield field, value
            continue
        if kind == _BYTES:
            length, at = _varint(content, at, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"no wire type: {kind}")
        if length > end - at:
            raise ValueError("a field is longer than its message")
        yield field, range(at, at + length)
        at += length


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number and the position behind it."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= end:
            break
        byte = content[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number that does not end")
