"""Whether a live object already has all that we state, and what a status patch must say. Pure.

Server-side apply of something unchanged can still move resourceVersion (kubernetes#121404) and is a write request
in any case, so the executor asks :func:`covers` first. It has to read values as the API server does: quantities
are rewritten (``1000m`` → ``1``), empty values are dropped, and named lists may carry others' items.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelfleet.api import quantity

_QUANTITY_MAPS: Final = ("limits", "requests")
_QUANTITY_FIELDS: Final = ("sizeLimit",)
_RUNNING_ACCOUNTS: Final = ("trainerStatus", "watch")
"""Change all the time while a training runs, and say nothing that anybody must know at once."""

_TELLING_COUNTS: Final = ("observedGeneration", "wave", "step", "revision", "attempt", "restarts")


def covers(live: Any, stated: Any, field: str = "") -> bool:
    """Whether everything stated is in the live value, as the API server would have stored it."""
    if live is None:
        return _is_empty(stated)
    if isinstance(stated, Mapping):
        if not isinstance(live, Mapping):
            return False
        inner = "quantity" if field in _QUANTITY_MAPS else ""
        return all(covers(live.get(key), value, inner or key) for key, value in stated.items())
    if isinstance(stated, Sequence) and not isinstance(stated, str):
        return isinstance(live, Sequence) and not isinstance(live, str) and _covers_list(live, stated)
    if field == "quantity" or field in _QUANTITY_FIELDS:
        return bool(_number(live) == _number(stated))
    return bool(live == stated)


def merge_patch(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns ``live`` into ``wanted``; empty when they are equal."""
    patch: dict[str, Any] = {key: None for key in live if key not in wanted}
    for key, value in wanted.items():
        old = live.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif key not in live or old != value:
            patch[key] = value
    return patch


def significant(status: Any) -> Any:
    """A status without what changes by the dozen while a fleet moves: counts, messages and times.

    What is left (phases, revisions, waves, steps, conditions' status and reason) is worth a write at once.
    """
    if isinstance(status, Mapping):
        return {
            key: significant(value)
            for key, value in status.items()
            if key in _TELLING_COUNTS or not (key in _RUNNING_ACCOUNTS or _is_count(value) or _is_prose(key))
        }
    if isinstance(status, Sequence) and not isinstance(status, str):
        return [significant(value) for value in status]
    return status


def without_nulls(value: Any) -> Any:
    """The value without ``None`` anywhere in its maps: a null in a merge patch would delete, and never settle."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_nulls(inner) for inner in value]
    return value


def _covers_list(live: Sequence[Any], stated: Sequence[Any]) -> bool:
    """Lists of named items may carry more, as injected sidecars; all others are compared item by item."""
    if stated and all(isinstance(item, Mapping) and "name" in item for item in stated):
        by_name = {item.get("name"): item for item in live if isinstance(item, Mapping)}
        return all(covers(by_name.get(item["name"]), item) for item in stated)
    return len(live) == len(stated) and all(covers(ours, item) for ours, item in zip(live, stated, strict=True))


def _is_empty(value: Any) -> bool:
    """Whether the API server leaves this out when it stores the object (Go's omitempty)."""
    return value is None or value in ("", False, 0) or (isinstance(value, Mapping | list | tuple) and not value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_prose(key: str) -> bool:
    return key == "message" or key.endswith(("Time", "Timestamp"))


def _number(value: Any) -> Any:
    """A Kubernetes quantity as a number; whatever is none stays what it is."""
    try:
        return quantity.parse(str(value))
    except ValueError:
        return value
