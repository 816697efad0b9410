"""A small server that speaks the routes of Hugging Face's Hub that its own client reads repositories by.

Not the Hub: what it answers was written from the client's requests and the Hub's public API. Files are handed out by a
second address, as the Hub's are, to which no token may be carried.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from e2e import http_server

FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class Hub:
    """One model repository, ``org/backbone``, with a history; changed by a test between requests."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by commit."""
    branches: dict[str, str] = field(default_factory=lambda: {"main": FIRST})
    token: str | None = None
    """The repository is private."""
    statuses: list[int] = field(default_factory=list)
    """Answers of the next downloads, before files are served."""
    cut_after: list[int] = field(default_factory=list)
    """The next downloads end after so many bytes of the body, with the connection."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers, in small letters, of every request."""
    page: int = 1000
    """Files in one answer of a listing."""
    address: str = ""

    def downloads(self) -> list[str]:
        """Which files were handed out, from which byte on."""
        return [
            f"{path.rpartition('/')[2]} {headers.get('range', '')}".strip()
            for path, headers in self.requests
            if path.startswith("/cdn/")
        ]


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()

    class Handler(http_server.Handler):
        def get(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
            if path.startswith("/cdn/"):
                return self.hand_out(*path.removeprefix("/cdn/").split("/", 1))
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.say(401, {"error": "Invalid username or password."})
            kind, _, rest = path.removeprefix("/api/models/").partition("org/backbone")
            if kind or not (rest == "" or rest.startswith("/")):
                return self.resolve(path)
            return self.tell(rest)

        def tell(self, rest: str) -> None:
            what, _, place = rest.lstrip("/").partition("/")
            revision, _, folder = place.partition("/")
            commit = self.commit(revision or "main")
            if commit is None:
                return self.say(404, {"error": "no revision"}, code="RevisionNotFound")
            if what in ("", "revision"):
                return self.say(200, {"id": "org/backbone", "sha": commit})
            return self.tree(commit, folder)

        def tree(self, commit: str, folder: str) -> None:
            prefix, query = f"{folder}/" if folder else "", urlsplit(self.path).query
            below = {name: each for name, each in hub.commits[commit].items() if name.startswith(prefix)}
            if not below:
                return self.say(404, {"error": "no entry"}, code="EntryNotFound")
            entries, folders = [], set()
            for name, content in sorted(below.items()):
                nested = name.removeprefix(prefix).partition("/")[1]
                if nested:
                    folders.add(prefix + name.removeprefix(prefix).partition("/")[0])
                if not nested or "recursive=true" in query.lower():
                    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
                    entries.append({"type": "file", "oid": digest, "size": len(content), "path": name})
            entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
            start = int(query.partition("cursor=")[2] or 0)
            more = {}
            if len(entries) > start + hub.page:
                following = f"{query.partition('&cursor=')[0]}&cursor={start + hub.page}"
                more = {"Link": f'<{hub.address}{urlsplit(self.path).path}?{following}>; rel="next"'}
            return self.say(200, entries[start : start + hub.page], **more)

        def resolve(self, path: str) -> None:
            repository, _, place = path.removeprefix("/").partition("/resolve/")
            revision, _, name = place.partition("/")
            if repository != "org/backbone":
                # To a stranger, the Hub does not tell whether there is such a repository.
                return self.say(404 if hub.token else 401, {"error": "no repository"}, code="RepoNotFound")
            commit = self.commit(revision)
            if commit is None or name not in hub.commits[commit]:
                return self.say(404, {"error": "no entry"}, code="EntryNotFound")
            elsewhere = hub.address.replace("127.0.0.1", "localhost")
            return self.answer(302, headers={"Location": f"{elsewhere}/cdn/{commit}/{name}?sig=s3cr"})

        def hand_out(self, commit: str, name: str) -> None:
            if hub.statuses:
                return self.say(hub.statuses.pop(0), {})
            content = hub.commits[commit][name]
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            body = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if hub.cut_after:
                body = body[: hub.cut_after.pop(0)]
            self.wfile.write(body)
            self.close_connection = True
            return None

        def commit(self, revision: str) -> str | None:
            commit = hub.branches.get(revision, revision)
            return commit if commit in hub.commits else None

        def say(self, status: int, content: object, code: str = "", **headers: str) -> None:
            told = {"X-Error-Code": code} if code else headers
            self.answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | told)

    with http_server.answering(Handler) as hub.address:
        yield hub
