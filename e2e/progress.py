"""What a person sees while the demo and the set-up run: titled phases with elapsed time, one moving line each.

On a terminal the present line moves; elsewhere (CI, a pipe) each change that matters is one plain line.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Progress:
    """Prints phases. ``say`` replaces the phase's present line; ``keep`` prints one that stays."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._status: Status | None = None
        self._last = ""
        self._number = 0

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """A numbered phase; prints how long it took, or that it failed."""
        self._number += 1
        self.console.print(f"[bold cyan]{self._number}. {escape(title)}[/]")
        began = time.monotonic()
        status = Status("…", console=self.console) if self.console.is_terminal else None
        self._status, self._last = status, ""
        try:
            if status:
                status.start()
            yield
        except BaseException:
            self._stop(status)
            self.console.print(f"   [red]✗ failed after {time.monotonic() - began:.0f} s[/]")
            raise
        self._stop(status)
        self.console.print(f"   [green]✓[/] [dim]{time.monotonic() - began:.0f} s[/]")

    def say(self, line: str) -> None:
        """What is going on now; the same line again prints nothing."""
        if line == self._last:
            return
        self._last = line
        if self._status:
            self._status.update(escape(line))
        else:
            self.console.print(f"   [dim]{escape(line)}[/]")

    def keep(self, line: str) -> None:
        """A line that stays on the screen."""
        self.console.print(f"   {escape(line)}")

    def show(self, title: str, text: str) -> None:
        """Output of a command, as the user would see it."""
        self.console.print(f"   [dim]$[/] [bold]{escape(title)}[/]")
        for line in text.rstrip().splitlines():
            self.console.print(f"     {escape(line)}", no_wrap=True, crop=False, overflow="ignore")

    def fail(self, error: BaseException) -> int:
        """The error that ended it all, as a person reads it; answers the exit code 1."""
        self.console.print(f"[bold red]Failed:[/] {escape(str(error))}", soft_wrap=True)
        return 1

    def _stop(self, status: Status | None) -> None:
        if status:
            status.stop()
        self._status = None
