"""Loads one ONNX model in a process of its own, and runs it: ``python -m modelfleet.runtime.onnx_probe``.

A process of its own, because a malformed file may end it: the parent (``onnx_check.py``) then still has a word to say.
Takes a Probe as JSON on stdin, answers with a Probed on stdout; arrays go through .npz files.
"""

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from modelfleet.api.wire import Wire
from modelfleet.runtime import agreement, cpus
from modelfleet.runtime.onnx_model import DATATYPES as ONNX_DATATYPES
from modelfleet.runtime.report import shorten
from modelfleet.runtime.tensors import DATATYPES

_UNSUPPORTED: Final = ("NotImplemented", "RuntimeException")
"""Names of errors that a build for another device may raise on a CPU."""


class Probe(Wire):
    """What is to be tried."""

    path: str
    inputs: str = ""
    """An .npz file of inputs to run it on; empty: it is loaded only."""
    outputs: str = ""
    """Where the outputs shall lie, as an .npz file."""


class ProbedPort(Wire):
    """An input or output as ONNX Runtime names it."""

    name: str
    datatype: str
    shape: list[int | str | None]


class Probed(Wire):
    """What came of it."""

    inputs: tuple[ProbedPort, ...] = ()
    outputs: tuple[ProbedPort, ...] = ()
    problem: str = ""
    """Why it could not be loaded, or run."""
    loaded: bool = True
    unsupported: bool = False
    """The problem may be this device's, not the model's."""


def main() -> int:
    """Answer one Probe. What goes wrong with the model is part of the answer."""
    probe = Probe.model_validate_json(sys.stdin.read())
    sys.stdout.write(answer(probe).model_dump_json(by_alias=True))
    return 0


def answer(probe: Probe) -> Probed:
    """What comes of loading and running the model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpus.available()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(probe.path, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return Probed(problem=_told(error, probe), loaded=False, unsupported=type(error).__name__ in _UNSUPPORTED)
    found = Probed(inputs=_ports(session.get_inputs()), outputs=_ports(session.get_outputs()))
    if not probe.inputs:
        return found
    try:
        given = agreement.load(Path(probe.inputs))
        fed = {port.name: given[port.name].astype(DATATYPES[port.datatype]) for port in found.inputs}
        names = [port.name for port in found.outputs]
        given_back = dict(zip(names, session.run(names, fed), strict=True))
        agreement.save(Path(probe.outputs), {name: array for name, array in given_back.items() if _is_plain(array)})
    except Exception as error:
        unsupported = type(error).__name__ in _UNSUPPORTED
        return found.model_copy(update={"problem": _told(error, probe), "unsupported": unsupported})
    return found


def _is_plain(array: Any) -> bool:
    """Whether an output is an array of numbers; sequences, maps and texts are not compared."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub"


def _ports(values: Any) -> tuple[ProbedPort, ...]:
    return tuple(
        ProbedPort(
            name=value.name,
            datatype="BF16" if value.type == "tensor(bfloat16)" else ONNX_DATATYPES.get(value.type, value.type),
            shape=list(value.shape or ()),
        )
        for value in values
    )


def _told(error: Exception, probe: Probe) -> str:
    text = str(error).replace(probe.path, "the model")
    # ONNX Runtime begins with "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : ".
    return shorten(text.rpartition("[ONNXRuntimeError] : ")[2] or type(error).__name__, 160)


if __name__ == "__main__":
    sys.exit(main())
