"""Queries to a Prometheus server: a small real HTTP server answers as Prometheus does, or otherwise."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from modelfleet.cluster.prometheus import ANSWER_BYTES, Prometheus, PrometheusError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    client = Prometheus(timeout_seconds=5)
    yield client
    await client.close()


def answering(data: object, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(data, status=status)

    return handler


def success(kind: str, result: object) -> object:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def sample(value: str) -> object:
    return {"metric": {"job": "serve"}, "value": [1795000000.1, value]}


@pytest.mark.parametrize(
    ("kind", "result", "value"),
    [
        ("vector", [sample("0.25")], 0.25),
        ("vector", [sample("+Inf")], float("inf")),
        ("vector", [sample("1e-05")], 1e-05),
        ("vector", [], None),
        ("scalar", [1795000000, "3"], 3.0),
    ],
)
async def test_one_sample_is_a_number(
    serve: Serve, prometheus: Prometheus, kind: str, result: object, value: float | None
) -> None:
    assert await prometheus.query(await serve(answering(success(kind, result))), "up") == value


async def test_nan_is_handed_on(serve: Serve, prometheus: Prometheus) -> None:
    value = await prometheus.query(await serve(answering(success("vector", [sample("NaN")]))), "0/0")
    assert value is not None
    assert value != value


async def test_the_query_goes_as_it_is_to_the_api_below_the_address(serve: Serve, prometheus: Prometheus) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, (await request.post())["query"]))
        return web.json_response(success("vector", []))

    query = 'sum(rate(x{a="b&c=d"}[1m])) / 2 + 1'
    await prometheus.query(await serve(handler) + "/tenant/", query)
    assert seen == [("POST", "/tenant/api/v1/query", query)]


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (success("vector", [sample("1"), sample("2")]), 200, "2 series: aggregate it"),
        (success("matrix", []), 200, "gives a matrix"),
        (success("string", [1, "x"]), 200, "gives a string"),
        (success("vector", [{"metric": {}}]), 200, "no number"),
        (success("vector", [sample("abc")]), 200, "no number"),
        (success("vector", "x"), 200, "gives a vector"),
        ({"status": "error", "errorType": "bad_data", "error": "parse error"}, 400, "400, bad_data: parse error"),
        ({"status": "error", "errorType": "execution", "error": "x" * 9000}, 422, "422, execution"),
        ({"status": "success"}, 200, "gives a None"),
        (["no", "Prometheus"], 200, "not as a Prometheus server"),
        ({"status": "success"}, 503, "503"),
    ],
)
async def test_all_else_is_an_error_that_says_why(
    serve: Serve, prometheus: Prometheus, answer: object, status: int, why: str
) -> None:
    with pytest.raises(PrometheusError, match=why) as raised:
        await prometheus.query(await serve(answering(answer, status)), "up")
    assert len(str(raised.value)) < 400


async def test_redirects_are_not_followed(serve: Serve, prometheus: Prometheus) -> None:
    asked = []

    async def secret(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response(success("scalar", [1, "1"]))

    target = await serve(secret)

    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{target}/latest/meta-data")

    with pytest.raises(PrometheusError, match="redirects, which is not followed"):
        await prometheus.query(await serve(redirect), "up")
    assert asked == []


async def test_proxies_of_the_environment_are_not_used(
    serve: Serve, prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await prometheus.query(await serve(answering(success("scalar", [1, "1"]))), "1") == 1.0


async def test_a_server_that_is_silent_or_away_is_an_error(serve: Serve) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    client = Prometheus(timeout_seconds=0.2)
    try:
        with pytest.raises(PrometheusError, match="no answer in time"):
            await client.query(await serve(silent), "up")
        with pytest.raises(PrometheusError, match=r"127\.0\.0\.1:9"):
            await client.query("http://127.0.0.1:9", "up")
    finally:
        await client.close()


async def test_an_endless_answer_is_not_read_to_its_end(serve: Serve, prometheus: Prometheus) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        piece = json.dumps("x" * 65536).encode()
        for _ in range(3 * ANSWER_BYTES // len(piece)):
            await response.write(piece)
        return response

    with pytest.raises(PrometheusError, match="aggregate the query"):
        await prometheus.query(await serve(endless), "up")
