"""What a node's labels say about an EdgeDeployment: what it serves, what comes next, what failed there.

One label names the workload that the gateway **serves**. With ``recreateOrder: PrefetchFirst`` a second one names the
workload that comes **next**: its DaemonSet selects either label, so its pod is made ready beside the one that serves.
The third is the note of what **failed** there: it is not tried again before the next attempt. All of it lies on the
node, so it survives the operator, and a status that was lost. What is written when is ``handover.py``'s.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from modelfleet.plan import naming

REASON_LENGTH: Final = 30
"""A label's value has 63 characters; the other parts of the note take up to 30."""

_NOT_IN_A_REASON: Final = re.compile(r"[^A-Za-z0-9]")


class Keys(NamedTuple):
    """The keys of an EdgeDeployment's labels on nodes."""

    serves: str
    next: str
    failed: str


class Failed(NamedTuple):
    """The note on a node: this workload did not come up there."""

    workload: str
    """Its hash."""
    attempt: int
    """``status.attempt`` at that time: a later attempt tries again."""
    reason: str
    """One CamelCase word."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The labels of one node, read; empty where there are none, or another installation wrote them."""

    serves: str = ""
    """Hash of the workload that it serves."""
    next: str = ""
    """Hash of the workload that is made ready beside it."""
    failed: Failed | None = None


NOTHING: Final = Assignment()


def keys(owner_uid: str) -> Keys:
    """The keys of the EdgeDeployment with this uid."""
    return Keys(*naming.node_label_keys(owner_uid))


def read(labels: Mapping[str, str], found_at: Keys, installation_mark: str) -> Assignment:
    """The assignment in a node's labels; ``installation_mark`` is :func:`naming.install_mark` and a dash."""
    serves, following, failed = (
        value.removeprefix(installation_mark) if value and value.startswith(installation_mark) else ""
        for value in map(labels.get, found_at)
    )
    return Assignment(serves, following, _note(failed)) if serves or following or failed else NOTHING


def failed_value(installation: str, note: Failed) -> str:
    """The label's value that :func:`read` makes the note of again, but for what of the reason does not fit."""
    reason = _NOT_IN_A_REASON.sub("", note.reason)[:REASON_LENGTH] or "NotReady"
    return naming.node_label_value(installation, f"{note.workload}.{note.attempt}.{reason}")


def _note(text: str) -> Failed | None:
    workload, _, rest = text.partition(".")
    attempt, _, reason = rest.partition(".")
    return Failed(workload, int(attempt), reason) if attempt.isdecimal() and reason else None
