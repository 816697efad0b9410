"""From the keys of a store Secret to the options fsspec wants.

A Secret is mounted as a folder, a file a key. ``s3``: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_SESSION_TOKEN``, ``AWS_ENDPOINT_URL``, ``AWS_REGION``. ``http(s)``: ``token``, or ``username`` and ``password``.
Every other store, and whatever these do not cover: ``storage_options.json``, handed to fsspec as it is.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from modelfleet.runtime.report import RefusedError

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60
"""A store that sends nothing for so long counts as unreachable; there is no limit on the whole download."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a store."""

    options: dict[str, Any]
    """Storage options of the fsspec file system."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that must never be printed."""


def load(protocol: str, folder: Path | None) -> Access:
    """Read the options for a protocol from a mounted Secret; without a folder the access is anonymous."""
    keys = read_keys(folder)
    secrets = list(keys.values())
    if protocol in ("s3", "s3a"):
        options = _s3(keys)
    elif protocol in ("http", "https"):
        options = _http(keys)
    else:
        options = {}
    if text := keys.get("storage_options.json"):
        try:
            extra = json.loads(text)
        except ValueError as error:
            raise RefusedError("Invalid", f"key storage_options.json of the Secret is no JSON: {error}") from None
        if not isinstance(extra, dict):
            raise RefusedError("Invalid", "key storage_options.json of the Secret must hold a JSON object")
        options |= extra
        secrets += _texts(extra)
    return Access(options, frozenset(value for value in secrets if len(value) >= 4))


def read_keys(folder: Path | None) -> dict[str, str]:
    """The keys of a mounted Secret, by name; none without a folder."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise RefusedError("Unauthorized", f"the credentials folder {folder} is not there: is the Secret mounted?")
    # Kubernetes mounts keys as links into a hidden folder, whose name starts with two dots.
    found = (path for path in folder.iterdir() if path.is_file() and path.name[:1] != ".")
    # A key of bytes, such as a Java trust store, may lie beside those that are read here.
    return {path.name: path.read_text(errors="replace").strip() for path in found}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value: an account's key may lie at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _s3(keys: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _SILENCE_SECONDS,
            "retries": {"max_attempts": 1},
        },
    }
    names = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
    options |= {option: keys[name] for option, name in names.items() if keys.get(name)}
    if "key" not in options:
        options["anon"] = True
    if endpoint := keys.get("AWS_ENDPOINT_URL"):
        options["endpoint_url"] = endpoint
    if region := keys.get("AWS_REGION"):
        options["client_kwargs"] = {"region_name": region}
    return options


def _http(keys: dict[str, str]) -> dict[str, Any]:
    # The digest is of the bytes as stored: no content encoding. aiohttp's default would end every download at 5 min.
    headers = {"Accept-Encoding": "identity"}
    if token := keys.get("token"):
        headers["Authorization"] = f"Bearer {token}"
    elif "username" in keys:
        pair = f"{keys['username']}:{keys.get('password', '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    return {"client_kwargs": {"headers": headers, "timeout": timeout}}
