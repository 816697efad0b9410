"""A real Git server for demo and tests: ``git http-backend`` behind HTTP, with the ways in which servers refuse.

Repositories are made with the real ``git``; whoever wants their commits has no other way to them than the network.
"""

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e import http_server

IDENTITY = {
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; its output, without the end of the line."""
    done = subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **IDENTITY}
    )
    return done.stdout.strip()


@dataclass(frozen=True)
class Repository:
    """A repository with a working tree."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Repository":
        """An empty one on branch main."""
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
        return cls(folder)

    def commit(self, files: dict[str, str | bytes], message: str = "change") -> str:
        """Write files, commit all there is; the full hash of the commit."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.head()

    def head(self, revision: str = "HEAD") -> str:
        """The commit that a revision means."""
        return git(self.folder, "rev-parse", f"{revision}^{{commit}}")

    def git(self, *words: str) -> str:
        """Any other command."""
        return git(self.folder, *words)


@dataclass
class Behaviour:
    """What the server does; may be changed between requests."""

    root: Path
    address: str = ""
    account: tuple[str, str] | None = None
    """User and password that it asks for."""
    statuses: list[int] = field(default_factory=list)
    """Answers of the next requests, before the repository is asked."""
    protocol_v2: bool = True
    requests: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        """The URL of a repository below the root."""
        return f"{self.address}/{name}"


@contextmanager
def serving(root: Path, host: str = "127.0.0.1") -> Iterator[Behaviour]:
    """Serve the repositories below a folder until the block ends."""
    behaviour = Behaviour(root)

    class Handler(http_server.Handler):
        def get(self) -> None:
            self._serve(b"")

        def post(self) -> None:
            self._serve(self.body())

        def _serve(self, body: bytes) -> None:
            behaviour.requests.append(self.path)
            if behaviour.statuses:
                self._refuse(behaviour.statuses.pop(0))
            elif not self._allowed():
                self._refuse(401)
            else:
                self._pass_on(body)

        def _allowed(self) -> bool:
            if behaviour.account is None:
                return True
            pair = base64.b64encode(":".join(behaviour.account).encode()).decode()
            return self.headers.get("Authorization") == f"Basic {pair}"

        def _refuse(self, status: int) -> None:
            self.answer(status, headers={"WWW-Authenticate": 'Basic realm="git"'} if status == 401 else {})

        def _pass_on(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                **os.environ,
                **IDENTITY,
                "GIT_PROJECT_ROOT": str(behaviour.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": self.client_address[0],
            }
            if behaviour.protocol_v2:
                environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
            if encoding := self.headers.get("Content-Encoding"):
                environment["HTTP_CONTENT_ENCODING"] = encoding
            done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = [line.split(": ", 1) for line in head.decode().splitlines()]
            status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
            self.answer(status, content, {name: value for name, value in fields if name != "Status"})

    with http_server.answering(Handler, host) as behaviour.address:
        yield behaviour
