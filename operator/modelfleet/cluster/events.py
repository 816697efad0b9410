"""How a Note becomes a Kubernetes Event. No request is made here."""

import hashlib
import os
from datetime import UTC, datetime
from typing import Any, Final

from modelfleet.api import names
from modelfleet.plan.outcome import Note, RawObject

NOTE_LENGTH: Final = 1024
"""Longest ``note`` that the API server takes, in bytes."""

_NAME_LENGTH: Final = 63


def event(obj: RawObject, note: Note) -> dict[str, Any]:
    """The Event about ``obj``; the same note about the same generation has the same name, so it is made once."""
    metadata = obj["metadata"]
    text = note.message.encode()[:NOTE_LENGTH].decode(errors="ignore")
    identity = (metadata["uid"], str(metadata.get("generation", 0)), note.reason, text)
    mark = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name'][:_NAME_LENGTH]}.{mark}", "namespace": metadata["namespace"]},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": os.environ.get("HOSTNAME", "modelfleet")[:128],
        "action": "Reconcile",
        "type": note.type,
        "reason": note.reason,
        "note": text,
        "regarding": {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }
