"""The house rules that no other tool holds: layers, import root, locks, and that every dependency has its reason."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def test_imports_point_downwards() -> None:
    """The contracts of ``[tool.importlinter]`` hold. A process of its own: the linter silences this one's loggers."""
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_root_is_not_a_package() -> None:
    """An ``operator/__init__.py`` would shadow the standard library's module of that name."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    import operator

    assert Path(operator.__file__).parent != ROOT / "operator"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_pin_by_hash_and_name_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_every_extra_has_a_lock() -> None:
    assert set(PROJECT["optional-dependencies"]) <= {lock.stem for lock in LOCKS}


def test_every_dependency_has_its_reason() -> None:
    """``docs/dependencies.md`` has a row a dependency, and none for what is no longer used."""
    declared = set(PROJECT["dependencies"]).union(*PROJECT["optional-dependencies"].values())
    expected = {re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in declared} - {"modelfleet"}
    table = (ROOT / "docs" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, flags=re.MULTILINE)) == expected
