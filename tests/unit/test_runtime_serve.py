"""``serve`` as a real process with a real model: protocol, refusals, metrics, and how it stops."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from e2e import oip
from modelfleet.api.wire import ServeOrder
from modelfleet.runtime import cpus, onnx_model, serve
from modelfleet.runtime.report import RefusedError
from tests import onnx


@dataclass
class Answer:
    """Status, parsed body and headers of an answer."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Program:
    """A running ``serve``."""

    process: subprocess.Popen[bytes]
    url: str
    report: Path

    def ask(self, path: str, body: object = None, **headers: str) -> Answer:
        """Send one request; a body makes it a POST."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)  # noqa: S310 - http by construction
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                return Answer(response.status, _parsed(response.read()), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _parsed(error.read()), dict(error.headers))

    def infer(self, *values: float, **changes: Any) -> Answer:
        """Ask for the identity of a vector."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": list(values)} | changes
        return self.ask("/v2/models/m/infer", {"inputs": [tensor]})

    def until_ready(self) -> None:
        """Wait for readiness, or fail with the program's end."""
        while self.process.poll() is None:
            try:
                if self.ask("/v2/health/ready").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        pytest.fail(f"serve ended with {self.process.returncode}")


Start = Callable[..., Program]


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Program] = []

    def run(content: bytes, *, sha256: str | None = None, name: str = "model.onnx", **said: str) -> Program:
        path, report = tmp_path / name, tmp_path / "termination"
        path.write_bytes(content)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        order = {
            "model": "m",
            "version": "1.2.0",
            "path": str(path),
            "sha256": sha256 or hashlib.sha256(content).hexdigest(),
            "httpPort": port,
        }
        environment = os.environ | {
            "MODELFLEET_ORDER": json.dumps(order),
            "MODELFLEET_TERMINATION_LOG": str(report),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **said,
        }
        process = subprocess.Popen([sys.executable, "-m", "modelfleet.runtime", "serve"], env=environment)
        started.append(Program(process, f"http://127.0.0.1:{port}", report))
        return started[-1]

    yield run
    for program in started:
        program.process.kill()
        program.process.wait()


def test_the_protocol_from_metadata_to_an_answer(start: Start) -> None:
    program = start(onnx.identity())
    program.until_ready()
    assert program.ask("/v2").body["name"] == "modelfleet"
    assert program.ask("/v2/health/live").body == {"live": True}
    for path in ("/v2/models/m", "/v2/models/m/versions/1.2.0"):
        assert program.ask(path).body == {
            "name": "m",
            "versions": ["1.2.0"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}],
        }
        assert program.ask(f"{path}/ready").body == {"name": "m", "ready": True}
        answer = program.ask(
            f"{path}/infer",
            {
                "id": "7",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 0.1, -2.5]}],
                "outputs": [{"name": "y"}],
            },
        )
        assert answer.headers["x-model-version"] == "1.2.0"
        assert "x-model-revision" not in answer.headers, "no request is routed to it"
        assert answer.body == {
            "model_name": "m",
            "model_version": "1.2.0",
            "id": "7",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "data": [1.0, float(np.float32(0.1)), -2.5]}],
        }


