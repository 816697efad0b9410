"""Requests counted from the API server's audit log: who wrote what, and how often.

The log is JSON lines at Metadata level, one ``ResponseComplete`` event a request (watches: one when they end). It is
the API server's own account, so a count from it cannot flatter the operator.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One answered request."""

    user: str
    verb: str
    resource: str
    """Plural, with the subresource behind a slash."""
    namespace: str
    name: str
    code: int
    dry_run: bool = False
    """Whether only to be told what would come of it."""

    @property
    def is_write(self) -> bool:
        """Whether it changes, or tries to change, something in the store."""
        return self.verb in WRITE_VERBS


@dataclass
class AuditLog:
    """Reads on from where it stood: ``mark()`` now, ``since_mark()`` later."""

    path: Path
    _offset: int = 0

    def mark(self) -> None:
        """Forget what was logged so far."""
        self._offset = self.path.stat().st_size

    def since_mark(self, user: str) -> list[Request]:
        """The requests of one user that were answered since the mark."""
        return [request for request in self._requests() if request.user == user]

    def _requests(self) -> Iterator[Request]:
        with self.path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return  # still being written
                event = json.loads(line)
                if event.get("stage") != "ResponseComplete":
                    continue
                about = event.get("objectRef", {})
                resource = about.get("resource", "")
                if about.get("subresource"):
                    resource += "/" + about["subresource"]
                yield Request(
                    user=event["user"]["username"],
                    verb=event["verb"],
                    resource=resource,
                    namespace=about.get("namespace", ""),
                    name=about.get("name", ""),
                    code=event.get("responseStatus", {}).get("code", 0),
                    dry_run="dryRun=All" in event.get("requestURI", ""),
                )


def writes(requests: list[Request], *, lease: bool = False) -> list[Request]:
    """The writes among the requests, the leader's Lease apart unless it is asked for."""
    return [request for request in requests if request.is_write and (lease or request.resource != "leases")]


def tally(requests: list[Request]) -> Counter[str]:
    """How often each ``verb resource`` was asked."""
    return Counter(
        f"{request.verb} {request.resource}{' (dry run)' if request.dry_run else ''}" for request in requests
    )
