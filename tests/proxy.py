"""A TCP proxy in front of a real API server, to take the network away and give it back."""

import asyncio
import re
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")


class Proxy:
    """Passes bytes on, while it is open. It sees no plain text: TLS goes through it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._open = True
        self._links: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen on the server's own address, for which its certificate is good; the port."""
        self._server = await asyncio.start_server(self._serve, self._target[0], 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._open = False
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def mend(self) -> None:
        """Let new connections through."""
        self._open = True

    async def stop(self) -> None:
        """Stop listening."""
        self._server.close()
        await self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            if self._open:
                upstream = await asyncio.open_connection(*self._target)
                try:
                    await asyncio.gather(_pump(reader, upstream[1]), _pump(upstream[0], writer))
                finally:
                    upstream[1].close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(task)
            with suppress(OSError):
                writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def server_of(kubeconfig: Path) -> tuple[str, int]:
    """Address and port of the API server that a kubeconfig names."""
    found = re.search(r"server: https://([\d.]+):(\d+)", kubeconfig.read_text())
    assert found is not None
    return found[1], int(found[2])


def with_port(kubeconfig: Path, port: int, copy: Path) -> Path:
    """A copy of a kubeconfig that names another port."""
    copy.write_text(re.sub(r"(server: https://[\d.]+):\d+", rf"\1:{port}", kubeconfig.read_text()))
    copy.chmod(0o600)
    return copy


@dataclass(frozen=True)
class Switch:
    """A proxy whose event loop runs in a thread, for tests that have none."""

    proxy: Proxy
    loop: asyncio.AbstractEventLoop
    kubeconfig: Path
    """Leads through the proxy."""

    def cut(self) -> None:
        """As :meth:`Proxy.cut`."""
        self.wait(self.proxy.cut())

    def mend(self) -> None:
        """As :meth:`Proxy.mend`."""
        self.loop.call_soon_threadsafe(self.proxy.mend)

    def wait(self, work: Coroutine[None, None, Answer]) -> Answer:
        """Do this on the proxy's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextmanager
def switch(kubeconfig: Path, copy: Path) -> Iterator[Switch]:
    """A proxy in front of the API server that a kubeconfig names; its ``copy`` leads through the proxy."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        proxy = Proxy(*server_of(kubeconfig))
        started = Switch(proxy, loop, copy)
        with_port(kubeconfig, started.wait(proxy.start()), copy)
        yield started
        started.wait(proxy.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
