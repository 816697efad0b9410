"""Decoding a long list of metadata without holding it all: of each object, only what tells its states apart.

Twenty thousand pods are some 100 MB of JSON, managedFields for the most part, and several times as much as objects.
"""

import json
import re
from typing import Any, Final

KEPT: Final = ("namespace", "name", "uid", "resourceVersion")
"""Of an object's metadata."""

_ITEMS: Final = re.compile(r'"items"\s*:\s*\[')
"""Where they begin: nothing that comes before them in a list has a key of this name."""
_GAP: Final = re.compile(r"[\s,]*")

_decode_one: Final = json.JSONDecoder().raw_decode


def decode(data: bytes) -> tuple[list[dict[str, Any]], str]:
    """The metadata of a ``PartialObjectMetadataList``'s items, and the resourceVersion it is true for.

    Raises ``ValueError`` for what is no such list.
    """
    text = data.decode()
    begin = _ITEMS.search(text)
    if begin is None:
        return [], str(json.loads(text)["metadata"]["resourceVersion"])
    found, position = [], _after_gap(text, begin.end())
    while text[position : position + 1] != "]":
        item, position = _decode_one(text, position)
        found.append({key: item["metadata"][key] for key in KEPT if key in item["metadata"]})
        position = _after_gap(text, position)
    return found, str(json.loads(text[: begin.end()] + text[position:])["metadata"]["resourceVersion"])


def _after_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap is not None else position
