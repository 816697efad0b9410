"""What single stores' drivers need beyond fsspec's common interface: Hugging Face's Hub, Google's and Azure's storage.

The drivers are fsspec's own (``huggingface_hub``, ``gcsfs``, ``adlfs``); here they are kept from writing, reporting and
waiting on their own, and asked what fsspec has no word for. Sorting their errors is ``store``'s part.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import fsspec

from modelfleet.runtime.credentials import Access

logger = logging.getLogger(__name__)

# Read by the drivers when they are imported, which fsspec does when the first such URL is opened.
os.environ |= {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    # Zonal buckets over gRPC: asks for the kind of each bucket, which takes rights that reading an object does not.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
}
# They log each request, with the query of a signed URL, and each failure, which is reported here.
for _name in ("azure", "gcsfs", "httpx2", "huggingface_hub"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_AZURE: Final = ("abfs", "abfss", "az")
_GOOGLE: Final = ("gs", "gcs")


def connect(uri: str, protocol: str, access: Access) -> tuple[Any, str]:
    """The file system for a URI, and the path within it.

    ValueError, TypeError or KeyError for options that it cannot use; ImportError where there is no driver.
    """
    filesystem, path = fsspec.core.url_to_fs(uri, skip_instance_cache=True, **access.options)
    if protocol in _AZURE:
        # Azure's pipeline would try again in silence, for minutes: our own tries are told of, and resume.
        filesystem.service_client._config.retry_policy.total_retries = 0
    return filesystem, path


def authenticate(filesystem: Any, protocol: str) -> None:
    """Ask for the token that Google's storage wants, at once: the driver tries a refused one for half a minute."""
    if protocol in _GOOGLE:
        filesystem.credentials.maybe_refresh()


@contextmanager
def streaming(filesystem: Any, path: str, offset: int) -> Iterator[Any]:
    """A file of the Hub, open from an offset on, over one connection: each further one counts against a limit."""
    with filesystem.open(path, "rb", block_size=0) as file:
        file.loc = offset
        yield file


def at_commit(filesystem: Any, uri: str) -> str:
    """The Hub's URI with the commit in place of a branch, so that all files of a folder are of one state."""
    from huggingface_hub import HfApi, constants

    resolved = filesystem.resolve_path(uri)
    hub = HfApi(endpoint=filesystem.endpoint, token=filesystem.token)
    commit = hub.repo_info(resolved.repo_id, revision=resolved.revision, repo_type=resolved.repo_type).sha
    kind = constants.REPO_TYPES_URL_PREFIXES.get(resolved.repo_type, "")
    pinned = f"hf://{kind}{resolved.repo_id}@{commit}/{resolved.path_in_repo}".rstrip("/")
    logger.info("%s is %s", uri, pinned)
    return pinned


def status(error: BaseException | None) -> int | None:
    """The HTTP status behind a driver's error, or behind what caused it; ``None`` where there is none."""
    while error is not None:
        if str(error).startswith("Forbidden: "):
            return 403  # gcsfs tells it in words alone
        told = (error, getattr(error, "response", None))
        values = [getattr(each, name, None) for each in told for name in ("status", "status_code")]
        if type(error).__module__.startswith("gcsfs."):
            values.append(getattr(error, "code", None))  # of others' errors, it is none of HTTP's
        for value in values:
            if isinstance(value, int) and 400 <= value < 600:
                return value
        error = error.__cause__
    return None
