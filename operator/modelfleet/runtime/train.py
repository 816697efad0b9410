"""The library for training steps: inputs by digest, results to the store, the report to the operator.

A step's script reads ``step = train.step()``, takes ``step.dataset()`` or ``step.inputs("preprocess")``, saves what
it made with ``step.save_file`` and ``step.save_artifact``, tells how far it is with ``step.progress``, and ends with
``step.finish(metrics=...)``. In a distributed step every process may call all of it; only rank 0 writes. Export and
quantization are in ``onnx_export``, and here too.

Outside of a cluster the same script runs on its own: ``train.step(local="evaluate")`` then takes the folder
``MODELFLEET_LOCAL_RUN`` (default ``./local-run``) for the store, and ``MODELFLEET_DATASET`` for the dataset file.
"""

import atexit
import hashlib
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from modelfleet.api import common
from modelfleet.api.model_version import Artifact
from modelfleet.api.wire import (
    ORDER_ENV,
    REPORT_LIMIT,
    FetchItem,
    ResultArtifact,
    StepInput,
    StepOrder,
    StepReport,
    StepResults,
    StoredFile,
    results_uri,
)
from modelfleet.runtime import store
from modelfleet.runtime.checkpoint import Checkpoints, agreed
from modelfleet.runtime.communication import backend, compress_gradients
from modelfleet.runtime.early_stop import Evaluations, Told
from modelfleet.runtime.fetch import fetch, sha256_of
from modelfleet.runtime.onnx_export import check, export_onnx, quantize_int8
from modelfleet.runtime.pressure import Pressure
from modelfleet.runtime.progress import Reporter, text
from modelfleet.runtime.report import encode, leave, read_order

__all__ = [
    "Inputs",
    "Step",
    "StepError",
    "backend",
    "check",
    "compress_gradients",
    "export_onnx",
    "quantize_int8",
    "step",
]

logger = logging.getLogger(__name__)

LOCAL_RUN_ENV: Final = "MODELFLEET_LOCAL_RUN"
DATASET_ENV: Final = "MODELFLEET_DATASET"
METRICS_LIMIT: Final = 64

_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?")
_METRIC_NAME: Final = TypeAdapter[str](common.MetricName)
_DECIMAL: Final = TypeAdapter[str](common.Decimal)


class StepError(ValueError):
    """Something a step's script asked for cannot be; the message says what to change."""


@dataclass(frozen=True)
class Inputs:
    """What an earlier step left."""

    step: str
    results: StepResults
    folder: Path
    credentials_path: str | None

    @property
    def metrics(self) -> dict[str, float]:
        """Its metrics."""
        return {name: float(value) for name, value in self.results.metrics.items()}

    def file(self, name: str) -> Path:
        """Fetch a file it saved, verified; StepError when it saved none of that name."""
        saved = self.results.files.get(name)
        if saved is None:
            raise StepError(f"step {self.step!r} saved no file {name!r}; it saved {sorted(self.results.files)}")
        path = self.folder / self.step / name
        return fetch(_item(saved, path, self.credentials_path))

    def artifact(self, name: str) -> Path:
        """Fetch an artifact it saved, verified; StepError when it saved none of that name."""
        for artifact in self.results.artifacts:
            if artifact.name == name:
                path = self.folder / self.step / artifact.uri.rpartition("/")[2]
                saved = StoredFile(name=name, uri=artifact.uri, sha256=artifact.sha256, size_bytes=artifact.size_bytes)
                return fetch(_item(saved, path, self.credentials_path))
        names = [artifact.name for artifact in self.results.artifacts]
        raise StepError(f"step {self.step!r} saved no artifact {name!r}; it saved {names}")


