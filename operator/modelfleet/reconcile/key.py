"""The name of what a reconcile is for."""

from typing import NamedTuple


class Key(NamedTuple):
    """The object a reconcile is for: one of our three kinds, by name. It may be gone by the time it is looked at."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As logs and errors show it."""
        return f"{self.kind} {self.namespace}/{self.name}"
