"""The smallest ONNX models, as bytes: y = x, for one vector. Written by hand, so that the tests need no ONNX library.

Source of the field numbers: ``onnx.proto`` (ONNX 1.x), ModelProto, GraphProto, NodeProto, ValueInfoProto.
"""


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3, value])


def _nested(field: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 128, "longer ones need a varint"
    return bytes([field << 3 | 2, len(content)]) + content


def identity(length: int = 3, producer: str = "tests") -> bytes:
    """A model with input ``x`` and output ``y`` of ``length`` float32 each; ``producer`` tells two models apart."""
    shape = _nested(2, _nested(1, _number(1, length)))
    tensor = _nested(2, _nested(1, _number(1, 1), shape))
    graph = _nested(
        7,
        _nested(1, _nested(1, b"x"), _nested(2, b"y"), _nested(4, b"Identity")),
        _nested(2, b"g"),
        _nested(11, _nested(1, b"x"), tensor),
        _nested(12, _nested(1, b"y"), tensor),
    )
    return _number(1, 8) + _nested(2, producer.encode()) + graph + _nested(8, _number(2, 13))