@dataclass
class Step:
    """The step this process belongs to."""

    order: StepOrder
    rank: int
    folder: Path
    """Scratch folder of this process alone."""
    artifacts: list[ResultArtifact] = field(default_factory=list)
    files: dict[str, StoredFile] = field(default_factory=dict)
    told: Told = field(default_factory=Told)
    """What the operator asks of this training."""
    reporter: Reporter = field(init=False)
    evaluations: Evaluations = field(init=False)
    pressure: Pressure | None = field(init=False)

    def __post_init__(self) -> None:
        self.reporter = Reporter(hear=self.told.hear)
        self.evaluations = Evaluations(self.order.early_stop)
        self.pressure = Pressure() if self.order.tells_pressure else None

    def dataset(self) -> Path:
        """The verified dataset file; StepError when the job has no ``initializer.dataset`` for this step."""
        if self.order.dataset_path is None:
            raise StepError(
                "this step has no dataset: only steps that wait for no other to be Complete get initializer.dataset"
            )
        place = Path(self.order.dataset_path)
        found = [place] if place.is_file() else [path for path in sorted(place.iterdir()) if path.is_file()]
        if len(found) != 1:
            raise StepError(f"{self.order.dataset_path} holds {len(found)} files, one dataset file is expected")
        return found[0]

    def model(self) -> Path:
        """The folder with the model to begin with; StepError when the job has no ``initializer.model`` for it."""
        if self.order.model_path is None:
            raise StepError(
                "this step has no model: only steps that wait for no other to be Complete get initializer.model"
            )
        return Path(self.order.model_path)

    def inputs(self, name: str) -> Inputs:
        """The results of an earlier step, by digest; StepError when this step does not depend on it."""
        given = self.order.inputs.get(name)
        if given is None:
            raise StepError(
                f"step {self.order.step!r} has no input {name!r}: add it to dependsOn, with status Complete; "
                f"it has {sorted(self.order.inputs)}"
            )
        saved = StoredFile(name=name, uri=given.uri, sha256=given.sha256)
        path = fetch(_item(saved, self.folder / name / "results.json", self.order.credentials_path))
        results = StepResults.model_validate_json(path.read_bytes())
        return Inputs(name, results, self.folder, self.order.credentials_path)

    def checkpoints(self, *, save_when_stopped: bool = False) -> Checkpoints:
        """The checkpoints of this step, earlier attempts' included; see :mod:`modelfleet.runtime.checkpoint`.

        With ``save_when_stopped``, rank 0 answers SIGTERM by one last checkpoint at the next ``due()`` and ``save()``.
        """
        early_stop = self.order.early_stop
        return Checkpoints(
            self.order.checkpoint,
            self.order.attempt,
            self.rank,
            save_when_stopped=save_when_stopped,
            told=self.told,
            maximize=early_stop.maximize if early_stop is not None else None,
        )

    def should_finish(self) -> bool:
        """Whether the training was stopped early (``spec.termination.metric``): end the loop, and finish with the best.

        Ask after each epoch, in every process: where ``torch.distributed`` is initialised, or ``mpi4py.MPI`` imported,
        rank 0 answers for all.
        """
        return bool(agreed(self.told.finish if self.rank == 0 else False))

    def progress(
        self,
        done: float,
        *,
        of: float = 100.0,
        metrics: Mapping[str, Any] | None = None,
        remaining_seconds: float | None = None,
    ) -> None:
        """Tell how far a distributed step is: ``done`` of so many, a percentage by itself. It never waits nor fails.

        ``kubectl get tj`` shows it, and the latest value of each metric is in the job's status; no gate judges these.
        With the metric of ``spec.termination`` among them, it counts as one evaluation.
        """
        if self.rank != 0:
            return
        told = {name: text(value) for name, value in (metrics or {}).items()}
        told |= self.evaluations.counted(told)
        if self.pressure is not None:
            told |= self.pressure.metrics()
        self.reporter.tell(100.0 * done / of if of > 0 else None, told, remaining_seconds)

    def save_file(self, name: str, path: Path | str) -> None:
        """Hand a file to later steps under a name of letters, digits, ``.``, ``_`` and ``-``."""
        _check_name(name)
        if self.rank == 0:
            self.files[name] = self._upload(name, Path(path), f"files/{name}")

    def save_artifact(
        self,
        name: str,
        path: Path | str,
        *,
        precision: str,
        format: str = "onnx",
        platforms: Sequence[str] = (),
        accelerators: Sequence[str] = (),
        cpu_features: Sequence[str] = (),
        min_memory: str | None = None,
    ) -> None:
        """Offer a build of the model for registration; the arguments are ModelVersion's fields of an artifact.

        StepError names the field that a ModelVersion would not take.
        """
        path = Path(path)
        place = f"artifacts/{name}{path.suffix}"
        result = ResultArtifact(
            name=name,
            uri=f"{self.order.output_uri.rstrip('/')}/{place}",
            sha256=sha256_of(path),
            size_bytes=path.stat().st_size,
            format=format,
            precision=precision,
            platforms=list(platforms),
            accelerators=list(accelerators),
            cpu_features=list(cpu_features),
            min_memory=min_memory,
        )
        try:
            fields = result.model_dump(by_alias=True, exclude_none=True)
            Artifact.model_validate(fields if ORDER_ENV in os.environ else fields | {"uri": "s3://local/run"})
        except ValidationError as error:
            raise StepError(f"artifact {name!r} cannot be registered: {_first(error)}") from None
        if any(artifact.name == name for artifact in self.artifacts):
            raise StepError(f"artifact {name!r} was saved before: names are unique")
        if self.rank == 0:
            self._upload(name, path, place)
            self.artifacts.append(result)

    def finish(self, metrics: Mapping[str, float | str] | None = None) -> None:
        """Write the results to the store and report them; the last call of every step, with or without metrics.

        Raises StepError for a metric that is NaN, infinite or badly named, and for a report that outgrows what a pod
        can say.
        """
        texts = _decimals(metrics or {})
        if self.rank != 0:
            return
        results = StepResults(metrics=texts, artifacts=self.artifacts, files=self.files)
        content = results.model_dump_json(by_alias=True, indent=1).encode()
        uri = results_uri(self.order.output_uri)
        report = StepReport(
            uri=uri, sha256=hashlib.sha256(content).hexdigest(), metrics=texts, artifacts=self.artifacts
        )
        size = len(encode(report))
        if size > REPORT_LIMIT:
            raise StepError(
                f"the report has {size} bytes and a pod can say {REPORT_LIMIT}: "
                "keep to the metrics of the gate and save the rest in a file, or save fewer artifacts"
            )
        store.write(uri, content, self.order.credentials_path)
        self.reporter.close()
        leave(report)
        logger.info("step %s finished: %s", self.order.step, texts)

    def _upload(self, name: str, path: Path, place: str) -> StoredFile:
        uri = f"{self.order.output_uri.rstrip('/')}/{place}"
        saved = StoredFile(name=name, uri=uri, sha256=sha256_of(path), size_bytes=path.stat().st_size)
        store.write(uri, path, self.order.credentials_path)
        logger.info("saved %s, %d bytes, as %s", name, path.stat().st_size, store.redact(uri))
        return saved


