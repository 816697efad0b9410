"""ONNX models of one version tried in ONNX Runtime: whether they load, take and give the same, and mean the same.

The files are verified already and lie in a folder. Each is loaded in a process of its own (``onnx_probe.py``), one
after the other, so that memory is needed for one at a time.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelfleet.api.wire import AgreementReport, CheckedFile
from modelfleet.runtime import agreement, onnx_file
from modelfleet.runtime.agreement import Port
from modelfleet.runtime.onnx_probe import Probe, Probed, ProbedPort
from modelfleet.runtime.report import RefusedError
from modelfleet.runtime.tensors import Array

PROBE: Final = ("-P", "-m", "modelfleet.runtime.onnx_probe")
"""What Python runs to load a model; nothing is imported from the working folder."""

PROBE_SECONDS: Final = 240
"""How long one model may take to be loaded and run."""

LISTED: Final = 8
"""Inputs and outputs that are reported at most."""

_TENSOR_LENGTH: Final = 96

logger = logging.getLogger(__name__)


@dataclass
class Inspection:
    """What was found about one model."""

    file: CheckedFile
    path: Path
    opset: int | None = None
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    refusal: RefusedError | None = None
    note: str = ""
    """What could not be tried."""
    agreement: AgreementReport | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether ONNX Runtime takes it."""
        return bool(self.outputs)


def inspect(
    models: Sequence[tuple[CheckedFile, Path]], allowed: float | None, samples: Path | None
) -> dict[str, Inspection]:
    """What was found about each model, by name; never raises on a bad model.

    ``allowed`` overrides the tolerance of the precisions. Raises RefusedError(InvalidSamples) where the samples fit no
    model.
    """
    found = [_loaded(Inspection(file, path)) for file, path in models]
    order = agreement.PRECISIONS
    loaded = sorted((each for each in found if each.is_loaded), key=lambda each: order.index(each.file.precision))
    reference = loaded[0] if loaded else None
    alike = []
    for each in loaded:
        if reference is None:
            break
        why = agreement.mismatch(each.inputs, reference.inputs, "input") or agreement.mismatch(
            each.outputs, reference.outputs, "output"
        )
        if why:
            each.refusal = RefusedError("InterfaceMismatch", f"{why}: in artifact {reference.file.name}")
        else:
            alike.append(each)
    if reference is not None and (len(alike) > 1 or samples is not None):
        _compare(reference, [each for each in alike if each is not reference], allowed, samples)
    return {each.file.name: each for each in found}


def _loaded(found: Inspection) -> Inspection:
    found.opset = onnx_file.opset(found.path)
    try:
        answer = _probe(Probe(path=str(found.path)))
    except RefusedError as refusal:
        found.refusal = refusal
        return found
    if answer.loaded:
        found.inputs, found.outputs = _ports(answer.inputs), _ports(answer.outputs)
    elif answer.unsupported and found.file.accelerated:
        found.note = f"made for another device, not tried: {answer.problem}"
    else:
        found.refusal = RefusedError("InvalidModel", f"ONNX Runtime does not load it: {answer.problem}")
    return found


def _compare(reference: Inspection, others: list[Inspection], allowed: float | None, samples: Path | None) -> None:
    """Run all on the same inputs and say how far each is from the reference."""
    folder = reference.path.parent
    expected = _reference_outputs(reference, others, samples, folder)
    if expected is None:
        return
    for each in others:
        limit = allowed if allowed is not None else agreement.tolerance(reference.file.precision, each.file.precision)
        try:
            answer = _probe(Probe(path=str(each.path), inputs=str(folder / "inputs.npz"), outputs=_outputs(folder)))
        except RefusedError as refusal:
            each.refusal = refusal
            continue
        if answer.problem:
            if answer.unsupported and each.file.accelerated:
                each.note = f"made for another device, not run: {answer.problem}"
            else:
                text = f"it cannot be run on inputs that artifact {reference.file.name} takes: {answer.problem}"
                each.refusal = RefusedError("InvalidModel", text)
            continue
        apart = agreement.difference(expected, agreement.load(Path(_outputs(folder))), classes=samples is not None)
        each.agreement = AgreementReport(
            reference=reference.file.name, difference=f"{apart:.3g}", tolerance=f"{limit:g}"
        )
        logger.info("%s: differs from %s by %.3g", each.file.name, reference.file.name, apart)
        if apart > limit:
            text = f"its outputs differ from those of artifact {reference.file.name} by {apart:.3g}"
            stated = allowed is not None
            if agreement.is_judged(
                reference.file.precision, each.file.precision, on_samples=samples is not None, is_stated=stated
            ):
                each.refusal = RefusedError("PrecisionMismatch", f"{text}, {limit:g} is allowed")
            else:
                each.note = f"{text} on drawn inputs: to have an int8 build judged, give spec.verification.samples"


def _reference_outputs(
    reference: Inspection, others: list[Inspection], samples: Path | None, folder: Path
) -> dict[str, Array] | None:
    """What the reference answers to the inputs, which then lie in the folder; ``None`` where it answers nothing."""
    ports = agreement.narrowed([reference.inputs, *(each.inputs for each in others)])
    problem = ""
    for size in agreement.SIZES:
        try:
            drawn = agreement.draw(ports, size) if samples is None else _fitted(samples, ports)
        except ValueError as error:
            problem = str(error)
            break
        agreement.save(folder / "inputs.npz", drawn)
        try:
            answer = _probe(
                Probe(path=str(reference.path), inputs=str(folder / "inputs.npz"), outputs=_outputs(folder))
            )
        except RefusedError as refusal:
            reference.refusal = refusal
            return None
        problem = answer.problem
        if not problem:
            return agreement.load(Path(_outputs(folder)))
        if samples is not None:
            raise RefusedError("InvalidSamples", f"artifact {reference.file.name} cannot be run on them: {problem}")
    reference.note = f"not compared with the others ({problem}): give spec.verification.samples"
    return None


def _fitted(samples: Path, ports: list[Port]) -> dict[str, Array]:
    try:
        return agreement.fitted(agreement.load(samples), ports)
    except ValueError as error:
        raise RefusedError("InvalidSamples", str(error)) from None


def _outputs(folder: Path) -> str:
    return str(folder / "outputs.npz")


def _probe(probe: Probe) -> Probed:
    command = [sys.executable, *PROBE]
    try:
        done = subprocess.run(  # noqa: S603 (our own module; paths and JSON on stdin)
            command,
            input=probe.model_dump_json(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError("TimedOut", f"ONNX Runtime did not load and run it within {PROBE_SECONDS} s") from None
    if done.returncode == -signal.SIGKILL or "MemoryError" in done.stderr or "bad_alloc" in done.stdout:
        raise RefusedError("OutOfMemory", "loading and running it takes more memory than the pod may have")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise RefusedError("InvalidModel", f"ONNX Runtime crashed on it ({name})")
    try:
        return Probed.model_validate_json(done.stdout)
    except ValidationError:
        text = done.stderr.strip().rpartition("\n")[2]
        raise RefusedError("InvalidModel", f"ONNX Runtime failed on it: {text}") from None


def _ports(probed: Sequence[ProbedPort]) -> list[Port]:
    return [Port(port.name, port.datatype, tuple(port.shape)) for port in probed]


def listed(ports: Sequence[Port]) -> list[str]:
    """The first inputs or outputs, as a report has them."""
    texts = [str(port) for port in ports[:LISTED]]
    return [text if len(text) <= _TENSOR_LENGTH else f"{text[: _TENSOR_LENGTH - 1]}…" for text in texts]
