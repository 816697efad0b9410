"""How the contract states what a type alone cannot: one table entry for the API server and for pydantic at once.

A :class:`Rule` carries a CEL expression, which ``api/schema.py`` writes into the CRD, and the same condition as a
Python function, which pydantic runs. A test sends generated objects to a real API server and demands the same answer
from both. Rules about one edit against the last state (immutability) exist only in CEL: a model sees one state.
"""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One condition that a value must meet."""

    cel: str
    """The condition in CEL; ``self`` is the value as JSON."""

    message: str
    """What is wrong and what to do, as the user reads it when ``kubectl apply`` is refused."""

    check: Callable[[Any], bool] | None = None
    """The same condition in Python; ``None`` for a transition rule (one that speaks of ``oldSelf``)."""

    field: str = ""
    """JSON name of the field below the value that the API server blames; empty: the value itself."""

    def validation(self) -> dict[str, str]:
        """The rule as an entry of ``x-kubernetes-validations``."""
        path = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.cel, "message": self.message, **path}


def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as RE2 reads it: ``$`` is the end of the text, where Python's would take a line break before it."""
    return re.compile(pattern.replace("$", r"\Z"))


def matches(pattern: str, message: str) -> Rule:
    """The rule that a text matches a pattern; where the pattern is not anchored, a part of the text is enough.

    Said instead of the schema's ``pattern`` where that would tell the user no more than a long regular expression.
    """
    expression = _compiled(pattern)
    return Rule(f"self.matches(r'{pattern}')", message, lambda text: expression.search(text) is not None)


def number_or_matches(low: int, high: int, pattern: str, message: str) -> Rule:
    """The rule on an int-or-string that it is a number within bounds, or a text that matches an anchored pattern."""
    expression = _compiled(pattern)
    return Rule(
        f"type(self) == int ? self >= {low} && self <= {high} : self.matches(r'{pattern}')",
        message,
        lambda value: low <= value <= high if isinstance(value, int) else expression.search(value) is not None,
    )


def lacks(pattern: str, message: str) -> Rule:
    """The rule that no part of a text matches a pattern."""
    expression = _compiled(pattern)
    return Rule(f"!self.matches(r'{pattern}')", message, lambda text: expression.search(text) is None)


def keys_match(pattern: str, message: str) -> Rule:
    """The rule that every key of a map matches an anchored pattern: a schema can bound values, but not keys."""
    expression = _compiled(pattern)
    return Rule(
        f"self.all(key, key.matches(r'{pattern}'))",
        message,
        lambda items: all(expression.search(key) is not None for key in items),
    )


def short_dns_name(kind: str) -> Rule:
    """The rule on an object's name from which the names of its children, Services among them, are built."""
    pattern = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
    expression = _compiled(pattern)
    return Rule(
        f"self.metadata.name.matches(r'{pattern}')",
        f"metadata.name of {kind} must have at most 40 lower-case letters, digits and dashes, begin with a letter and"
        " end with a letter or digit: the names of its children are built from it",
        lambda self: expression.search(self.metadata.name) is not None,
        field="metadata.name",
    )


def enforce(rules: Iterable[Rule], value: Any) -> None:
    """Raise a ``PydanticCustomError`` with the message of the first rule that ``value`` breaks."""
    for rule in rules:
        if rule.check is not None and not rule.check(value):
            raise PydanticCustomError("rule", cast("Any", rule.message))


class Contract(BaseModel):
    """Base of every type of the contract.

    JSON is camelCase. An unknown field is refused, as the API server does with strict validation; ``null`` means
    absent, as the API server prunes it; nothing is coerced from one type to another.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        # An error may be told in a log or an Event; what users wrote may hold a password.
        hide_input_in_errors=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Conditions on the whole value, across its fields."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {key: item for key, item in value.items() if item is not None or key not in known}

    @model_validator(mode="after")
    def _enforce_rules(self) -> "Contract":
        enforce(self.rules, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema with the CEL form of the rules."""
        json_schema = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            json_schema[VALIDATIONS] = [rule.validation() for rule in cls.rules]
        return json_schema

    def has(self, field: str) -> bool:
        """CEL's ``has(self.field)`` for a field without a default in the CRD, by its Python name."""
        return field in self.model_fields_set


class Rules:
    """Metadata for ``Annotated``: rules on a value that is not a model (a string, a list, a map)."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of the value, with the Python form of the rules after it."""
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema with the CEL form of the rules."""
        json_schema = handler(schema)
        json_schema[VALIDATIONS] = [*json_schema.get(VALIDATIONS, []), *(rule.validation() for rule in self.rules)]
        return json_schema

    def _validate(self, value: Any) -> Any:
        enforce(self.rules, value)
        return value


def _without_nulls(value: Any) -> Any:
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


NULLS_ARE_ABSENT = BeforeValidator(_without_nulls)
"""Metadata for ``Annotated`` maps: an entry that is null is left out, as the API server prunes it."""


class Unique:
    """Metadata for ``Annotated`` lists: no two items are the same, or have the same ``key``.

    The API server checks it natively (list type ``set`` or ``map``), and server-side apply merges such lists by item.
    """

    def __init__(self, key: str | None = None) -> None:
        self.key = key

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of the list, with the check for duplicates after it."""
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema with the list type."""
        json_schema = handler(schema)
        if self.key is None:
            json_schema["x-kubernetes-list-type"] = "set"
        else:
            json_schema["x-kubernetes-list-type"] = "map"
            json_schema["x-kubernetes-list-map-keys"] = [to_camel(self.key)]
        return json_schema

    def _validate(self, items: list[Any]) -> list[Any]:
        seen: set[Hashable] = set()
        for item in items:
            identity = item if self.key is None else getattr(item, self.key)
            if identity in seen:
                raise PydanticCustomError("duplicate", "Duplicate value: {value}", {"value": str(identity)})
            seen.add(identity)
        return items


def immutable(*fields: str, remedy: str) -> tuple[Rule, ...]:
    """Transition rules that keep each of these JSON fields as it was created: not changed, added or taken away."""
    return tuple(
        Rule(
            f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
            f"{field} is immutable: {remedy}",
            field=field,
        )
        for field in fields
    )
