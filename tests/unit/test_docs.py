"""The documentation speaks of what is there: links lead somewhere, commands and tables agree with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from modelfleet.cluster.view import View
from modelfleet.reconcile.metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "charts/**/*.md") for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:operator|charts|docs|tests|examples|crds|e2e|requirements|\.ci)/[^`\s<>*{]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = {page.parent / link for link in LINK.findall(text) if "://" not in link}
    targets |= {ROOT / path for path in PATH.findall(text)}
    assert sorted(str(target) for target in targets if not target.exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_has_every_command_that_is_named(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= targets


def test_the_table_of_rights_is_the_charts() -> None:
    """``docs/security.md`` lists the resources and verbs of the operator's roles, no more and no fewer."""
    template = (ROOT / "charts" / "modelfleet" / "templates" / "rbac.yaml").read_text()
    template = re.sub(r"^{{-? (?:if|end).*}}\n", "", template, flags=re.MULTILINE)
    roles = [yaml.safe_load(re.sub(r"{{.*?}}", "x", part)) for part in template.split("\n---\n")]
    granted: dict[str, set[str]] = {}
    for role in roles:
        for rule in role.get("rules", []):
            for resource in rule["resources"]:
                key = "status" if resource.endswith("/status") else resource
                granted.setdefault(key, set()).update(rule["verbs"])
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.split("## The operator's rights")[1].split("\n## ")[0]
    documented: dict[str, set[str]] = {}
    for cells in re.findall(r"^\|(.+?)\|(.+?)\|", section, flags=re.MULTILINE)[2:]:
        for resource in re.findall(r"`/?([a-z]+)`", cells[0]):
            documented.setdefault(resource, set()).update(verb.strip() for verb in cells[1].split(","))
    assert documented == granted


def test_the_table_of_metrics_is_the_operators() -> None:
    """``docs/operations.md`` lists what the operator exposes, no more and no less."""
    view = View()
    exposed = set()
    for family in Metrics(view, lambda: 0).registry.collect():
        exposed.add(f"{family.name}_total" if family.type == "counter" else family.name)
    table = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^\| `(modelfleet_[a-z_]+)` \|", table, flags=re.MULTILINE)) == exposed


REASON_AT = {
    "Note": 1,
    "Condition": 2,
    "Problem": 0,
    "Finding": 0,
    "Trouble": 0,
    "Report": 1,
    "Halt": 0,
    "Over": 1,
    "Told": 0,
}
"""Which argument of these is the reason of a condition or an Event."""
KUBERNETES_OWN = {"ErrImagePull", "ImagePullBackOff", "FailedMount"}
"""Reasons that are passed on as the kubelet gives them."""
REASON = re.compile(r"[A-Z][a-z]+([A-Z][a-z]+)*")
SOURCES = [ast.parse(path.read_text()) for path in (ROOT / "operator" / "modelfleet").rglob("*.py")]


def words(tree: ast.AST) -> Iterator[str]:
    """The strings in a piece of code that look like a reason; what is only compared with is none."""
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str) and REASON.fullmatch(tree.value):
        yield tree.value
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.Compare):
            yield from words(node)


def stated_reasons() -> Iterator[str]:
    """The reasons that are written where a condition, an Event or a problem is made."""
    for call in (node for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Call)):
        at = REASON_AT.get(call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", ""))
        if at is not None and len(call.args) > at:
            yield from words(call.args[at])


def test_every_reason_is_explained_and_no_other() -> None:
    """``docs/troubleshooting.md`` has each reason that the operator states, and none that it does not know."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    explained = {word for word in re.findall(r"`([A-Za-z]+)`", page) if REASON.fullmatch(word)}
    assert set(stated_reasons()) - explained - {"Unknown"} == set()
    first_cells = " ".join(re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE))
    listed = {word for word in re.findall(r"`([A-Za-z]+)`", first_cells) if REASON.fullmatch(word)}
    assert listed - KUBERNETES_OWN - {word for tree in SOURCES for word in words(tree)} == set()
