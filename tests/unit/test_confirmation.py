"""Whether the data plane follows a route: what is asked, what the answers mean, and what waits for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from modelfleet.api.traffic import Probe
from modelfleet.cluster.data_plane import DataPlane
from modelfleet.plan.edge.edge_deployment import Observed
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import Outcome
from modelfleet.plan.traffic import confirmation, probe
from modelfleet.plan.traffic.probe import Ask, Probed, Question, Reply
from modelfleet.plan.traffic.route import Route
from modelfleet.reconcile.confirmations import Confirmations
from modelfleet.reconcile.key import Key
from tests.unit.test_edge_canary import TRAFFIC, V1, V2, Line

OLD, NEW = "5d9c000000", "7be1000000"
HEADER = ("x-version", "v2")
SPEC = Probe(url="http://ingress.istio-system/v2/health/ready", host="defect.example")
PLAIN, CHOSEN = Ask(None, frozenset([OLD])), Ask(HEADER, frozenset([NEW]))


@pytest.mark.parametrize(
    ("route", "header", "allowed"),
    [
        (Route(OLD), None, [[OLD]]),
        (Route(OLD), HEADER, [[OLD], [OLD]]),
        (Route(OLD, NEW, header=HEADER), HEADER, [[OLD], [NEW]]),
        (Route(OLD, NEW, weight=5, header=HEADER), HEADER, [[OLD, NEW], [NEW]]),
        (Route(OLD, NEW, weight=5), None, [[OLD, NEW]]),
        (Route(OLD, NEW, weight=100), HEADER, [[NEW], [NEW]]),
        (Route(OLD, NEW, weight=0), HEADER, [[OLD], [OLD]]),
    ],
    ids=str,
)
def test_who_may_answer(route: Route, header: tuple[str, str] | None, allowed: list[list[str]]) -> None:
    asked = confirmation.question(SPEC, route, header, "mark")
    assert [sorted(ask.allowed) for ask in asked.asks] == [sorted(each) for each in allowed]
    assert [ask.header for ask in asked.asks] == [None, header][: len(allowed)]
    assert (asked.route, asked.url, asked.host) == ("mark", SPEC.url, "defect.example")


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([Reply(PLAIN, OLD), Reply(CHOSEN, NEW)], ""),
        ([Reply(PLAIN, OLD), Reply(CHOSEN, OLD)], f"with x-version: v2 is answered by revision {OLD}, not {NEW}"),
        ([Reply(PLAIN, NEW)], f"without the canary's header is answered by revision {NEW}, not {OLD}"),
        ([Reply(PLAIN)], "without the header x-model-revision"),
        ([Reply(PLAIN, OLD), Reply(CHOSEN, error="http://i gives no answer in time")], "no answer in time"),
    ],
)
def test_what_answers_mean(replies: list[Reply], said: str) -> None:
    why = confirmation.why_not(replies)
    assert said in why
    assert bool(said) is bool(why)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://ingress:8080", True),
        ("http://ingress:8080/", True),
        ("http://ingress:8080/v2/health/ready", True),
        ("http://ingress:80801/", False),
        ("http://ingress.example:8080/", False),
        ("https://ingress:8080/", False),
        ("http://other/", False),
        ("http://edge/v2/models/m", True),
        ("http://edge/v2x", False),
        ("http://edge/", False),
    ],
)
def test_nothing_is_asked_that_the_installation_does_not_list(url: str, allowed: bool) -> None:
    addresses = ("http://ingress:8080", "http://edge/v2/")
    installation = Installation("i", "n", "image", probe_addresses=addresses)
    assert confirmation.forbidden(Probe(url=url), installation) is not allowed
    assert confirmation.forbidden(Probe(url=url), Installation("i", "n", "image")), "nothing is listed by default"


class Probing(Line):
    """A line whose data plane is asked."""

    def __init__(self, **spec: Any) -> None:
        self.probed: Probed | None = None
        self.follows = True
        self.asked: list[Question] = []
        super().__init__(**{"traffic": {**TRAFFIC, "probe": {"url": "http://ingress/v2"}}, **spec})

    def observed(self) -> Observed:
        return replace(super().observed(), probed=self.probed)

    def step(self, writes: int | None = None) -> Outcome:
        outcome = super().step(writes)
        self.probed = None
        if outcome.probe is not None:
            self.asked.append(outcome.probe)
            self.probed = Probed(outcome.probe.route, self.now, "" if self.follows else "nobody answers")
        return outcome

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.step()
            self.play()
            self.check()

    def in_force(self) -> int | None:
        canary = self.status.get("canary") or {}
        return canary["stepIndex"] if canary.get("stepStartedAt") else None


def test_a_step_begins_when_the_data_plane_is_seen_to_follow() -> None:
    line = Probing()
    line.follows = False
    line.edit(modelVersion=V2)
    line.pass_time(40)
    assert line.in_force() is None
    assert line.routes() == [(100, V2, "v2"), (100, V1, "")]
    assert line.asked, "it is asked"
    assert line.condition("TrafficRouted")["reason"] == "ProbeFailed"
    assert "spec.traffic.probe: nobody answers" in line.condition("TrafficRouted")["message"]
    assert [note.reason for note in line.notes].count("ProbeFailed") == 1
    line.follows = True
    line.come_to_rest()
    assert line.in_force() == 0
    assert line.condition("TrafficRouted")["status"] == "True"
    known = len(line.asked)
    line.come_to_rest()
    assert len(line.asked) == known, "a route that was confirmed is not asked about again"
    assert line.status["traffic"]["confirmedRoute"] == line.status["traffic"]["route"]


def test_pods_stay_until_the_data_plane_is_seen_to_send_nothing_there() -> None:
    line = Probing()
    line.edit(modelVersion=V2)
    line.come_to_rest()
    line.follows = False
    revision = line.status["candidate"]["revision"]
    line.deployment["metadata"]["annotations"] = {"modelfleet.dev/abort": f"{revision}/1"}
    line.pass_time(60)
    assert line.replicas()[V2] == 1
    assert {ask.header: set(ask.allowed) for ask in line.asked[-1].asks} == {
        None: {line.status["stable"]["revision"]},
        HEADER: {line.status["stable"]["revision"]},
    }
    line.follows = True
    line.come_to_rest()
    assert V2 not in line.replicas()


def test_an_address_that_is_not_allowed_is_told_of_and_nothing_is_asked() -> None:
    line = Probing()
    line.asked.clear()
    line.edit(modelVersion=V2, traffic={**TRAFFIC, "probe": {"url": "http://elsewhere/"}})
    line.come_to_rest()
    assert line.condition("Stalled")["reason"] == "ProbeAddressNotAllowed"
    assert "traffic.probeAddresses" in line.condition("Stalled")["message"]
    assert line.asked == []
    assert line.routes() == [(100, V1, "")]


KEY = Key("EdgeDeployment", "vision", "line")
QUESTION = Question("mark", "http://ingress", "", (PLAIN, CHOSEN))
GOOD = [Reply(PLAIN, OLD), Reply(CHOSEN, NEW)]


class Bench:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.replies: list[Reply] | Exception = GOOD
        self.asked: list[Question] = []
        self.woken: list[Key] = []
        self.confirmations = Confirmations(self._ask, self.woken.append, lambda: self.now)

    async def _ask(self, question: Question) -> list[Reply]:
        self.asked.append(question)
        if isinstance(self.replies, Exception):
            raise self.replies
        return self.replies

    async def come_in(self) -> str:
        for _ in range(20):
            await asyncio.sleep(0)
        came = self.confirmations.of(KEY)
        assert came is not None
        return came.why


async def test_an_answer_wakes_and_the_same_is_not_asked_again_at_once() -> None:
    bench = Bench()
    bench.replies = [Reply(PLAIN, NEW)]
    bench.confirmations.ask(KEY, QUESTION)
    bench.confirmations.ask(KEY, QUESTION)
    assert bench.confirmations.of(KEY) is None
    assert "is answered by revision" in await bench.come_in()
    assert bench.woken == [KEY]
    bench.confirmations.ask(KEY, QUESTION)
    await bench.come_in()
    assert len(bench.asked) == 1
    bench.now += probe.AGAIN
    bench.replies = GOOD
    bench.confirmations.ask(KEY, QUESTION)
    assert await bench.come_in() == ""
    assert len(bench.asked) == 2


async def test_an_answer_to_another_question_counts_for_nothing() -> None:
    bench = Bench()
    bench.confirmations.ask(KEY, QUESTION)
    await bench.come_in()
    bench.confirmations.ask(KEY, None)
    assert bench.confirmations.of(KEY) is None
    bench.confirmations.ask(KEY, QUESTION)
    bench.confirmations.ask(KEY, replace(QUESTION, route="another"))
    await bench.come_in()
    came = bench.confirmations.of(KEY)
    assert came is not None
    assert came.route == "another"
    bench.replies = RuntimeError("broken")
    bench.now += timedelta(minutes=1)
    bench.confirmations.ask(KEY, replace(QUESTION, route="another"))
    assert "internal error" in await bench.come_in()
    await bench.confirmations.close()


Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners = []

    async def start(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
        application = web.Application()
        application.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_requests_are_made_as_clients_make_them(serve: Serve) -> None:
    seen: list[tuple[str, str, str | None, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.host, request.path, request.headers.get("x-version"), request.headers.get("cookie")))
        revision = NEW if request.headers.get("x-version") == "v2" else OLD
        response = web.Response(status=500, headers={"x-model-revision": revision})
        response.set_cookie("session", "1")
        return response

    address = await serve(handler)
    question = Question("mark", f"{address}/v2", "defect.example", (PLAIN, CHOSEN))
    replies = await DataPlane().ask(question)
    assert confirmation.why_not(replies) == "", "an error of the model's is an answer, too"
    one = [("defect.example", "/v2", None, None), ("defect.example", "/v2", "v2", None)]
    assert seen == one * probe.TRIES


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (lambda: web.Response(status=302, headers={"location": "http://169.254.169.254/"}), "without the header"),
        (lambda: web.Response(headers={"x-model-revision": "<script>"}), "without the header"),
    ],
)
async def test_nothing_else_is_followed_or_passed_on(
    serve: Serve, response: Callable[[], web.Response], said: str
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return response()

    address = await serve(handler)
    assert said in confirmation.why_not(await DataPlane().ask(Question("mark", address, "", (PLAIN,))))


async def test_nobody_there_and_nobody_answering(serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    address = await serve(handler)
    (reply,) = await DataPlane(timeout_seconds=0.2).ask(Question("mark", address, "", (PLAIN,)))
    assert reply.error == f"{address} gives no answer in time"
    (reply,) = await DataPlane().ask(Question("mark", "http://127.0.0.1:1", "", (PLAIN, CHOSEN)))
    assert "127.0.0.1" in reply.error
