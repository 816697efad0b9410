"""The HTTP server of the operator: ``/healthz``, ``/readyz`` and ``/metrics``. What they report is passed in."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str]
"""Answers with what is wrong; an empty text: nothing."""

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProbeServer:
    """Listens from :meth:`start` to :meth:`stop`."""

    def __init__(self, host: str, port: int, healthy: Check, ready: Check, metrics: CollectorRegistry) -> None:
        app = web.Application()
        app.router.add_get("/healthz", _probe(healthy))
        app.router.add_get("/readyz", _probe(ready))
        app.router.add_get("/metrics", _metrics(metrics))
        self._host = host
        self._port = port
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> int:
        """Begin to listen; the port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening; requests under way are answered."""
        await self._runner.cleanup()


def _probe(check: Check) -> _Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        wrong = check()
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    return answer


def _metrics(registry: CollectorRegistry) -> _Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
