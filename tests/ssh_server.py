"""A real SSH server for tests: it lets one key in and runs ``git upload-pack`` on the repositories below a folder."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from e2e.git_server import IDENTITY


@dataclass
class Behaviour:
    """A running server, and what a client needs for it."""

    address: str
    private_key: str
    known_hosts: str
    commands: list[str] = field(default_factory=list)
    """What clients asked it to run."""

    def url(self, name: str) -> str:
        """The URL of a repository below the root."""
        return f"ssh://git@{self.address}/{name}"


@contextmanager
def serving(root: Path, host: str = "127.0.0.1") -> Iterator[Behaviour]:
    """Serve the repositories below a folder until the block ends."""
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    loop = asyncio.new_event_loop()
    behaviour = Behaviour("", user_key.export_private_key().decode(), "")

    async def handle(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        command = process.command or ""
        behaviour.commands.append(command)
        program, _, quoted = command.partition(" ")
        if program != "git-upload-pack":
            process.exit(1)
            return
        folder = root / quoted.strip("'").lstrip("/")
        environment = {**os.environ, **IDENTITY, "GIT_PROTOCOL": process.env.get("GIT_PROTOCOL", "")}
        local = await asyncio.create_subprocess_exec(
            "git",
            "-c",
            "safe.directory=*",
            "upload-pack",
            str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        assert local.stdin is not None
        assert local.stdout is not None
        sending = asyncio.ensure_future(_copy(process.stdin, local.stdin))
        await _copy(local.stdout, process.stdout)
        sending.cancel()
        process.exit(await local.wait())

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            host,
            0,
            server_host_keys=[host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(user_key.export_public_key().decode()),
            process_factory=handle,
            encoding=None,
        )

    acceptor = loop.run_until_complete(start())
    behaviour.address = f"{host}:{acceptor.get_port()}"
    public = host_key.export_public_key().decode().strip()
    behaviour.known_hosts = f"[{host}]:{acceptor.get_port()} {public}\n"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield behaviour
    finally:
        acceptor.close()
        asyncio.run_coroutine_threadsafe(acceptor.wait_closed(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _copy(source: Any, target: Any) -> None:
    while data := await source.read(2**16):
        target.write(data)
        await target.drain()
    target.write_eof()
