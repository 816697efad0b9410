"""The smallest ONNX models, as bytes. Written by hand, so that the tests need no ONNX library.

Source of the field numbers: ``onnx.proto`` (ONNX 1.x), ModelProto, GraphProto, NodeProto, TensorProto, ValueInfoProto.
"""

import struct
from collections.abc import Callable

Model = Callable[..., bytes]
"""One of the models here, to be made with parameters of the caller's."""

FLOAT, INT64, FLOAT16 = 1, 7, 10
"""TensorProto.DataType."""


def identity(length: int = 3, producer: str = "tests") -> bytes:
    """The model y = x, with ``length`` float32 each; ``producer`` tells two models apart."""
    return _model([_node("Identity", ["x"], "y")], length, producer)


def picky(length: int = 3, producer: str = "tests") -> bytes:
    """The model y = x[x]: fails at run time on whatever is not an index into itself, -length ≤ x < length."""
    cast = _node("Cast", ["x"], "index", _nested(5, _nested(1, b"to"), _number(3, INT64), _number(20, 2)))
    return _model([cast, _node("Gather", ["x", "index"], "y")], length, producer)


def slow(length: int = 3, producer: str = "tests", size: int = 2000) -> bytes:
    """The model y = x, after a product of two ``size`` by ``size`` matrices that depends on x."""
    nodes = [
        _node("Gather", ["x", "first"], "one"),
        _node("Expand", ["one", "square"], "matrix"),
        _node("MatMul", ["matrix", "matrix"], "product"),
        _node("ReduceMean", ["product"], "mean"),
        _node("Mul", ["mean", "zero"], "nothing"),
        _node("Reshape", ["nothing", "flat"], "flattened"),
        _node("Add", ["x", "flattened"], "y"),
    ]
    constants = [
        _tensor("first", [1], struct.pack("<q", 0), INT64),
        _tensor("square", [2], struct.pack("<2q", size, size), INT64),
        _tensor("zero", [1], struct.pack("<f", 0), FLOAT),
        _tensor("flat", [1], struct.pack("<q", 1), INT64),
    ]
    return _model(nodes, length, producer, constants)


def scaled(
    factor: float,
    shape: tuple[int | str, ...] = ("batch", 3),
    *,
    name: str = "x",
    kind: int = FLOAT,
    operator: str = "Mul",
    opset: int = 13,
) -> bytes:
    """A model with input ``name`` and output ``y`` of this shape: each element times ``factor``."""
    dimensions = [
        _nested(1, _number(1, size) if isinstance(size, int) else _nested(2, size.encode())) for size in shape
    ]
    tensor = _nested(2, _nested(1, _number(1, kind), _nested(2, *dimensions)))
    raw = struct.pack({FLOAT: "<f", FLOAT16: "<e", INT64: "<q"}[kind], int(factor) if kind == INT64 else factor)
    graph = _nested(
        7,
        _nested(1, _nested(1, name.encode()), _nested(1, b"k"), _nested(2, b"y"), _nested(4, operator.encode())),
        _nested(2, b"g"),
        _nested(5, _number(2, kind), _nested(8, b"k"), _nested(9, raw)),
        _nested(11, _nested(1, name.encode()), tensor),
        _nested(12, _nested(1, b"y"), tensor),
    )
    return _number(1, 8) + _nested(2, b"tests") + graph + _nested(8, _number(2, opset))


def elsewhere(location: str, length: int) -> bytes:
    """The model y = x + weights, whose weights lie in another file: ``location``, relative to a folder."""
    where = [
        _nested(13, _nested(1, key), _nested(2, value))
        for key, value in ((b"location", location.encode()), (b"offset", b"0"))
    ]
    weights = _nested(5, _number(1, length), _number(2, FLOAT), _nested(8, b"weights"), *where, _number(14, 1))
    return _model([_node("Add", ["x", "weights"], "y")], length, "tests", [weights])


def _model(nodes: list[bytes], length: int, producer: str, constants: list[bytes] | None = None) -> bytes:
    shape = _nested(2, _nested(1, _number(1, length)))
    tensor = _nested(2, _nested(1, _number(1, FLOAT), shape))
    graph = _nested(
        7,
        *nodes,
        _nested(2, b"g"),
        *(constants or []),
        _nested(11, _nested(1, b"x"), tensor),
        _nested(12, _nested(1, b"y"), tensor),
    )
    return _number(1, 8) + _nested(2, producer.encode()) + graph + _nested(8, _number(2, 13))


def _node(operator: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    named = [_nested(1, name.encode()) for name in inputs]
    return _nested(1, *named, _nested(2, output.encode()), _nested(4, operator.encode()), *attributes)


def _tensor(name: str, shape: list[int], data: bytes, kind: int) -> bytes:
    sizes = [_number(1, size) for size in shape]
    return _nested(5, *sizes, _number(2, kind), _nested(8, name.encode()), _nested(9, data))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _nested(field: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])
