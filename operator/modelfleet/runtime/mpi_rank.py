"""One MPI rank: runs the user's command as a child and tells its node how that ended. Started by Hydra's proxy.

Hydra itself ends a gang only for ranks that have come to ``MPI_Init`` or were killed: one that fails before, for a
missing file say, would leave the others waiting for ever. And of a rank that was killed it does not keep the exit code.
Runs isolated (``python -I -S``), so it imports nothing but the standard library.
"""

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Final

TELL_ENV: Final = "MODELFLEET_MPI_TELL"
"""The file descriptor to which a rank says ``started <pid>`` and ``ended <rank> <exit code>``, a line each."""

NAMES: Final = {
    "RANK": "PMI_RANK",
    "WORLD_SIZE": "PMI_SIZE",
    "LOCAL_RANK": "MPI_LOCALRANKID",
    "LOCAL_WORLD_SIZE": "MPI_LOCALNRANKS",
}
"""torchrun's names for what Hydra tells a rank: torch.distributed and the train library go by them."""

CANNOT_START: Final = 127
"""Exit code where the command cannot be started, as shells have it."""


_SET_PARENT_DEATH_SIGNAL: Final = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""


def main(command: list[str]) -> int:
    """Run the command and return its exit code; one that was killed by a signal has 128 and its number."""
    variables = dict(os.environ)
    tell = int(variables.pop(TELL_ENV))
    variables |= {name: variables[theirs] for name, theirs in NAMES.items() if theirs in variables}
    # The socket to the proxy stays open here, too: the proxy takes its end for the rank's, and kills this process.
    inherited = [int(variables["PMI_FD"])] if "PMI_FD" in variables else []
    child: subprocess.Popen[bytes] | None = None
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        if child is not None:
            child.terminate()

    prctl = ctypes.CDLL(None).prctl

    def bind_to_life() -> None:
        # Hydra kills this process to end the rank; the command is not to outlive it.
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != own:
            os._exit(0)

    own = os.getpid()
    signal.signal(signal.SIGTERM, stop)
    os.write(tell, f"started {own}\n".encode())
    try:
        child = subprocess.Popen(  # noqa: S603 - the user's own program; there are no threads here
            command, env=variables, pass_fds=inherited, preexec_fn=bind_to_life
        )
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", file=sys.stderr)
        code = CANNOT_START
    else:
        if stopped:
            child.terminate()
        code = child.wait()
    code = 128 - code if code < 0 else code
    os.write(tell, f"ended {variables.get('PMI_RANK', '?')} {code}\n".encode())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
