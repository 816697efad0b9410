"""How a program in a pod is heard: the order it gets, the report it leaves, and the exit codes.

The messages themselves are in ``modelfleet.api.wire``. A report goes to the container's termination message, which the
kubelet copies into the pod's status; so it must fit ``REPORT_LIMIT`` bytes.
"""

import os
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from modelfleet.api.wire import (
    ORDER_ENV,
    REPORT_LIMIT,
    FailureReason,
    FetchReport,
    ResolveReport,
    VerifiedFile,
    VerifyReport,
    Wire,
)

TERMINATION_LOG_ENV: Final = "MODELFLEET_TERMINATION_LOG"
"""Overrides where the report goes, for runs outside of a pod."""

MESSAGE_LIMIT: Final = 256
"""Characters of a message: it ends up in a condition."""

_DETAILS: Final = ("inputs", "outputs", "agreement")

Message = TypeVar("Message", bound=Wire)


class Exit(IntEnum):
    """Exit codes of every program of the runtime image."""

    DONE = 0
    REFUSED = 1
    """Trying again cannot help: wrong bytes, wrong size, an order that makes no sense."""
    TRY_AGAIN = 75
    """EX_TEMPFAIL of sysexits.h: the store was out of reach, refused us, or the disk is full."""


PERMANENT: Final[frozenset[FailureReason]] = frozenset(
    {
        "HashMismatch",
        "SizeMismatch",
        "InvalidModel",
        "InterfaceMismatch",
        "PrecisionMismatch",
        "Invalid",
        "UnknownRevision",
    }
)


class RefusedError(Exception):
    """A file that was not accepted, with the reason that conditions carry and a message a person can act on."""

    def __init__(self, reason: FailureReason, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.reason: FailureReason = reason
        self.message = shorten(message)
        self.transient = transient
        """Worth another try at once (a connection was cut), as opposed to later (the file is not there)."""

    @property
    def exit_code(self) -> Exit:
        """The code to leave with."""
        return Exit.REFUSED if self.reason in PERMANENT else Exit.TRY_AGAIN


def shorten(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the message on one line and within the limit."""
    line = " ".join(message.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def read_order(kind: type[Message]) -> Message:
    """Read this program's order from the environment; RefusedError(Invalid) when it is missing or malformed."""
    text = os.environ.get(ORDER_ENV)
    if text is None:
        raise RefusedError(
            "Invalid", f"the environment variable {ORDER_ENV} is not set: the operator sets it on its pods"
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise RefusedError("Invalid", f"{ORDER_ENV} is no {kind.__name__}: {error}") from error


def leave(message: Wire) -> None:
    """Write the termination message, trimmed so that it fits; outside of a pod it goes nowhere."""
    path = Path(os.environ.get(TERMINATION_LOG_ENV, "/dev/termination-log"))
    if TERMINATION_LOG_ENV in os.environ or path.exists():
        path.write_bytes(trimmed(message))


def trimmed(message: Wire) -> bytes:
    """Encode a report within ``REPORT_LIMIT`` bytes; ValueError when that cannot be done.

    Its messages are shortened first; where that is not enough, the details of models are told of the first one only,
    then of none.
    """
    for shorter in (message, _without(message, "inputs", "outputs"), _without(message, *_DETAILS, of_all=True)):
        for limit in (MESSAGE_LIMIT, 120, 60, 20, 0):
            encoded = encode(_with_messages(shorter, limit))
            if len(encoded) <= REPORT_LIMIT:
                return encoded
    raise ValueError(f"the report takes {len(encoded)} bytes, a pod can report {REPORT_LIMIT}")


def encode(message: Wire) -> bytes:
    """Return the JSON of a message as it goes over the wire."""
    return message.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True).encode()


def _with_messages(message: Wire, limit: int) -> Wire:
    if isinstance(message, VerifyReport):
        files = [file.model_copy(update={"message": _cut(file.message, limit)}) for file in message.artifacts]
        return message.model_copy(update={"artifacts": files})
    if isinstance(message, FetchReport | ResolveReport):
        return message.model_copy(update={"message": _cut(message.message, limit)})
    return message


def _without(message: Wire, *details: str, of_all: bool = False) -> Wire:
    """A report that tells these details of the first model only, or of none."""
    if not isinstance(message, VerifyReport):
        return message
    first = next((file.name for file in message.artifacts if file.outputs and not of_all), "")
    empty = {name: VerifiedFile.model_fields[name].get_default() for name in details}
    files = [file if file.name == first else file.model_copy(update=empty) for file in message.artifacts]
    return message.model_copy(update={"artifacts": files})


def _cut(message: str, limit: int) -> str:
    return shorten(message, limit) if limit else ""
