"""How a ModelVersion's artifacts are verified: what may be said about it in the spec. Not part of the identity."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelfleet.api import common, quantity
from modelfleet.api.rules import Contract, Rule, Rules, matches

Hours = Annotated[
    str,
    Field(max_length=6),
    Rules(matches(r"^[1-9][0-9]{0,4}h$", "must be a number of whole hours, such as 24h")),
]
Tolerance = Annotated[
    str,
    Field(max_length=12),
    Rules(matches(r"^(0\.[0-9]{1,6}|1)$", "must be a decimal number from 0.0 to 1 as text, such as '0.05'")),
]


class Samples(Contract):
    """Inputs on which the precisions are compared."""

    uri: common.FileUri
    """Where the file lies: an .npz file of NumPy with an array for each input, by its name, samples along the first
    axis."""
    sha256: common.Sha256
    """SHA-256 of the file, 64 lower-case hexadecimal digits."""
    size_bytes: Annotated[int, Field(ge=1, le=64 << 20)]
    """Exact length of the file in bytes; 64 MiB at most."""
    credentials_secret_ref: common.SecretReference | None = None
    """Secret with the store's credentials; absent: the store is read anonymously."""


class VerificationSpec(Contract):
    """How the artifacts are verified, beyond their digest and length."""

    rules: ClassVar = (
        Rule(
            "self.inference == 'OnnxRuntime' || !has(self.tolerance) && !has(self.samples) && !has(self.memoryLimit)",
            "tolerance, samples and memoryLimit need inference: OnnxRuntime",
            lambda self: (
                self.inference == "OnnxRuntime"
                or not (self.has("tolerance") or self.has("samples") or self.has("memory_limit"))
            ),
        ),
    )

    inference: Literal["OnnxRuntime", "None"] = "OnnxRuntime"
    """OnnxRuntime: artifacts of format onnx are loaded in ONNX Runtime on a CPU, their inputs and outputs compared, and
    the precisions run on the same inputs. None: only bytes are verified, as for models that need operators of your own
    serving image."""
    tolerance: Tolerance | None = None
    """How far the outputs of an artifact may be from those of the most precise one: root of the mean squared
    difference, relative to the root mean square. Absent: 0.001 for fp32, 0.05 for fp16, 0.1 for bf16, 0.25 for int8,
    the larger one of the two; int8 is then judged on samples only."""
    samples: Samples | None = None
    """Inputs on which the precisions are compared; absent: seeded random ones, drawn to fit the signature."""
    memory_limit: quantity.Quantity | None = None
    """Memory that the verifying pod may take; absent: 512 MiB and four times the largest ONNX artifact."""
    every: Hours | None = None
    """The artifacts are verified again after this time, such as 24h; absent: as the installation has it."""
