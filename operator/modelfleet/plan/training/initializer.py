"""What is brought to a training job's first steps before they start: a dataset by its digest, a model to begin with."""

import re
from collections.abc import Mapping
from typing import Any, Final

from modelfleet.api import wire
from modelfleet.api.training_job import Initializer, Step, TrainingJobSpec
from modelfleet.plan import job_state, pods
from modelfleet.plan.installation import Installation
from modelfleet.plan.training import dag

WORKSPACE: Final = "/workspace"
"""Scratch space of a step; the dataset, the model and the source lie below it."""
DATASET_PATH: Final = f"{WORKSPACE}/dataset"
MODEL_PATH: Final = f"{WORKSPACE}/model"


def of(spec: TrainingJobSpec, step: Step) -> Initializer:
    """What this step gets: all of it for a step that takes nothing from others, nothing for the rest."""
    if spec.initializer is None or not dag.is_first(step):
        return Initializer.model_construct()
    return spec.initializer


def secrets(wanted: Initializer) -> list[str | None]:
    """The Secrets of the stores; only our own container sees them."""
    return [each.secret_ref.name for each in (wanted.dataset, wanted.model) if each is not None and each.secret_ref]


def containers(
    wanted: Initializer, workspace: Mapping[str, Any], installation: Installation, resources: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The init container that brings it; none where there is nothing to bring."""
    files, folders = [], []
    if wanted.dataset is not None:
        files.append(_file("dataset", wanted.dataset.storage_uri, wanted.dataset.digest, wanted.dataset, DATASET_PATH))
    if wanted.model is not None and wanted.model.digest is not None:
        files.append(_file("model", wanted.model.storage_uri, wanted.model.digest, wanted.model, MODEL_PATH))
    elif wanted.model is not None:
        folders.append(
            wire.FetchFolder(
                name="model",
                uri=wanted.model.storage_uri,
                path=MODEL_PATH,
                credentials_path=_credentials(wanted.model),
            )
        )
    if not files and not folders:
        return []
    return [
        pods.runtime_container(
            job_state.FETCH,
            "fetch",
            wire.FetchOrder(files=files, folders=folders or None),
            image=installation.runtime_image,
            pull_policy=installation.image_pull_policy,
            mounts=[workspace, *pods.credentials_mounts(secrets(wanted))],
            resources=resources,
        )
    ]


def _file(name: str, uri: str, digest: str, source: Any, folder: str) -> wire.FetchItem:
    path = re.split("[?#]", uri.partition("://")[2].partition("/")[2])[0]
    file_name = path.rstrip("/").rpartition("/")[2]
    if file_name in ("", ".", ".."):
        file_name = name
    return wire.FetchItem(
        name=name,
        uri=uri,
        sha256=digest.removeprefix("sha256:"),
        credentials_path=_credentials(source),
        path=f"{folder}/{file_name}",
    )


def _credentials(source: Any) -> str | None:
    return pods.credentials_path(source.secret_ref.name if source.secret_ref else None)
