"""The Secret with the papers of a server of ours (``certificates.py``): read, and written when they are to be renewed.

The Secret itself comes with the chart, empty: the operator may not create Secrets, and reads and writes this one only.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime

from modelfleet.cluster.certificates import Papers, renewed
from modelfleet.cluster.client import Cluster
from modelfleet.plan.outcome import RawObject


async def keep(
    cluster: Cluster, namespace: str, secret: str, names: Sequence[str], now: Callable[[], datetime]
) -> Papers | None:
    """The papers of the Secret, good for a server of these DNS names; ``None`` where there is no such Secret.

    Raises :class:`~modelfleet.cluster.errors.ClusterError`.
    """
    held = await cluster.read("Secret", namespace, secret)
    if held is None:
        return None
    found = data(held)
    papers = renewed(found, names, now())
    if papers.data() != found:
        # Only if it is still what was read: a leader that was late must not undo what the next one made.
        metadata = {key: held["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        fresh = {name: base64.b64encode(value).decode() for name, value in papers.data().items()}
        await cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": fresh})
    return papers


def data(secret: RawObject) -> dict[str, bytes]:
    """What a Secret holds; nothing, where it is not what Kubernetes would have written."""
    try:
        return {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
    except binascii.Error:
        return {}
