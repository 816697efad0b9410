"""What the pods of a distributed step need in order to tell their progress: variables, a token, an authority.

The authority comes from an annotation of the pod, through the kubelet: no ConfigMap for each namespace, and no right to
write one. It is that of the attempt; an authority lives for years.
"""

from typing import Any, Final

from modelfleet.api import names, progress
from modelfleet.plan.installation import ProgressServer

_VOLUME: Final = "progress"


def variables(server: ProgressServer, namespace: str, training_job: str) -> dict[str, str]:
    """Environment of the step's container."""
    return {
        progress.URL_ENV: server.url + progress.path(namespace, training_job),
        progress.AUTHORITY_ENV: f"{progress.FOLDER}/{progress.AUTHORITY_FILE}",
        progress.TOKEN_ENV: f"{progress.FOLDER}/{progress.TOKEN_FILE}",
    }


def annotations(server: ProgressServer) -> dict[str, str]:
    """Annotations of the pod."""
    return {names.PROGRESS_AUTHORITY_ANNOTATION: server.authority}


def mount() -> dict[str, Any]:
    """Where the container finds the files."""
    return {"name": _VOLUME, "mountPath": progress.FOLDER, "readOnly": True}


def volume() -> dict[str, Any]:
    """The files: a token that is bound to this pod and good for nothing but telling progress, and the authority."""
    token = {
        "audience": progress.AUDIENCE,
        "expirationSeconds": progress.TOKEN_SECONDS,
        "path": progress.TOKEN_FILE,
    }
    where = {"fieldPath": f"metadata.annotations['{names.PROGRESS_AUTHORITY_ANNOTATION}']"}
    authority = {"items": [{"path": progress.AUTHORITY_FILE, "fieldRef": where}]}
    return {"name": _VOLUME, "projected": {"sources": [{"serviceAccountToken": token}, {"downwardAPI": authority}]}}
