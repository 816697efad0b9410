"""One connection to the API server: credentials and transport of the Kubernetes client, JSON in and out.

The client's typed models are passed by: they decode many times slower than plain JSON, and reconcilers work on raw
objects anyway. Requests are not retried here; the queue retries whole reconciles, which are level-triggered.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Required, TypedDict, Unpack
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from modelfleet import event_loop
from modelfleet.cluster.errors import ApiError

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

REQUEST_TIMEOUT: Final = 30.0
"""Seconds for one request, answer included."""

SILENCE_TIMEOUT: Final = 70.0
"""Seconds without a byte after which a stream counts as broken: the API server sends a bookmark every minute."""

RequestObserver = Callable[[str, str, int], None]
"""Told of each finished request: HTTP verb, path-independent kind, status code (0: no answer)."""


async def load_configuration() -> Any:
    """The Kubernetes client's configuration: of ``KUBECONFIG`` where that is set, else of the pod's service account.

    Raises :class:`kubernetes.aio.config.ConfigException` where neither can be had.
    """
    configuration = client.Configuration()
    if os.environ.get("KUBECONFIG"):
        await config.load_kube_config(
            config_file=os.environ["KUBECONFIG"], client_configuration=configuration, persist_config=False
        )
    else:
        config.load_incluster_config(client_configuration=configuration)
    # Python 3.13 refuses certificates without an Authority Key Identifier, which many clusters have and every Go client
    # takes. The chain and the host name are verified as ever.
    configuration.disable_strict_ssl_verification = True
    # Else the client would read ~/.netrc for each request, and take its proxy from the environment, which the watch
    # streams do not: the kubeconfig's proxy-url counts for both.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


class Asked(TypedDict, total=False):
    """What a request says."""

    kind: Required[str]
    """What it is about, for the metrics."""
    query: Mapping[str, str] | None
    body: Any
    content_type: str
    accept: str


class Details(Asked, total=False):
    """What a request says, and how long its answer may take."""

    limit: float
    """Seconds for the whole request, answer included."""


class Connection:
    """Requests to one API server. Close it when done."""

    def __init__(self, configuration: Any, user_agent: str, observe: RequestObserver | None = None) -> None:
        self._client = client.ApiClient(configuration)
        self._host: str = configuration.host
        self._user_agent = user_agent
        self._observe = observe or (lambda verb, kind, code: None)

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()

    async def request(self, method: str, path: str, **details: Unpack[Details]) -> dict[str, Any]:
        """The decoded answer; raises :class:`ApiError` for any status from 300 on and where none came."""
        answer: dict[str, Any] = json.loads(await self.ask(method, path, **details))
        return answer

    async def ask(self, method: str, path: str, *, limit: float = REQUEST_TIMEOUT, **details: Unpack[Asked]) -> bytes:
        """As :meth:`request`, but the answer as it came."""
        response = await self._send(method, path, aiohttp.ClientTimeout(total=limit), **details)
        code = 0
        try:
            data: bytes = await response.read()
            code = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(method, path, error) from error
        finally:
            self._observe(method, details["kind"], code)
        return data

    async def read_on(self, path: str, take: Callable[[bytes], None], **details: Unpack[Asked]) -> None:
        """Have ``take`` take in a long answer to a GET, piece by piece as it comes; raises as :meth:`ask` does."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT, sock_read=REQUEST_TIMEOUT)
        response: aiohttp.ClientResponse = (await self._send("GET", path, limits, **details)).response
        code = 0
        try:
            with event_loop.without_gathering():
                async for piece in response.content.iter_any():
                    take(piece)
            code = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable("GET", path, error) from error
        finally:
            response.close()
            self._observe("GET", details["kind"], code)

    async def stream(self, path: str, **details: Unpack[Asked]) -> aiohttp.ClientResponse:
        """An answer that goes on, to be closed when done; raises as :meth:`ask` does.

        Reading it raises ``TimeoutError`` after :data:`SILENCE_TIMEOUT` of silence.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT, sock_read=SILENCE_TIMEOUT)
        answer: aiohttp.ClientResponse = (await self._send("GET", path, limits, **details)).response
        self._observe("GET", details["kind"], answer.status)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        limits: aiohttp.ClientTimeout,
        *,
        kind: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Any:
        """The client's answer as far as its headers, where it is no error; one that is was observed."""
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": self._user_agent}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            response = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=limits
            )
            if response.status < 300:
                return response
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._observe(method, kind, 0)
            raise _unreachable(method, path, error) from error
        self._observe(method, kind, response.status)
        raise _error(response.status, data, response.headers.get("Retry-After"))


def _unreachable(method: str, path: str, error: Exception) -> ApiError:
    what = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    return ApiError(0, "Unreachable", f"{method} {path}: {what}")


def _error(code: int, data: bytes, retry_after: str | None) -> ApiError:
    """The API server's Status as an error; a proxy in between may answer with anything else."""
    try:
        status = json.loads(data)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", data[:200].decode(errors="replace")
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return ApiError(code, reason, message, seconds)
