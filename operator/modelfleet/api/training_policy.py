"""What a TrainingJob does when things go wrong: rules by exit code, retries of a step, checkpoints to go on from.

What it runs is in ``training_job.py``.
"""

from typing import Annotated, Literal

from pydantic import Field

from modelfleet.api import common
from modelfleet.api.rules import Contract, Rules, Unique, lacks

RuleName = Annotated[str, Field(pattern=common.LABEL_PATTERN, max_length=30)]
ExitCode = Annotated[int, Field(ge=1, le=255)]
Action = Literal["FailJob", "Ignore", "Count"]
CheckpointPath = Annotated[
    str,
    Field(pattern=r"^(/[-A-Za-z0-9._]+)+$", max_length=255),
    Rules(
        lacks(r"/[.][.]?(/|$)", "must not have . or .. as a part: give the folder itself"),
        lacks(
            r"^/(bin|dev|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr|var/run|workspace)(/|$)",
            "must not lie in a folder of the system or in /workspace: choose another, such as /checkpoints",
        ),
    ),
]


class FailureRule(Contract):
    """What a failure with one of these exit codes means."""

    name: RuleName
    """Name of the rule, unique in the job; messages quote it."""
    on_exit_codes: Annotated[list[ExitCode], Field(min_length=1, max_length=32), Unique()]
    """Exit codes of the step's container. 137 is also that of a container that outgrew its memory limit."""
    action: Action
    """FailJob: the job fails at once. Ignore: the step begins again, and that does not count against a limit. Count:
    it begins again and counts, as a failure that no rule speaks of."""


class FailurePolicy(Contract):
    """Rules by exit code. A pod that was preempted, evicted or drained is no failure, whatever its exit code."""

    # "rules" is what every type of the contract calls its own conditions.
    by_exit_code: Annotated[list[FailureRule], Field(alias="rules", min_length=1, max_length=16), Unique("name")]
    """The first rule that names the exit code counts."""


class Retry(Contract):
    """How often, and after which pauses, a step that failed begins again."""

    limit: Annotated[int, Field(ge=0, le=20)]
    """How often; the step's failures count against this instead of the job's backoffLimit."""
    backoff_seconds: Annotated[int, Field(ge=1, le=600)] = 10
    """Pause before the first time; it doubles with each, to at most 10 minutes."""


class Checkpoint(Contract):
    """Where the pods of distributed steps keep checkpoints, from which the next attempt goes on."""

    volume_claim_name: common.SecretName
    """PersistentVolumeClaim in the same namespace; all pods of a step mount it: ReadWriteMany for several nodes."""
    path: CheckpointPath = "/checkpoints"
    """Folder where the pods find it."""
    interval_seconds: common.Seconds = 600
    """Least time between two checkpoints; the train library's due() says when it has passed."""
    keep: Annotated[int, Field(ge=1, le=100)] = 3
    """How many checkpoints of a step stay, the newest."""
