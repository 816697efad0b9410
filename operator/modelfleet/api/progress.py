"""How a training tells its progress while it runs: the protocol that the pods of distributed steps are given.

It is that of Kubeflow Trainer (its proposal 2779, "Track TrainJob progress and expose training metrics", and its
``pkg/statusserver``): the same environment variables, files and JSON, so that what reports there (the ``kubeflow``
SDK's ``update_trainjob_status``, the callback of ``transformers``) reports here. The path and the audience are ours.
"""

from typing import Annotated, Final

from pydantic import AwareDatetime, ConfigDict, Field

from modelfleet.api import names
from modelfleet.api.wire import Wire

URL_ENV: Final = "KUBEFLOW_TRAINER_SERVER_URL"
"""Where to POST a :class:`Progress`."""

AUTHORITY_ENV: Final = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
"""File with the certificate authorities of that server."""

TOKEN_ENV: Final = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105 (the name of a variable)
"""File with the bearer token to send; the kubelet renews it."""

FOLDER: Final = "/var/run/secrets/kubeflow/trainer"
AUTHORITY_FILE: Final = "ca.crt"
TOKEN_FILE: Final = "token"  # noqa: S105 (the name of a file)

AUDIENCE: Final = f"{names.GROUP}/training-progress"
"""Whom the token is for; the API server itself takes none of this audience."""

TOKEN_SECONDS: Final = 3600
"""Lifetime of a token; the kubelet renews it when four fifths are over."""

REQUEST_HEADER: Final = "Modelfleet-Request"
"""Header of an answer, where the training is to do something: ``Finish`` or ``Yield``. Trainer has none such, so that
other clients do not mind it."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes of a request, as Trainer has it."""


def path(namespace: str, training_job: str) -> str:
    """Path of the endpoint of one training job."""
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/trainingjobs/{training_job}/status"


class Strict(Wire):
    """Unknown fields are ignored, as Trainer does; numbers are numbers and texts are texts."""

    model_config = ConfigDict(strict=True)


class Metric(Strict):
    """A number that a training tells of itself."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    value: Annotated[str, Field(min_length=1, max_length=64)]


class TrainerProgress(Strict):
    """How far the training is; what is not known is left out."""

    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    estimated_remaining_seconds: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    metrics: Annotated[list[Metric], Field(max_length=256)] | None = None
    last_updated_time: AwareDatetime | None = None
    """By the pod's clock; nothing is decided by it."""


class Progress(Strict):
    """The body of a report."""

    trainer_status: TrainerProgress | None = None
