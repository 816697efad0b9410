"""Host commands, called with lists of words and never through a shell."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Report = Callable[[str], None]
"""Gets one line of progress at a time."""


class ClusterError(RuntimeError):
    """Something about the cluster cannot be done; the message says what, and what to do about it."""


class TimedOutError(ClusterError):
    """A state did not come about in time."""


def run(
    *words: str | Path,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Standard output of a command; raises ``ClusterError`` with its stderr when it fails or is missing."""
    line = [str(word) for word in words]
    try:
        done = subprocess.run(
            line, input=stdin, capture_output=True, text=True, env=environment, cwd=folder, check=False
        )
    except FileNotFoundError as error:
        raise ClusterError(f"the program {line[0]!r} is not installed") from error
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise ClusterError(f"{' '.join(line[:6])} exited with {done.returncode}: {told}")
    return done.stdout


def succeeds(*words: str | Path) -> bool:
    """Whether a command exits with 0."""
    try:
        run(*words)
    except ClusterError:
        return False
    return True


def wait_until(
    reached: Callable[[], bool], what: str, timeout: float, check: Callable[[], object] = lambda: None
) -> None:
    """Poll ``reached`` ten times a second; ``check`` may raise to end the wait early.

    Raises ``TimedOutError`` after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not reached():
        check()
        if time.monotonic() > deadline:
            raise TimedOutError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.1)


def timed_lines(write: Callable[[str], None] = print) -> Report:
    """A report that puts the seconds since now before each line."""
    began = time.monotonic()

    def report(line: str) -> None:
        write(f"[{time.monotonic() - began:6.1f} s] {line}")

    return report
