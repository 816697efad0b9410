"""What DVC recorded at a commit: parameters and the digests of data, read from its files without running anything.

Sources: the formats of ``params.yaml``, ``dvc.yaml``, ``dvc.lock`` and ``*.dvc`` of DVC 2 and 3 (its user guide,
project structure). A file that cannot be read is told and otherwise left out: lineage is no reason not to train.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from modelfleet.api.wire import REPORT_LIMIT, DataDigest, ResolveReport
from modelfleet.runtime.report import MESSAGE_LIMIT, RefusedError, encode

PARAMS_LIMIT: Final = 128
"""Of ModelVersion's ``lineage.dvc.params``."""
DATA_LIMIT: Final = 32
_REF_LENGTH: Final = 300
"""Of TrainingJob's ``status.source.refs``."""
_NAME_LENGTH: Final = 128
_VALUE_LENGTH: Final = 256

_MD5: Final = 32


class _WithoutAliases(yaml.SafeLoader):
    """A few lines of aliases of aliases would take all memory once they are written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Out:
    """A file or folder under DVC's control."""

    path: str
    """Below the project's folder."""
    md5: str
    """Of the file, or of a folder's listing (then it ends in .dir)."""
    size: int | None
    legacy: bool
    """Whether DVC 2 wrote it."""


@dataclass
class Recorded:
    """What was found."""

    params: dict[str, str] = field(default_factory=dict)
    data: list[DataDigest] = field(default_factory=list)
    message: str = ""
    """What could not be read; empty: all was."""


def is_read(path: str) -> bool:
    """Whether a file of a commit is one of those read here."""
    return path in ("params.yaml", "dvc.yaml", "dvc.lock") or path.endswith(".dvc")


def recorded(files: Mapping[str, bytes]) -> Recorded:
    """The parameters and data digests that these files state, by name and by path."""
    unread: list[str] = []
    documents = {name: _yaml(name, content, unread) for name, content in sorted(files.items())}
    params = dict(_flat("", documents.get("params.yaml") or {}))
    found = {each.path: each for each in _outs(documents)}
    data = [
        DataDigest(path=path[:_VALUE_LENGTH], digest=f"md5:{found[path].md5}", size_bytes=found[path].size)
        for path in sorted(found)
    ]
    told = f"not read, as no valid YAML mapping: {', '.join(unread[:3])}" if unread else ""
    return Recorded(params, data, told)


def outs(files: Mapping[str, bytes]) -> list[Out]:
    """The outputs that these files name; RefusedError(Invalid) where one of them cannot be read."""
    unread: list[str] = []
    documents = {name: _yaml(name, content, unread) for name, content in sorted(files.items())}
    if unread:
        raise RefusedError("Invalid", f"{unread[0]} is no YAML mapping that can be read")
    return list(_outs(documents))


def within_limit(report: ResolveReport) -> ResolveReport:
    """The report with as many parameters and digests as a pod can say; the message tells what was left out."""
    params = {
        name: value
        for name, value in sorted(report.params.items())
        if len(name) <= _NAME_LENGTH and len(value) <= _VALUE_LENGTH
    }
    kept_params, kept_data = dict(list(params.items())[:PARAMS_LIMIT]), list(report.data[:DATA_LIMIT])
    kept_refs = [ref for ref in report.refs if len(ref) <= _REF_LENGTH]
    while True:
        left = len(report.params) - len(kept_params), len(report.data) - len(kept_data)
        told = [report.message] if report.message else []
        if any(left):
            told.append(f"left out of the lineage, which is bounded: {left[0]} params, {left[1]} data digests")
        message = "; ".join(told)[:MESSAGE_LIMIT]
        fitted = report.model_copy(
            update={"refs": kept_refs, "params": kept_params, "data": kept_data, "message": message}
        )
        if len(encode(fitted)) <= REPORT_LIMIT:
            return fitted
        if len(kept_data) > len(kept_params) // 2:
            kept_data.pop()
        elif kept_params:
            kept_params.popitem()
        else:
            kept_refs.pop()


def _yaml(name: str, content: bytes, unread: list[str]) -> dict[str, Any]:
    try:
        document = _plain(yaml.load(content, _WithoutAliases))  # noqa: S506 (a safe loader)
        # YAML has numbers that Python will not write out.
        json.dumps(document, default=str)
    except (yaml.YAMLError, ValueError, RecursionError):
        document = ""
    if document is None:
        return {}
    if not isinstance(document, dict):
        unread.append(name)
        return {}
    return document


def _plain(value: Any) -> Any:
    """The value with text for keys: those of YAML may be dates, say, and JSON has no such."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _flat(prefix: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Leaves by dotted path; a list is one value, as DVC shows it."""
    if isinstance(value, dict) and depth < 16:
        for key, inner in value.items():
            name = "".join(letter if "!" <= letter <= "~" else "_" for letter in key)
            yield from _flat(f"{prefix}.{name}" if prefix else name, inner, depth + 1)
    elif prefix:
        yield prefix, value if isinstance(value, str) else json.dumps(value, default=str)


def _outs(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[Out]:
    """The outputs of all stages, and of all files added with ``dvc add``; paths below the project's folder."""
    for name, document in documents.items():
        if name.endswith(".dvc"):
            yield from _items(_joined(posixpath.dirname(name), document.get("wdir")), document.get("outs"))
    stages = documents.get("dvc.yaml", {}).get("stages")
    locked = documents.get("dvc.lock", {}).get("stages")
    for stage, lock in (locked if isinstance(locked, dict) else {}).items():
        written = stages.get(stage) if isinstance(stages, dict) else None
        place = _joined("", written.get("wdir") if isinstance(written, dict) else None)
        yield from _items(place, lock.get("outs") if isinstance(lock, dict) else None)


def _items(place: str, items: Any) -> Iterator[Out]:
    for out in items if isinstance(items, list) else ():
        if not isinstance(out, dict):
            continue
        path, digest, size = out.get("path"), str(out.get("md5", "")), out.get("size")
        if isinstance(path, str) and len(digest.removesuffix(".dir")) == _MD5:
            yield Out(_joined(place, path), digest, size if isinstance(size, int) else None, "hash" not in out)


def _joined(place: str, path: Any) -> str:
    return posixpath.normpath(posixpath.join(place, path)) if isinstance(path, str) else place
