"""Questions to the data plane and what came of them: the vocabulary of ``confirmation.py`` and of who asks."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

TRIES: Final = 3
"""Requests of each sort, each on a connection of its own: an ingress has replicas."""

AGAIN: Final = timedelta(seconds=5)
"""Between probes of a route that is not followed yet."""


@dataclass(frozen=True)
class Ask:
    """Requests of one sort, and who may answer them."""

    header: tuple[str, str] | None
    """Name and value of the canary's header; ``None``: without it."""
    allowed: frozenset[str]
    """Revisions."""


@dataclass(frozen=True)
class Question:
    """All that is asked about one route."""

    route: str
    """Its hash, as ``status.traffic.route`` has it."""
    url: str
    host: str
    """Name of the host that the request is for; empty: the one in the URL."""
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Reply:
    """The answer to one request."""

    ask: Ask
    revision: str = ""
    """Whose pod answered, as it says; empty where it does not."""
    error: str = ""
    """Why there is no answer; empty where there is one."""


@dataclass(frozen=True)
class Probed:
    """What came of a question."""

    route: str
    at: datetime
    why: str = ""
    """Why the route is not confirmed; empty: it is."""
