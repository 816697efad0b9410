"""How a note becomes an Event: the same one for the same transition, never too long for the API server."""

import json
import logging

from modelfleet import logs
from modelfleet.cluster import events
from modelfleet.plan.outcome import Note

OBJECT = {
    "apiVersion": "modelfleet.dev/v1alpha1",
    "kind": "ModelVersion",
    "metadata": {"name": "m-" + "x" * 61, "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1},
}


def name(note: Note, **metadata: object) -> str:
    obj = {**OBJECT, "metadata": {**OBJECT["metadata"], **metadata}}  # type: ignore[dict-item]
    found: str = events.event(obj, note)["metadata"]["name"]
    return found


def test_the_name_tells_transitions_apart_and_nothing_else() -> None:
    note = Note("Warning", "HashMismatch", "file a")
    assert name(note) == name(note, resourceVersion="2")
    others = [name(note, uid="v"), name(note, generation=2), name(Note("Warning", "HashMismatch", "file b"))]
    assert len({name(note), *others}) == 4


def test_a_long_message_is_cut_to_whole_characters() -> None:
    event = events.event(OBJECT, Note("Normal", "Told", "ä" * 1000))
    assert len(event["note"].encode()) <= events.NOTE_LENGTH
    assert set(event["note"]) == {"ä"}


def test_json_log_lines_are_one_object_each() -> None:
    record = logging.LogRecord("modelfleet.x", logging.WARNING, __file__, 1, "two\nlines %s", ("ä",), None)
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines ä"
