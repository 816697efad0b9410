"""Bringing the data that DVC keeps beside Git into a checked-out project, each file by its MD5, as ``dvc pull`` does.

The remote is the one that ``.dvc/config`` names; its credentials come from a Secret alone. Layout of a remote: DVC 3
keeps ``files/md5/<2 digits>/<30 digits>``, DVC 2 the same without the prefix; a folder is a JSON listing (``.dir``).
"""

import configparser
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelfleet.api.wire import PullOrder
from modelfleet.runtime import dvc, store
from modelfleet.runtime.report import RefusedError

logger = logging.getLogger(__name__)

_LISTING_BYTES: Final = 2**28


@dataclass(frozen=True)
class _Remote:
    url: str
    credentials_path: str | None

    def uri(self, md5: str, *, legacy: bool) -> str:
        prefix = "" if legacy else "files/md5/"
        return f"{self.url.rstrip('/')}/{prefix}{md5[:2]}/{md5[2:]}"


def pull(root: Path, project: Path, order: PullOrder) -> int:
    """Fetch what dvc.lock and ``*.dvc`` files of ``project`` name and Git does not hold; how many files that were.

    Raises RefusedError: Invalid (no remote, a path that leads out), HashMismatch, Unreachable, Unauthorized, NoSpace.
    """
    wanted = [out for out in _outs(project) if _is_target(out.path, order.targets)]
    unknown = [target for target in order.targets if not any(_is_target(out.path, [target]) for out in wanted)]
    if unknown:
        raise RefusedError("Invalid", f"source.dvc.targets: neither dvc.lock nor a .dvc file names {unknown[0]}")
    remote = _remote(root, project, order) if wanted else None
    count = 0
    for out in wanted:
        assert remote is not None  # noqa: S101 (there is one where something is wanted)
        for path, md5 in _files(out, remote):
            place = _within(root, project / path)
            if not place.exists():
                _fetch(remote, md5, place, legacy=out.legacy)
                count += 1
    logger.info("%d files under DVC's control are in place", count)
    return count


def _outs(project: Path) -> list[dvc.Out]:
    names = [name for name in ("dvc.yaml", "dvc.lock") if (project / name).is_file()]
    names += [str(path.relative_to(project)) for path in sorted(project.rglob("*.dvc")) if path.is_file()]
    found = {out.path: out for out in dvc.outs({name: (project / name).read_bytes() for name in names})}
    # What Git holds itself, as a stage's metrics without cache, is there already and in no remote.
    return [out for path, out in sorted(found.items()) if not (project / path).exists()]


def _is_target(path: str, targets: list[str]) -> bool:
    return not targets or any(path == target or path.startswith(f"{target}/") for target in targets)


def _remote(root: Path, project: Path, order: PullOrder) -> _Remote:
    config = configparser.ConfigParser(interpolation=None)
    for folder in (project, root):
        if (folder / ".dvc" / "config").is_file():
            try:
                config.read_string((folder / ".dvc" / "config").read_text(errors="replace"))
            except configparser.Error as error:
                raise RefusedError("Invalid", f".dvc/config of the source cannot be read: {error}") from None
            break
    name = order.remote or config.get("core", "remote", fallback="")
    sections = [f"'remote \"{name}\"'", f'remote "{name}"']
    section: Mapping[str, str] = next((config[each] for each in sections if config.has_section(each)), {})
    url = section.get("url", "")
    if not url:
        what = f"no remote {name}" if name else "no default remote: name one in source.dvc.remote"
        raise RefusedError("Invalid", f".dvc/config of the source has {what}")
    if not url.startswith(("http://", "https://", "s3://", "gs://", "azure://")):
        raise RefusedError(
            "Invalid", f"DVC's remote {name} is {store.redact(url)}: pods reach http, https, s3, gs and azure only"
        )
    return _Remote(_azure(url, section.get("account_name", "")), order.credentials_path)


def _azure(url: str, account: str) -> str:
    """DVC's way to write a container of Azure's, as fsspec writes it; all other URLs as they are."""
    if not url.startswith("azure://"):
        return url
    container, slash, path = url.removeprefix("azure://").partition("/")
    return f"abfs://{container}{f'@{account}.dfs.core.windows.net' if account else ''}{slash}{path}"


def _files(out: dvc.Out, remote: _Remote) -> Iterator[tuple[str, str]]:
    """Path and MD5 of each file of an output: of itself, or of those its listing names."""
    if not out.md5.endswith(".dir"):
        yield out.path, out.md5
        return
    uri = remote.uri(out.md5, legacy=out.legacy)
    listing = store.patiently(lambda: _read(uri, remote.credentials_path))
    if hashlib.md5(listing, usedforsecurity=False).hexdigest() != out.md5.removesuffix(".dir"):
        raise RefusedError("HashMismatch", f"{store.redact(uri)} is not the listing of {out.path} that DVC recorded")
    try:
        entries: list[dict[str, Any]] = json.loads(listing)
        for entry in entries:
            yield f"{out.path}/{entry['relpath']}", str(entry["md5"])
    except (ValueError, KeyError, TypeError):
        raise RefusedError("Invalid", f"{store.redact(uri)} is no listing of DVC's") from None


def _read(uri: str, credentials_path: str | None) -> bytes:
    content = b""
    with store.reading(uri, credentials_path, limit=_LISTING_BYTES) as stream:
        for block in stream.blocks:
            content += block
    return content


def _within(root: Path, place: Path) -> Path:
    """The place, unless a ``..`` or a link of the repository leads out of the checkout."""
    if not place.resolve().is_relative_to(root.resolve()):
        raise RefusedError("Invalid", f"DVC's files name {place}, which lies outside of the source")
    return place


def _fetch(remote: _Remote, md5: str, place: Path, *, legacy: bool) -> None:
    uri, part = remote.uri(md5, legacy=legacy), place.with_name(f"{place.name}.part")
    place.parent.mkdir(parents=True, exist_ok=True)

    def attempt() -> str:
        hasher = hashlib.md5(usedforsecurity=False)
        with part.open("wb") as file, store.reading(uri, remote.credentials_path) as stream:
            for block in stream.blocks:
                try:
                    file.write(block)
                except OSError as error:
                    raise RefusedError("NoSpace", f"{part} cannot be written: {error.strerror}") from error
                hasher.update(block)
            if stream.size is not None and file.tell() < stream.size:
                raise RefusedError("Unreachable", f"{store.redact(uri)}: the connection was cut", transient=True)
        return hasher.hexdigest()

    if store.patiently(attempt) != md5 and not (legacy and _text_md5(part) == md5):
        part.unlink()
        raise RefusedError("HashMismatch", f"{store.redact(uri)} has not the MD5 that DVC recorded for {place.name}")
    part.rename(place)


def _text_md5(path: Path) -> str:
    """DVC 2 took line ends of text for the same on all systems."""
    return hashlib.md5(path.read_bytes().replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest()
