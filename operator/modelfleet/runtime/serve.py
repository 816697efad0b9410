"""``serve``: the Open Inference Protocol v2 over REST, for one verified ONNX model.

The port opens at once (alive, not ready), the model is hashed and loaded beside it, and only then is the pod ready. A
model that is refused ends the program: it was never ready, so nothing was routed to it. SIGTERM: not ready any more, a
moment for that to get around, then requests under way are finished.
"""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import prometheus_client
from aiohttp import web

import modelfleet
from modelfleet.api import wire
from modelfleet.api.wire import FetchReport, ServeOrder
from modelfleet.runtime import cpus, inference, onnx_model
from modelfleet.runtime.onnx_model import OnnxModel
from modelfleet.runtime.report import Exit, RefusedError, leave, read_order
from modelfleet.runtime.tensors import RequestError

logger = logging.getLogger(__name__)

REQUEST_BYTES: Final = 32 * 2**20
"""The largest request; beyond it the answer is 413."""
PENDING_LIMIT: Final = 64
"""Requests held at once; beyond it the answer is 503, so that a slow model does not eat the gateway's memory."""
BODY_SECONDS: Final = 60.0
"""How long a request may take to arrive, once its headers have: the largest one at 4.5 Mbit/s. Then the answer is 408,
and the connection is closed. Idle connections are kept as aiohttp does, for longer than Envoy keeps its own."""
DRAIN_SECONDS: Final = 2.0
"""Between turning unready and closing the port: what it takes for the news to reach whoever routes to us."""
FINISH_SECONDS: Final = 20.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The state behind the routes: a model or none, draining or not, and the counters."""

    def __init__(self, revision: str = "") -> None:
        self.model: OnnxModel | None = None
        self.revision = revision
        self.draining = False
        self.pending = 0
        self.threads = ThreadPoolExecutor(max_workers=cpus.available(), thread_name_prefix="infer")
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.requests = prometheus_client.Counter(
            "modelfleet_inference_requests",
            "Inference requests answered, by status code.",
            ["model", "version", "code"],
            registry=self.registry,
        )
        self.seconds = prometheus_client.Histogram(
            "modelfleet_inference_duration_seconds",
            "Time from an inference request's arrival to its answer.",
            ["model", "version"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.info = prometheus_client.Gauge(
            "modelfleet_model_info",
            "1 for the model that is loaded, with the SHA-256 of its file.",
            ["model", "version", "sha256"],
            registry=self.registry,
        )

    @property
    def ready(self) -> bool:
        """Whether a verified model is loaded and requests are welcome."""
        return self.model is not None and not self.draining

    def loaded(self, model: OnnxModel) -> None:
        """Take a verified model into service."""
        self.info.labels(model.name, model.version, model.sha256).set(1)
        self.model = model

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(client_max_size=REQUEST_BYTES, middlewares=[self._in_protocol_style])
        application.router.add_get("/v2", self._server)
        application.router.add_get("/v2/health/live", self._live)
        application.router.add_get("/v2/health/ready", self._ready)
        application.router.add_get("/metrics", self._metrics)
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            application.router.add_get(path, self._metadata)
            application.router.add_get(f"{path}/ready", self._model_ready)
            application.router.add_post(f"{path}/infer", self._infer)
        return application

    @web.middleware
    async def _in_protocol_style(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer names the version, and the revision of routed pods; every error is {"error": message}."""
        try:
            response = await handler(request)
        except RequestError as error:
            response = _json({"error": str(error)}, error.status)
        except web.HTTPRequestEntityTooLarge:
            response = _json({"error": f"the request is larger than {REQUEST_BYTES} bytes: send fewer elements"}, 413)
        except web.HTTPException as error:
            response = _json({"error": f"{request.method} {request.path}: {error.reason}"}, error.status)
        if self.model is not None:
            response.headers["x-model-version"] = self.model.version
        if self.revision:
            response.headers["x-model-revision"] = self.revision
        return response

    async def _server(self, _: web.Request) -> web.Response:
        return _json({"name": "modelfleet", "version": modelfleet.__version__, "extensions": []})

    async def _live(self, _: web.Request) -> web.Response:
        return _json({"live": True})

    async def _ready(self, _: web.Request) -> web.Response:
        return _json({"ready": self.ready}, 200 if self.ready else 503)

    async def _metadata(self, request: web.Request) -> web.Response:
        return _json(self._addressed(request).metadata())

    async def _model_ready(self, request: web.Request) -> web.Response:
        model = self._addressed(request)
        return _json({"name": model.name, "ready": self.ready}, 200 if self.ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(self.registry),
            headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
        )

    async def _infer(self, request: web.Request) -> web.Response:
        began = time.perf_counter()
        model = self._addressed(request)
        code = 500
        try:
            reply = await self._answer(model, request)
            code = 200
            return _json(reply)
        except RequestError as error:
            code = error.status
            raise
        except web.HTTPException as error:
            code = error.status
            raise
        finally:
            self.requests.labels(model.name, model.version, code).inc()
            self.seconds.labels(model.name, model.version).observe(time.perf_counter() - began)

    async def _answer(self, model: OnnxModel, request: web.Request) -> dict[str, Any]:
        if "Inference-Header-Content-Length" in request.headers:
            raise RequestError("the binary tensor extension is not supported: send the tensors' data as JSON")
        if self.pending >= PENDING_LIMIT:
            raise RequestError(f"{PENDING_LIMIT} requests are under way: try again later", 503)
        self.pending += 1
        try:
            body = await _read(request)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads, _parse_and_answer, model, body)
        finally:
            self.pending -= 1

    def _addressed(self, request: web.Request) -> OnnxModel:
        if self.model is None:
            raise RequestError("the model is still being loaded", 503)
        name, version = request.match_info["model"], request.match_info.get("version", self.model.version)
        if (name, version) != (self.model.name, self.model.version):
            raise RequestError(
                f"model {name!r} version {version!r} is not served here: "
                f"this is {self.model.name!r} version {self.model.version!r}",
                404,
            )
        return self.model


def main() -> int:
    """Serve until SIGTERM; a refused model is reported in the termination message."""
    try:
        order = read_order(ServeOrder)
        asyncio.run(_serve(order))
    except RefusedError as refused:
        logger.error("%s: %s", refused.reason, refused.message)
        leave(FetchReport(file="model", reason=refused.reason, message=refused.message))
        return refused.exit_code
    return Exit.DONE


async def _serve(order: ServeOrder) -> None:
    server = Server(os.environ.get(wire.REVISION_ENV, ""))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=FINISH_SECONDS)
    await runner.setup()
    try:
        # The pod's own network: every address of it.
        await web.TCPSite(runner, port=order.http_port).start()
        model = await loop.run_in_executor(server.threads, onnx_model.load, order)
        server.loaded(model)
        logger.info("serving %s %s, sha256 %s, on port %d", model.name, model.version, model.sha256, order.http_port)
        await stop.wait()
        server.draining = True
        logger.info("draining")
        await asyncio.sleep(DRAIN_SECONDS)
    finally:
        await runner.cleanup()
        server.threads.shutdown()


async def _read(request: web.Request) -> bytes:
    """The body; a client that is slow, or gone without a word, does not keep others out for ever."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise RequestError(f"the request did not arrive within {BODY_SECONDS:g} s: send it faster", 408) from None


def _parse_and_answer(model: OnnxModel, body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is not JSON: {error}") from None
    return inference.answer(model, request)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _json(content: object, status: int = 200) -> web.Response:
    return web.json_response(content, status=status)
