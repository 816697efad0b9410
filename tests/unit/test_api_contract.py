"""The models of the contract: what they take, what they refuse, and that the generated files are what they say."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from modelfleet.api import common, crd, names, quantity
from modelfleet.api.rules import Contract
from tests import contract, refusals

ROOT = Path(__file__).resolve().parents[2]
MODELS = {kind.kind: kind.model for kind in crd.KINDS}
FREE = {
    "ModelVersion": {"aliases", "deprecated", "verification"},
    "TrainingJob": {"suspend", "ttlSecondsAfterFinished"},
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, value in schema.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def kind_nodes() -> list[Any]:
    return [
        pytest.param(node, id=f"{kind.kind}{path}")
        for kind in crd.KINDS
        for path, node in nodes(crd.openapi_schema(kind))
        if path.startswith((".spec", ".status"))
    ]


def test_generated_files_are_what_the_models_say() -> None:
    differing = [path for path, text in crd.files().items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert not differing, "run python -m modelfleet.api.crd"
    assert crd.main(["--check"]) == 0


def test_no_other_file_lies_beside_the_generated_ones() -> None:
    for folder in crd.FOLDERS:
        assert {str(path.relative_to(ROOT)) for path in (ROOT / folder).iterdir()} <= set(crd.files())


def test_schema_hashes_are_those_of_the_files() -> None:
    for path, text in crd.files().items():
        document = yaml.safe_load(text)
        annotation = document["metadata"]["annotations"][names.SCHEMA_HASH_ANNOTATION]
        assert crd.schema_hashes()[document["metadata"]["name"]] == annotation, path


@pytest.mark.parametrize("node", kind_nodes())
def test_every_node_is_structural_and_bounded(node: dict[str, Any]) -> None:
    assert "type" in node or node.get("x-kubernetes-int-or-string") is True
    assert not {"$ref", "anyOf", "oneOf", "allOf", "const", "title"} & node.keys()
    if node.get("type") == "array":
        assert node["maxItems"] <= 128
    if node.get("type") == "string" and "enum" not in node and node.get("format") != "date-time":
        assert node["maxLength"] <= 8192
    if "additionalProperties" in node:
        assert node["maxProperties"] <= 128
        assert "properties" not in node


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_described_in_a_sentence(kind: crd.Kind) -> None:
    bare = [
        path
        for path, node in nodes(crd.openapi_schema(kind))
        if not path.startswith(".metadata")
        and not path.endswith(("]", "}"))
        and not node.get("description", "").endswith(".")
    ]
    assert not bare


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_status_has_no_defaults(kind: crd.Kind) -> None:
    status = crd.openapi_schema(kind)["properties"]["status"]
    assert not [path for path, node in nodes(status) if "default" in node]


@pytest.mark.parametrize("kind", [kind for kind in crd.KINDS if kind.kind in FREE], ids=lambda kind: kind.kind)
def test_every_other_field_is_immutable(kind: crd.Kind) -> None:
    spec = crd.openapi_schema(kind)["properties"]["spec"]
    immutable = {
        rule["fieldPath"].removeprefix(".") for rule in spec["x-kubernetes-validations"] if "oldSelf" in rule["rule"]
    }
    assert immutable == spec["properties"].keys() - FREE[kind.kind]


@pytest.mark.parametrize("document", contract.valid().values(), ids=contract.valid().keys())
def test_valid_documents_are_taken(document: dict[str, Any]) -> None:
    MODELS[document["kind"]].model_validate(document)


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_the_full_documents_give_every_field(kind: crd.Kind) -> None:
    """So that the tests that edit them reach every field."""
    spec = crd.openapi_schema(kind)["properties"]["spec"]

    def absent(schema: dict[str, Any], values: list[Any], path: str) -> Iterator[str]:
        if not values:
            yield path
        for name, value in schema.get("properties", {}).items():
            yield from absent(value, [item[name] for item in values if name in item], f"{path}.{name}")
        if "items" in schema:
            yield from absent(schema["items"], [item for items in values for item in items], f"{path}[]")

    given = [document["spec"] for document in contract.valid().values() if document["kind"] == kind.kind]
    assert not list(absent(spec, given, ""))


@pytest.mark.parametrize("refusal", refusals.SCHEMA + refusals.RULES, ids=str)
def test_refused_documents_are_refused(refusal: contract.Refusal) -> None:
    document = refusal.document()
    with pytest.raises(ValidationError) as refused:
        MODELS[document["kind"]].model_validate(document)
    assert refusal.message in str(refused.value)


def test_every_rule_has_a_case() -> None:
    stated = {
        rule["message"]
        for kind in crd.KINDS
        for _, node in nodes(crd.openapi_schema(kind))
        for rule in node.get("x-kubernetes-validations", [])
        if "oldSelf" not in rule["rule"]
    }
    assert not [message for message in stated if not any(case.message in message for case in refusals.RULES)]


def test_an_unknown_field_is_refused() -> None:
    document = contract.edited(contract.edge_deployment(), {"spec.strategy.startsPerHour": 60})
    with pytest.raises(ValidationError, match="startsPerHour"):
        MODELS["EdgeDeployment"].model_validate(document)


def test_null_is_absent() -> None:
    document = contract.edited(contract.edge_deployment(), {"spec.paused": None, "spec.serving.image": None})
    taken = MODELS["EdgeDeployment"].model_validate(document).spec  # type: ignore[attr-defined]
    assert (taken.paused, taken.serving.image, taken.serving.has("image")) == (False, None, False)


def test_null_is_absent_in_a_map() -> None:
    document = contract.edited(contract.model_version(), {"spec.metrics": {"accuracy": None, "loss": "0.1"}})
    taken = MODELS["ModelVersion"].model_validate(document).spec  # type: ignore[attr-defined]
    assert taken.metrics == {"loss": "0.1"}


def test_a_contract_cannot_be_changed() -> None:
    class Example(Contract):
        """An example."""

        name: str
        """A name."""

    with pytest.raises(ValidationError):
        Example(name="a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("version", "name"),
    [("1.4.0", "m-1-4-0"), ("1.4.0-RC.1", "m-1-4-0-rc-1"), ("0.0.1-20261101-4f2c", "m-0-0-1-20261101-4f2c")],
)
def test_the_name_of_a_version(version: str, name: str) -> None:
    assert common.version_object_name("m", version) == name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", Decimal(0)),
        ("500m", Decimal("0.5")),
        ("1.5", Decimal("1.5")),
        ("2k", Decimal(2000)),
        ("3M", Decimal(3_000_000)),
        ("1Ki", Decimal(1024)),
        ("0.5Gi", Decimal(1 << 29)),
        ("999999999999999P", Decimal(999999999999999) * 10**15),
    ],
)
def test_the_number_of_a_quantity(text: str, value: Decimal) -> None:
    assert quantity.parse(text) == value
