"""Reading a Git repository over HTTP or SSH: which commit a branch or tag is, and the files of exactly one commit.

Git's protocol is spoken by dulwich, in this process: a password reaches no command line and no environment. SSH is
OpenSSH's client, with the server's key checked against the Secret's ``known_hosts``. Submodules and files of Git LFS
are not fetched. What DVC adds to a commit is ``dvc.py``'s.
"""

import logging
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from dulwich.client import (
    GitClient,
    HTTPUnauthorized,
    InvalidWants,
    SSHGitClient,
    Urllib3HttpGitClient,
)
from dulwich.config import ConfigDict
from dulwich.errors import GitProtocolError, NotGitRepository
from dulwich.index import build_index_from_tree
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Commit, ObjectID, Tree
from dulwich.repo import Repo

from modelfleet.api.wire import RefTrust
from modelfleet.runtime import credentials, dvc, store
from modelfleet.runtime.report import RefusedError

logger = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 10
_SILENCE_SECONDS: Final = 60.0
"""A server that sends nothing for so long counts as unreachable."""
_LISTED: Final = 5
_TIPS: Final = 16
_FILES: Final = 1000
_FILE_BYTES: Final = 2**20
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DENIED: Final = re.compile(r"permission denied|host key verification failed|access denied|could not read from", re.I)


@dataclass(frozen=True)
class Resolved:
    """The commit that a revision means now."""

    commit: str
    """Full hash."""
    refs: tuple[str, ...]
    """The branch or tag it was found by; for a commit, the branches and tags whose tip it is."""


@dataclass(frozen=True)
class Remote:
    """A repository on a server, and how to reach it."""

    client: GitClient
    path: str
    where: str
    """Its URL, fit to be printed."""
    secrets: frozenset[str]


@contextmanager
def connection(repository: str, credentials_path: str | None) -> Iterator[Remote]:
    """Open a way to the repository; RefusedError(Invalid) where URL and Secret do not go together.

    Keys of the Secret: ``username`` and ``password``, or ``token``; ``ca.crt``; for SSH ``ssh-privatekey`` and
    ``known_hosts``.
    """
    try:
        parts = urlsplit(repository)
        port = parts.port
    except ValueError as error:
        raise RefusedError("Invalid", f"source.git.repository {store.redact(repository)} is no URL: {error}") from None
    keys = credentials.read_keys(Path(credentials_path) if credentials_path else None)
    secrets = frozenset(
        value for name, value in keys.items() if value and name not in ("username", "known_hosts", "ca.crt")
    )
    with tempfile.TemporaryDirectory(prefix="git-") as scratch:
        if parts.scheme == "ssh":
            client: GitClient = _ssh(parts.hostname or "", port, parts.username, keys, Path(scratch))
        else:
            client = _http(repository, keys, Path(scratch))
        path = unquote(parts.path)
        yield Remote(client, path, store.redact(repository), secrets)


def resolve(remote: Remote, revision: str, trust: Sequence[RefTrust] = ()) -> Resolved:
    """Find the commit of a branch, a tag or a full hash; a hash with the most trusted of the refs that end in it.

    Raises RefusedError: UnknownRevision, Invalid (ambiguous), Unreachable, Unauthorized.
    """
    refs = store.patiently(lambda: _refs(remote))
    if _COMMIT.fullmatch(revision):
        tips = [name for name, commit in refs.items() if commit == revision]
        by_name = sorted(tips, reverse=True)
        return Resolved(revision, tuple(sorted(by_name, key=lambda ref: _trust(ref, trust), reverse=True)[:_TIPS]))
    names = [revision] if revision.startswith("refs/") else [f"refs/tags/{revision}", f"refs/heads/{revision}"]
    found = [name for name in names if name in refs]
    if len(found) > 1:
        raise RefusedError(
            "Invalid", f"{revision} is both a branch and a tag of {remote.where}: write {' or '.join(names)}"
        )
    if not found:
        raise RefusedError("UnknownRevision", _unknown(remote, revision, refs))
    return Resolved(refs[found[0]], (found[0],))


