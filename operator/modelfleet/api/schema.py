"""From a pydantic model to the structural schema that a CustomResourceDefinition takes.

Kubernetes takes a subset of JSON schema: no ``$ref``, no ``anyOf`` with null, no ``const``, a type on every node.
Source: "Extend the Kubernetes API with CustomResourceDefinitions", section "Specifying a structural schema".
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
)


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The structural schema of a model.

    ``defaults`` says whether its defaults are written too: the API server would put them into every object. An empty
    list, map or string is the same as an absent one in this contract, and never written. Descriptions tell defaults,
    which ``kubectl explain`` would not show.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(schema, schema.get("$defs", {}), defaults)


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any], defaults: bool) -> Schema:
    node = _resolve(node, definitions)
    schema: Schema = {}
    if description := node.get("description"):
        schema["description"] = _paragraphs(description)
    for key in _KEPT:
        if key in node:
            schema[key] = node[key]
    if "const" in node:
        schema["enum"] = [node["const"]]
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    if not defaults or schema.get("default") in (None, "", [], {}):
        schema.pop("default", None)
    elif "description" in schema:
        schema["description"] += f" Default: {json.dumps(schema['default']).strip(chr(34))}."
    if "items" in node:
        schema["items"] = _convert(node["items"], definitions, defaults)
    if isinstance(node.get("additionalProperties"), Mapping):
        schema["additionalProperties"] = _convert(node["additionalProperties"], definitions, defaults)
    required = node.get("required", [])
    if required:
        schema["required"] = required
    if properties := node.get("properties"):
        schema["properties"] = {
            name: _property(value, definitions, defaults, name in required) for name, value in properties.items()
        }
    schema.update({key: value for key, value in node.items() if key.startswith("x-kubernetes-")})
    return schema


def _property(node: Mapping[str, Any], definitions: Mapping[str, Any], defaults: bool, required: bool) -> Schema:
    schema = _convert(node, definitions, defaults)
    if defaults and not required and not _nullable(node) and "properties" in schema:
        schema["default"] = {}  # so that the defaults inside it apply when the user leaves all of it out
    return schema


def _nullable(node: Mapping[str, Any]) -> bool:
    return any(choice.get("type") == "null" for choice in node.get("anyOf", ()))


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node with its reference followed and null taken out; what it says itself wins, its description above all."""
    choices = [choice for choice in node.get("anyOf", ()) if choice.get("type") != "null"]
    if choices:
        (only,) = choices
        node = {**only, **{key: value for key, value in node.items() if key != "anyOf"}}
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _paragraphs(text: str) -> str:
    """The text with line breaks only between its paragraphs, as ``kubectl explain`` wraps it itself."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
