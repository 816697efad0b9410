"""What Hydra, the process manager of MPICH, is asked and what it says. Pure, but for the look at PATH.

``mpiexec -launcher manual`` starts nothing on other nodes: it prints, for each node, the command of the proxy that is
to be started there, and waits for the proxies to connect. Each line is ``HYDRA_LAUNCH: /…/hydra_pmi_proxy
--control-port HOST:PORT … --proxy-id N``, the last one ``HYDRA_LAUNCH_END`` (MPICH, ``external_common_launch.c``).
Starting them is ``mpi``'s part.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LAUNCH: Final = "HYDRA_LAUNCH:"
LAUNCH_END: Final = "HYDRA_LAUNCH_END"

DEFAULTS: Final = {"MPIR_CVAR_CH4_CMA_ENABLE": "0"}
"""Variables of all ranks where their pod has none of the name.

CMA lets ranks of a pod copy from each other's memory; the seccomp profile RuntimeDefault, which the operator's pods
have, refuses process_vm_readv(2), and MPICH finds out only when it copies. It falls back to shared memory.
"""

_PROXY: Final = "hydra_pmi_proxy"
_MPIEXECS: Final = ("mpiexec.hydra", "mpiexec")
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG")
_KEPT_PREFIXES: Final = ("HYDRA_", "MPIEXEC_")


class HydraError(RuntimeError):
    """Hydra is not here, or said something else than was expected."""


@dataclass(frozen=True)
class Programs:
    """Where Hydra's programs are in this image."""

    mpiexec: str
    proxy: str


def programs(path: str | None = None) -> Programs:
    """Hydra's programs on ``path`` (default: PATH); HydraError where one is missing."""
    mpiexec = next((found for name in _MPIEXECS if (found := shutil.which(name, path=path))), None)
    proxy = shutil.which(_PROXY, path=path)
    if mpiexec is None or proxy is None:
        raise HydraError(
            f"there is no MPICH here: mpiexec and {_PROXY} must be on PATH"
            " (the package mpich of PyPI, Debian or conda-forge has them; Open MPI does not)"
        )
    return Programs(mpiexec, proxy)


def mpiexec(program: str, hosts: Sequence[str], processes: int, command: Sequence[str]) -> list[str]:
    """The command that runs ``command`` as ``processes`` ranks on each of ``hosts``; this is the first of them.

    Ranks get the variables of their own pod, nothing of this one's: the connection is not encrypted.
    """
    where = ["-launcher", "manual", "-rmk", "user", "-localhost", hosts[0], "-hosts", ",".join(hosts)]
    return [program, *where, "-ppn", str(processes), "-n", str(len(hosts) * processes), "-genvnone", *command]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What mpiexec itself sees. It sends all that it sees to whoever connects as a proxy, used or not."""
    return {name: value for name, value in variables.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}


def launch(line: str) -> list[str] | None:
    """The proxy's arguments in a line that mpiexec printed; ``None``: it is no such line."""
    if not line.startswith(LAUNCH):
        return None
    words = line.removeprefix(LAUNCH).split()
    if len(words) < 2 or words[0].rpartition("/")[2] != _PROXY:
        raise HydraError(f"mpiexec wants something else started than {_PROXY}: {line.strip()!r}")
    return words[1:]
