"""Programs for the tests that are npm packages: installed into the cache by ``npm ci``, checked by their lock.

Node.js and npm are the host's distribution's. A package's own install scripts are not run.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from e2e.cluster import host
from e2e.cluster.commands import Report, run
from e2e.cluster.folders import CACHE
from e2e.cluster.state import locked

SOURCES = Path(__file__).parent / "node"


def find(package: str, program: str, report: Report) -> tuple[str, Path]:
    """The ``node`` command, and the script of a package's program, installed first if need be."""
    host.check_for_node(report)
    target = CACHE / "node" / f"{package}-{_key(package)}"
    with locked(CACHE / "node" / f".{package}.lock"):
        if not target.exists():
            report(f"{package}: installing from npm, once")
            _install(package, target)
    return "node", (target / "node_modules" / ".bin" / program).resolve()


def _key(package: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((SOURCES / package).glob("*.json")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _install(package: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / package
        shutil.copytree(SOURCES / package, draft)
        run("nice", "-n", "10", "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", folder=draft)
        draft.replace(target)
