"""From the keys of a store Secret to the options fsspec wants.

A Secret is mounted as a folder, a file a key. The keys are those each store's own tools know (docs/stores.md);
whatever they do not cover is in ``storage_options.json``, handed to fsspec as it is.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

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
    known = _KNOWN.get(protocol)
    options = known(keys) if known is not None else {}
    secrets += _parts(options)
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


def _parts(options: dict[str, Any]) -> Iterator[str]:
    """What must not be printed and is part of a key's value: within an account's JSON, or a connection string."""
    if isinstance(token := options.get("token"), dict):
        yield from (str(token.get(name, "")) for name in ("private_key", "refresh_token", "client_secret"))
    for part in options.get("connection_string", "").split(";"):
        yield part.partition("=")[2] if part.startswith(("AccountKey=", "SharedAccessSignature=")) else ""


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
    return {"client_kwargs": {"headers": headers, "timeout": _timeout()}}


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)


def _hub(keys: dict[str, str]) -> dict[str, Any]:
    # False: no token, rather than one that is found somewhere.
    options: dict[str, Any] = {"token": keys.get("HF_TOKEN") or False}
    if endpoint := keys.get("HF_ENDPOINT"):
        options["endpoint"] = endpoint.rstrip("/")
    return options


def _google(keys: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "token": "anon",
        "access": "read_write",
        "use_listings_cache": False,
        "requests_timeout": _timeout(),
    }
    name = next((each for each in ("GOOGLE_APPLICATION_CREDENTIALS", "key.json") if keys.get(each)), None)
    if name is not None:
        options["token"] = _google_key(name, keys[name])
    return options


def _google_key(name: str, text: str) -> dict[str, Any]:
    """An account's key; what else the variable may name on a workstation, as a path, cannot be used in a pod."""
    try:
        key = json.loads(text)
    except ValueError:
        key = None
    if not isinstance(key, dict) or key.get("type") not in ("service_account", "authorized_user"):
        raise RefusedError(
            "Unauthorized", f"key {name} of the Secret must hold the JSON of a service account's key, not a path to it"
        )
    return key


def _azure(keys: dict[str, str]) -> dict[str, Any]:
    names = {
        "connection_string": ("AZURE_STORAGE_CONNECTION_STRING",),
        "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
        "tenant_id": ("AZURE_STORAGE_TENANT_ID", "AZURE_TENANT_ID"),
        "client_id": ("AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID"),
        "client_secret": ("AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
    }
    found = {option: next((keys[name] for name in each if keys.get(name)), None) for option, each in names.items()}
    options: dict[str, Any] = {option: value for option, value in found.items() if value is not None}
    if not options.keys() & {"connection_string", "account_key", "sas_token", "client_secret"}:
        options["anon"] = True
    return options | {
        "use_listings_cache": False,
        "connection_timeout": _CONNECT_SECONDS,
        "read_timeout": _SILENCE_SECONDS,
    }


_KNOWN: Final[dict[str, Callable[[dict[str, str]], dict[str, Any]]]] = {
    "abfs": _azure,
    "gs": _google,
    "hf": _hub,
    "http": _http,
    "https": _http,
    "s3": _s3,
    "s3a": _s3,
}