def _trust(ref: str, rules: Sequence[RefTrust]) -> int:
    """By the first rule that the branch or tag matches."""
    kind, name = ("tag" if ref.startswith("refs/tags/") else "branch"), ref.split("/", 2)[2]
    return next((rule.trust for rule in rules if rule.kind == kind and fnmatchcase(name, rule.pattern)), 0)


def fetch(remote: Remote, commit: str, folder: Path) -> Repo:
    """Fetch one commit without its history into a new repository in ``folder``.

    Raises RefusedError: UnknownRevision where the repository does not have it, Unreachable, Unauthorized.
    """

    def attempt() -> Repo:
        shutil.rmtree(folder, ignore_errors=True)
        repo = Repo.init(str(folder), mkdir=True)
        try:
            with _sorted_errors(remote):
                _fetch_one(remote, commit, repo)
        except BaseException:
            repo.close()
            raise
        return repo

    folder.parent.mkdir(parents=True, exist_ok=True)
    return store.patiently(attempt)


def files(repo: Repo, commit: str, path: str, remote: Remote) -> dict[str, bytes]:
    """The small files of a folder of the commit that ``dvc.is_read`` names, by path below the folder.

    Read from Git's own objects: a link in the repository leads nowhere. RefusedError(Invalid): no such folder.
    """
    found = _commit(repo, commit, remote)
    store_ = repo.object_store
    tree: ObjectID = found.tree
    for part in filter(None, path.split("/")):
        parent = store_[tree]
        entry = parent[part.encode()] if isinstance(parent, Tree) and part.encode() in parent else None
        if entry is None or not stat.S_ISDIR(entry[0]):
            raise RefusedError("Invalid", f"source.git.path: commit {commit[:12]} has no folder {path}")
        tree = entry[1]
    read: dict[str, bytes] = {}
    for item in iter_tree_contents(store_, tree):
        name = (item.path or b"").decode(errors="replace")
        if stat.S_ISREG(item.mode or 0) and dvc.is_read(name) and len(read) < _FILES:
            blob = store_[item.sha].as_raw_string()
            if len(blob) <= _FILE_BYTES:
                read[name] = blob
    return read


def check_out(repo: Repo, commit: str, remote: Remote) -> None:
    """Write the commit's files beside the repository; its HEAD is then that commit, on no branch."""
    found = _commit(repo, commit, remote)
    Path(repo.controldir(), "HEAD").write_bytes(found.id + b"\n")
    try:
        build_index_from_tree(repo.path, repo.index_path(), repo.object_store, found.tree)
    except OSError as error:
        raise RefusedError("NoSpace", f"{repo.path} cannot be written: {error.strerror}") from error


def _commit(repo: Repo, commit: str, remote: Remote) -> Commit:
    found = repo[ObjectID(commit.encode())]
    if not isinstance(found, Commit):
        raise RefusedError("UnknownRevision", f"{commit} is no commit of {remote.where}")
    return found


def _fetch_one(remote: Remote, commit: str, repo: Repo) -> None:
    wanted = ObjectID(commit.encode())
    try:
        remote.client.fetch(remote.path, repo, determine_wants=lambda refs, depth=None: [wanted], depth=1)
    except (GitProtocolError, InvalidWants) as error:
        if _DENIED.search(str(error)):
            raise
        # A server may hand out the tips of branches only, or hang up over a commit that it does not have.
        logger.info("%s does not hand out %s by itself (%s); fetching all branches", remote.where, commit[:12], error)
        remote.client.fetch(remote.path, repo)
    if wanted not in repo.object_store:
        raise RefusedError(
            "UnknownRevision", f"{remote.where} has no commit {commit}: it was never pushed there, or removed since"
        )


def _refs(remote: Remote) -> dict[str, str]:
    """The commits of branches and tags, by full name."""
    with _sorted_errors(remote):
        listed = remote.client.get_refs(remote.path.encode()).refs
    refs = {name.decode(errors="replace"): value.decode() for name, value in listed.items() if value is not None}
    return {
        name: refs.get(f"{name}^{{}}", value)
        for name, value in refs.items()
        if name.startswith(("refs/heads/", "refs/tags/")) and not name.endswith("^{}")
    }


