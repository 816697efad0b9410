"""The parts that every pod of ours has: who it runs as, how it gets an order, and where a store's Secret lies.

What a pod is *for* is decided elsewhere (``workload.py``, ``verification.py``, ``step_job.py``). The rules are those
of the Pod Security Standard *restricted*, with a read-only root on top.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from modelfleet.api import wire
from modelfleet.plan import naming

USER: Final = 65532
"""uid and gid of everything we run; also fsGroup, so that volumes are writable."""

TMP_MOUNT: Final[Mapping[str, Any]] = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a path inside the container
TMP_VOLUME: Final[Mapping[str, Any]] = {"name": "tmp", "emptyDir": {}}


def pod_basics(image_pull_secrets: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of a PodSpec that are the same in every pod of ours: no token, no root, no service links.

    ``enableServiceLinks`` is off because its variables change with the namespace's Services, not with our template.
    """
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    secrets = [{"name": name} for name in dict.fromkeys(image_pull_secrets)]
    if secrets:
        spec["imagePullSecrets"] = secrets
    return spec


def container_security() -> dict[str, Any]:
    """The securityContext of every container of ours."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def order_env(order: wire.Wire) -> dict[str, str]:
    """The environment variable that carries an order to a program of ours.

    ``$`` is doubled: the kubelet would expand ``$(NAME)`` in a value, and an order quotes what users wrote.
    """
    text = order.model_dump_json(by_alias=True, exclude_none=True)
    return {"name": wire.ORDER_ENV, "value": text.replace("$", "$$")}


def runtime_container(
    name: str,
    verb: str,
    order: wire.Wire,
    *,
    image: str,
    pull_policy: str,
    mounts: Iterable[Mapping[str, Any]] = (),
    resources: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A container that runs ``python -m modelfleet.runtime <verb>`` from the runtime image.

    A program that dies before it can report leaves the end of its log in the termination message instead.
    """
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": [verb],
        "env": [order_env(order)],
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [dict(TMP_MOUNT), *(dict(mount) for mount in mounts)],
    }
    if resources:
        container["resources"] = dict(resources)
    return container


def resources(*, memory_limit: str) -> dict[str, Any]:
    """What a small program of ours asks for. With limits of both kinds: some quotas take no pod without."""
    return {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"cpu": "2", "memory": memory_limit},
    }


def before(container: Mapping[str, Any]) -> dict[str, Any]:
    """Resources of a container that runs before one of these, and prepares its work: the same, but for devices.

    The scheduler counts the larger of the two, so it costs nothing; and a quota that demands limits demands them of
    every container.
    """
    plain = {
        section: {name: amount for name, amount in amounts.items() if "/" not in name}
        for section, amounts in container.items()
        if section in ("requests", "limits")
    }
    return {section: amounts for section, amounts in plain.items() if amounts}


def credentials_path(secret: str | None) -> str | None:
    """The folder where a container finds a store Secret's keys; ``None`` for an anonymous store."""
    return f"{wire.CREDENTIALS_ROOT}/{secret}" if secret else None


def credentials_volumes(secrets: Iterable[str | None]) -> list[dict[str, Any]]:
    """A volume for each distinct Secret, in a stable order. A pod waits until its Secret exists, then goes on."""
    return [
        {"name": _credentials_volume(name), "secret": {"secretName": name, "defaultMode": 0o440}}
        for name in _distinct(secrets)
    ]


def credentials_mounts(secrets: Iterable[str | None]) -> list[dict[str, Any]]:
    """The mounts that go with :func:`credentials_volumes`."""
    return [
        {"name": _credentials_volume(name), "mountPath": f"{wire.CREDENTIALS_ROOT}/{name}", "readOnly": True}
        for name in _distinct(secrets)
    ]


def _distinct(secrets: Iterable[str | None]) -> list[str]:
    return sorted({name for name in secrets if name})


def _credentials_volume(secret: str) -> str:
    # A Secret's name may be longer than a volume's, and hold dots.
    return f"credentials-{naming.text_hash(secret, 8)}"
