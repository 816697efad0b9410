"""Which kinds the API server serves at the moment: those that other projects install may come and go."""

from collections.abc import Iterable

from modelfleet.cluster.connection import Connection
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.kinds import KINDS


async def served(connection: Connection, kinds: Iterable[str]) -> frozenset[str]:
    """Those of the kinds that are served, in the version that the operator knows.

    Every authenticated user may ask (ClusterRole ``system:discovery``). Raises :class:`ApiError` where the answer could
    not be had, which says nothing about the kinds.
    """
    by_version: dict[str, set[str]] = {}
    for kind in kinds:
        by_version.setdefault(KINDS[kind].api_version, set()).add(kind)
    found: set[str] = set()
    for version, wanted in sorted(by_version.items()):
        try:
            answer = await connection.request("GET", f"/apis/{version}", kind="APIResourceList")
        except ApiError as error:
            if error.code != 404:
                raise
            continue
        plurals = {resource["name"] for resource in answer["resources"]}
        found |= {kind for kind in wanted if KINDS[kind].plural in plurals}
    return frozenset(found)
