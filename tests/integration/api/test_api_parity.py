"""What the API server takes the pydantic models take, and the other way round: the same answer to generated objects.

Valid documents are edited at random places of their schema, with values at and just beyond its bounds and with texts
that regular-expression engines are known to read differently. The same examples are drawn on every run.
"""

import copy
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from kubernetes import client, config
from pydantic import ValidationError

from e2e.kubectl import Kubectl
from modelfleet.api import common, crd
from modelfleet.api.rules import VALIDATIONS
from tests import contract

EXAMPLES = 500
KINDS = {kind.kind: kind for kind in crd.KINDS}
SPECS = {kind.kind: crd.openapi_schema(kind)["properties"]["spec"] for kind in crd.KINDS}
TEXTS = (
    "",
    "a",
    "A",
    "-",
    "a-",
    "a.b",
    "a\n",
    " a",
    "1",
    "0",
    "é",
    "١",
    "ſ",
    "K",
    "a\u0000",
    "true",
    "null",
    "%",
    "日" * 40,
)
NAMES = ("a", "a-1-0-0", "n" * 40, "n" * 41, "n" * 63)


def patterns(schema: dict[str, Any]) -> list[str]:
    """What a text must match, by the schema or by a rule."""
    rules = [re.fullmatch(r"(?:.* : )?self[.]matches\(r'(.*)'\)", rule["rule"]) for rule in schema.get(VALIDATIONS, [])]
    return [*([schema["pattern"]] if "pattern" in schema else []), *(rule[1] for rule in rules if rule)]


def texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Texts that match the pattern, nearly match it, or are as long as allowed and one longer."""
    longest = schema.get("maxLength", 8)
    choices = [st.sampled_from(TEXTS), st.sampled_from([longest, longest + 1]).map(lambda length: "a" * length)]
    if "enum" in schema:
        choices.append(st.sampled_from([*schema["enum"], schema["enum"][0].lower()]))
    for pattern in patterns(schema):
        choices += [st.from_regex(pattern), *[st.from_regex(pattern, fullmatch=True)] * 4]
    return st.one_of(choices)


def numbers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Whole numbers at the bounds and one beyond them."""
    low, high = schema.get("minimum", 0), schema.get("maximum", 100_000)
    return st.sampled_from([low - 1, low, low + 1, high - 1, high, high + 1, 999_999_999_999_999, 10**15, 1 << 63, 1.5])


OTHER_TYPES = st.sampled_from([None, True, 0, 7, "7", [], {}, [None], ["a"], {"a": "b"}, {"name": "a"}])


def values(schema: dict[str, Any], present: Any) -> st.SearchStrategy[Any]:
    """Values to put where ``present`` was."""
    choices = [OTHER_TYPES]
    if schema.get("x-kubernetes-int-or-string"):
        choices += [numbers(schema), texts(schema)] * 2
    match schema.get("type"):
        case "string":
            choices = [*[texts(schema)] * 4, *choices]
        case "integer":
            choices = [*[numbers(schema)] * 4, *choices]
        case "boolean":
            choices.append(st.booleans())
        case "array":
            choices += [lists(schema, present)] * 4
        case "object":
            choices += [maps(schema, present)] * 4
    return st.one_of(choices)


@st.composite
def lists(draw: st.DrawFn, schema: dict[str, Any], present: Any) -> list[Any]:
    """The list with an item twice, without one, with a new one, or as many as are allowed and one more."""
    items = copy.deepcopy(present) if isinstance(present, list) else []
    match draw(st.sampled_from(["twice", "without", "new", "many"])):
        case "twice" if items:
            items.append(copy.deepcopy(draw(st.sampled_from(items))))
        case "without" if items:
            items.pop(draw(st.integers(0, len(items) - 1)))
        case "many" if items:
            items = [copy.deepcopy(items[0]) for _ in range(schema["maxItems"] + draw(st.integers(0, 1)))]
            for number, item in enumerate(items):
                if isinstance(item, dict) and "name" in item:
                    item["name"] = f"n{number}"
                elif isinstance(item, str):
                    items[number] = f"{item}{number}"
        case _:
            items.append(draw(values(schema["items"], None)))
    return items


