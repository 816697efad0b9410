"""Keeping a TrainingJob's status below 32 KiB, whatever its steps, its gate and its source have to say.

What the plan goes by (results, attempts, times, verdicts, lineage) always stays, and is bounded where it is made. What
only tells a person is cut where all of it together is too much: least first, the job's own conditions last.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from modelfleet.plan import conditions

MOST_BYTES: Final = 32 * 1024 - 256
"""Of a status as the API server stores it, and some to spare for what it writes otherwise."""

Status = dict[str, Any]


def bounded(status: Mapping[str, Any]) -> Status:
    """The status, cut no more than it must be. Of a status that was cut before, the same comes out."""
    cut = dict(status)
    for smaller in _SMALLER:
        if size(cut) <= MOST_BYTES:
            break
        cut = smaller(cut)
    return cut


def size(status: Mapping[str, Any]) -> int:
    """Bytes of it as JSON; what is null is not stored."""
    return len(json.dumps(_stored(status), ensure_ascii=False, separators=(",", ":")).encode())


def _stored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _stored(inner) for key, inner in value.items() if inner is not None}
    return [_stored(inner) for inner in value] if isinstance(value, list | tuple) else value


def _shorter(length: int, *, of_conditions: bool = False) -> Callable[[Status], Status]:
    """All messages cut to so many characters, those of the conditions too where it says so."""

    def cut(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _cut(inner, length) if key == "message" else cut(inner) for key, inner in value.items()}
        return [cut(inner) for inner in value] if isinstance(value, list | tuple) else value

    def smaller(status: Status) -> Status:
        return {
            key: inner if key == "conditions" and not of_conditions else cut(inner) for key, inner in status.items()
        }

    return smaller


def _cut(message: str | None, length: int) -> str | None:
    if not message:
        return message
    return conditions.shorten(message, length) if length else None


def _fewer_metrics(most: int) -> Callable[[Status], Status]:
    """Of a training's own account of itself, the first so many: those that gate and termination name are."""

    def smaller(status: Status) -> Status:
        trainer = status.get("trainerStatus")
        if not trainer or not trainer.get("metrics"):
            return status
        return {**status, "trainerStatus": {**trainer, "metrics": trainer["metrics"][:most] or None}}

    return smaller


def _fewer_refs(status: Status) -> Status:
    """The channel was told from all of them; the first is the most trusted."""
    source = status.get("source")
    return {**status, "source": {**source, "refs": source["refs"][:1]}} if source and source.get("refs") else status


def _nothing_of_termination_where_done(status: Status) -> Status:
    """What a step's next attempts would go by; one that is done has none."""

    def of(step: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in step.items():
            if step["phase"] != "Succeeded" or key not in ("watch", "priorityClassName"):
                yield key, value

    return {**status, "steps": [dict(of(step)) for step in status.get("steps") or ()]}


_SMALLER: Final = (
    _shorter(120),
    _fewer_metrics(8),
    _nothing_of_termination_where_done,
    _fewer_refs,
    _shorter(40),
    _shorter(120, of_conditions=True),
    _shorter(0),
    _shorter(40, of_conditions=True),
    _fewer_metrics(0),
)
