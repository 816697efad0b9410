"""Instant queries to a Prometheus server: one number, no number, or an error.

What it means is ``plan/traffic/analysis.py``'s.

The address was written by a user and allowed by the administrator: nothing but that address is asked. Redirects are
not followed, proxies of the environment are not used, and an answer is read up to a bound.
Source: Prometheus documentation, "HTTP API", instant queries.
"""

import json
from typing import Any, Final

import aiohttp

TIMEOUT_SECONDS: Final = 10.0
ANSWER_BYTES: Final = 1 << 20
"""Longest answer that is read; one number takes some hundred bytes."""
ERROR_LENGTH: Final = 200


class PrometheusError(Exception):
    """The server did not answer, or not with a number; the message says why."""


class Prometheus:
    """Queries to any number of servers. Close it when done."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def query(self, address: str, query: str) -> float | None:
        """The value of a query that gives one sample; ``None`` where it gives none.

        Raises :class:`PrometheusError`.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
        url = f"{address.rstrip('/')}/api/v1/query"
        try:
            async with self._session.post(
                url, data={"query": query}, allow_redirects=False, timeout=self._timeout
            ) as response:
                if 300 <= response.status < 400:
                    raise PrometheusError(f"{address} redirects, which is not followed: give the address itself")
                body = await _bounded(response)
        except TimeoutError as error:
            raise PrometheusError(f"{address} gives no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise PrometheusError(f"{address}: {str(error)[:ERROR_LENGTH]}") from error
        return _number(_answer(body, address, response.status), address)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise PrometheusError(f"an answer of more than {ANSWER_BYTES} bytes: aggregate the query to one number")
    return bytes(body)


def _answer(body: bytes, address: str, status: int) -> dict[str, Any]:
    try:
        answer = json.loads(body)
        state = answer["status"]
    except (ValueError, TypeError, KeyError):
        raise PrometheusError(f"{address} answers {status}, and not as a Prometheus server does") from None
    if state != "success" or status >= 300:
        why = f"{answer.get('errorType', '')}: {answer.get('error', '')}"[:ERROR_LENGTH]
        raise PrometheusError(f"{address} answers {status}, {why}")
    data = answer.get("data")
    return data if isinstance(data, dict) else {}


def _number(data: dict[str, Any], address: str) -> float | None:
    kind, result = data.get("resultType"), data.get("result")
    try:
        if kind == "scalar" and isinstance(result, list):
            return float(result[1])
        if kind == "vector" and isinstance(result, list):
            if len(result) > 1:
                raise PrometheusError(f"the query gives {len(result)} series: aggregate it to one, as with sum()")
            return float(result[0]["value"][1]) if result else None
    except (ValueError, TypeError, KeyError, IndexError):
        raise PrometheusError(f"{address} answers with a sample that is no number") from None
    raise PrometheusError(f"the query gives a {kind}: it must be an instant vector or a scalar")