def _unknown(remote: Remote, revision: str, refs: Mapping[str, str]) -> str:
    if re.fullmatch(r"[0-9a-f]{7,63}", revision):
        return f"{revision} is no branch or tag of {remote.where}; of a commit give the full hash, 40 or 64 digits"
    branches = [name.removeprefix("refs/heads/") for name in sorted(refs) if name.startswith("refs/heads/")]
    more = ", …" if len(branches) > _LISTED else ""
    listed = ", ".join(branches[:_LISTED]) or "none"
    return f"{remote.where} has no branch or tag {revision}; its branches: {listed}{more}"


def _http(repository: str, keys: Mapping[str, str], scratch: Path) -> GitClient:
    parts = urlsplit(repository)
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    settings = ConfigDict()
    if "ca.crt" in keys:
        bundle = scratch / "ca.crt"
        bundle.write_text(keys["ca.crt"] + "\n")
        settings.set((b"http",), b"sslCAInfo", str(bundle).encode())
    username, password = keys.get("username"), keys.get("password")
    if password is None and "token" in keys:
        # The hosts of Git take a token as a password, and any name beside it.
        username, password = username or "oauth2", keys["token"]
    if username is not None and password is None:
        raise RefusedError("Invalid", "the Secret has username, but neither password nor token")
    return Urllib3HttpGitClient(
        base, config=settings, username=username, password=password, timeout=_SILENCE_SECONDS, quiet=True
    )


def _ssh(host: str, port: int | None, user: str | None, keys: Mapping[str, str], scratch: Path) -> GitClient:
    for name in ("ssh-privatekey", "known_hosts"):
        if name not in keys:
            raise RefusedError(
                "Invalid", f"an ssh:// repository needs a Secret with {name}: source.git.secretRef names it"
            )
        path = scratch / name
        path.touch(mode=0o600)
        path.write_text(keys[name] + "\n")
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(scratch / "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentityFile": str(scratch / "ssh-privatekey"),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "ConnectTimeout": str(_CONNECT_SECONDS),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }
    command = ["ssh", "-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    return SSHGitClient(host, port=port, username=user or "git", ssh_command=shlex.join(command), quiet=True)


@contextmanager
def _sorted_errors(remote: Remote) -> Iterator[None]:
    """Turn what the protocol raises into a RefusedError with a reason that says what can be done about it."""
    try:
        yield
    except RefusedError:
        raise
    except HTTPUnauthorized:
        raise RefusedError(
            "Unauthorized", f"{remote.where}: the server refused access: check the Secret of source.git.secretRef"
        ) from None
    except NotGitRepository:
        raise RefusedError(
            "Unreachable", f"{remote.where}: there is no Git repository, or none that these credentials may see"
        ) from None
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise RefusedError("NoSpace", f"{error.filename} cannot be written: {error.strerror}") from None
        raise _unreachable(remote, error) from None
    except Exception as error:
        if "Host key verification failed" in str(error):
            raise RefusedError(
                "Unauthorized", f"{remote.where}: the server's key is not the one in the Secret's known_hosts"
            ) from None
        if _DENIED.search(str(error)):
            raise RefusedError("Unauthorized", f"{remote.where}: {_last_line(_scrubbed(remote, error))}") from None
        raise _unreachable(remote, error) from None


def _unreachable(remote: Remote, error: Exception) -> RefusedError:
    text = f"{type(error).__name__}: {_scrubbed(remote, error)}"
    return RefusedError("Unreachable", f"{remote.where}: {text}", transient=True)


def _last_line(text: str) -> str:
    """What ssh says at last; its warnings before that take all room of a message."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _scrubbed(remote: Remote, error: Exception) -> str:
    text = str(error)
    for secret in remote.secrets:
        text = text.replace(secret, "***")
    return text