def step(*, local: str = "local") -> Step:
    """The step this process was started for; without an order, a local one of the name ``local``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    order = read_order(StepOrder) if ORDER_ENV in os.environ else _local_order(local)
    rank = int(os.environ.get("RANK", os.environ.get("JOB_COMPLETION_INDEX", "0")))
    told = Told(finish=order.early_stop is not None and bool(order.early_stop.finish))
    scratch = Path(tempfile.mkdtemp(prefix="modelfleet-"))
    # A pod's goes with the pod; on somebody's own machine inputs would pile up.
    atexit.register(_discard, scratch, os.getpid())
    return Step(order, rank, scratch, told=told)


def _discard(folder: Path, process: int) -> None:
    # A process that the step forked ends, too, and the step works on.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _local_order(name: str) -> StepOrder:
    root = Path(os.environ.get(LOCAL_RUN_ENV, "local-run")).absolute()
    inputs = {
        path.parent.name: StepInput(uri=path.as_uri(), sha256=sha256_of(path)) for path in root.glob("*/results.json")
    }
    return StepOrder(
        training_job="local",
        namespace="local",
        model="local",
        version="0.0.0",
        step=name,
        attempt=0,
        output_uri=(root / name).as_uri(),
        inputs=inputs,
        dataset_path=os.environ.get(DATASET_ENV),
    )


def _item(saved: StoredFile, path: Path, credentials_path: str | None) -> FetchItem:
    return FetchItem(
        name=saved.name,
        uri=saved.uri,
        sha256=saved.sha256,
        size_bytes=saved.size_bytes,
        credentials_path=credentials_path,
        path=str(path),
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise StepError(f"file name {name!r} is not made of letters, digits, '.', '_' and '-' (63 at most)")


def _decimals(metrics: Mapping[str, float | str]) -> dict[str, str]:
    if len(metrics) > METRICS_LIMIT:
        raise StepError(f"{len(metrics)} metrics are too many: {METRICS_LIMIT} at most")
    return {_metric_name(name): _decimal(name, value) for name, value in metrics.items()}


def _metric_name(name: str) -> str:
    try:
        return _METRIC_NAME.validate_python(name)
    except ValidationError as error:
        raise StepError(f"metric name {name!r}: {_first(error)}") from None


def _decimal(name: str, value: Any) -> str:
    """Return a number as a decimal string that reads back as the same number."""
    text = value if isinstance(value, str) else _number(name, value)
    try:
        return _DECIMAL.validate_python(text)
    except ValidationError:
        raise StepError(f"metric {name!r} is {text!r}, which is no decimal number") from None


def _number(name: str, value: Any) -> str:
    if isinstance(value, bool):
        raise StepError(f"metric {name!r} is {value}, which is no number")
    if isinstance(value, int):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        raise StepError(f"metric {name!r} is {number}: a gate cannot judge it; check the training for divergence")
    return repr(number)


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    place = ".".join(str(part) for part in detail["loc"])
    return f"{place}: {detail['msg']}" if place else detail["msg"]
