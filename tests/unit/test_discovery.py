"""What the API server serves: a kind that is missing is an answer, a failure is none."""

import asyncio
from typing import Any

import pytest

from modelfleet.cluster import discovery
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.kinds import ROUTING_KINDS


class Answers:
    """A connection whose answers are given by path; all else is not found."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    async def request(self, _method: str, path: str, *, kind: str) -> dict[str, Any]:
        assert kind == "APIResourceList"
        answer = self._answers.get(path, ApiError(404, "NotFound", path))
        if isinstance(answer, ApiError):
            raise answer
        return {"resources": [{"name": plural} for plural in answer]}


def served(answers: dict[str, Any]) -> frozenset[str]:
    return asyncio.run(discovery.served(Answers(answers), ROUTING_KINDS))  # type: ignore[arg-type]


def test_kinds_are_served_or_not_one_by_one() -> None:
    istio = {"/apis/networking.istio.io/v1": ["virtualservices", "gateways", "virtualservices/status"]}
    assert served({}) == frozenset()
    assert served(istio) == {"VirtualService"}
    assert served({**istio, "/apis/gateway.networking.k8s.io/v1": ["httproutes"]}) == {"VirtualService", "HTTPRoute"}


def test_a_failure_says_nothing_about_the_kinds() -> None:
    with pytest.raises(ApiError):
        served({"/apis/security.istio.io/v1": ApiError(503, "ServiceUnavailable", "try again")})
