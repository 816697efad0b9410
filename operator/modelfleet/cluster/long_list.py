"""Decoding a long list as it comes: each object is handed over and gone before the list is whole.

Twenty thousand pods are some 100 MB of JSON, managedFields for the most part, and several times as much as objects; of
each, who lists them keeps a part. What is kept is not this module's.
"""

import codecs
import json
import re
from typing import Any, Final

_ITEMS: Final = re.compile(r'"items"\s*:\s*\[')
"""Where they begin: nothing that comes before them in a list has a key of this name."""
_GAP: Final = re.compile(r"[\s,]*")

_decode_one: Final = json.JSONDecoder().raw_decode


class LongList:
    """One list, as far as it has come."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._head = ""
        """What comes before the first item; empty as long as it has not come whole."""
        self._text = ""
        """What has come after it, and was not handed over."""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The items that are whole with this piece; raises ``ValueError`` for what is no text."""
        self._text += self._decoder.decode(data)
        position = 0
        if not self._head:
            begin = _ITEMS.search(self._text)
            if begin is None:
                return []
            position = begin.end()
            self._head = self._text[:position]
        found = []
        while True:
            position = _after_gap(self._text, position)
            try:
                item, position = _decode_one(self._text, position)
            except ValueError:
                # Its rest is yet to come, or this is the end of the items.
                break
            found.append(item)
        self._text = self._text[position:]
        return found

    def end(self) -> dict[str, Any]:
        """The list without what was handed over; raises ``ValueError`` where it has not come whole."""
        listed: dict[str, Any] = json.loads(self._head + self._text + self._decoder.decode(b"", final=True))
        return listed


def _after_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap is not None else position
