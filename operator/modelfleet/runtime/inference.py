"""One inference request of the Open Inference Protocol v2: from its JSON to the answer's, no HTTP here."""

from typing import Any

from modelfleet.runtime.onnx_model import OnnxModel
from modelfleet.runtime.tensors import Array, RequestError, decode, encode


def answer(model: OnnxModel, request: object) -> dict[str, Any]:
    """Answer a parsed request; RequestError says what is wrong with it."""
    if not isinstance(request, dict):
        raise RequestError('the request must be a JSON object such as {"inputs": [...]}')
    inputs = _inputs(model, request.get("inputs"))
    names = _wanted_outputs(model, request.get("outputs"))
    try:
        arrays = model.infer(inputs, names)
    except Exception as error:
        # What the shapes declared by a model allow and its operators do not: known only by running it.
        raise RequestError(f"the model could not be run on these inputs: {error}") from error
    datatypes = {spec.name: spec.datatype for spec in model.outputs}
    reply: dict[str, Any] = {
        "model_name": model.name,
        "model_version": model.version,
        "outputs": [encode(name, datatypes[name], array) for name, array in zip(names, arrays, strict=True)],
    }
    if "id" in request:
        reply["id"] = str(request["id"])
    return reply


def _inputs(model: OnnxModel, tensors: object) -> dict[str, Array]:
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise RequestError("inputs must be a list of tensors: name, shape, datatype and data each")
    specs = {spec.name: spec for spec in model.inputs}
    given: dict[str, Array] = {}
    for tensor in tensors:
        name = tensor.get("name")
        if not isinstance(name, str) or name not in specs:
            raise RequestError(f"input {name!r} is unknown; the model takes {', '.join(map(repr, specs))}")
        if name in given:
            raise RequestError(f"input {name!r} is given twice")
        given[name] = decode(tensor, specs[name])
    missing = [name for name in specs if name not in given]
    if missing:
        raise RequestError(f"input {missing[0]!r} is missing; the model takes {', '.join(map(repr, specs))}")
    return given


def _wanted_outputs(model: OnnxModel, wanted: object) -> list[str]:
    known = [spec.name for spec in model.outputs]
    if wanted is None or wanted == []:
        return known
    if not isinstance(wanted, list) or not all(isinstance(output, dict) for output in wanted):
        raise RequestError('outputs must be a list such as [{"name": "probabilities"}]')
    names = [output.get("name") for output in wanted]
    for name in names:
        if name not in known:
            raise RequestError(f"output {name!r} is unknown; the model gives {', '.join(map(repr, known))}")
    return [str(name) for name in names]