async def test_a_client_that_sends_too_slowly_is_told_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "BODY_SECONDS", 0.2)
    server = serve.Server()
    server.loaded(onnx_model.OnnxModel("m", "1.2.0", "0" * 64, (), (), None))
    runner = web.AppRunner(server.application(), access_log=None, lingering_time=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\n{")
        # To its end: the server closes the connection.
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
    finally:
        await runner.cleanup()
        server.threads.shutdown()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.2 s" in answer
    assert server.pending == 0
    assert (
        server.registry.get_sample_value(
            "modelfleet_inference_requests_total", {"model": "m", "version": "1.2.0", "code": "408"}
        )
        == 1
    )


def test_a_pod_that_requests_are_routed_to_says_its_revision_with_every_answer(start: Start) -> None:
    program = start(onnx.identity(), MODEL_REVISION="7be1c0ffee")
    program.until_ready()
    for answer in (program.ask("/v2/health/ready"), program.infer(1.0, 2.0, 3.0), program.ask("/nothing")):
        assert answer.headers["x-model-revision"] == "7be1c0ffee"


def test_answers_equal_those_computed_offline_bit_by_bit(start: Start) -> None:
    program = start(onnx.identity())
    program.until_ready()
    sample = {"x": np.random.default_rng(3).standard_normal(3).astype(np.float32)}
    (expected,) = oip.offline(onnx.identity(), sample).values()
    (found,) = oip.infer(program.url, "m", sample).outputs.values()
    assert found.tobytes() == expected.tobytes()


def test_wrong_requests_are_answered_with_what_to_change(start: Start) -> None:
    program = start(onnx.identity())
    program.until_ready()
    infer = "/v2/models/m/infer"
    good = {"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]}
    cases: list[tuple[Answer, int, str]] = [
        (program.infer(1, 2), 400, "the model takes [3]"),
        (program.infer(1, 2, 3, datatype="INT8"), 400, "takes 'FP32'"),
        (program.infer(1, 2, 3, name="z"), 400, "'z' is unknown; the model takes 'x'"),
        (program.infer(1, 2, 3, name=["x"]), 400, "['x'] is unknown; the model takes 'x'"),
        (program.ask(infer, {"inputs": []}), 400, "'x' is missing"),
        (program.ask(infer, {"inputs": [good, good]}), 400, "twice"),
        (program.ask(infer, {"inputs": [good], "outputs": [{"name": "q"}]}), 400, "the model gives 'y'"),
        (program.ask(infer, {}), 400, "inputs must be a list"),
        (program.ask(infer, [1]), 400, "JSON object"),
        (program.ask(infer, b"{"), 400, "not JSON"),
        (program.ask(infer, b'{"inputs": [NaN]}'), 400, "NaN is not a number of JSON"),
        (program.ask(infer, b"x", **{"Inference-Header-Content-Length": "1"}), 400, "binary"),
        (program.ask("/v2/models/other"), 404, "'m' version '1.2.0'"),
        (program.ask("/v2/models/m/versions/9.9.9/ready"), 404, "'m' version '1.2.0'"),
        (program.ask("/v3"), 404, "/v3"),
        (program.ask("/v2", {}), 405, "Not Allowed"),
    ]
    for answer, status, hint in cases:
        assert answer.status == status, answer
        assert hint in answer.body["error"]
    assert program.infer(1, 2, 3).status == 200, "none of them did any harm"


def test_a_request_beyond_the_limit_is_refused(start: Start) -> None:
    program = start(onnx.identity())
    program.until_ready()
    answer = program.ask("/v2/models/m/infer", b" " * (serve.REQUEST_BYTES + 1))
    assert answer.status == 413
    assert str(serve.REQUEST_BYTES) in answer.body["error"]


def test_metrics_count_requests_by_code_and_name_the_digest(start: Start) -> None:
    program = start(onnx.identity())
    program.until_ready()
    program.infer(1, 2, 3)
    program.infer(1)
    metrics = program.ask("/metrics").body
    digest = hashlib.sha256(onnx.identity()).hexdigest()
    assert f'modelfleet_model_info{{model="m",sha256="{digest}",version="1.2.0"}} 1.0' in metrics
    for code in (200, 400):
        assert f'modelfleet_inference_requests_total{{code="{code}",model="m",version="1.2.0"}} 1.0' in metrics
    assert 'modelfleet_inference_duration_seconds_count{model="m",version="1.2.0"} 2.0' in metrics


@pytest.mark.parametrize(
    ("content", "changes", "reason", "hint"),
    [
        (onnx.identity(), {"sha256": "0" * 64}, "HashMismatch", "changed on this device"),
        (b"no model", {}, "Invalid", "no model that ONNX Runtime loads"),
        (onnx.identity(), {"name": "model.pt"}, "Invalid", "serving.image"),
    ],
    ids=["changed", "no-model", "other-format"],
)
def test_a_refused_model_is_never_loaded_and_says_why(
    start: Start, content: bytes, changes: dict[str, str], reason: str, hint: str
) -> None:
    program = start(content, **changes)
    assert program.process.wait(timeout=60) == 1
    said = json.loads(program.report.read_bytes())
    assert (said["file"], said["reason"]) == ("model", reason)
    assert hint in said["message"]


def test_weights_that_nobody_hashed_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX can keep them in files beside the model; ONNX Runtime would look for those in the working folder."""
    (tmp_path / "weights").write_bytes(np.ones(1000, np.float32).tobytes())
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx.elsewhere("weights", 1000))
    monkeypatch.chdir(tmp_path)
    order = ServeOrder(
        model="m", version="1.2.0", path=str(model), sha256=hashlib.sha256(model.read_bytes()).hexdigest()
    )
    with pytest.raises(RefusedError, match="no model that ONNX Runtime loads") as refused:
        onnx_model.load(order)
    assert refused.value.reason == "Invalid"


def test_nothing_is_noted_for_the_maker_of_onnx_runtime(tmp_path: Path) -> None:
    """Its official builds keep a device id and a queue of events in the home folder, unless told not to."""
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = "import modelfleet.runtime.onnx_model as served; served.onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.rglob("*onnxruntime*")) == []


def test_sigterm_turns_it_unready_before_it_closes(start: Start) -> None:
    program = start(onnx.identity())
    program.until_ready()
    program.process.send_signal(signal.SIGTERM)
    while (ready := program.ask("/v2/health/ready")).status == 200:
        time.sleep(0.01)
    assert ready.status == 503
    assert program.infer(1, 2, 3).status == 200, "requests that were on their way are answered"
    assert program.process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "5000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({}, None),
    ],
)
def test_threads_follow_the_containers_limit(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    node = len(os.sched_getaffinity(0))
    assert cpus.available(tmp_path) == (node if limit is None else min(node, limit))