@st.composite
def maps(draw: st.DrawFn, schema: dict[str, Any], present: Any) -> dict[str, Any]:
    """The map without an entry, or with one that was not there."""
    items = copy.deepcopy(present) if isinstance(present, dict) else {}
    absent = schema.get("properties", {}).keys() - items.keys()
    match draw(st.sampled_from(["without", "absent", "unknown"])):
        case "without" if items:
            items.pop(draw(st.sampled_from(sorted(items))))
        case "absent" if absent:
            name = draw(st.sampled_from(sorted(absent)))
            items[name] = draw(values(schema["properties"][name], None))
        case _ if "additionalProperties" in schema:
            key = draw(st.one_of(st.sampled_from([*TEXTS, "cpu", "example.com/gpu", "a..b/c"]), st.text(max_size=5)))
            items[key] = draw(values(schema["additionalProperties"], None))
        case _:
            items[draw(st.sampled_from(["unknown", "name", "Image", "num_nodes"]))] = draw(OTHER_TYPES)
    return items


def places(schema: dict[str, Any], value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Every place in the value, with its schema and what is there."""
    yield path, schema, value
    if isinstance(value, dict):
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(inner, dict):
                yield from places(inner, item, (*path, name))
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from places(schema["items"], item, (*path, number))


@st.composite
def documents(draw: st.DrawFn, kind: str) -> contract.Document:
    """A valid document of the kind with one to three edits, its name mostly what the edits ask for."""
    bases = [document for document in contract.valid().values() if document["kind"] == kind]
    document = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        options = list(places(SPECS[kind], document["spec"], ("spec",)))
        path, schema, present = options[draw(st.integers(0, len(options) - 1))]
        place: Any = document
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = copy.deepcopy(draw(values(schema, present)))
    spec = document["spec"]
    match draw(st.integers(0, 9)), spec:
        case 0, _:
            document["metadata"]["name"] = draw(st.sampled_from(NAMES))
        case _, {"model": str(model), "version": str(version), "output": {"modelVersionName": _}}:
            spec["output"]["modelVersionName"] = common.version_object_name(model, version)
        case _, {"model": str(model), "version": str(version), "artifacts": _}:
            document["metadata"]["name"] = common.version_object_name(model, version)
    return document


class Server:
    """The API server, asked by dry run over one connection that is kept open."""

    def __init__(self, kubectl: Kubectl) -> None:
        settings_ = client.Configuration()
        config.load_kube_config(str(kubectl.kubeconfig), client_configuration=settings_)
        self.api = client.CustomObjectsApi(client.ApiClient(settings_))
        self.namespace = kubectl.namespace

    def refusal(self, document: contract.Document) -> str:
        """Why it refuses to create the document; empty when it would."""
        try:
            self.api.create_namespaced_custom_object(
                *document["apiVersion"].split("/"),
                self.namespace,
                KINDS[document["kind"]].plural,
                document,
                dry_run="All",
                field_validation="Strict",
            )
        except client.ApiException as error:
            if error.status not in (http.client.BAD_REQUEST, http.client.UNPROCESSABLE_ENTITY):
                raise
            return str(json.loads(error.body)["message"])
        return ""


def pydantic_refusal(document: contract.Document) -> str:
    """Why the model refuses the document; empty when it takes it."""
    try:
        KINDS[document["kind"]].model.model_validate(document, by_name=False, by_alias=True)
    except ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_both_give_the_same_answer(dry_run: Kubectl, kind: str) -> None:
    server = Server(dry_run)
    answers: dict[bool, int] = {True: 0, False: 0}

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(document=documents(kind))
    def same(document: contract.Document) -> None:
        by_server, by_model = server.refusal(document), pydantic_refusal(document)
        answers[not by_server] += 1
        note(f"API server: {by_server or 'taken'}")
        note(f"model: {by_model or 'taken'}")
        assert bool(by_server) == bool(by_model)

    same()
    assert min(answers.values()) >= EXAMPLES // 10, f"examples are one-sided: {answers}"
