"""Commands: what a person tells a rollout by annotations, and which of it holds now.

``modelfleet.dev/{promote,abort,retry,pause}: <revision>/<attempt>[/<wave, step or full>]``. The value names the very
rollout that it means, so a command that is left over from another one is inert. A command that is obeyed is latched
in the status (``lastCommand``, ``attempt``, ``abortedRevision``): taking the annotation away undoes nothing, leaving
it there repeats nothing. Only ``pause`` holds as long as it is there. What a promotion lets pass is ``waves.py``'s.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from modelfleet.api import names

Verb = Literal["retry", "abort", "promote", "pause"]

PAUSE: Final = "pause"
FULL: Final = "full"
"""As a promotion's scope: all that is left of this rollout."""

_VALUE: Final = re.compile(r"([0-9a-z]{1,63})/([1-9][0-9]{0,5})(?:/([-0-9a-z]{1,30}))?")
_VERBS: Final[tuple[Verb, ...]] = ("retry", "abort", "promote", "pause")
"""In the order in which they are obeyed: with a retry, what was said of the attempt before is stale."""


@dataclass(frozen=True)
class Command:
    """One command that can be read."""

    verb: Verb
    revision: str
    attempt: int
    scope: str = ""
    """Of a promotion: a wave's name, a canary step's number, or ``full``."""

    def __str__(self) -> str:
        """As ``status.lastCommand`` has it."""
        return f"{self.verb} {self.revision}/{self.attempt}" + (f"/{self.scope}" if self.scope else "")


@dataclass(frozen=True)
class Orders:
    """What the rollout of a revision is under, commands that were obeyed before included."""

    revision: str
    """The one that the spec asks for."""
    attempt: int = 1
    """Which attempt at it this is."""
    aborted: str = ""
    """The revision that is not started again without a retry."""
    last: str = ""
    """The command that was obeyed last."""
    paused: bool = False
    """Whether an annotation holds the rollout."""
    refused: str = ""
    """Why a command cannot be obeyed, with the remedy."""
    fresh: bool = False
    """Whether an abort or a retry was obeyed just now: it is latched before anything is done about it."""

    @property
    def is_aborted(self) -> bool:
        """Whether the revision that the spec asks for was aborted."""
        return bool(self.revision) and self.aborted == self.revision

    def promotes(self, scope: str) -> bool:
        """Whether this wave or step, by name or number, may pass without a pause."""
        return self.last in (f"{self._promotion}/{scope}", f"{self._promotion}/{FULL}")

    @property
    def _promotion(self) -> str:
        return f"promote {self.revision}/{self.attempt}"


def obey(
    annotations: Mapping[str, str], before: Mapping[str, Any], revision: str, scopes: Collection[str], noted: int = 0
) -> Orders:
    """What holds for the rollout of ``revision``, the one that the spec asks for (empty: it is not known).

    ``before`` is the status; ``scopes`` are the names and numbers that a promotion may give; ``noted`` is the latest
    attempt that a node's note of a failure speaks of.
    """
    told = {key: str((before.get(key) or {}).get("revision", "")) for key in ("stable", "candidate")}
    aborted = str(before.get("abortedRevision") or "")
    last = str(before.get("lastCommand") or "")
    if revision in (*told.values(), aborted):
        attempt = int(before.get("attempt") or 1)
    else:
        # Rolled out anew: what was said of it in an earlier rollout must not let it pass now. Where the status was
        # lost, nothing tells the two apart, and an abort that is still there counts.
        attempt = 1 + _attempts_named(annotations, last, revision) if any(told.values()) else 1
        # What failed on a node is not tried there again before a retry; the retry's attempt must then be a later one.
        attempt = max(attempt, noted)
    orders = Orders(revision, attempt, aborted, last)
    if not revision:
        return orders
    for verb in _VERBS:
        value = annotations.get(f"{names.GROUP}/{verb}")
        command = _read(verb, value) if value is not None else None
        if command is not None and (command.revision, command.attempt) == (revision, orders.attempt):
            orders = _obey(command, orders, told["stable"], scopes)
        elif command is None and value is not None:
            orders = replace(orders, refused=_refusal(verb, orders, scopes))
    return orders


def _attempts_named(annotations: Mapping[str, str], last: str, revision: str) -> int:
    """The latest attempt at this revision that any command speaks of; 0 where none does."""
    said = [(verb, annotations[key]) for verb in _VERBS if (key := f"{names.GROUP}/{verb}") in annotations]
    said += [(verb, last.removeprefix(f"{verb} ")) for verb in _VERBS if last.startswith(f"{verb} ")]
    found = (command for command in (_read(verb, value) for verb, value in said) if command)
    # A retry began the attempt after the one that it names.
    return max((each.attempt + (each.verb == "retry") for each in found if each.revision == revision), default=0)


def example(verb: Verb, orders: Orders, scope: str = "") -> str:
    """The annotation that gives this command now, as ``kubectl annotate`` takes it."""
    command = Command(verb, orders.revision, orders.attempt, scope)
    return f"{names.GROUP}/{str(command).replace(' ', '=')}"


def _read(verb: Verb, value: str) -> Command | None:
    parts = _VALUE.fullmatch(value.strip())
    if parts is None or (verb == "promote" and parts[3] is None):
        return None
    # The others mean the rollout as a whole; a scope that came along from a promotion's value does no harm.
    return Command(verb, parts[1], int(parts[2]), parts[3] if verb == "promote" else "")


def _obey(command: Command, orders: Orders, stable: str, scopes: Collection[str]) -> Orders:
    if command.verb == "retry":
        aborted = "" if orders.is_aborted else orders.aborted
        return replace(orders, attempt=orders.attempt + 1, aborted=aborted, last=str(command), fresh=True)
    if command.verb == "abort":
        if orders.is_aborted or orders.revision == stable:
            return orders
        return replace(orders, aborted=orders.revision, last=str(command), fresh=True)
    if command.verb == "pause":
        return replace(orders, paused=not orders.is_aborted and orders.revision != stable)
    if command.scope != FULL and command.scope not in scopes:
        return replace(orders, refused=_refusal("promote", orders, scopes))
    if orders.is_aborted or orders.promotes(FULL):
        return orders
    return replace(orders, last=str(command))


def _refusal(verb: Verb, orders: Orders, scopes: Collection[str]) -> str:
    if verb == "promote":
        form, scope = "<revision>/<attempt>/<wave, step or full>", min(scopes, default=FULL)
    else:
        form, scope = "<revision>/<attempt>", ""
    return f"annotation {names.GROUP}/{verb} must be {form}, such as {example(verb, orders, scope)}; it is ignored"
