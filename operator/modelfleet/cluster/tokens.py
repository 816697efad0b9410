"""Who sent a request: the pod that a service account token is bound to, by the API server's word (a TokenReview).

A token is read before it is believed, so that what cannot be right costs the API server nothing; what it confirmed is
remembered for five minutes. Tokens are kept as their hash only.
"""

import base64
import binascii
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from modelfleet.cluster.connection import Connection
from modelfleet.cluster.kinds import KINDS

REMEMBERED_SECONDS: Final = 300.0
"""The tokens of a thousand trainings then cost three requests a second; a pod that is gone is refused in any case."""
_REMEMBERED: Final = 20_000
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True)
class PodIdentity:
    """A pod, as a token names it."""

    namespace: str
    name: str
    uid: str


def claimed(token: str, audience: str) -> PodIdentity | None:
    """The pod that a token says it is bound to, unverified; ``None`` where it is for another audience, or no token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        audiences, bound = payload["aud"], payload["kubernetes.io"]
        found = PodIdentity(bound["namespace"], bound["pod"]["name"], bound["pod"]["uid"])
    except (ValueError, binascii.Error, KeyError, TypeError, RecursionError):
        return None
    named = all(isinstance(each, str) for each in (found.namespace, found.name, found.uid))
    return found if named and audience in (audiences if isinstance(audiences, list) else [audiences]) else None


class Tokens:
    """Asks the API server about tokens for one audience."""

    def __init__(self, connection: Connection, audience: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._audience = audience
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, PodIdentity]] = OrderedDict()

    def remembered(self, token: str) -> PodIdentity | None:
        """The pod of a token that was confirmed within the last five minutes."""
        until, pod = self._known.get(_digest(token), (0.0, None))
        return pod if self._clock() < until else None

    async def review(self, token: str) -> PodIdentity | None:
        """The pod that the token is bound to; ``None``: the API server does not take it for this audience.

        Raises :class:`~modelfleet.cluster.errors.ApiError` where it could not be asked.
        """
        body = {
            "apiVersion": KINDS["TokenReview"].api_version,
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        answer = await self._connection.request("POST", KINDS["TokenReview"].path(), kind="TokenReview", body=body)
        pod = self._read(answer.get("status") or {})
        if pod is not None:
            digest = _digest(token)
            self._known[digest] = (self._clock() + REMEMBERED_SECONDS, pod)
            self._known.move_to_end(digest)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return pod

    def _read(self, status: dict[str, Any]) -> PodIdentity | None:
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        words: list[str] = str(user.get("username", "")).split(":")
        names: list[str] = list(extra.get(_POD_NAME) or ())
        uids: list[str] = list(extra.get(_POD_UID) or ())
        if not status.get("authenticated") or self._audience not in (status.get("audiences") or ()):
            return None
        if words[:2] != ["system", "serviceaccount"] or len(words) != 4 or len(names) != 1 or len(uids) != 1:
            return None
        return PodIdentity(words[2], names[0], uids[0])


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
