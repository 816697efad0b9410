"""Names and hashes: how one is built from several parts, and nothing about what carries it.

Hashes are SHA-256 over RFC 8785 (canonical) JSON, so that key order and number spelling never matter. They are
part of what is stored in a cluster: a change here renames children and rolls fleets, so the tests pin their values.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import rfc8785

from modelfleet.api import names

NAME_LENGTH: Final = 63
"""Longest name of an object that labels, Services and host names can carry (RFC 1123 label)."""

REVISION_LENGTH: Final = 10
WORKLOAD_LENGTH: Final = 10
OWNER_LENGTH: Final = 12
INSTALL_LENGTH: Final = 6

_EXACT: Final = 2**53
"""Integers below this in size are exact in JSON (RFC 8785, section 3.2.2.3)."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def text_hash(text: str, length: int) -> str:
    """The first ``length`` hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def content_hash(value: Any, length: int = 64) -> str:
    """The first ``length`` hex digits of the SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value)).hexdigest()[:length]


def canonical(value: Any) -> bytes:
    """The canonical JSON (RFC 8785) of a value.

    For ASCII texts and small integers, nearly all there is, the standard library's encoder writes the same and is
    many times faster: plans hash what they state, all of it, each time.
    """
    if _is_plain(value):
        text = _encode(value)
        if text.isascii():
            return text.encode()
    return rfc8785.dumps(value)


def _is_plain(value: Any) -> bool:
    """Whether all keys are texts and all numbers small integers."""
    kind = type(value)
    if kind is dict:
        for key, inner in value.items():
            if type(key) is not str or not (type(inner) is str or _is_plain(inner)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(inner) is str or _is_plain(inner) for inner in value)
    if kind is int:
        return bool(-_EXACT < value < _EXACT)
    return kind is str or kind is bool or value is None


def joined(*parts: str, limit: int = NAME_LENGTH) -> str:
    """The parts with dashes between them; where that is longer than ``limit``, cut, with a hash of them at the end.

    Two different lists of parts never share a name by the cut alone.
    """
    name = "-".join(parts)
    if len(name) <= limit:
        return name
    mark = text_hash("\0".join(parts), 8)
    return f"{name[: limit - 9].rstrip('-.')}-{mark}"


def node_label_key(owner_uid: str) -> str:
    """The label that names what a node serves for an EdgeDeployment (by uid)."""
    return f"{names.NODE_LABEL_PREFIX}{text_hash(owner_uid, OWNER_LENGTH)}"


def node_label_keys(owner_uid: str) -> tuple[str, str, str]:
    """All labels that an EdgeDeployment (by uid) writes on its nodes: what serves, what comes next, what failed."""
    key = node_label_key(owner_uid)
    return key, f"{key}-next", f"{key}-failed"


def install_mark(installation: str) -> str:
    """What tells this installation's node label values from those of another one in the same cluster."""
    return text_hash(installation, INSTALL_LENGTH)


def node_label_value(installation: str, workload: str) -> str:
    """The value that makes a node run this workload."""
    return f"{install_mark(installation)}-{workload}"


def workload_of(installation: str, value: str) -> str | None:
    """The workload that a node label's value names; ``None`` where another installation wrote it."""
    mark, separator, workload = value.partition("-")
    return workload if separator and mark == install_mark(installation) else None


def owner_reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    """The controller reference that lets the garbage collector clean a child up with its owner."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
